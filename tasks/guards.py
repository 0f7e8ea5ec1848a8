"""What training must not make worse: asked of every model of a comparison, each with a floor."""

from collections.abc import Mapping
from dataclasses import dataclass

from monoglot.config import GuardConfig, QueriesFile
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
    """`contracts.Queries` of a guard; a label that its knowledge base lacks is warned of."""
    loaded = load_queries(file, language)
    lacking = unknown_labels(loaded.rows, job.table(rows))
    warnings = loaded.warnings if lacking is None else (*loaded.warnings, f"{name}: {lacking}")
    job.write(loaded.rows, loaded.rejects, warnings=warnings, source=name)


def measure_guards(
    place: Workplace, guards: tuple[GuardConfig, ...], systems: Mapping[str, System], rows: Artifact
) -> tuple[Guard, ...]:
    """Ask every model the questions of every guard.

    A guard over a knowledge base of its own is asked of vectors that are kept by model, which
    guards over the same rows share; any other of the model's index.

    Args:
        place: store and journal of the run.
        guards: what is guarded.
        systems: the models by digest; see `tasks.systems.measure`.
        rows: the knowledge base.
    """
    return tuple(_measure(place, guard, systems, rows) for guard in guards)


def _measure(
    place: Workplace, guard: GuardConfig, systems: Mapping[str, System], rows: Artifact
) -> Guard:
    own = guard.knowledge_base
    asked_about = rows if own is None else read_other_base(place, own)
    questions = read_guard(
        place,
        name=guard.name,
        file=QueriesFile(path=guard.path, columns=guard.columns),
        language=guard.language,
        rows=asked_about,
    )
    outcomes = {}
    for digest, system in systems.items():
        vectors = system.index
        if own is not None:
            vectors = encode_rows(place, knowledge_base=asked_about, model=system.model)
        outcomes[digest] = probe(
            place,
            vectors=vectors,
            model=system.model,
            questions=questions,
            knowledge_base=asked_about,
        )
    return Guard(guard, outcomes)
