"""Each diagnostic on data where it must speak, and on data where it must be silent."""

import numpy as np
import polars as pl
import pytest
from test_report import outcomes

from monoglot.contracts import Findings
from monoglot.learning.diagnostics import (
    flat_loss,
    fluency,
    hardest_below_random,
    stealing,
    table_of,
)
from monoglot.learning.vector_diagnostics import apart, language_offset, mislabelled


def answered(right, of, *, english=None):
    """Outcomes of which so many are right, and so many of their English wordings."""
    table = outcomes([1] * right + [2] * (of - right))
    if english is None:
        return table.filter(~pl.col("control"))
    place = pl.col("query_id").str.slice(1).cast(pl.Int32)
    rank = pl.when("control").then(pl.when(place < english).then(1).otherwise(2)).otherwise("rank")
    return table.with_columns(rank.cast(pl.Int32).alias("rank"))


def test_translations_easier_than_what_users_write():
    finding = fluency(answered(80, 100), answered(40, 100), "untuned", "hi-Latn")
    assert finding.verdict == "found"
    assert "0.800 on 100 translations" in finding.seen
    assert "0.400 on 100 native questions" in finding.seen
    assert "easier than what users type" in finding.means


def test_translations_that_lost_their_meaning():
    finding = fluency(answered(20, 100), answered(60, 100), "untuned", "hi-Latn")
    assert (finding.verdict, "not fluent" in finding.means) == ("found", True)


def test_translations_of_easier_rows_are_not_blamed():
    rows = answered(80, 100, english=95)
    users = answered(60, 100, english=75)
    assert fluency(rows, users, "untuned", "ar").verdict == "fine"
    assert "0.950 and 0.750" in fluency(rows, users, "untuned", "ar").seen
    assert fluency(rows, answered(60, 100, english=96), "untuned", "ar").verdict == "found"


def test_translations_of_harder_rows_are_not_praised():
    rows = answered(19, 100, english=41)
    users = answered(38, 100, english=82)  # of what English finds, each keeps .46
    assert fluency(rows, users, "untuned", "hi-Latn").verdict == "fine"


def test_a_language_with_few_or_no_questions_is_not_judged():
    for few in (answered(10, 29), answered(0, 0)):
        finding = fluency(answered(80, 100), few, "untuned", "ar")
        assert (finding.verdict, finding.means) == ("not checked", "")


def test_hardest_below_random_only_where_both_were_run():
    random, worse = answered(80, 100), answered(40, 100)
    assert hardest_below_random({"ST-mined": worse}, random).verdict == "found"
    assert (
        "ST-mined: \N{MINUS SIGN}0.200 MRR"
        in hardest_below_random({"ST-mined": worse}, random).seen
    )
    assert hardest_below_random({"ST-mined": answered(79, 100)}, random).verdict == "fine"
    assert hardest_below_random({"ST-mined": worse}, None).verdict == "not checked"
    assert hardest_below_random({}, random).verdict == "not checked"


def curve(*epochs):
    """Steps of epochs, each a list of losses."""
    losses = [loss for epoch in epochs for loss in epoch]
    numbers = [number for number, epoch in enumerate(epochs, start=1) for _ in epoch]
    steps = range(1, len(losses) + 1)
    return pl.DataFrame({"step": steps, "epoch": numbers, "loss": losses})


@pytest.mark.parametrize(
    ("epochs", "verdict", "words"),
    [
        ([[4.0, 3.0, 2.0, 1.0], [0.9] * 4, [0.5] * 4], "fine", ""),
        ([[4.0, 1.0, 0.1, 0.1], [0.1] * 4, [0.1] * 4], "found", "learnt in one epoch"),
        ([[4.0, 4.1, 3.9, 3.9], [4.0] * 4, [4.1] * 4], "found", "does not get off the ground"),
        ([[4.0, 3.0, 2.0, 2.0], [2.1] * 4, [1.98] * 4], "found", "jumps about a level"),
        ([[4.0, 4.0]], "not checked", ""),
        # what is left over of an epoch is a small batch, in which little can be confused
        ([[4.0, 0.0], [3.0, 0.0], [2.0, 0.0]], "fine", ""),
    ],
)
def test_a_loss_that_stands_still_is_told_apart_by_where_it_stands(epochs, verdict, words):
    finding = flat_loss(curve(*epochs))
    assert finding.verdict == verdict
    assert words in finding.means


