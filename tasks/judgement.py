"""The gate, told of the cases in which there is nothing to weigh."""

from prefect import get_run_logger

from monoglot.learning.gate import Decision, compare, decide
from monoglot.learning_config import GateConfig
from monoglot.serving.manifest import Release
from tasks.systems import System
from tasks.workplace import Workplace


def judge(
    place: Workplace,
    config: GateConfig,
    candidate: System,
    reference: System,
    current: Release | None,
) -> Decision:
    """Candidate against the model in production, or the untuned one where none is; with a log line.

    Both were asked the same questions over the same, new knowledge base.
    """
    if candidate.model.digest == reference.model.digest:
        decision = Decision(False, ("The training gave the model that is in production already.",))
    else:
        against = "the untuned model" if current is None else f"release {current.id}"
        measured = compare(
            place.store.table(candidate.outcomes),
            place.store.table(reference.outcomes),
            against,
            config,
        )
        decision = decide(measured, config)
    verdict = "promoted" if decision.promote else "not promoted"
    get_run_logger().info(f"gate: {verdict}. {' '.join(decision.reasons)}", extra={"shown": True})
    return decision
