"""The report of a run: one HTML page that needs nothing else, and a short text for Prefect's UI.

The templates beside this file say how it looks; this file works out what it shows. Questions,
labels and file contents are data: the engine escapes them in HTML, `wording.markdown` in Markdown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl

from monoglot import plots
from monoglot.contracts import Findings, Gaps, Rejects, empty
from monoglot.generation.replies import Usage
from monoglot.knowledge.gaps import grouped
from monoglot.learning.gate import Decision
from monoglot.learning.metrics import METRICS, asked
from monoglot.learning.mistakes import confusions, per_label, won_and_lost
from monoglot.learning.projection import ROWS
from monoglot.learning.results import COLUMNS, LanguageResult, Result, by_language, results
from monoglot.learning.thresholds import Abstention
from monoglot.pages import render
from monoglot.runs import StageRecord

_SERIES = ("--s1", "--s2", "--s3", "--s4", "--s5")
_CONFUSIONS = 12
_HEADINGS = {
    "hit@1": "Right label first (hit@1)",
    "hit@3": "Among the first three (hit@3)",
    "hit@5": "Among the first five (hit@5)",
    "mrr": "Mean reciprocal rank (MRR)",
}


@dataclass(frozen=True)
class Spend:
    """What one stage asked the LLM.

    Attributes:
        stage: its title.
        reused: the stage was reused: its figures are those of the run that made it.
        asked: distinct rows it needed.
        from_ledger: of these, the rows that an earlier run had bought.
        usage: what it bought; of what came in by batch, all that no stage showed before.
    """

    stage: str
    reused: bool
    asked: int
    from_ledger: int
    usage: Usage


@dataclass(frozen=True, eq=False)
class RunReport:
    """All that a report shows, as plain tables.

    Attributes:
        title: what was run, for instance the knowledge base's name.
        facts: what is told of the run below the title: name -> value.
        systems: name -> `Outcomes` of the same questions, in the order to be shown.
        baseline: the system of `systems` that the others are compared with: the untuned model.
        candidate: the system of `systems` that this run made.
        evaluated_on: where the questions come from: "the evaluation file".
        decision: the gate's.
        thresholds: when the release in production does not know; None: not calibrated.
        risk: `abstention.curve` of that release; None: no picture.
        steps: loss of each optimiser step (step, epoch, loss); None: nothing was trained.
        before: `projection` of the baseline's vectors; None: no picture.
        after: the same of the candidate's.
        rejects: `Rejects` of all stages.
        gaps: `Gaps`: user queries that the knowledge base does not answer.
        findings: `Findings` of the diagnostics.
        stages: what each stage did.
        spend: what the LLM was asked, a line a stage; empty: it was not asked.
        warnings: what the operator should know, a sentence each.
        macro_min: labels with fewer questions are left out of the macro values.
    """

    title: str
    facts: Mapping[str, str]
    systems: Mapping[str, pl.DataFrame]
    baseline: str
    candidate: str
    evaluated_on: str
    decision: Decision
    thresholds: Abstention | None = None
    risk: pl.DataFrame | None = None
    steps: pl.DataFrame | None = None
    before: pl.DataFrame | None = None
    after: pl.DataFrame | None = None
    rejects: pl.DataFrame = field(default_factory=lambda: empty(Rejects))
    gaps: pl.DataFrame = field(default_factory=lambda: empty(Gaps))
    findings: pl.DataFrame = field(default_factory=lambda: empty(Findings))
    stages: Sequence[StageRecord] = ()
    spend: Sequence[Spend] = ()
    warnings: tuple[str, ...] = ()
    macro_min: int = 1

    @property
    def bought(self) -> Usage:
        """What this run bought, without the stages it reused."""
        return sum((line.usage for line in self.spend if not line.reused), Usage())

    @cached_property
    def figures(self) -> "Figures":
        """What every form of the report shows, worked out once: the intervals take seconds."""
        return _figures(self)

    def checks(self, verdict: str) -> list[dict[str, Any]]:
        """The diagnostics with one verdict: found, fine or not checked."""
        return self.findings.filter(pl.col("verdict").cast(pl.String) == verdict).to_dicts()

    @property
    def mixtures(self) -> list[Mapping[str, Any]]:
        """How each code-switched language came out, by its stage (`renderings.Mixture`)."""
        facts = [stage.artifact.facts for stage in self.stages]
        return [each["mixing"] for each in facts if each.get("mixing")]


@dataclass(frozen=True)
class Figures:
    """What every form of the report shows.

    Attributes:
        table: every system, and those with an English control again; empty without questions.
        languages: baseline and candidate per language and over all; empty without questions.
        labels: `per_label` of the candidate, and the baseline's hit@1 as `before`.
        rejected: file, rule, count, reason of the first, and row and value of the first three.
        gaps: `grouped` gaps.
    """

    table: tuple[Result, ...]
    languages: tuple[LanguageResult, ...]
    labels: pl.DataFrame
    rejected: pl.DataFrame
    gaps: pl.DataFrame

    def line(self, system: str) -> Result | None:
        """A system's line on the questions as users wrote them; None where there is no question."""
        return next((x for x in self.table if x.system == system and not x.control), None)