def cloud(centres, each, seed=0, noise=0.05):
    """`each` unit vectors about each centre."""
    rng = np.random.default_rng(seed)
    vectors = np.repeat(np.asarray(centres, np.float32), each, axis=0)
    vectors = vectors + rng.normal(0, noise, vectors.shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


LABELS = ["a", "b", "c"]


def labels_of(each):
    return pl.Series("label", [label for label in LABELS for _ in range(each)])


def test_a_language_that_lies_apart_from_the_labels():
    axes = np.eye(6)
    rows = cloud(axes[:3], 5)
    aligned = language_offset(cloud(axes[:3], 4, seed=1), labels_of(4), rows, labels_of(5))
    elsewhere = cloud(axes[:3] + 3 * axes[5], 4, seed=1)
    shifted = language_offset(elsewhere, labels_of(4), rows, labels_of(5))
    assert aligned < 0.2 < 1 < shifted
    finding = apart("ar", shifted, shifted)
    assert finding.verdict == "found"
    assert f"{shifted:.2f} times as far" in finding.seen
    assert apart("ar", shifted, aligned).verdict == "fine"


def test_users_of_a_language_who_ask_about_one_half_do_not_lie_apart():
    rows = cloud(np.eye(6), 5)
    some = cloud(np.eye(6)[:3], 4, seed=1)
    of_rows, of_some = (
        pl.Series("label", np.repeat(list(names), n)) for names, n in (("abcdef", 5), ("abc", 4))
    )
    assert language_offset(some, of_some, rows, of_rows) < 0.2


def test_a_language_cannot_be_placed_without_three_labels_and_rows():
    rows = cloud(np.eye(6)[:3], 5)
    lacking = pl.Series("label", ["no such"] * 4)
    assert language_offset(cloud(np.eye(6)[:1], 4), lacking, rows, labels_of(5)) is None
    assert language_offset(rows, labels_of(5), rows[:6], labels_of(2)) is None
    two = language_offset(rows[:10], labels_of(5)[:10], rows, labels_of(5))
    assert two is None
    assert apart("ar", None, 0.3).verdict == "not checked"


def confused(label, other, times, prefix, *, known=True):
    return outcomes([2] * times, label=label, prefix=prefix).with_columns(
        pl.lit([other, label]).alias("top_labels"), pl.lit(known).alias("known")
    )


def both(first, second, wrong, asked):
    """Questions of two labels, of which so many were answered with the other."""
    return pl.concat(
        [
            confused(first, second, wrong[0], f"{first}-"),
            confused(second, first, wrong[1], f"{second}-"),
            outcomes([1] * (asked[0] - wrong[0]), label=first, prefix=f"{first}+"),
            outcomes([1] * (asked[1] - wrong[1]), label=second, prefix=f"{second}+"),
        ]
    )


def test_labels_that_steal_are_told_from_those_that_are_mixed_up():
    thief = both("refund", "cancel", wrong=(14, 1), asked=(40, 30))
    mixed = both("on", "off", wrong=(8, 7), asked=(30, 30))
    finding = stealing(pl.concat([thief, mixed]))
    assert (finding.verdict, finding.count) == ("found", 1)
    assert "refund is answered with cancel 14 times of 40, the reverse 1 of 30" in finding.seen
    assert finding.examples[0]["label"] == "refund"
    assert stealing(mixed).verdict == "fine"


def test_one_source_that_goes_astray_in_many_languages_counts_once():
    thief = both("refund", "cancel", wrong=(6, 0), asked=(30, 30))
    assert stealing(thief).verdict == "found"
    astray = pl.col("label").eq("refund") & pl.col("rank").eq(2)
    one = thief.with_columns(group=pl.when(astray).then(pl.lit("one")).otherwise("group"))
    assert stealing(one).verdict == "fine"


def test_a_label_that_is_asked_often_is_not_stolen_from_for_that():
    assert stealing(both("on", "off", wrong=(20, 2), asked=(200, 20))).verdict == "fine"
    assert stealing(both("on", "off", wrong=(10, 10), asked=(200, 20))).verdict == "found"


def test_a_few_confusions_or_a_label_that_the_rows_lack_are_no_theft():
    assert stealing(confused("refund", "cancel", 5, "a")).verdict == "fine"
    assert stealing(confused("refund", "cancel", 40, "a", known=False)).verdict == "fine"
    assert stealing(answered(0, 0)).verdict == "fine"


def kb_of(each):
    labels = labels_of(each)
    texts = [f"row {number} of {label}" for number, label in enumerate(labels)]
    ids = [f"r{number}" for number in range(len(labels))]
    return pl.DataFrame({"row_id": ids, "query": texts, "label": labels})


def test_a_row_under_the_wrong_label_is_found_and_its_neighbours_are_not():
    rows, vectors = kb_of(12), cloud(np.eye(6)[:3], 12)
    assert mislabelled(rows, vectors).verdict == "fine"
    place = pl.int_range(pl.len())
    twice = rows.with_columns(
        label=pl.when(place.is_in([3, 5])).then(pl.lit("c")).otherwise("label")
    )
    assert mislabelled(twice, vectors).count == 2  # wrong rows do not shield each other
    wrong = rows.with_columns(label=pl.when(place == 3).then(pl.lit("c")).otherwise("label"))
    finding = mislabelled(wrong, vectors)
    assert (finding.verdict, finding.count) == ("found", 1)
    assert finding.examples == ({"text": "row 3 of a", "label": "c", "other": "a"},)
    assert "1 row whose nearest rows agree on another label (36 of 36 rows" in finding.seen


def test_rows_of_a_small_label_beside_a_large_one_are_not_blamed():
    rows = pl.concat([kb_of(20).filter(label="a"), kb_of(4).filter(label="b")])
    centre = np.eye(6)[0]
    near = centre + 0.4 * np.eye(6)[1]
    vectors = np.concatenate([cloud([centre], 20), cloud([near], 4, noise=0.01)])
    assert mislabelled(rows, vectors).verdict == "fine"


def test_labels_of_few_rows_are_not_judged():
    finding = mislabelled(kb_of(3), cloud(np.eye(6)[:3], 3))
    assert finding.verdict == "not checked"


def test_a_large_knowledge_base_is_looked_at_in_part(monkeypatch):
    monkeypatch.setattr("monoglot.learning.vector_diagnostics._MOST_CELLS", 36 * 10)
    finding = mislabelled(kb_of(12), cloud(np.eye(6)[:3], 12))
    assert finding.seen == "10 of 36 rows looked at."


def test_findings_are_a_table():
    findings = [flat_loss(curve([4.0])), mislabelled(kb_of(12), cloud(np.eye(6)[:3], 12))]
    table = table_of([*findings, stealing(both("on", "off", (40, 0), (60, 60)))])
    assert Findings.is_valid(table)
    assert table["verdict"].to_list() == ["not checked", "fine", "found"]
    assert table["examples"].list.len().to_list() == [0, 0, 1]
