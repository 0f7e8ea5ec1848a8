"""What training must not make worse: asked of every model of a comparison, each with a floor."""

from collections.abc import Mapping
from dataclasses import dataclass

from monoglot.config import GuardConfig, QueriesFile
from monoglot.errors import DataError
from monoglot.knowledge.queries import load_queries, unknown_labels
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.evaluation import encode_rows, probe
from tasks.knowledge_base import read_other_base
from tasks.systems import System
from tasks.workplace import Job, Workplace


@dataclass(frozen=True)
class Guard:
    """What each model answered to a guard's questions.

    Attributes:
        config: its name and its floor.
        outcomes: digest of a model -> `contracts.Outcomes`.
    """

    config: GuardConfig
    outcomes: Mapping[str, Artifact]


@stage("guard", title="guard {name}")
def read_guard(
    job: Job, *, name: str, file: QueriesFile, language: str | None, rows: Artifact
) -> None:
    """`contracts.Queries` of a guard; a label that its knowledge base lacks is warned of.

    Raises:
        DataError: it lacks all of them: every model would find nothing, and none lose by it.
    """
    loaded = load_queries(file, language)
    known = job.table(rows)
    lacking = unknown_labels(loaded.rows, known)
    if loaded.rows.join(known, on="label", how="semi").is_empty():
        raise DataError(
            f"guards: {name}: {file.path}: guards nothing: {lacking}. Name the knowledge base "
            "that it asks about as knowledge_base, or mend its labels."
        )
    warnings = loaded.warnings if lacking is None else (*loaded.warnings, f"{name}: {lacking}")
    job.write(loaded.rows, loaded.rejects, warnings=warnings, source=name)


@dataclass(frozen=True)
class GuardQuestions:
    """What a guard asks.

    Attributes:
        config: its name, its floor, and the rows it asks about.
        rows: the knowledge base it asks about.
        questions: `contracts.Queries`.
    """

    config: GuardConfig
    rows: Artifact
    questions: Artifact


def read_guards(
    place: Workplace, guards: tuple[GuardConfig, ...], rows: Artifact
) -> tuple[GuardQuestions, ...]:
    """The questions of every guard, and other knowledge bases that they ask about.

    Args:
        place: store and journal of the run.
        guards: what is guarded.
        rows: the knowledge base.
    """
    return tuple(_read(place, guard, rows) for guard in guards)


def _read(place: Workplace, guard: GuardConfig, rows: Artifact) -> GuardQuestions:
    own = guard.knowledge_base
    asked_about = rows if own is None else read_other_base(place, own)
    questions = read_guard(
        place,
        name=guard.name,
        file=QueriesFile(path=guard.path, columns=guard.columns),
        language=guard.language,
        rows=asked_about,
    )
    return GuardQuestions(guard, asked_about, questions)


def measure_guards(
    place: Workplace, guards: tuple[GuardQuestions, ...], systems: Mapping[str, System]
) -> tuple[Guard, ...]:
    """Ask every model the questions of every guard.

    A guard over a knowledge base of its own is asked of vectors that are kept by model, which
    guards over the same rows share; any other of the model's index.

    Args:
        place: store and journal of the run.
        guards: from `read_guards`.
        systems: the models by digest; see `tasks.systems.measure`.
    """
    return tuple(_measure(place, guard, systems) for guard in guards)


def _measure(place: Workplace, asked: GuardQuestions, systems: Mapping[str, System]) -> Guard:
    outcomes = {}
    for digest, system in systems.items():
        vectors = system.index
        if asked.config.knowledge_base is not None:
            vectors = encode_rows(place, knowledge_base=asked.rows, model=system.model)
        outcomes[digest] = probe(
            place,
            vectors=vectors,
            model=system.model,
            questions=asked.questions,
            knowledge_base=asked.rows,
        )
    return Guard(asked.config, outcomes)
