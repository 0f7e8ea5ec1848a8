"""Pictures: marks where the numbers say, and text that stays text."""

import re
import xml.etree.ElementTree as ET

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoglot.plots import Bar, bars, curve, nice_ticks, panels, scatter

SVG = "{http://www.w3.org/2000/svg}"


def marks(svg, name):
    return list(ET.fromstring(svg).iter(f"{SVG}{name}"))


def test_a_bar_is_as_long_as_its_value():
    svg = bars([Bar("half", 0.5, 0.4, 0.6), Bar("all", 1.0, 0.9, 1.0, "accent")], "a metric")
    half, whole = (float(rect.get("width")) for rect in marks(svg, "rect"))
    assert whole == pytest.approx(2 * half)
    assert [text.text for text in marks(svg, "text")] == ["half", "0.500", "all", "1.000"]
    start = float(marks(svg, "rect")[0].get("x"))
    whisker = next(p.get("d") for p in marks(svg, "path") if p.get("stroke") == "var(--ink)")
    low, high = re.match(r"M([\d.]+) [\d.]+H([\d.]+)", whisker).groups()
    assert float(low) - start == pytest.approx(0.4 * whole, abs=0.1)
    assert float(high) - start == pytest.approx(0.6 * whole, abs=0.1)


def test_long_names_are_shortened_and_all_names_are_escaped():
    svg = bars([Bar("<b>" + "x" * 40, 0.1, 0.0, 0.2)], "<i>")
    name = marks(svg, "text")[0].text
    assert name == "<b>" + "x" * 22 + "…"
    assert ET.fromstring(svg).get("aria-label") == "<i>"


@given(st.floats(1e-6, 1e6))
def test_ticks_are_few_and_reach_the_top(top):
    ticks = nice_ticks(top)
    assert ticks[0] == 0
    assert 4 <= len(ticks) <= 7
    assert ticks[-2] < top <= ticks[-1] * (1 + 1e-9)


@pytest.mark.parametrize(
    ("top", "ticks"),
    [
        (0.0, [0, 1]),
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (3.1, [0, 1, 2, 3, 4]),
        (11, [0, 2.5, 5, 7.5, 10, 12.5]),
    ],
)
def test_ticks_by_hand(top, ticks):
    assert nice_ticks(top) == ticks


def test_curve_falls_from_left_to_right_and_names_epochs():
    steps = pl.DataFrame(
        {"step": [1, 2, 3, 4], "epoch": [1, 1, 2, 2], "loss": [4.0, 2.0, 1.0, 0.0]}
    )
    svg = curve(steps, "loss")
    line = next(p.get("d") for p in marks(svg, "path") if p.get("stroke") == "var(--plain)")
    points = [tuple(map(float, point.split())) for point in line[1:].split("L")]
    assert points == [
        (40, 10),
        (pytest.approx(210.7), 105),
        (pytest.approx(381.3), 152.5),
        (552, 200),
    ]
    assert [t.text for t in marks(svg, "text")] == ["0", "1", "2", "3", "4", "1", "2"]


def test_curve_of_one_step():
    steps = pl.DataFrame({"step": [1], "epoch": [1], "loss": [2.0]})
    assert len(marks(curve(steps, "loss"), "path")) > 2


def test_scatter_keeps_one_scale_and_one_dot_a_point():
    points = pl.DataFrame({"series": ["a", "b", "b"], "x": [0.0, 4.0, 2.0], "y": [0.0, 1.0, 0.0]})
    svg = scatter(points, {"a": "red", "b": "blue", "none": "green"}, "vectors")
    dots = {path.get("stroke"): path.get("d") for path in marks(svg, "path")}
    assert dots == {"red": "M10.0 210.0h0", "blue": "M330.0 130.0h0M170.0 210.0h0", "green": ""}


def test_scatter_of_one_point():
    point = pl.DataFrame({"series": ["a"], "x": [3.0], "y": [-2.0]})
    assert "M170.0 170.0h0" in scatter(point, {"a": "red"}, "vectors")


def test_panels_stand_two_by_two():
    bar = [Bar("a", 0.5, 0.4, 0.6)]
    svg = panels({"one": bar, "two": bar, "three": bar}, "results")
    places = [group.get("transform") for group in marks(svg, "g")]
    assert len({place.split()[0] for place in places}) == 2
    assert len({place.split()[1] for place in places}) == 2
    assert len(marks(svg, "style")) == 1
