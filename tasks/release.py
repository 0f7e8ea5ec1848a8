"""A release: one model with one version of its index, put into production in one step."""

import dataclasses

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from monoglot.learning.gate import Decision
from monoglot.learning.metrics import ALL, METRICS, summarise
from monoglot.learning.thresholds import Abstention
from monoglot.serving.approval import Approval
from monoglot.serving.manifest import Pointer, Release
from monoglot.serving.releases import Releases
from monoglot.store import Artifact, Store
from tasks.abstention import Calibrated
from tasks.models import ModelRef
from tasks.systems import System
from tasks.workplace import Workplace


@task(name="release", cache_policy=NO_CACHE)
def promote(
    place: Workplace,
    model: ModelRef,
    index: Artifact,
    rows: Artifact,
    *,
    seen: Pointer | None,
    evaluation: Artifact | None,
    questions: Artifact | None,
    calibrated: Calibrated,
    config_digest: str,
    reason: str,
) -> Release:
    """Check the index against itself and make it current, unless what is current is the same.

    Model, index and thresholds are one release: they go live and are rolled back together.

    A run that was killed just after this, and is started again, finds its own release.

    Args:
        place: store and journal of the run.
        model: to answer with.
        index: of the rows by that model.
        rows: the knowledge base.
        seen: the pointer that the decision rests on: a rollback made since is not overruled.
        evaluation: what the model answered; None: nothing was asked.
        questions: what it was asked.
        calibrated: its thresholds.
        config_digest: of all that was configured.
        reason: why this becomes a release.

    Raises:
        StoreBusyError: the pointer moved since it was seen.
    """
    releases = Releases(place.store)
    current = releases.current()
    if current is not None and _serves(current, model, index, calibrated.abstention):
        get_run_logger().info(
            f"release: {current.id} stays, it has this model, these rows and these thresholds",
            extra={"shown": True},
        )
        return current
    made = _release_of(
        place.store,
        model,
        index,
        rows,
        evaluation=evaluation,
        questions=questions,
        calibrated=calibrated,
        config_digest=config_digest,
        reason=reason,
    )
    release = releases.promote(made, seq=seen.seq if seen else 0)
    get_run_logger().info(
        f"release: {release.id} is in production, {release.model_name} over {release.rows:,} rows",
        extra={"shown": True},
    )
    return release


@task(name="hold for approval", cache_policy=NO_CACHE)
def hold(
    place: Workplace,
    candidate: System,
    rows: Artifact,
    decision: Decision,
    *,
    questions: Artifact,
    calibrated: Calibrated,
    config_digest: str,
    reference: ModelRef,
) -> Decision:
    """Keep a candidate that the gate lets pass for a person to put into production.

    Args:
        place: store and journal of the run.
        candidate: the model, its index and what it answered.
        rows: the knowledge base.
        decision: the gate's.
        questions: what the candidate was asked.
        calibrated: its thresholds.
        config_digest: of all that was configured.
        reference: the model that it was compared with.

    Returns:
        The decision as it stands now: nothing is promoted, and how to approve.
    """
    release = _release_of(
        place.store,
        candidate.model,
        candidate.index,
        rows,
        evaluation=candidate.outcomes,
        questions=questions,
        calibrated=calibrated,
        config_digest=config_digest,
        reason=" ".join(decision.reasons),
    )
    kept = Approval(place.store).keep(release, compared_with=reference.digest)
    waits = (
        f"It awaits approval as candidate {kept.id}: `monoglot promote {kept.id}`, or the "
        "deployment `promote`, puts it into production."
    )
    get_run_logger().info(f"gate: {waits}", extra={"shown": True})
    return dataclasses.replace(decision, promote=False, reasons=(*decision.reasons, waits))


def _release_of(
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
) -> Release:
    """The manifest that names all of it."""
    return Release(
        model=model.artifact,
        model_name=model.name,
        model_digest=model.digest,
        index_table=index.facts["table"],
        index_version=index.facts["version"],
        index_content=index.facts["content"],
        rows=index.rows,
        knowledge_base=rows,
        kb_fingerprint=rows.facts["fingerprint"],
        config_digest=config_digest,
        evaluation=evaluation,
        metrics={} if evaluation is None else headline(store, evaluation),
        reason=reason,
        questions=questions,
        out_of_scope=calibrated.out_of_scope,
        abstention=calibrated.abstention,
    )


def _serves(
    release: Release, model: ModelRef, index: Artifact, abstention: Abstention | None
) -> bool:
    wanted = (model.digest, index.facts["content"], abstention)
    return (release.model_digest, release.index_content, release.abstention) == wanted


def headline(store: Store, evaluation: Artifact) -> dict[str, float | int]:
    """The numbers a list of releases shows: over all questions, and the English control's MRR."""
    outcomes = store.table(evaluation)
    asked, english = summarise(outcomes), summarise(outcomes, control=True)
    if not asked:
        return {}
    numbers: dict[str, float | int] = {"n": asked[ALL].questions}
    numbers |= {metric: round(asked[ALL].micro[metric], 4) for metric in METRICS}
    if english:
        numbers["english_mrr"] = round(english[ALL].micro["mrr"], 4)
    return numbers
