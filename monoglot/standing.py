"""Whether there is anything to do: told from files' digests, without tables, torch or Prefect."""

from collections.abc import Mapping
from dataclasses import dataclass

from monoglot.config import Config, LanguageConfig
from monoglot.errors import ConfigError
from monoglot.learning.models import model_digest
from monoglot.runs import RunRecord, Runs, config_digest, run_key
from monoglot.serving.manifest import Release
from monoglot.serving.releases import Releases
from monoglot.settings import Settings
from monoglot.store import Store


@dataclass(frozen=True)
class Inputs:
    """Everything a run depends on, as two digests.

    Attributes:
        config: of all but the knowledge base.
        key: of all.
    """

    config: str
    key: str

    @classmethod
    def of(cls, config: Config, settings: Settings, versions: Mapping[str, int]) -> "Inputs":
        """Hash the files that the config names, the base model's among them.

        Args:
            config: with the LLM's name filled in (`Settings.applied_to`).
            settings: for whether there is an endpoint to ask.
            versions: version of each stage's code.

        Raises:
            DataError: a file cannot be read.
            ModelError: the base model cannot be found.
        """
        known = config_digest(
            config,
            model_digest(config.base_model),
            versions,
            asks_llm=bool(languages_to_ask(config, settings))
            or asks_for_questions(config, settings),
        )
        return cls(known, run_key(config, known))


@dataclass(frozen=True)
class Standing:
    """A finished run with the present inputs, which is why there is nothing to do.

    Attributes:
        record: what that run did.
        current: the release in production now.
        chosen_by_hand: the pointer was moved after the run, so that `current` is another release
            than the run's; the operator's choice is left alone.
    """

    record: RunRecord
    current: str
    chosen_by_hand: bool

    @property
    def reason(self) -> str:
        """Why there is nothing to do, in a sentence."""
        if self.chosen_by_hand:
            return (
                f"files, config and code are those of run {self.record.run}, after which release "
                f"{self.current} was chosen by hand; it stays (`--force` overrules it)"
            )
        return (
            f"files, config and code are those of run {self.record.run}, and its release "
            f"{self.current} is in production"
        )


def standing(inputs: Inputs, store: Store) -> Standing | None:
    """The finished run that makes another one needless, or None."""
    runs, releases = Runs(store), Releases(store)
    record, current = runs.find(inputs.key), releases.current()
    if current is None or not releases.has_table(current):
        return None
    if record is None:
        return _left_after_refresh(inputs, runs, current)
    if record.unanswered:
        return None
    if not all(store.holds(stage.artifact) for stage in record.stages):
        return None
    moved = current.id != record.release
    last = runs.last()
    if moved and (last is None or last.key != record.key):
        return None  # other inputs were put into production since: these are new again
    return Standing(record, current.id, chosen_by_hand=moved)


def _left_after_refresh(inputs: Inputs, runs: Runs, current: Release) -> Standing | None:
    """The refresh with the present inputs after which another release was chosen by hand, or None.

    A refresh alone leaves the training of its rows to be done; one that was taken back does not,
    until something changes.
    """
    last, trained = runs.last(), runs.last_retrain()
    if last is None or last.inputs != inputs.key or last.release == current.id:
        return None
    if trained is None or trained.config != inputs.config:
        return None
    return Standing(last, current.id, chosen_by_hand=True)


def chosen_by_hand(store: Store, rows_digest: str) -> str | None:
    """Why an unchanged knowledge base is not put into production again, or None.

    It was there, and someone has chosen another release since: that stays. Told from the releases
    alone, since a run that was killed after its promotion left no record.

    Args:
        store: where the releases are.
        rows_digest: of the knowledge base's rows, as its stage stores them.
    """
    releases = Releases(store)
    pointer, current = releases.pointer(), releases.current()
    if pointer is None or current is None or pointer.seq == current.seq:
        return None  # by its promotion
    newest = max(releases.listing().releases, key=lambda release: release.seq)
    if newest.id == current.id or newest.knowledge_base.digest != rows_digest:
        return None
    return (
        f"the knowledge base is that of release {newest.id}, after which release {current.id} was "
        "chosen by hand; it stays (`--force` overrules it)"
    )


def reason_against_refresh(
    store: Store, current: Release, rows_digest: str, *, force: bool
) -> str | None:
    """Why a knowledge base needs no new version of the index, or None.

    Args:
        store: where the releases are.
        current: the release in production.
        rows_digest: of the knowledge base's rows, as its stage stores them.
        force: put it into production even where another release was chosen by hand.
    """
    if not Releases(store).has_table(current):
        return None
    if current.knowledge_base.digest == rows_digest:
        return f"the knowledge base is that of release {current.id}, which is in production"
    return None if force else chosen_by_hand(store, rows_digest)


def languages_to_ask(config: Config, settings: Settings) -> tuple[LanguageConfig, ...]:
    """The languages in which the LLM is asked for something."""
    if not settings.has_endpoint:
        return ()
    writes = config.generation.synthetic_per_label > 0 or config.user_queries.path is not None
    return tuple(it for it in config.languages if writes or it.translations is None)


def unwritten(config: Config, settings: Settings) -> tuple[str, ...]:
    """What the config asks of an LLM and a run leaves out, since there is none."""
    if settings.has_endpoint:
        return ()
    told = []
    if config.generation.synthetic_per_label:
        told.append(
            f"generation.synthetic_per_label: {config.generation.synthetic_per_label} queries a "
            "label are asked for, and no LLM is set (MONOGLOT_LLM_BASE_URL): none are written."
        )
    if config.user_queries.path is not None:
        told.append(
            f"{config.user_queries.path.name}: user queries are labelled by an LLM, and none is "
            "set (MONOGLOT_LLM_BASE_URL): they are not used."
        )
    return tuple(told)


def asks_for_questions(config: Config, settings: Settings) -> bool:
    """Whether the LLM translates evaluation questions, for a baseline."""
    return settings.has_endpoint and "translate_query" in config.baselines.also


def refuse_untranslatable(config: Config, settings: Settings) -> None:
    """Refuse a baseline that has nothing to translate the questions with.

    Raises:
        ConfigError: says what to set.
    """
    wanted = "translate_query" in config.baselines.also
    if wanted and not settings.has_endpoint and config.baselines.lexicon is None:
        raise ConfigError(
            "baselines.also: translate_query needs something to translate the questions with. Set "
            "MONOGLOT_LLM_BASE_URL and MONOGLOT_LLM_MODEL, or baselines.lexicon, a file of words "
            "(source, target), or leave it out."
        )


def refuse_without_training_data(config: Config, settings: Settings) -> None:
    """Refuse a config that nothing can be trained with, before any work.

    Raises:
        ConfigError: a language has neither translations nor an endpoint, and there are no native
            queries; says what to set.
    """
    if config.training.path is not None or (settings.has_endpoint and config.languages):
        return
    lacking = [it.code for it in config.languages if it.translations is None]
    if config.languages and not lacking:
        return
    what = f"for {', '.join(lacking)}" if lacking else "(`languages:` is empty)"
    raise ConfigError(
        f"There is nothing to train on {what}. Give one of: `translations:` under the language, a "
        "CSV file of source and translation; an LLM that translates, by setting "
        "MONOGLOT_LLM_BASE_URL, MONOGLOT_LLM_MODEL and, where it needs one, MONOGLOT_LLM_API_KEY; "
        "or `training: {path: ...}`, a file of labelled native queries."
    )
