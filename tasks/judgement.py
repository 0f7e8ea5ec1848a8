"""The gate, told of the cases in which there is nothing to weigh."""

from collections.abc import Mapping

from prefect import get_run_logger

from monoglot.config import Config
from monoglot.learning.gate import (
    UNTUNED,
    Decision,
    GuardOutcomes,
    compare,
    decide,
    untrained_guards,
)
from monoglot.serving.manifest import Release
from tasks.guards import Guard
from tasks.models import ModelRef
from tasks.systems import System
from tasks.workplace import Workplace


def judge(
    place: Workplace,
    config: Config,
    systems: Mapping[str, System],
    guards: tuple[Guard, ...],
    *,
    base: ModelRef,
    candidate: ModelRef,
    current: Release | None,
) -> Decision:
    """Candidate against the model in production, or the untuned one where none is; with a log line.

    All were asked the same questions over the same, new knowledge base.

    Args:
        place: store and journal of the run.
        config: the gate's rule, and the labels that nothing was trained on.
        systems: what was measured, by the model's digest.
        guards: what else must not get worse.
        base: the untuned model.
        candidate: the model that was just trained.
        current: the release in production; None: there is none yet.
    """
    reference = base.digest if current is None else current.model_digest
    if candidate.digest == reference:
        decision = Decision(False, ("The training gave the model that is in production already.",))
    else:
        table = place.store.table
        outcomes = {digest: table(system.outcomes) for digest, system in systems.items()}
        before = {UNTUNED: base.digest}
        if current is not None and reference != base.digest:
            before[f"release {current.id}"] = reference
        against = UNTUNED if current is None else f"release {current.id}"
        weighed = [
            GuardOutcomes(
                guard.config.name,
                guard.config.max_loss,
                table(guard.outcomes[candidate.digest]),
                {name: table(guard.outcomes[digest]) for name, digest in before.items()},
            )
            for guard in guards
        ]
        weighed += untrained_guards(
            config.split.untrained_labels,
            config.gate.max_english_loss,
            outcomes[candidate.digest],
            outcomes[base.digest],
        )
        measured = compare(
            outcomes[candidate.digest], outcomes[reference], against, config.gate, weighed
        )
        decision = decide(measured, config.gate)
    verdict = "promoted" if decision.promote else "not promoted"
    get_run_logger().info(f"gate: {verdict}. {' '.join(decision.reasons)}", extra={"shown": True})
    return decision
