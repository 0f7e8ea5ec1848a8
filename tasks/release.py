"""A release: one model with one version of its index, put into production in one step."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from monoglot.learning.metrics import ALL, METRICS, summarise
from monoglot.learning.thresholds import Abstention
from monoglot.serving.manifest import Pointer, Release
from monoglot.serving.releases import Releases
from monoglot.store import Artifact, Store
from tasks.abstention import Calibrated
from tasks.models import ModelRef
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
    release = releases.promote(
        Release(
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
            metrics={} if evaluation is None else headline(place.store, evaluation),
            reason=reason,
            questions=questions,
            out_of_scope=calibrated.out_of_scope,
            abstention=calibrated.abstention,
        ),
        seq=seen.seq if seen else 0,
    )
    get_run_logger().info(
        f"release: {release.id} is in production, {release.model_name} over {release.rows:,} rows",
        extra={"shown": True},
    )
    return release


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
