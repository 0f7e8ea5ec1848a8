"""Every model of a comparison over the same rows, asked the same questions."""

from collections.abc import Mapping
from dataclasses import dataclass

from monoglot.store import Artifact
from tasks.evaluation import evaluate
from tasks.index import build_index
from tasks.models import ModelRef
from tasks.workplace import Workplace

UNTUNED, IN_PRODUCTION, TUNED = "untuned", "in production", "tuned"


@dataclass(frozen=True)
class System:
    """A model, its index of the knowledge base, and what it answered."""

    model: ModelRef
    index: Artifact
    outcomes: Artifact


def measure(
    place: Workplace, models: tuple[ModelRef, ...], rows: Artifact, questions: Artifact
) -> dict[str, System]:
    """Index and evaluation of each model, by digest; two names for one model are one system."""
    systems = {}
    for model in {model.digest: model for model in models}.values():
        index = build_index(place, rows, model)
        outcomes = evaluate(
            place, index=index, model=model, questions=questions, knowledge_base=rows
        )
        systems[model.digest] = System(model, index, outcomes)
    return systems


def by_name(
    systems: Mapping[str, System],
    baselines: Mapping[str, Artifact],
    *,
    base: ModelRef,
    reference: ModelRef,
    candidate: ModelRef,
) -> dict[str, Artifact]:
    """Outcomes by the names and in the order that readers see.

    The model in production is named only where it is neither the untuned one nor the candidate.
    """
    named = {UNTUNED: systems[base.digest].outcomes, **baselines}
    if reference.digest not in {base.digest, candidate.digest}:
        named[IN_PRODUCTION] = systems[reference.digest].outcomes
    return {**named, TUNED: systems[candidate.digest].outcomes}
