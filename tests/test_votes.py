"""Votes of the nearest rows for their labels, and the temperature that is measured for them."""

import numpy as np
import polars as pl
import pytest

from monoglot.learning.ranking import rank, rank_by
from monoglot.learning.votes import (
    TEMPERATURES,
    _votes,
    temperature_in_memory,
    vote_temperature,
    votes,
)


def unit(vectors):
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def blobs(rng, labels, each, spread, width=32):
    """Rows around one direction per label; `spread` is the length of the noise beside it."""
    centres = unit(rng.normal(size=(labels, width)))
    noise = unit(rng.normal(size=(labels * each, width))) * spread
    names = np.repeat([f"label {number:02}" for number in range(labels)], each)
    return unit(np.repeat(centres, each, axis=0) + noise), names


def shares_by_hand(scores, labels, temperature):
    """The definition, one query at a time."""
    weights = np.exp((scores - scores.max()) / temperature)
    if scores.max() >= 1 - 1e-3:
        weights[scores < 1 - 1e-3] = 0
    weights /= weights.sum()
    return {label: weights[labels == label].sum() for label in np.unique(labels)}


@pytest.mark.parametrize("temperature", [0.01, 0.05, 0.2])
def test_labels_are_ordered_by_the_sum_of_their_rows_votes(temperature):
    rng = np.random.default_rng(0)
    rows, labels = blobs(rng, labels=12, each=5, spread=1.2)
    queries = unit(rng.normal(size=(40, rows.shape[1])))
    queries[0] = rows[7]
    found = rank(queries, rows, labels, places=12, temperature=temperature)
    plain = rank(queries, rows, labels, places=12)
    assert (found.label != plain.label).any()  # else this test would show nothing
    for number, query in enumerate(queries):
        shares = shares_by_hand(query @ rows.T, labels, temperature)
        names = found.names.gather(found.label[number]).to_list()
        listed = [shares[name] for name in names]
        np.testing.assert_allclose(found.share[number], listed, rtol=1e-3, atol=1e-6)
        assert (np.diff(found.share[number]) <= 0).all()
        nearest = dict(zip(plain.names.gather(plain.label[number]), plain.row[number], strict=True))
        assert found.row[number].tolist() == [nearest[name] for name in names]
    assert found.names[int(found.label[0, 0])] == labels[7]
    assert found.share[0, 0] == 1


@pytest.mark.parametrize("best", [0.9, 0.9995])  # the second is the very query
def test_the_expression_gives_the_same_votes(best):
    scores = np.array([[best, 0.85, 0.2, 0.99 * best], [0.6, 0.5, -np.inf, 0.55]], np.float32)
    question, row = np.nonzero(np.isfinite(scores))
    frame = pl.DataFrame({"question": question, "score": scores[question, row]})
    given = frame.select(vote=_votes(0.05))["vote"].to_numpy()
    expected = votes(scores, 0.05)
    np.testing.assert_allclose(given, expected[question, row], rtol=1e-5)
    by_hand = shares_by_hand(scores[0].astype(np.float64), np.array(list("abcd")), 0.05)
    np.testing.assert_allclose(expected[0], list(by_hand.values()))
    assert expected[1, 2] == 0


def test_a_query_without_rows_has_no_votes():
    assert votes(np.zeros(0, np.float32), 0.05).tolist() == []


def test_nothing_found_gives_no_share_and_no_warning():
    nothing = np.full((1, 3), -np.inf, np.float32)
    found = rank_by(
        lambda queries, rows: nothing[queries, rows].copy(), 1, list("abc"), temperature=0.03
    )
    assert (found.label == -1).all()
    assert np.isnan(found.share).all()


def test_the_temperature_makes_the_own_labels_likeliest():
    rng = np.random.default_rng(1)
    rows, labels = blobs(rng, labels=10, each=15, spread=1.15)
    chosen = temperature_in_memory(
        lambda own: rows[own] @ rows.T, labels, np.arange(len(rows), dtype=np.int64)
    )

    def likelihood(temperature):
        total = 0.0
        for own, row in enumerate(rows):
            others = np.arange(len(rows)) != own
            shares = shares_by_hand(rows[others] @ row, labels[others], temperature)
            total += np.log(shares[labels[own]])
        return total

    assert chosen == max(TEMPERATURES, key=likelihood)
    assert chosen not in (TEMPERATURES[0], TEMPERATURES[-1])  # an end would prove less


def test_a_row_that_stands_under_another_label_too_decides_nothing():
    rng = np.random.default_rng(1)
    rows, labels = blobs(rng, labels=10, each=15, spread=1.15)

    def chosen(rows, labels):
        every = np.arange(len(rows), dtype=np.int64)
        return temperature_in_memory(lambda own: rows[own] @ rows.T, labels, every)

    clean = chosen(rows, labels)
    twin = np.concatenate([labels, labels[labels != labels[0]][:1]])
    assert chosen(np.concatenate([rows, rows[:1]]), twin) == clean != TEMPERATURES[0]


def test_votes_find_labels_that_the_nearest_row_misses():
    rng = np.random.default_rng(2)
    rows, labels = blobs(rng, labels=20, each=30, spread=2.0)
    known = np.arange(len(rows)) % 3 > 0
    every = np.arange(known.sum(), dtype=np.int64)
    chosen = temperature_in_memory(
        lambda own: rows[known][own] @ rows[known].T, labels[known], every
    )
    asked = labels[~known].tolist()
    nearest = rank(rows[~known], rows[known], labels[known]).place_of(asked)
    voted = rank(rows[~known], rows[known], labels[known], temperature=chosen).place_of(asked)
    assert (voted == 1).sum() > (nearest == 1).sum() + 10


def test_too_few_rows_leave_the_nearest_one_to_decide():
    found = pl.DataFrame({"question": [0, 0], "score": [0.5, 0.4], "same": [True, False]})
    assert vote_temperature(found) == TEMPERATURES[-1]
    alone = pl.DataFrame({"question": range(500), "score": [0.5] * 500, "same": [False] * 500})
    assert vote_temperature(alone) == TEMPERATURES[-1]