def _figures(report: RunReport) -> Figures:
    baseline, candidate = (report.systems[name] for name in (report.baseline, report.candidate))
    measured = asked(candidate).height > 0
    return Figures(
        table=results(report.systems, report.baseline, macro_min=report.macro_min)
        if measured
        else (),
        languages=by_language(baseline, candidate) if measured else (),
        labels=per_label(candidate).join(
            per_label(baseline).select("label", before="hit@1"), on="label", maintain_order="left"
        ),
        rejected=report.rejects.group_by("file", "rule", maintain_order=True)
        .agg(pl.len().alias("count"), pl.first("reason"), pl.col("row", "value").head(3))
        .sort("count", descending=True, maintain_order=True),
        gaps=grouped(report.gaps),
    )


def render_html(report: RunReport) -> str:
    """The whole report as one page without a script, a link or a file beside it."""
    baseline, candidate = (report.systems[name] for name in (report.baseline, report.candidate))
    changed = won_and_lost(baseline, candidate)
    return _rendered(
        "report_template.html.j2",
        report,
        columns=COLUMNS,
        headings=_HEADINGS,
        charts={metric: plots.bars(group, _HEADINGS[metric]) for metric, group in _bars(report)},
        curve=_curve(report),
        risk=_risk(report),
        pictures=_pictures(report),
        confusions=confusions(candidate).head(_CONFUSIONS).to_dicts(),
        changes={won: changed.filter(won=won) for won in (True, False)},
    )


def render_markdown(report: RunReport) -> str:
    """The short form for Prefect's UI: tables and sentences, no picture."""
    return _rendered("report_template.md.j2", report)


def headline_plot(report: RunReport) -> bytes:
    """The bars of all metrics as an SVG file that suits a light and a dark page."""
    groups = {_HEADINGS[metric]: group for metric, group in _bars(report)}
    return plots.panels(groups, f"{report.title}: every system on the same questions").encode()


def _rendered(template: str, report: RunReport, **more: Any) -> str:
    return render(template, {"name": _name}, report=report, figures=report.figures, **more)


def _bars(report: RunReport) -> list[tuple[str, list[plots.Bar]]]:
    """Metric -> a bar a system, and at the bottom the candidate asked in English."""

    def bar(line: Result, metric: str) -> plots.Bar:
        value = line.values[metric]
        own = line.system == report.candidate
        look: Any = "hollow" if line.control else "accent" if own else "plain"
        return plots.Bar(_name(line), value.mean, value.low, value.high, look)

    table = report.figures.table
    shown = [line for line in table if not line.control or line.system == report.candidate]
    return [(metric, [bar(line, metric) for line in shown]) for metric in METRICS]


def _curve(report: RunReport) -> str:
    if report.steps is None or report.steps.is_empty():
        return ""
    return plots.curve(report.steps, "Training loss of each step, and its running mean")


def _risk(report: RunReport) -> dict[str, Any]:
    """The risk-coverage curve of each language with its chosen point, and its colours."""
    if report.thresholds is None or report.risk is None:
        return {}
    known = report.thresholds.languages
    colours = _colours({name: each.questions for name, each in known.items()})
    chosen = {
        name: (each.coverage, each.wrong)
        for name, each in known.items()
        if name in colours and each.wrong is not None
    }
    title = "Share of wrong answers among the answered, by share of questions answered"
    drawn = plots.risk(report.risk, chosen, colours, report.thresholds.max_wrong, title)
    return {"svg": drawn, "colours": colours, "all": len(known)}


def _colours(sizes: Mapping[str, int]) -> dict[str, str]:
    """A colour for each of the largest; more than five are not told apart."""
    largest = sorted(sizes, key=lambda name: (-sizes[name], name))[: len(_SERIES)]
    return {name: f"var({colour})" for name, colour in zip(sorted(largest), _SERIES, strict=False)}


def _pictures(report: RunReport) -> list[dict[str, Any]]:
    """The projections before and after, and what their colours mean."""
    named = {report.baseline: report.before, report.candidate: report.after}
    drawn = {name: points for name, points in named.items() if points is not None}
    sizes = {
        name: count
        for points in drawn.values()  # of all pictures the same questions
        for name, count in points["series"].value_counts().iter_rows()
        if name != ROWS
    }
    colours = {ROWS: "var(--plain)"} | _colours(sizes)
    return [
        {
            "name": name,
            "svg": plots.scatter(points, colours, f"{name}: vectors in two dimensions"),
            "cosines": dict(
                points.drop_nulls("cosine").group_by("series").agg(pl.first("cosine")).iter_rows()
            ),
            "colours": colours,
            "all": len(sizes),
        }
        for name, points in drawn.items()
    ]


def _name(line: Result) -> str:
    return f"{line.system}, in English" if line.control else line.system
