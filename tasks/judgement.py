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
        decision = Decision(
            "unchanged", ("The training gave the model that is in production already.",)
        )
    else:
        against = UNTUNED if current is None else f"release {current.id}"
        before = {base.digest: UNTUNED, reference: against}
        measured = compare(
            place.store.table(systems[candidate.digest].outcomes),
            place.store.table(systems[reference].outcomes),
            against,
            config.gate,
            [
                *(_asked_of(place, guard, candidate, before) for guard in guards),
                *_untrained(place, config, systems, base=base, candidate=candidate),
            ],
        )
        decision = decide(measured, config.gate)
    # What awaits approval is not promoted yet; `tasks.release.hold` says what becomes of it.
    is_held = decision.promote and config.gate.approval
    said = "passed" if is_held else decision.verdict
    get_run_logger().info(f"gate: {said}. {' '.join(decision.reasons)}", extra={"shown": True})
    return decision


def _asked_of(
    place: Workplace, guard: Guard, candidate: ModelRef, before: Mapping[str, str]
) -> GuardOutcomes:
    """What candidate and models before it (digest -> name) answered to a guard."""
    table = place.store.table
    return GuardOutcomes(
        guard.config.name,
        guard.config.max_loss,
        table(guard.outcomes[candidate.digest]),
        {name: table(guard.outcomes[digest]) for digest, name in before.items()},
    )


def _untrained(
    place: Workplace,
    config: Config,
    systems: Mapping[str, System],
    *,
    base: ModelRef,
    candidate: ModelRef,
) -> list[GuardOutcomes]:
    """Labels that nothing was trained on, as guards."""
    return untrained_guards(
        config.split.untrained_labels,
        config.gate.max_english_loss,
        place.store.table(systems[candidate.digest].outcomes),
        place.store.table(systems[base.digest].outcomes),
    )
