"""The mix of origins and languages: how often which anchors are shown, and in whose company."""

import numpy as np
import polars as pl
import pytest

from monoglot.errors import DataError
from monoglot.learning.batches import Batches
from monoglot.learning_config import DataMixConfig, TrainingConfig

SIZES = {
    ("ar", "native"): 40,
    ("ar", "translated"): 160,
    ("hi-Latn", "translated"): 700,
    ("hi-Latn", "user"): 60,
    ("sw", "translated"): 40,
}
TOTAL = sum(SIZES.values())


@pytest.fixture
def anchors():
    rows = [group for group, size in SIZES.items() for _ in range(size)]
    order = np.random.default_rng(5).permutation(len(rows))
    return pl.DataFrame(
        [(f"query {place}", *rows[place]) for place in order],
        schema=["query_id", "language", "origin"],
        orient="row",
    )


def batches_of(anchors, size=64, seed=0, **mix):
    return Batches(anchors, DataMixConfig(**mix), size, seed)


def shown(anchors, batches, epoch=0):
    """How often each anchor is shown in an epoch."""
    return np.bincount(np.concatenate(batches.of(epoch)), minlength=anchors.height)


def by(anchors, column, counts):
    table = anchors.select(column).with_columns(shown=pl.Series(counts))
    return dict(table.group_by(column).agg(pl.col("shown").sum()).iter_rows())


def test_by_default_every_anchor_is_shown_once_in_an_order_of_its_own(anchors):
    batches = batches_of(anchors)
    assert [len(batch) for batch in batches.of(0)] == [64] * 15 + [40]
    assert batches.per_epoch == 16
    for epoch in range(3):
        assert (shown(anchors, batches, epoch) == 1).all()
    order = np.random.default_rng([0, 1]).permutation(TOTAL)
    assert np.concatenate(batches.of(1)).tolist() == order.tolist()


def test_the_default_looks_at_no_language_and_no_origin():
    batches = batches_of(pl.DataFrame({"query_id": list("abcde")}), size=2)
    assert sorted(np.concatenate(batches.of(0))) == [0, 1, 2, 3, 4]


def test_the_weight_of_an_origin_is_how_often_its_anchors_are_shown(anchors):
    batches = batches_of(anchors, origin_weights={"user": 3, "native": 0.5})
    mass = {"translated": 900.0, "user": 180.0, "native": 20.0}
    expected = {origin: TOTAL * each / 1100 for origin, each in mass.items()}
    counts = shown(anchors, batches)
    assert counts.sum() == TOTAL
    for origin, places in by(anchors, "origin", counts).items():
        assert abs(places - expected[origin]) <= 2
    # A group is shown evenly: each anchor as often as any other of it, or once more.
    for language, origin in SIZES:
        own = counts[((anchors["language"] == language) & (anchors["origin"] == origin)).to_numpy()]
        assert own.max() - own.min() <= 1


def test_a_weight_of_zero_shows_none_and_the_epoch_keeps_its_length(anchors):
    batches = batches_of(anchors, origin_weights={"translated": 0})
    counts = by(anchors, "origin", shown(anchors, batches))
    assert counts["translated"] == 0
    assert sum(counts.values()) == TOTAL
    with pytest.raises(DataError, match=r"native, translated, user.*above 0"):
        batches_of(anchors, origin_weights={"translated": 0, "user": 0, "native": 0})


def test_a_share_of_an_origin_shows_those_of_every_smaller_share_and_costs_the_same(anchors):
    translated = (anchors["origin"] == "translated").to_numpy()
    before = np.zeros(TOTAL, dtype=bool)
    for share in (0.0, 0.2, 0.4, 1.0):
        batches = batches_of(anchors, origin_shares={"translated": share})
        counts = shown(anchors, batches)
        assert counts.sum() == TOTAL
        assert (counts[~translated] > 0).all()
        now = sum(shown(anchors, batches, epoch) for epoch in range(3)) > 0
        assert abs(now[translated].mean() - share) < 0.05
        assert (now >= before).all()
        before = now
    fifths = [
        shown(anchors, batches_of(anchors, origin_shares={"translated": 0.2}, seed=seed)) > 0
        for seed in (0, 1)
    ]
    assert (fifths[0] != fifths[1]).any()
    with pytest.raises(DataError, match=r"origin_shares: no anchor is left.*native, translated"):
        batches_of(anchors, origin_shares=dict.fromkeys(("translated", "user", "native"), 0.0))


