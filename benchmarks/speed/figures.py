"""What a measurement gives: figures, each with its goal where there is one."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Attributes:
        what: what was measured.
        value: the value.
        unit: of the value; `x` for a ratio of two things measured in this run.
        least: it must be so much at least; None: no such goal.
        most: it may be so much at most; None: no such goal.
    """

    what: str
    value: float
    unit: str
    least: float | None = None
    most: float | None = None

    @property
    def goal(self) -> str:
        """The goal, for people; empty without one."""
        if self.least is not None:
            return f"at least {_shown(self.least)}"
        return f"at most {_shown(self.most)}" if self.most is not None else ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.least is not None:
            return self.value >= self.least
        return self.value <= self.most if self.most is not None else None


def page(title: str, figures: Sequence[dict[str, Any]]) -> list[str]:
    """The figures of one measurement as markdown."""
    lines = ["", f"## {title}", "", "| what | measured | goal |", "|---|---|---|"]
    for each in figures:
        figure = Figure(**each)
        verdict = {True: " (met)", False: " (**missed**)", None: ""}[figure.met]
        lines.append(
            f"| {figure.what} | {_shown(figure.value)} {figure.unit} | {figure.goal}{verdict} |"
        )
    return lines


def _shown(value: float | None) -> str:
    assert value is not None
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def seconds_of(run: Callable[[], object], *, times: int = 1) -> float:
    """Wall-clock seconds of a call, the least of some."""
    best = np.inf
    for _ in range(times):
        started = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - started)
    return float(best)


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Of the power law that fits times to sizes; 1 is linear."""
    slope, _ = np.polyfit(np.log(sizes), np.log(np.maximum(seconds, 1e-3)), 1)
    return float(slope)
