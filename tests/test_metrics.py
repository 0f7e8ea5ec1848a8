"""hit@k, MRR and their intervals, against slow and obvious implementations."""

from itertools import product

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monoglot.errors import RunError
from monoglot.learning.bootstrap import bootstrap, language_cost, paired_bootstrap
from monoglot.learning.metrics import MACRO, METRICS, summarise


def outcomes(ranks, *, labels=None, languages=None, groups=None, control=False):
    """An `Outcomes` table with the columns that metrics read."""
    count = len(ranks)
    return pl.DataFrame(
        {
            "query_id": [f"q{number}" for number in range(count)],
            "control": [control] * count,
            "language": languages or ["hi-Latn"] * count,
            "label": labels or ["a"] * count,
            "group": groups or [f"g{number}" for number in range(count)],
            "known": [True] * count,
            "rank": pl.Series(ranks, dtype=pl.Int32),
        }
    )


def obvious_value(metric, rank):
    if metric == "mrr":
        return 1 / rank if rank else 0.0
    return float(0 < rank <= int(metric[-1]))


def obvious_macro(metric, ranks, labels, macro_min):
    means = [
        np.mean(
            [
                obvious_value(metric, r)
                for r, other in zip(ranks, labels, strict=True)
                if other == label
            ]
        )
        for label in sorted(set(labels))
        if labels.count(label) >= macro_min
    ]
    return np.mean(means) if means else None


QUESTIONS = st.lists(
    st.tuples(st.integers(0, 10), st.sampled_from("abc"), st.sampled_from(["ar", "hi-Latn"])),
    min_size=1,
    max_size=20,
)


@settings(deadline=None)
@given(QUESTIONS, st.integers(1, 4))
def test_scores_equal_the_obvious_implementation(questions, macro_min):
    ranks, labels, languages = (list(column) for column in zip(*questions, strict=True))
    table = outcomes(ranks, labels=labels, languages=languages)
    found = summarise(table, macro_min=macro_min)
    assert list(found) == [*sorted(set(languages)), "all"]
    for name, scores in found.items():
        part = [q for q in questions if name in ("all", q[2])]
        part_ranks, part_labels = [q[0] for q in part], [q[1] for q in part]
        assert scores.questions == len(part)
        for metric in METRICS:
            values = [obvious_value(metric, rank) for rank in part_ranks]
            assert scores.micro[metric] == pytest.approx(np.mean(values), abs=1e-12)
            macro = obvious_macro(metric, part_ranks, part_labels, macro_min)
            assert scores.macro.get(metric) == pytest.approx(macro, abs=1e-12)


def test_mrr_by_hand():
    scores = summarise(outcomes([1, 2, 0, 10], labels=["a", "a", "a", "b"]))["all"]
    assert scores.as_json() == {
        "n": 4,
        "hit@1": 0.25,
        "hit@3": 0.5,
        "hit@5": 0.5,
        "mrr": 0.4,
        "macro_hit@1": 0.1667,
        "macro_hit@3": 0.3333,
        "macro_hit@5": 0.3333,
        "macro_mrr": 0.3,
        "labels": 2,
        "label_not_in_kb": 0,
    }


def test_macro_values_are_null_where_no_label_has_questions_enough():
    scores = summarise(outcomes([1, 2], labels=["a", "b"]), macro_min=2)["all"]
    assert scores.labels == 0
    assert scores.as_json()["macro_mrr"] is None
    assert bootstrap(outcomes([1, 2], labels=["a", "b"]), MACRO, macro_min=2) == {}


def test_control_rows_are_scored_apart():
    both = pl.concat([outcomes([2, 0]), outcomes([1, 1], control=True)])
    assert summarise(both)["all"].micro["mrr"] == 0.25
    assert summarise(both, control=True)["all"].micro["mrr"] == 1.0
    assert summarise(outcomes([1]), control=True) == {}


def test_interval_equals_every_possible_resample_of_three_groups():
    """With three groups, 27 equally likely draws; the seeded ones must have the same bounds."""
    ranks, labels, groups = [1, 0, 2, 1], ["a", "a", "b", "b"], ["x", "x", "y", "z"]
    table = outcomes(ranks, labels=labels, groups=groups)
    for metric in ("mrr", "macro_mrr"):
        means = []
        for draw in product("xyz", repeat=3):
            picked = [i for group in draw for i in range(4) if groups[i] == group]
            values = [(labels[i], obvious_value("mrr", ranks[i])) for i in picked]
            if metric == "mrr":
                means.append(np.mean([value for _, value in values]))
            else:
                per_label = [
                    np.mean([v for other, v in values if other == label])
                    for label in {label for label, _ in values}
                ]
                means.append(np.mean(per_label))
        found = bootstrap(table, [metric], resamples=20_000)[metric]
        assert found.low == pytest.approx(
            np.quantile(means, 0.025, method="inverted_cdf"), abs=1e-9
        )
        assert found.high == pytest.approx(
            np.quantile(means, 0.975, method="inverted_cdf"), abs=1e-9
        )


def test_identical_systems_differ_by_exactly_nothing():
    table = outcomes([1, 2, 0, 4, 1, 7])
    for interval in paired_bootstrap(table, table, METRICS + MACRO).values():
        assert (interval.mean, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_a_better_system_is_seen_and_the_same_seed_gives_the_same_bounds():
    rng = np.random.default_rng(1)
    ranks = rng.integers(2, 11, 400)
    better = np.where(rng.random(400) < 0.3, 1, ranks)
    before, after = outcomes(ranks), outcomes(better)
    gain = paired_bootstrap(before, after, ["mrr"])["mrr"]
    assert 0.1 < gain.low < gain.mean < gain.high < 0.4
    assert paired_bootstrap(before, after)["mrr"] == gain
    assert paired_bootstrap(after, before, ["mrr"])["mrr"].mean == pytest.approx(-gain.mean)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(2)
    covered = 0
    for number in range(200):
        hits = outcomes(np.where(rng.random(120) < 0.7, 1, 0))
        interval = bootstrap(hits, ["hit@1"], resamples=400, seed=number)["hit@1"]
        covered += interval.low <= 0.7 <= interval.high
    assert 180 <= covered <= 198  # 95 % of 200, give or take three standard errors


def test_questions_of_one_source_widen_the_interval():
    ranks = [1, 0] * 50
    alone = bootstrap(outcomes(sorted(ranks)), ["hit@1"])["hit@1"]
    together = bootstrap(
        outcomes(sorted(ranks), groups=[f"g{i // 10}" for i in range(100)]), ["hit@1"]
    )["hit@1"]
    assert together.high - together.low > 2.5 * (alone.high - alone.low)


def test_blocks_do_not_change_the_result(monkeypatch):
    a, b = outcomes([1, 2, 0, 3]), outcomes([1, 1, 1, 3])
    whole = paired_bootstrap(a, b, METRICS + MACRO, resamples=50)
    monkeypatch.setattr("monoglot.learning.bootstrap._CELLS_PER_BLOCK", 12)
    assert paired_bootstrap(a, b, METRICS + MACRO, resamples=50) == whole


def test_systems_asked_different_questions_are_not_compared():
    with pytest.raises(RunError, match=r"\(2 and 3, of which 2 are shared\)"):
        paired_bootstrap(outcomes([1, 1]), outcomes([1, 1, 1]))


def test_language_cost_is_over_the_questions_with_english_only():
    both = pl.concat([outcomes([0, 2, 0]), outcomes([1, 1], control=True)])
    assert language_cost(both, ["mrr"])["mrr"].mean == 0.75
    with pytest.raises(RunError, match="no question"):
        language_cost(outcomes([1]))