def test_the_share_of_an_origin_and_the_weight_of_another_go_together(anchors):
    mix = {"origin_shares": {"translated": 0.5}, "origin_weights": {"user": 3}}
    batches = batches_of(anchors, **mix, batches="in_turn", language_temperature=2)
    counts = shown(anchors, batches)
    left = counts[(anchors["origin"] == "translated").to_numpy()]
    assert 0.45 < (left > 0).mean() < 0.55
    assert counts.sum() == TOTAL


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0, 1e9])
def test_languages_share_an_epoch_by_their_tempered_sizes(anchors, temperature):
    sizes = {"ar": 200, "hi-Latn": 760, "sw": 40}
    tempered = {language: size ** (1 / temperature) for language, size in sizes.items()}
    batches = batches_of(anchors, language_temperature=temperature)
    counts = by(anchors, "language", shown(anchors, batches))
    for language, places in counts.items():
        assert abs(places - TOTAL * tempered[language] / sum(tempered.values())) <= 1
    # Within a language the origins keep their proportion, but for chance.
    origins = by(
        anchors.filter(pl.col("language") == "ar"),
        "origin",
        shown(anchors, batches)[(anchors["language"] == "ar").to_numpy()],
    )
    assert abs(origins["native"] - counts["ar"] / 5) <= 12


def test_all_anchors_of_a_large_group_are_shown_over_the_epochs(anchors):
    batches = batches_of(anchors, language_temperature=1e9)
    once = shown(anchors, batches)
    hinglish = (anchors["language"] == "hi-Latn").to_numpy()
    assert once[hinglish].max() == 1
    assert (once[hinglish] == 0).sum() > 400
    many = sum(shown(anchors, batches, epoch) for epoch in range(40))
    assert (many[hinglish] > 0).all()


def test_a_language_whose_origin_is_never_shown_has_no_batch_in_its_turn(anchors):
    batches = batches_of(anchors, origin_weights={"translated": 0, "native": 0}, batches="in_turn")
    languages = {anchors["language"][int(row)] for batch in batches.of(0) for row in batch}
    assert languages == {"hi-Latn"}  # "ar" and "sw" have no query of a user
    assert all(len(batch) for batch in batches.of(0))


def test_languages_in_turn_have_batches_of_their_own_in_a_drawn_order(anchors):
    batches = batches_of(anchors, batches="in_turn")
    orders = []
    for epoch in range(4):
        drawn = batches.of(epoch)
        assert len(drawn) == batches.per_epoch == 4 + 12 + 1
        languages = [anchors["language"].gather(batch).unique().to_list() for batch in drawn]
        assert all(len(of_batch) == 1 for of_batch in languages)
        assert min(map(len, drawn)) >= 40
        assert max(map(len, drawn)) <= 64
        assert (shown(anchors, batches, epoch) == 1).all()
        orders.append([of_batch[0] for of_batch in languages])
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_an_epochs_batches_do_not_depend_on_which_were_asked_for_before(anchors):
    mix = {"origin_weights": {"user": 2.5}, "language_temperature": 3, "batches": "in_turn"}
    forward, late = batches_of(anchors, **mix), batches_of(anchors, **mix)
    seen = [forward.of(epoch) for epoch in range(4)]
    for epoch in (3, 1):
        assert [b.tolist() for b in late.of(epoch)] == [b.tolist() for b in seen[epoch]]
    other = batches_of(anchors, seed=1, **mix).of(0)
    assert [b.tolist() for b in other] != [b.tolist() for b in seen[0]]


def test_settings_of_learning_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match=r"start between 0\.01 and 1\.0, not at 0\.005"):
        TrainingConfig(temperature=0.005, learn_temperature=True)
    assert TrainingConfig(temperature=0.005).temperature == 0.005
    for wrong in ([8, 8], [0]):
        with pytest.raises(ValueError, match="distinct numbers of at least 1"):
            TrainingConfig(matryoshka_dimensions=wrong)
    assert TrainingConfig(matryoshka_dimensions=[64, 8]).matryoshka_dimensions == (8, 64)
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        DataMixConfig(origin_weights={"user": -1})
