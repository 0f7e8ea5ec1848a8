"""The report of an ablation: the paper's Table 1 for one's own knowledge base, and a verdict."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from monoglot.comparison_plots import Gain, gains, lines
from monoglot.learning.comparison import Line, best, verdict
from monoglot.learning.grid import Changes
from monoglot.learning.metrics import METRICS
from monoglot.pages import render

_CURVE = "hit@3"


@dataclass(frozen=True, eq=False)
class AblationReport:
    """All that is told of an ablation.

    Attributes:
        title: the knowledge base.
        grid: name or file of the grid.
        facts: what is told below the title: name -> value.
        changes: cell -> what it changes in monoglot.yaml.
        reference: the cell that the others are compared with.
        metric: the metric that decides (gate.metric).
        seeds: that were wanted.
        lines: every system on the validation questions, those that learn nothing first.
        held_back: the best cell, the reference and the untuned model on the held-back questions.
        index_set: cell -> MRR on validation where the index set alone answers (the paper's way).
        curves: cell -> scores during the training (step and metrics), means over the seeds.
        path: of the page, within the store.
    """

    title: str
    grid: str
    facts: Mapping[str, str]
    changes: Mapping[str, Changes]
    reference: str
    metric: str
    seeds: tuple[int, ...]
    lines: tuple[Line, ...]
    held_back: tuple[Line, ...]
    index_set: Mapping[str, float]
    curves: Mapping[str, pl.DataFrame]
    path: str

    @property
    def verdict(self) -> str:
        """Which differences are real."""
        return verdict(self.lines, self.reference, self.metric)

    @property
    def best(self) -> Line | None:
        """The best of the grid's cells on the validation questions."""
        return best([line for line in self.lines if line.cell in self.changes], self.metric)

    @property
    def confirmed(self) -> str:
        """What the held-back questions say of the choice."""
        if self.best is None:
            return "No cell is measured yet."
        if self.best.cell == self.reference:
            return f"The best cell by validation is the reference itself, {self.reference}."
        own = next(line for line in self.held_back if line.cell == self.best.cell)
        return f"By validation the best cell is {own.cell}. On the held-back questions: " + (
            verdict([own], self.reference, self.metric)
        )

    @property
    def missing(self) -> Mapping[str, tuple[int, ...]]:
        """Cell -> seeds that were not measured."""
        return {line.cell: line.missing for line in self.lines if line.missing}

    def as_json(self) -> dict[str, Any]:
        """For programs: all but the curves."""
        names = ("title", "grid", "reference", "metric", "seeds", "facts", "changes", "index_set")
        return {
            **{name: getattr(self, name) for name in names},
            "verdict": self.verdict,
            "confirmed": self.confirmed,
            "best": None if self.best is None else self.best.cell,
            "missing": self.missing,
            "validation": [_line_as_json(line) for line in self.lines],
            "held_back": [_line_as_json(line) for line in self.held_back],
            "report": self.path,
        }


def render_ablation(report: AblationReport) -> str:
    """One page without a script, a link or a file beside it."""
    drawn = [
        Gain(line.cell, line.gain.mean, line.gain.low, line.gain.high, line.is_real)
        for line in report.lines
        if line.gain is not None and line.cell in report.changes
    ]
    curves = {name: points for name, points in report.curves.items() if points.height}
    return render(
        "ablation_template.html.j2",
        {},
        report=report,
        metrics=METRICS,
        gains=gains(drawn, "Gain over the reference, with its interval") if drawn else "",
        curves=lines(curves, _CURVE, f"{_CURVE} during the training") if curves else "",
        curve=_CURVE,
    )


def render_ablation_markdown(report: AblationReport) -> str:
    """The short form for Prefect's UI."""
    return render("ablation_template.md.j2", {}, report=report, metrics=METRICS)


def _line_as_json(line: Line) -> dict[str, Any]:
    told = dataclasses.asdict(line)
    return {**told, "is_real": line.is_real}
