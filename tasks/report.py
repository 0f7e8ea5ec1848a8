"""The report of a run: a page in the store, and the same summary in Prefect's UI."""

import time
from collections.abc import Iterator, Mapping, Sequence

import polars as pl
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from monoglot.config import Config
from monoglot.contracts import Gaps, Rejects, empty
from monoglot.learning.gate import Decision
from monoglot.report import RunReport, headline_plot, render_html, render_markdown
from monoglot.serving.manifest import Release
from monoglot.store import Artifact
from tasks.abstention import Calibrated
from tasks.artifacts import picture, show, spend_of
from tasks.candidates import GAPS
from tasks.evaluation import PROJECTION
from tasks.systems import TUNED, UNTUNED
from tasks.training import STEPS
from tasks.workplace import REJECTS, Workplace


@task(name="report", cache_policy=NO_CACHE)
def write_report(
    place: Workplace,
    run: str,
    *,
    facts: Mapping[str, str],
    systems: Mapping[str, Artifact],
    questions: Artifact,
    gaps: tuple[Artifact, ...],
    trained: Artifact,
    decision: Decision,
    calibrated: Calibrated,
    findings: Artifact,
    notes: tuple[str, ...] = (),
) -> str:
    """Write `report.html` into the run's folder; returns its path within the store.

    Args:
        place: store and journal of the run.
        run: name of the run.
        facts: what is told of the run, by name.
        systems: name -> outcomes; see `tasks.systems.by_name`.
        questions: what they were asked.
        gaps: what the LLM made of user queries, with those that nothing answers.
        trained: the trained model, for its loss curve.
        decision: the gate's.
        calibrated: when the release does not know.
        findings: what the diagnostics saw.
        notes: what else the operator should know, a sentence each.
    """
    store, journal = place.store, [record.artifact for record in place.journal]
    title = facts["knowledge base"]
    report = RunReport(
        title=title,
        facts=facts,
        systems={name: store.table(outcomes) for name, outcomes in systems.items()},
        baseline=UNTUNED,
        candidate=TUNED,
        evaluated_on=f"{questions.rows:,} questions of {questions.facts['source']}",
        decision=decision,
        thresholds=calibrated.abstention,
        risk=None if calibrated.curve is None else store.table(calibrated.curve),
        steps=store.table(trained, STEPS),
        before=store.table(systems[UNTUNED], PROJECTION),
        after=store.table(systems[TUNED], PROJECTION),
        rejects=pl.concat([empty(Rejects), *_rejects(place, journal)]),
        findings=store.table(findings),
        gaps=pl.concat([empty(Gaps), *(store.table(each, GAPS) for each in gaps)]),
        stages=place.journal,
        spend=spend_of(place.journal),
        warnings=tuple(dict.fromkeys([*warnings_of(journal, calibrated), *notes])),
    )
    name = f"runs/{run}/report.html"
    with store.explained():
        store.files.write(name, render_html(report))
    plot = picture(headline_plot(report), "every system on the same questions")
    show(store, "report", f"{render_markdown(report)}\n\n{plot}\n", title)
    get_run_logger().info(f"report: {store.files.told(name)}", extra={"shown": True})
    return name


def facts_of(config: Config, rows: Artifact, anchors: Artifact, release: Release) -> dict[str, str]:
    """What a reader wants to know of a run before its numbers."""
    return {
        "knowledge base": f"{config.knowledge_base.name}: {rows.rows:,} rows, "
        f"{rows.facts['labels']:,} labels",
        "languages": ", ".join(language.name for language in config.languages) or "native queries",
        "base model": config.base_model,
        "training queries": f"{anchors.rows:,}",
        "release in production": f"{release.id} ({release.model_name})",
        "written": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def warnings_of(journal: Sequence[Artifact], calibrated: Calibrated) -> Iterator[str]:
    """What each stage warned of; where it is of one model among several, of which one.

    Args:
        journal: results of the run's stages, in order.
        calibrated: when the release in production does not know. A candidate that awaits approval
            has thresholds of its own, and so the same warnings with other figures.
    """
    chosen = calibrated.curve and calibrated.curve.location
    for each in journal:
        whose = ""
        if each.stage == "calibration":
            is_chosen = each.location == chosen
            whose = "The model in production: " if is_chosen else "The candidate: "
        for warning in each.facts.get("warnings", ()):
            yield f"{whose}{warning}"


def _rejects(place: Workplace, journal: list[Artifact]) -> list[pl.DataFrame]:
    return [place.store.table(each, REJECTS) for each in journal if each.facts.get("rejected")]
