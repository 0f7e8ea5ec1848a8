"""A release: one model with one version of its index, put into production in one step."""

import dataclasses

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from monoglot.learning.gate import Decision
from monoglot.learning.metrics import ALL, METRICS, summarise
from monoglot.serving.approval import Approval
from monoglot.serving.manifest import Pointer, Release
from monoglot.serving.releases import Releases
from monoglot.store import Artifact, Store
from tasks.abstention import Calibrated
from tasks.models import ModelRef
from tasks.workplace import Workplace


def make_release(
    store: Store,
    model: ModelRef,
    index: Artifact,
    rows: Artifact,
    *,
    evaluation: Artifact | None,
    questions: Artifact | None,
    calibrated: Calibrated,
    config_digest: str,
    reason: str,
    measured_on: Artifact | None = None,
) -> Release:
    """The manifest of a release that could be: model, index and thresholds, all of it together.

    Args:
        store: where the evaluation is.
        model: to answer with.
        index: of the rows by that model.
        rows: the knowledge base.
        evaluation: what the model answered; None: nothing was asked.
        questions: what it was asked.
        calibrated: its thresholds.
        config_digest: of all that was configured.
        reason: why this becomes a release.
        measured_on: the rows over which the model was asked, where they are not `rows`.
    """
    return Release(
        model=model.artifact,
        model_name=model.name,
        model_digest=model.digest,
        index_table=index.facts["table"],
        index_version=index.facts["version"],
        index_content=index.facts["content"],
        rows=index.rows,
        knowledge_base=rows,
        config_digest=config_digest,
        evaluation=evaluation,
        measured_on=measured_on,
        metrics={} if evaluation is None else headline(store, evaluation),
        reason=reason,
        questions=questions,
        out_of_scope=calibrated.out_of_scope,
        abstention=calibrated.abstention,
    )


@task(name="release", cache_policy=NO_CACHE)
def promote(place: Workplace, release: Release, *, seen: Pointer | None) -> Release:
    """Check the index against itself and make it current, unless what is current is the same.

    A run that was killed just after this, and is started again, finds its own release. One whose
    index was lost is the same no more: what was built again has another version.

    Args:
        place: store and journal of the run.
        release: see `make_release`.
        seen: the pointer that the decision rests on: a rollback made since is not overruled.

    Raises:
        StoreBusyError: the pointer moved since it was seen.
    """
    releases = Releases(place.store)
    current = releases.current()
    if current is not None and current.answers_like(release) and releases.answers(current):
        get_run_logger().info(
            f"release: {current.id} stays, it has this model, these rows and these thresholds",
            extra={"shown": True},
        )
        return current
    made = releases.promote(release, seq=seen.seq if seen else 0)
    tell_in_production(made)
    return made


@task(name="hold for approval", cache_policy=NO_CACHE)
def hold(
    place: Workplace, release: Release, decision: Decision, *, reference: ModelRef
) -> Decision:
    """Keep a candidate that the gate lets pass for a person to put into production.

    Args:
        place: store and journal of the run.
        release: what it would be.
        decision: the gate's.
        reference: the model that it was compared with.

    Returns:
        The decision as it stands now, and how to approve.
    """
    kept = Approval(place.store).keep(release, compared_with=reference.digest)
    waits = (
        f"It awaits approval as candidate {kept.id}: `monoglot promote {kept.id}`, or the "
        "deployment `promote`, puts it into production."
    )
    get_run_logger().info(f"gate: {waits}", extra={"shown": True})
    reasons = (*decision.reasons, waits)
    return dataclasses.replace(decision, verdict="awaits approval", reasons=reasons)


def tell_in_production(release: Release) -> None:
    """A line in the run's log."""
    get_run_logger().info(
        f"release: {release.id} is in production, {release.model_name} over {release.rows:,} rows",
        extra={"shown": True},
    )


def headline(store: Store, evaluation: Artifact) -> dict[str, float | int]:
    """The numbers a list of releases shows: over all questions, and the English control's MRR."""
    outcomes = store.table(evaluation)
    asked, english = summarise(outcomes), summarise(outcomes, control=True)
    if not asked:
        return {}
    numbers: dict[str, float | int] = {"n": asked[ALL].questions}
    numbers |= {metric: asked[ALL].micro[metric] for metric in METRICS}
    if english:
        numbers["english_mrr"] = english[ALL].micro["mrr"]
    return numbers
