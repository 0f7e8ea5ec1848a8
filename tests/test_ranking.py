"""`rank` against the obvious implementation, where products are exact and often equal."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monoglot.errors import StaleVectorsError
from monoglot.learning import ranking
from monoglot.learning.ranking import rank, rank_by


def obvious_ranking(queries, rows, labels, depth, places, exclude):
    """Sort every row by (score, position), read `depth` of them, keep each label's first."""
    listed = []
    for number, query in enumerate(queries):
        order = sorted(
            (row for row in range(len(rows)) if row != exclude[number]),
            key=lambda row: (-float(query @ rows[row]), row),
        )
        firsts = {}
        for row in order[:depth]:
            firsts.setdefault(labels[row], (row, float(query @ rows[row])))
        listed.append([(label, *firsts[label]) for label in list(firsts)[:places]])
    return listed


def as_lists(found):
    return [
        [
            (found.names[int(label)], int(row), float(score))
            for label, row, score in zip(*columns, strict=True)
            if label >= 0
        ]
        for columns in zip(found.label, found.row, found.score, strict=True)
    ]


@st.composite
def problems(draw):
    rows = draw(st.integers(1, 14))
    queries = draw(st.integers(1, 6))
    numbers = st.integers(-2, 2)
    vectors = st.lists(numbers, min_size=3, max_size=3)
    as_array = lambda lists: np.array(lists, np.float32)  # noqa: E731
    return (
        as_array(draw(st.lists(vectors, min_size=queries, max_size=queries))),
        as_array(draw(st.lists(vectors, min_size=rows, max_size=rows))),
        draw(st.lists(st.sampled_from("abcd"), min_size=rows, max_size=rows)),
        draw(st.integers(1, 16)),
        draw(st.integers(1, 5)),
        np.array(draw(st.lists(st.integers(-1, rows - 1), min_size=queries, max_size=queries))),
    )


@settings(max_examples=300, deadline=None)
@given(problems(), st.integers(1, 5), st.integers(1, 9))
def test_equals_the_obvious_implementation_whatever_the_blocks(problem, query_block, row_block):
    queries, rows, labels, depth, places, exclude = problem
    with (
        patch.object(ranking, "_QUERIES_PER_BLOCK", query_block),
        patch.object(ranking, "_ROWS_PER_BLOCK", row_block),
    ):
        found = rank(queries, rows, labels, depth=depth, places=places, exclude=exclude)
    assert as_lists(found) == obvious_ranking(queries, rows, labels, depth, places, exclude)


def test_place_of_a_label_counts_distinct_labels_only():
    rows = np.array([[1.0], [0.9], [0.8], [0.7]], np.float32)
    query = np.ones((4, 1), np.float32)
    found = rank(query, rows, ["a", "a", "b", "c"], places=2)
    assert found.place_of(["a", "b", "c", "not in the knowledge base"]).tolist() == [1, 2, 0, 0]


def test_a_label_beyond_the_nearest_rows_is_not_found():
    rows = np.linspace(1, 0, 201, dtype=np.float32)[:, None]
    found = rank(np.ones((1, 1), np.float32), rows, ["near"] * 200 + ["far"])
    assert found.place_of(["far"]).tolist() == [0]
    found = rank(np.ones((1, 1), np.float32), rows, ["near"] * 200 + ["far"], exclude=np.array([7]))
    assert found.place_of(["far"]).tolist() == [2]


def test_a_row_scored_minus_infinity_is_never_found():
    scores = np.array([[-np.inf, 0.0, -np.inf]], np.float32)
    found = rank_by(lambda queries, rows: scores[queries, rows].copy(), 1, ["a", "b", "c"])
    assert as_lists(found) == [[("b", 1, 0.0)]]


def test_vectors_of_another_model_are_refused():
    with pytest.raises(StaleVectorsError, match="3 dimensions and rows 2"):
        rank(np.ones((1, 3), np.float32), np.ones((1, 2), np.float32), ["a"])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_no_numbers_are_refused(value):
    good = np.ones((1, 1), np.float32)
    with pytest.raises(ValueError, match="row vector is not finite"):
        rank(good, np.array([[value]], np.float32), ["a"])


def test_minus_zero_and_zero_are_equal_scores():
    scores = np.array([[-0.0, 0.0, -0.0]], np.float32)
    found = rank_by(lambda queries, rows: scores[queries, rows].copy(), 1, ["a", "b", "c"])
    assert found.row[0, :3].tolist() == [0, 1, 2]
