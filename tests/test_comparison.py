"""Which differences are real: on outcomes made so that the answer is known."""

import dataclasses

import polars as pl
import pytest

from monoglot.learning.bootstrap import Interval
from monoglot.learning.comparison import (
    Cost,
    Measured,
    best,
    compare,
    gain_of,
    holm,
    p_value,
    verdict,
)


def outcomes(ranks, *, per_source=1):
    count = len(ranks)
    return pl.DataFrame(
        {
            "query_id": [f"q{n:04}" for n in range(count)],
            "control": False,
            "language": "hi-Latn",
            "label": "a",
            "group": [f"g{n // per_source}" for n in range(count)],
            "known": True,
            "rank": pl.Series(ranks, dtype=pl.Int32),
        }
    )


def cell(*by_seed, **more):
    tables = {seed: it for seed, it in enumerate(by_seed) if it is not None}
    costs = {seed: Cost(10.0 + seed, 5, 100) for seed in tables}
    return Measured(tables, costs, more.get("failed", {}))


# Half of 200 questions are found first; then 20 more of them; then 20 others, by each seed anew.
HALF = [1, 0] * 100
BETTER = [1] * 40 + HALF[40:]
NOISE = [[0, 1] * 3 + HALF[6:], [*HALF[:6], 1, 1, *HALF[8:]], HALF]


def test_holm_is_that_of_the_textbook():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_p_is_that_of_the_normal_with_this_interval():
    assert p_value(Interval(1.96, 0.0, 3.92, 99)) == pytest.approx(0.05, abs=1e-3)
    assert p_value(Interval(-0.5, -1.0, 0.0, 99)) == pytest.approx(0.05, abs=1e-3)
    assert p_value(Interval(0.0, 0.0, 0.0, 99)) == 1.0
    assert p_value(Interval(0.1, 0.1, 0.1, 6)) == 0.0
    assert p_value(Interval(0.1, 0.1, 0.1, 5)) == 1.0


def test_a_difference_in_every_seed_is_real_and_noise_is_not():
    cells = {
        "random": cell(*[outcomes(HALF)] * 3),
        "better": cell(*[outcomes(BETTER)] * 3),
        "noise": cell(*map(outcomes, NOISE)),
        "worse": cell(*[outcomes([0] * 40 + HALF[40:])] * 3),
    }
    lines = {line.cell: line for line in compare(cells, "random", (0, 1, 2), "mrr")}
    assert {name: line.is_real for name, line in lines.items()} == {
        "random": False,
        "better": True,
        "noise": False,
        "worse": True,
    }
    better = lines["better"]
    assert better.gain.mean == pytest.approx(0.1)
    assert better.gain.low > 0
    assert better.values["hit@1"] == pytest.approx(0.6)
    assert (better.cost.seconds, better.cost.steps) == (11.0, 5)
    said = verdict(list(lines.values()), "random", "mrr")
    assert said.startswith("Really above random in MRR: better by +0.100 (")
    assert "Really below random in MRR: worse by \N{MINUS SIGN}0.100 (" in said
    assert said.endswith("Not to be told from random with these questions and seeds: noise.")


def test_one_seed_proves_nothing():
    cells = {"random": cell(outcomes(HALF)), "better": cell(outcomes(BETTER))}
    lines = compare(cells, "random", (0,), "mrr")
    assert lines[1].p < 0.05
    assert not lines[1].is_real
    said = verdict(lines, "random", "mrr")
    assert said.startswith("Under one seed, which is too few to judge by: better by +0.100 (")


def test_a_sign_that_changes_with_the_seed_is_not_real():
    up, down = outcomes([1] * 60 + HALF[60:]), outcomes([0, 0, *HALF[2:]])
    cells = {"random": cell(*[outcomes(HALF)] * 3), "moody": cell(up, up, down)}
    line = compare(cells, "random", (0, 1, 2), "mrr")[1]
    assert line.p < 0.05
    assert not line.steady
    assert not line.is_real


def test_translations_of_one_source_are_drawn_together():
    apart, together = (
        gain_of(
            cell(outcomes(HALF, per_source=size)), cell(outcomes(BETTER, per_source=size)), "mrr"
        )
        for size in (1, 20)
    )
    assert apart.mean == together.mean
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_only_shared_seeds_are_compared_and_the_missing_are_named():
    cells = {
        "random": cell(outcomes(HALF), outcomes(HALF), None),
        "late": cell(None, outcomes(BETTER), None),
        "failed": Measured({}, {}, {0: "the loss is nan"}),
    }
    lines = {line.cell: line for line in compare(cells, "random", (0, 1, 2), "mrr")}
    assert lines["late"].gain.mean == pytest.approx(0.1)
    assert (lines["late"].seeds, lines["late"].missing) == ((1,), (0, 2))
    assert (lines["failed"].values, lines["failed"].failed) == ({}, {0: "the loss is nan"})
    assert best(list(lines.values()), "mrr").cell == "random"  # it alone has most seeds


def test_what_was_resumed_has_no_seconds():
    resumed = Measured(
        {0: outcomes(HALF), 1: outcomes(HALF)}, {0: Cost(None, 5, None), 1: Cost(8.0, 5, 90)}, {}
    )
    line = compare({"random": resumed}, "random", (0, 1), "mrr")[0]
    assert line.cost == Cost(8.0, 5, 90)


def test_nothing_to_compare_is_said():
    lines = compare({"random": cell(outcomes(HALF))}, "random", (0,), "mrr")
    assert verdict(lines, "random", "mrr").startswith("Nothing can be compared yet")
    assert dataclasses.asdict(lines[0])["gain"] is None
