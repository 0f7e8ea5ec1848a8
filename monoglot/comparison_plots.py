"""Pictures of a comparison, as SVG text: gains with their intervals, and scores against steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import polars as pl

from monoglot.plots import nice_ticks, svg
from monoglot.wording import signed

_ROW = 26
_NAME, _SPAN, _VALUE = 230, 330, 60
_COLOURS = ("--s1", "--s2", "--s3", "--s4", "--s5")
_DASHES = ("", "7 4", "2 3", "10 3 2 3")
_LABEL = 15  # pixels between the lines' names, so that none covers another
_LONGEST_NAME = 28


@dataclass(frozen=True)
class Gain:
    """A difference and its interval; `is_real` ones are drawn strong."""

    name: str
    value: float
    low: float
    high: float
    is_real: bool


def gains(rows: Sequence[Gain], title: str) -> str:
    """A dot with a whisker for each difference, on a scale around a line at 0.

    Args:
        rows: from top to bottom; at least one.
        title: what is shown; read out by screen readers, not drawn.
    """
    reach = max(max(abs(row.low), abs(row.high)) for row in rows)
    ticks = nice_ticks(reach)
    top = ticks[-1]
    height = _ROW * len(rows)

    def x(value: float) -> float:
        return _NAME + _SPAN * (value + top) / (2 * top)

    marks = [-top, -top / 2, 0.0, top / 2, top]
    grid = "".join(
        f'<path d="M{x(mark):.1f} 0V{height}" '
        f'stroke="var({"--muted" if mark == 0 else "--line"})"/>'
        f'<text x="{x(mark):.1f}" y="{height + 16}" text-anchor="middle" fill="var(--muted)">'
        f"{escape(signed(mark) if mark else '0')}</text>"
        for mark in marks
    )
    drawn = "".join(
        _gain(row, _ROW * place, x(row.value), x(row.low), x(row.high))
        for place, row in enumerate(rows)
    )
    return svg(_NAME + _SPAN + _VALUE, height + 24, title, grid + drawn)


def _gain(row: Gain, top: float, x: float, low: float, high: float) -> str:
    middle = top + _ROW / 2
    colour = "--accent" if row.is_real else "--plain"
    strong = ' font-weight="650"' if row.is_real else ""
    return (
        f'<text x="{_NAME - 12}" y="{middle + 4.5}" text-anchor="end" fill="var(--ink)"{strong}>'
        f"{escape(_shortened(row.name))}</text>"
        f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 3.5}v7'
        f'M{high:.1f} {middle - 3.5}v7" stroke="var(--ink)" stroke-width="1.3" fill="none"/>'
        f'<circle cx="{x:.1f}" cy="{middle}" r="5" fill="var({colour})"/>'
        f'<text x="{_NAME + _SPAN + _VALUE}" y="{middle + 4.5}" text-anchor="end" '
        f'fill="var(--ink)"{strong}>{escape(signed(row.value))}</text>'
    )


def lines(series: Mapping[str, pl.DataFrame], metric: str, title: str) -> str:
    """A line for each series of scores against steps, named at its end.

    Args:
        series: name -> columns step and the metric, by step; at least one row in all.
        metric: the column that is drawn.
        title: as for `gains`.
    """
    left, right, bottom = 46, 470, max(240, _LABEL * len(series) + 20)
    values = np.concatenate([points[metric].to_numpy() for points in series.values()])
    last = max(int(points["step"].max() or 0) for points in series.values())  # type: ignore[arg-type]
    ticks = _ticks_between(float(values.min()), float(values.max()))

    def x(step: float) -> float:
        return left + (right - left) * step / last

    def y(value: float) -> float:
        return bottom - (bottom - 12) * (value - ticks[0]) / (ticks[-1] - ticks[0])

    grid = "".join(
        f'<path d="M{left} {y(tick):.1f}H{right}" stroke="var(--line)"/>'
        f'<text x="{left - 8}" y="{y(tick) + 4:.1f}" text-anchor="end" fill="var(--muted)">'
        f"{tick:g}</text>"
        for tick in ticks
    ) + "".join(
        f'<text x="{x(step):.1f}" y="{bottom + 18}" text-anchor="middle" fill="var(--muted)">'
        f"{step:g}</text>"
        for step in nice_ticks(last)
        if step <= last
    )
    ends = {name: y(points[metric][-1]) for name, points in series.items() if points.height}
    drawn = "".join(
        _line(
            name,
            number,
            " ".join(
                f"{x(step):.1f},{y(value):.1f}"
                for step, value in series[name].select("step", metric).iter_rows()
            ),
            place=(right + 14, place, right, ends[name]),
        )
        for number, (name, place) in enumerate(_apart(ends, bottom).items())
    )
    return svg(right + 250, bottom + 26, title, grid + drawn)


def _line(name: str, number: int, points: str, place: tuple[float, float, float, float]) -> str:
    """A series, its name beside its end, and a thin line from one to the other."""
    x, y, end_x, end_y = place
    colour = f"var({_COLOURS[number % len(_COLOURS)]})"
    dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>'
        f'<path d="M{end_x + 1} {end_y:.1f}L{x - 3} {y:.1f}" stroke="{colour}" stroke-width=".8"/>'
        f'<text x="{x}" y="{y + 4.5:.1f}" fill="var(--ink)">{escape(_shortened(name))}</text>'
    )


def _apart(ends: Mapping[str, float], bottom: float) -> dict[str, float]:
    """Where each name goes: near its line's end, in the same order, none upon another."""
    places: dict[str, float] = {}
    free = 6.0
    for name, end in sorted(ends.items(), key=lambda item: item[1]):
        places[name] = free = max(end, free)
        free += _LABEL
    over = max(places.values(), default=0) - bottom
    ceiling = float("inf")
    if over > 0:
        for name in reversed(list(places)):
            places[name] = min(places[name], bottom, ceiling)
            ceiling = places[name] - _LABEL
    return {name: places[name] for name in ends}


def _ticks_between(low: float, high: float) -> list[float]:
    """Ticks of a scale that need not begin at 0: scores differ by little."""
    step = nice_ticks(max(high - low, 0.01))[1]
    first, last = int(np.floor(low / step)), int(np.ceil(high / step))
    return [round(step * number, 12) for number in range(first, max(last, first + 1) + 1)]


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
