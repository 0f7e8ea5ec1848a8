"""The table of a run, line by line."""

import polars as pl
import pytest

from monoglot.learning.results import by_language, results


def outcomes(native, english, languages=None):
    parts = [
        pl.DataFrame(
            {
                "query_id": [f"q{number}" for number in range(len(ranks))],
                "control": control,
                "language": languages or ["hi-Latn"] * len(ranks),
                "label": ["a", "b"] * (len(ranks) // 2),
                "group": [f"q{number}" for number in range(len(ranks))],
                "known": True,
                "rank": pl.Series(ranks, dtype=pl.Int32),
            }
        )
        for control, ranks in ((False, native), (True, english))
        if ranks
    ]
    return pl.concat(parts)


UNTUNED = outcomes([2, 0, 2, 0], [1, 1, 1, 2], ["ar", "ar", "hi-Latn", "hi-Latn"])
TUNED = outcomes([1, 1, 1, 2], [1, 1, 1, 1], ["ar", "ar", "hi-Latn", "hi-Latn"])


def test_questions_first_then_controls_and_gains_over_the_baseline():
    table = results({"untuned": UNTUNED, "tuned": TUNED}, "untuned")
    assert [(line.system, line.control, line.questions) for line in table] == [
        ("untuned", False, 4),
        ("tuned", False, 4),
        ("untuned", True, 4),
        ("tuned", True, 4),
    ]
    means = [line.values["mrr"].mean for line in table]
    assert means == pytest.approx([0.25, 0.875, 0.875, 1.0])
    assert [line.gain and line.gain.mean for line in table] == [None, 0.625, None, 0.125]
    assert table[1].values["macro_mrr"].mean == pytest.approx(0.875)
    assert table[1].values["hit@1"].low <= 0.75 <= table[1].values["hit@1"].high


def test_a_system_without_control_and_labels_too_rare_for_a_macro_value():
    alone = outcomes([1, 2], [])
    (line,) = results({"untuned": alone}, "untuned", macro_min=2)
    assert not line.control
    assert "macro_mrr" not in line.values


def test_by_language():
    arabic, hinglish, everything = by_language(UNTUNED, TUNED)
    assert [line.language for line in (arabic, hinglish, everything)] == ["ar", "hi-Latn", "all"]
    assert (arabic.questions, everything.questions) == (2, 4)
    assert (arabic.baseline, arabic.candidate.mean, arabic.gain.mean) == (0.25, 1.0, 0.75)
    assert (arabic.cost.mean, hinglish.cost.mean, everything.cost.mean) == (0.0, 0.25, 0.125)
    assert by_language(outcomes([1, 2], []), outcomes([1, 2], []))[0].cost is None
