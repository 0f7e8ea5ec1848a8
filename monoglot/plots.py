"""The report's pictures, as SVG text written here rather than by a plotting library.

Text stays text: it takes the page's font, so that any script renders, and its colours come from
the page's variables, so that one picture serves light, dark and print. A scatter of thousands of
points is one path per colour.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

_ROW = 26
_NAME = 172
_BAR = 230
_WIDTH = _NAME + _BAR + 48
_LONGEST_NAME = 26

# For a picture outside the page: the page's own variables (report_template.html.j2).
_STYLE = """
svg{--ink:#1c2733;--muted:#5b6875;--line:#d9dfe5;--plain:#a9b4bf;--accent:#0b66b8;--warm:#c2570c;
font:13px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
.sheet{fill:#fff}
@media(prefers-color-scheme:dark){svg{--ink:#e6ebf0;--muted:#9aa7b4;--line:#36424e;--plain:#64717e;
--accent:#5cb0f5;--warm:#f0964d}.sheet{fill:#12181f}}
"""


@dataclass(frozen=True)
class Bar:
    """A share between 0 and 1 with its interval; `hollow` is for a control."""

    name: str
    value: float
    low: float
    high: float
    look: Literal["plain", "accent", "hollow"] = "plain"


def bars(group: Sequence[Bar], title: str) -> str:
    """Horizontal bars on a scale from 0 to 1, with a whisker for the interval.

    Args:
        group: the bars from top to bottom.
        title: what is measured; read out by screen readers, not drawn.
    """
    return svg(_WIDTH, _ROW * len(group), title, _rows(group))


def _rows(group: Sequence[Bar]) -> str:
    grid = "".join(
        f'<path d="M{_x(tick):.1f} 0V{_ROW * len(group)}" stroke="var(--line)"/>'
        for tick in (0, 0.25, 0.5, 0.75, 1)
    )
    return grid + "".join(_bar(bar, _ROW * row) for row, bar in enumerate(group))


def _bar(bar: Bar, top: float) -> str:
    middle = top + _ROW / 2
    strong = ' font-weight="650"' if bar.look == "accent" else ""
    colour = {"plain": "--plain", "accent": "--accent", "hollow": "--warm"}[bar.look]
    paint = (
        f'fill="none" stroke="var({colour})" stroke-width="1.5" stroke-dasharray="4 2.5"'
        if bar.look == "hollow"
        else f'fill="var({colour})"'
    )
    width = max(_x(bar.value) - _NAME, 0.5)
    whisker = (
        f"M{_x(bar.low):.1f} {middle}H{_x(bar.high):.1f}"
        f"M{_x(bar.low):.1f} {middle - 3.5}v7M{_x(bar.high):.1f} {middle - 3.5}v7"
    )
    return (
        f'<text x="{_NAME - 10}" y="{middle + 4.5}" text-anchor="end" fill="var(--ink)"{strong}>'
        f"{escape(_shortened(bar.name))}</text>"
        f'<rect x="{_NAME}" y="{middle - 7.5}" width="{width:.1f}" height="15" {paint}/>'
        f'<path d="{whisker}" stroke="var(--ink)" stroke-width="1.3" fill="none"/>'
        f'<text x="{_WIDTH}" y="{middle + 4.5}" text-anchor="end" fill="var(--ink)"{strong}>'
        f"{bar.value:.3f}</text>"
    )


def _x(share: float) -> float:
    return _NAME + _BAR * min(max(share, 0.0), 1.0)


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def curve(steps: pl.DataFrame, title: str) -> str:
    """The loss of each step, thin, and its running mean, with a tick where an epoch starts.

    Args:
        steps: columns step (from 1), epoch and loss, in order; at least one row.
        title: as for `bars`.
    """
    loss = steps["loss"].to_numpy()
    ticks = nice_ticks(float(loss.max()))
    plane = _Plane(steps=len(loss), top=ticks[-1])
    smooth = (
        steps["loss"].rolling_mean(max(1, len(loss) // 30), min_samples=1, center=True).to_numpy()
    )
    grid = "".join(
        f'<path d="M{plane.left} {plane.y(tick):.1f}H{plane.right}" stroke="var(--line)"/>'
        f'<text x="{plane.left - 8}" y="{plane.y(tick) + 4:.1f}" text-anchor="end" '
        f'fill="var(--muted)">{tick:g}</text>'
        for tick in ticks
    )
    starts = steps.filter(pl.col("epoch").is_first_distinct())
    every = max(1, starts.height // 12)
    epochs = "".join(
        f'<path d="M{plane.x(step):.1f} {plane.bottom}v4" stroke="var(--muted)"/>'
        f'<text x="{plane.x(step):.1f}" y="{plane.bottom + 18}" text-anchor="middle" '
        f'fill="var(--muted)">{epoch}</text>'
        for step, epoch in starts.select("step", "epoch").gather_every(every).iter_rows()
    )
    lines = (
        f'<path d="{plane.line(loss)}" fill="none" stroke="var(--plain)"/>'
        f'<path d="{plane.line(smooth)}" fill="none" stroke="var(--accent)" stroke-width="2.2"/>'
    )
    return svg(plane.right + 8, plane.bottom + 24, title, grid + epochs + lines)


@dataclass(frozen=True)
class _Plane:
    """Where a step and a loss lie in the picture of the loss curve."""

    steps: int
    top: float
    left: int = 40
    right: int = 552
    bottom: int = 200

    def x(self, step: float) -> float:
        return self.left + (self.right - self.left) * (step - 1) / max(self.steps - 1, 1)

    def y(self, value: float) -> float:
        return self.bottom - (self.bottom - 10) * value / self.top

    def line(self, values: NDArray[np.float64]) -> str:
        points = (f"{self.x(n):.1f} {self.y(v):.1f}" for n, v in enumerate(values, 1))
        return "M" + "L".join(points)


def risk(
    curves: pl.DataFrame,
    chosen: Mapping[str, tuple[float, float]],
    colours: Mapping[str, str],
    asked: float,
    title: str,
) -> str:
    """Risk-coverage curves, each with the point that was chosen, and a line at the rate asked for.

    Args:
        curves: columns language, coverage and rate, as `abstention.curve` gives them.
        chosen: language -> coverage and rate at its threshold.
        colours: language -> CSS colour.
        asked: the rate that was asked for.
        title: as for `bars`.
    """
    shown = curves.filter(pl.col("language").is_in(list(colours)))
    # At the very left a single mistake is a large share: that does not set the scale.
    settled = shown.filter(pl.col("coverage") >= 0.1)["rate"].to_numpy()
    rates = (asked * 1.5, *settled[np.isfinite(settled)], *(rate for _, rate in chosen.values()))
    plane = _Shares(nice_ticks(max(rates)))
    lines = []
    for language, colour in colours.items():
        points = shown.filter(language=language).select("coverage", "rate").drop_nans()
        if points.height:
            path = "L".join(f"{plane.x(one)} {plane.y(other)}" for one, other in points.iter_rows())
            lines.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if language in chosen:
            coverage, rate = chosen[language]
            lines.append(
                f'<circle cx="{plane.x(coverage)}" cy="{plane.y(rate)}" r="5.5" fill="{colour}" '
                'stroke="var(--paper,#fff)" stroke-width="2"/>'
            )
    content = plane.grid() + plane.limit(asked) + "".join(lines)
    return svg(plane.right + 12, plane.bottom + 24, title, content)


@dataclass(frozen=True)
class _Shares:
    """Where a coverage and a rate lie in the picture of risk and coverage."""

    ticks: Sequence[float]
    left: int = 48
    right: int = 552
    bottom: int = 220

    def x(self, coverage: float) -> str:
        return f"{self.left + (self.right - self.left) * coverage:.1f}"

    def y(self, rate: float, below: float = 0) -> str:
        top = self.ticks[-1]
        return f"{self.bottom - (self.bottom - 12) * min(rate, top) / top + below:.1f}"

    def grid(self) -> str:
        upwards = (
            f'<path d="M{self.left} {self.y(tick)}H{self.right}" stroke="var(--line)"/>'
            f'<text x="{self.left - 8}" y="{self.y(tick, 4)}" text-anchor="end" '
            f'fill="var(--muted)">{tick:.3g}</text>'
            for tick in self.ticks
        )
        across = (
            f'<text x="{self.x(share)}" y="{self.bottom + 18}" text-anchor="middle" '
            f'fill="var(--muted)">{share:g}</text>'
            for share in (0, 0.25, 0.5, 0.75, 1)
        )
        return "".join((*upwards, *across))

    def limit(self, asked: float) -> str:
        return (
            f'<path d="M{self.left} {self.y(asked)}H{self.right}" stroke="var(--ink)" '
            'stroke-dasharray="4 3"/>'
            f'<text x="{self.left + 6}" y="{self.y(asked, -5)}" fill="var(--ink)">'
            f"asked for: {asked:.3g}</text>"
        )


def nice_ticks(top: float) -> list[float]:
    """From 0 to at least `top` in three to six steps of 1, 2, 2.5 or 5 times a power of ten."""
    if not top > 0:
        return [0.0, 1.0]
    power = 10 ** math.floor(math.log10(top))
    step = next(s * power for s in (0.2, 0.25, 0.5, 1, 2) if top <= 5 * s * power)
    return [round(step * n, 12) for n in range(math.ceil(round(top / step, 9)) + 1)]


def scatter(points: pl.DataFrame, colours: Mapping[str, str], title: str) -> str:
    """Points in their own colours, both axes to one scale.

    Args:
        points: columns series, x and y; the series named first in `colours` lies below.
        colours: series -> CSS colour.
        title: as for `bars`.
    """
    size, edge = 340, 10
    xy = points.select("x", "y").to_numpy().astype(np.float64)
    low, high = xy.min(axis=0), xy.max(axis=0)
    scale = (size - 2 * edge) / max(float((high - low).max()), 1e-9)
    placed = (xy - (low + high) / 2) * scale * (1, -1) + size / 2
    series = points["series"].to_numpy()
    dots = "".join(
        f'<path d="{_dots(placed[series == name])}" stroke="{colour}" stroke-width="4.5" '
        'stroke-linecap="round" stroke-opacity=".6" fill="none"/>'
        for name, colour in colours.items()
    )
    frame = f'<rect x=".5" y=".5" width="{size - 1}" height="{size - 1}" class="frame"/>'
    return svg(size, size, title, frame + dots)


def _dots(points: NDArray[np.float64]) -> str:
    """Lines of no length, which round caps draw as dots."""
    return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)


def panels(groups: Mapping[str, Sequence[Bar]], title: str) -> str:
    """Bars of several metrics, two beside each other, as a picture that stands on its own.

    Args:
        groups: heading -> its bars; all have as many.
        title: read out by screen readers.
    """
    rows = max(len(group) for group in groups.values())
    width, height = _WIDTH + 56, _ROW * rows + 62
    cells = []
    for number, (heading, group) in enumerate(groups.items()):
        left, top = 28 + width * (number % 2), 18 + height * (number // 2)
        cells.append(
            f'<text x="{left + _NAME}" y="{top + 16}" fill="var(--ink)" font-size="15" '
            f'font-weight="650">{escape(heading)}</text>'
            f'<g transform="translate({left} {top + 28})">{_rows(group)}</g>'
        )
    size = (2 * width, 18 + height * ((len(groups) + 1) // 2))
    sheet = f'<style>{_STYLE}</style><rect width="{size[0]}" height="{size[1]}" class="sheet"/>'
    return svg(*size, title, sheet + "".join(cells))


def standalone(drawn: str) -> str:
    """A picture with the colours that a page gives it otherwise, to be a file of its own."""
    palette = Path(__file__).with_name("palette.css").read_text(encoding="utf-8")
    font = 'text { font: 13px system-ui, "Segoe UI", Roboto, sans-serif; }'
    return drawn.replace("</title>", f"</title><style>{palette}{font}</style>", 1)


def svg(width: float, height: float, title: str, content: str) -> str:
    """A picture of its content, with a title for screen readers."""
    label = escape(title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'role="img" aria-label="{label}"><title>{label}</title>{content}</svg>'
    )
