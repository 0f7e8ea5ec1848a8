"""What is due: nothing, a refresh of the index, or a training; decided from files and records.

Loads tables and nothing heavier, so that a check every few minutes costs little where nothing
changed.
"""

from dataclasses import dataclass

import polars as pl

from monoglot.config import Config
from monoglot.errors import ConfigError, StoreError
from monoglot.generation.batch_records import outstanding_in
from monoglot.generation.shared_ledger import ledger_file
from monoglot.knowledge.changes import Changes, Work, compare, decide
from monoglot.knowledge.knowledge_base import load_knowledge_base
from monoglot.knowledge.rejects import Loaded
from monoglot.runs import Runs
from monoglot.serving.releases import Releases
from monoglot.settings import Settings
from monoglot.standing import Inputs, chosen_by_hand, standing
from monoglot.store import Artifact, Store

FIRST = Work("retrain", ("there is no release yet",))
_GONE = (
    "the knowledge base of the last training is in the store no more (`monoglot forget`), so that "
    "nothing tells what changed since"
)


@dataclass(frozen=True)
class Due:
    """What the knowledge base as it is now asks for.

    Attributes:
        work: nothing, refresh or retrain, with the reasons.
        changes: since the release in production; all rows are added where there is none.
        rows: digest of the rows, as their stage stores them.
        has_release: whether there is a release in production, which can be refreshed.
    """

    work: Work
    changes: Changes
    rows: str
    has_release: bool


def due_now(config: Config, settings: Settings, store: Store | None) -> Due:
    """Read the knowledge base and decide by the policy; changes nothing.

    Looks at the knowledge base alone: another config, file or version of the code waits for the
    scheduled retrain, or an edited answer would wait for a training it has nothing to do with.
    Batches that are out ask for a retrain, which takes in what has come back.

    Args:
        config: names the knowledge base, and the policy.
        settings: without an endpoint nothing can come back.
        store: None: there is none yet.

    Raises:
        DataError: the knowledge base cannot be used.
    """
    loaded = load_knowledge_base(config.knowledge_base)
    work = FIRST if store is None else _work_for(config, store, loaded, config_changed=False)
    out = store and settings.has_endpoint and outstanding_in(ledger_file(store))
    if out and work.kind != "retrain":
        reasons = work.reasons if work.kind == "refresh" else ()
        work = Work("retrain", (*reasons, out.line))
    current = None if store is None else Releases(store).current()
    return Due(work, changes_since(store, loaded.rows), loaded.digest, current is not None)


def changes_since(store: Store | None, rows: pl.DataFrame) -> Changes:
    """What differs from the knowledge base that the release in production was made from."""
    current = None if store is None else Releases(store).current()
    if store is None or current is None:
        return compare(None, rows)
    return compare(_rows_of(store, current.knowledge_base), rows)


def refuse_another_base(store: Store, rows: pl.DataFrame, place: str) -> None:
    """Refuse to put a knowledge base into the place of another one, whose users it would answer.

    A knowledge base of which not one query and less than half of the labels are left is taken for
    another one: the config names the store of another config. Texts that were all put into another
    form keep their labels. What the release says decides, since files and stores move.

    Args:
        store: whose release in production is looked at.
        rows: of the knowledge base, `contracts.KnowledgeBase`.
        place: where the rows are, for the message.

    Raises:
        ConfigError: the rows are of another knowledge base than the release's.
    """
    current = Releases(store).current()
    served = None if current is None else _rows_of(store, current.knowledge_base)
    if current is None or served is None or served["query"].is_in(rows["query"].implode()).any():
        return
    labels = served["label"].unique()
    left = int(labels.is_in(rows["label"].implode()).sum())
    if left >= len(labels) / 2:
        return
    raise ConfigError(
        f"{store.location}: its release {current.id} serves another knowledge base: none of its "
        f"{served.height:,} queries and {left:,} of its {len(labels):,} labels are in {place}. Set "
        "`store:` to a place of its own for this config; or replace that knowledge base by a run "
        "with `force` (`monoglot run --force`)."
    )


def work_of(inputs: Inputs, config: Config, store: Store, loaded: Loaded) -> Work:
    """The decision of `monoglot plan`: on the knowledge base, all other files, config and code."""
    trained, current = Runs(store).last_retrain(), Releases(store).current()
    if trained is None or current is None:
        return FIRST
    done = standing(inputs, store)
    if done is not None:
        return Work("nothing", (done.reason,))
    last = Runs(store).find(inputs.key)
    if last is not None and last.unanswered:
        told = f"{last.unanswered:,} rows got no reply from the LLM, which is asked again"
        return Work("retrain", (told,))
    return _work_for(config, store, loaded, config_changed=inputs.config != trained.config)


def _work_for(config: Config, store: Store, loaded: Loaded, *, config_changed: bool) -> Work:
    """Changes count from the last training, or many small ones would never add up."""
    trained, current = Runs(store).last_retrain(), Releases(store).current()
    if trained is None or current is None:
        return FIRST
    if not Releases(store).has_table(current):
        return Work("refresh", (f"the index of release {current.id} is gone",))
    by_hand = chosen_by_hand(store, loaded.digest)
    if by_hand is not None and not config_changed:
        return Work("nothing", (by_hand,))
    before = _rows_of(store, trained.knowledge_base)
    if before is None:
        return Work("retrain", (_GONE,))
    since_training = compare(before, loaded.rows)
    work = decide(since_training, config.policy, first=False, config_changed=config_changed)
    if work.kind == "retrain" or trained.knowledge_base == current.knowledge_base:
        return work
    since_release = compare(_rows_of(store, current.knowledge_base), loaded.rows)
    return decide(since_release, config.policy, first=False, config_changed=False)


def _rows_of(store: Store, artifact: Artifact) -> pl.DataFrame | None:
    """The knowledge base of an earlier run; None where it is gone."""
    try:
        return store.table(artifact)
    except StoreError:
        return None
