"""What a run would do and why, found out without doing any of it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import polars as pl

from monoglot.config import Config, LanguageConfig
from monoglot.errors import StoreError
from monoglot.generation import synthesis, translation
from monoglot.generation.access import check_endpoint
from monoglot.generation.asking import PlannedWork
from monoglot.generation.ledger import Ledger
from monoglot.generation.redaction import Redactor
from monoglot.identity import frame_digest
from monoglot.knowledge.changes import Changes, Work, compare, decide
from monoglot.knowledge.knowledge_base import load_knowledge_base
from monoglot.knowledge.parts import topics_of
from monoglot.knowledge.queries import load_queries, load_translations
from monoglot.knowledge.split import split_rows
from monoglot.learning.models import model_folder
from monoglot.runs import Runs
from monoglot.serving.releases import NO_RELEASE, Releases
from monoglot.settings import Settings
from monoglot.standing import (
    Inputs,
    chosen_by_hand,
    languages_to_ask,
    reason_against_refresh,
    refuse_without_training_data,
    standing,
)
from monoglot.store import Artifact, Store

_FIRST = Work("retrain", ("there is no release yet",))


@dataclass(frozen=True)
class Request:
    """What the LLM would be asked: in one language, for one purpose."""

    language: str
    purpose: str
    work: PlannedWork


@dataclass(frozen=True)
class Plan:
    """What `monoglot plan` shows.

    Attributes:
        work: nothing, refresh or retrain, with the reasons.
        changes: of the knowledge base since the release in production.
        rows, labels, rejected: of the knowledge base as it is now.
        requests: what a retrain would ask the LLM.
        warnings: what is allowed but worth a look.
    """

    work: Work
    changes: Changes
    rows: int
    labels: int
    rejected: int
    requests: tuple[Request, ...]
    warnings: tuple[str, ...]


def refuse_unready(config: Config, settings: Settings, store: Store | None) -> None:
    """Refuse, before any work, what cannot end well: bad files, no model, a dead endpoint.

    Reads every file that the config names, which takes seconds even for a million rows.

    Args:
        config: with the LLM's name filled in.
        settings: names the endpoint.
        store: whose ledger may make the endpoint unneeded; None: there is none yet.

    Raises:
        ConfigError: there is nothing to train on; see `refuse_without_training_data`.
        DataError: a file cannot be used.
        ModelError: the base model cannot be found.
        EndpointError: the endpoint is needed and cannot be reached, or refuses the key.
    """
    refuse_without_training_data(config, settings)
    rows = load_knowledge_base(config.knowledge_base).rows
    for language in config.languages:
        if language.translations is not None:
            load_translations(language, rows)
    for file in (config.evaluation, config.training):
        if file.path is not None:
            load_queries(file)
    model_folder(config.base_model)
    if any(request.work.rows for request in _requests(config, settings, store, rows)):
        check_endpoint(settings, config.generation.model)


def make_plan(inputs: Inputs, config: Config, settings: Settings, store: Store | None) -> Plan:
    """What to do about the inputs as they are now; changes nothing and asks nobody.

    Args:
        inputs: digests of config and files.
        config: with the LLM's name filled in.
        settings: names the endpoint.
        store: None: there is none yet.

    Raises:
        DataError: the knowledge base cannot be used.
    """
    loaded = load_knowledge_base(config.knowledge_base)
    current = None if store is None else Releases(store).current()
    served = None if store is None or current is None else _rows_of(store, current.knowledge_base)
    return Plan(
        work=_FIRST if store is None else _work(inputs, config, store, loaded.rows),
        changes=compare(served, loaded.rows),
        rows=loaded.rows.height,
        labels=loaded.rows["label"].n_unique(),
        rejected=loaded.rejects.height,
        requests=tuple(_requests(config, settings, store, loaded.rows)),
        warnings=loaded.warnings,
    )


def _work(inputs: Inputs, config: Config, store: Store, rows: pl.DataFrame) -> Work:
    """The decision: changes count from the last training, or many small ones would never add up."""
    trained, current = Runs(store).last_retrain(), Releases(store).current()
    if trained is None or current is None:
        return _FIRST
    done = standing(inputs, store)
    if done is not None:
        return Work("nothing", (done.reason,))
    work = decide(
        compare(_rows_of(store, trained.knowledge_base), rows),
        config.policy,
        first=False,
        config_changed=inputs.config != trained.config,
    )
    if work.kind == "retrain":
        return work
    by_hand = chosen_by_hand(store, frame_digest(rows))
    if by_hand is not None:
        return Work("nothing", (by_hand,))
    since_release = compare(_rows_of(store, current.knowledge_base), rows)
    return decide(since_release, config.policy, first=False, config_changed=False)


def _requests(
    config: Config, settings: Settings, store: Store | None, rows: pl.DataFrame
) -> list[Request]:
    """What a retrain would ask the LLM, after a look into the ledger."""
    languages = languages_to_ask(config, settings)
    if not languages:
        return []
    parts = split_rows(rows, config.split, hold_out=config.evaluation.path is None)
    wanted = parts.filter(pl.col("part").cast(pl.String) != "index")
    topics = topics_of(rows, parts)
    asked = []
    with contextlib.ExitStack() as stack:
        ledger = None if store is None else Ledger.existing(store.ledger_path)
        if ledger is not None:
            stack.enter_context(ledger)
        pending = {
            "translate": partial(translation.pending, wanted),
            "synthesize": partial(synthesis.pending, topics),
        }
        for language, purpose in _purposes(languages, config):
            work = pending[purpose](
                language,
                config.generation,
                kb_language=config.knowledge_base.language,
                settings=settings,
                ledger=ledger,
                redactor=Redactor.of_rows(config.redaction),
            )
            asked.append(Request(language.code, purpose, work))
    return asked


def _purposes(
    languages: tuple[LanguageConfig, ...], config: Config
) -> Iterator[tuple[LanguageConfig, str]]:
    for language in languages:
        if language.translations is None:
            yield language, "translate"
        if config.generation.synthetic_per_label:
            yield language, "synthesize"


def why_no_refresh(config: Config, store: Store, *, force: bool) -> str | None:
    """Why the knowledge base needs no refresh, or None.

    Raises:
        DataError: the knowledge base cannot be used.
        StoreError: there is no release to refresh.
    """
    current = Releases(store).current()
    if current is None:
        raise StoreError(NO_RELEASE.format(store.root))
    rows = frame_digest(load_knowledge_base(config.knowledge_base).rows)
    return reason_against_refresh(store, current, rows, force=force)


def _rows_of(store: Store, artifact: Artifact) -> pl.DataFrame | None:
    """The knowledge base of an earlier run; None where it is gone."""
    try:
        return store.table(artifact)
    except StoreError:
        return None
