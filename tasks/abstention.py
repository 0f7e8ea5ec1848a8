"""Below which score a release says that it does not know: calibrated on its own questions."""

from typing import NamedTuple

from prefect import get_run_logger

from monoglot.config import Config
from monoglot.contracts import Outcomes, empty
from monoglot.errors import StoreError
from monoglot.knowledge.queries import load_out_of_scope
from monoglot.learning import abstention
from monoglot.learning.thresholds import Abstention
from monoglot.learning_config import OutOfScopeFile
from monoglot.serving.drift import has_drifted
from monoglot.serving.manifest import Release
from monoglot.serving.releases import Releases
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.evaluation import evaluate, probe
from tasks.models import ModelRef
from tasks.systems import System
from tasks.workplace import Job, Workplace


class Calibrated(NamedTuple):
    """A release's thresholds and what they rest on.

    Attributes:
        abstention: the thresholds; None: there was no question to calibrate on.
        out_of_scope: the out-of-scope queries; None: there were none.
        curve: the artifact whose table is the risk at every coverage; None: they were calibrated
            for another release.
    """

    abstention: Abstention | None
    out_of_scope: Artifact | None
    curve: Artifact | None


@stage("out_of_scope", title="out-of-scope queries of {file.path.name}")
def read_out_of_scope(job: Job, file: OutOfScopeFile) -> None:
    """`contracts.Queries` that no row answers."""
    loaded = load_out_of_scope(file)
    job.write(loaded.rows, loaded.rejects, warnings=loaded.warnings, source="out-of-scope queries")


@stage("calibration", title="calibrate abstention")
def calibrate(
    job: Job,
    *,
    outcomes: Artifact,
    out_of_scope: Artifact | None,
    share: float,
    max_wrong: float,
    kb_language: str,
) -> None:
    """The table of `abstention.curve`; the thresholds are among its facts.

    Args:
        job: the stage's job.
        outcomes: what the release's model answered to the evaluation questions.
        out_of_scope: what it answered to out-of-scope queries; None: there are none.
        share: of queries that are out of scope.
        max_wrong: share of the answered that may be wrong.
        kb_language: BCP 47 code of the knowledge base's language.
    """
    outside = empty(Outcomes) if out_of_scope is None else job.table(out_of_scope)
    samples = abstention.samples_of(job.table(outcomes), outside, share, kb_language)
    found = abstention.calibrate(samples, max_wrong)
    job.write(
        abstention.curve(samples),
        warnings=() if found is None else found.warnings(),
        abstention=None if found is None else found.model_dump(mode="json"),
        told="" if found is None else found.line(),
    )


def calibrated(
    place: Workplace,
    chosen: System,
    rows: Artifact,
    *,
    out_of_scope: Artifact | None,
    share: float,
    max_wrong: float,
    kb_language: str,
) -> Calibrated:
    """The thresholds of a model over its index of these rows.

    Args:
        place: store and journal of the run.
        chosen: the model that will answer, with what it answered to the evaluation questions.
        rows: the knowledge base.
        out_of_scope: queries that no row answers; None: there are none.
        share: of queries that are out of scope.
        max_wrong: share of the answered that may be wrong.
        kb_language: BCP 47 code of the knowledge base's language.
    """
    outside = None
    if out_of_scope is not None:
        outside = probe(
            place,
            vectors=chosen.index,
            model=chosen.model,
            questions=out_of_scope,
            knowledge_base=rows,
        )
    curve = calibrate(
        place,
        outcomes=chosen.outcomes,
        out_of_scope=outside,
        share=share,
        max_wrong=max_wrong,
        kb_language=kb_language,
    )
    found = curve.facts["abstention"]
    return Calibrated(
        None if found is None else Abstention.model_validate(found), out_of_scope, curve
    )


class Measured(NamedTuple):
    """A model over a new index, as far as it could be measured; see `measure_again`.

    Attributes:
        evaluation: what it answered; None: it could not be asked.
        questions: what it was asked.
        calibrated: its thresholds.
        rows: the knowledge base over which it was asked; None: the present one.
    """

    evaluation: Artifact | None
    questions: Artifact | None
    calibrated: Calibrated
    rows: Artifact | None = None


def measure_again(
    place: Workplace,
    release: Release,
    model: ModelRef,
    *,
    index: Artifact,
    rows: Artifact,
    kb_language: str,
) -> Measured:
    """Ask a release's model its own questions over a new index, and calibrate it anew.

    New rows answer what none did before and mislead where none did, so the old thresholds are not
    those of the new index; but a few of very many rows move them by nothing (`serving.drift`). The
    rate that was asked for is that of the release.

    Args:
        place: store and journal of the run.
        release: the one in production.
        model: its model.
        index: of the rows by that model.
        rows: the knowledge base as it is now.
        kb_language: BCP 47 code of the knowledge base's language.
    """
    asked, before = release.questions, release.abstention
    if asked is None or before is None or not _is_whole(place, release):
        kept = "has no thresholds" if before is None else "keeps its thresholds"
        get_run_logger().warning(
            f"Abstention: what release {release.id} was calibrated with is not in the store, so "
            f"what follows it {kept}. `monoglot run` calibrates anew.",
            extra={"shown": True},
        )
        return Measured(None, None, Calibrated(before, None, None))
    if _still_holds(place, release, index, rows):
        get_run_logger().info(
            f"Abstention: the thresholds of release {release.id} stay, since hardly a row in a "
            "hundred differs from those that they were measured on.",
            extra={"shown": True},
        )
        thresholds = Calibrated(before, release.out_of_scope, None)
        measured_on = release.measured_on or release.knowledge_base
        return Measured(release.evaluation, asked, thresholds, measured_on)
    outcomes = evaluate(place, index=index, model=model, questions=asked, knowledge_base=rows)
    found = calibrated(
        place,
        System(model, index, outcomes),
        rows,
        out_of_scope=release.out_of_scope,
        share=before.out_of_scope_share,
        max_wrong=before.max_wrong,
        kb_language=kb_language,
    )
    return Measured(outcomes, asked, found)


def _still_holds(place: Workplace, release: Release, index: Artifact, rows: Artifact) -> bool:
    """Whether what a release was measured to be is true of another index of its model, too.

    Confidence is a share of the votes: with another temperature it is another one.
    """
    if has_drifted(0, rows.rows) or release.evaluation is None:
        return False
    try:
        if Releases(place.store).index(release).temperature != index.facts["temperature"]:
            return False
        before = place.store.table(release.measured_on or release.knowledge_base)
        place.store.table(release.evaluation)
    except StoreError:  # it is gone: measured again
        return False
    now = place.store.table(rows)
    fresh = now.join(before, on=now.columns, how="anti", nulls_equal=True)
    gone = before.join(now, on="row_id", how="anti")
    return not has_drifted(fresh.height + gone.height, rows.rows)


def _is_whole(place: Workplace, release: Release) -> bool:
    """Whether all that a release was calibrated with is still in the store."""
    wanted = [release.questions]
    if release.abstention is not None and release.abstention.out_of_scope_share:
        wanted.append(release.out_of_scope)
    return all(it is not None and place.store.holds(it) for it in wanted)


def calibrate_chosen(
    place: Workplace,
    config: Config,
    chosen: System,
    rows: Artifact,
    out_of_scope: Artifact | None,
) -> Calibrated:
    """The thresholds of the model that a run chose, as the config asks for them."""
    return calibrated(
        place,
        chosen,
        rows,
        out_of_scope=out_of_scope,
        share=config.abstention.out_of_scope.share,
        max_wrong=config.abstention.max_wrong,
        kb_language=config.knowledge_base.language,
    )
