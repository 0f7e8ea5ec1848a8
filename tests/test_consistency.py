"""Label consistency on vectors one can see through."""

import numpy as np
import polars as pl
import pytest

from monoglot.contracts import Queries, empty
from monoglot.errors import StaleVectorsError
from monoglot.learning.consistency import consistency

ROWS = pl.DataFrame(
    {
        "row_id": ["a1", "a2", "b1", "c1"],
        "query": ["one", "uno", "two", "three"],
        "label": ["A", "A", "B", "C"],
    }
)
EYE = np.eye(4, dtype=np.float32)


def queries(*rows):
    return pl.DataFrame(
        [
            {
                "query_id": f"q{n}",
                "text": "text",
                "language": "hi-Latn",
                "label": label,
                "origin": "translated",
                "source_row_id": source,
                "english": None,
            }
            for n, (label, source) in enumerate(rows)
        ],
        schema=empty(Queries).schema,
    )


def towards(*weights):
    vector = np.array(weights, np.float32)
    return vector / np.linalg.norm(vector)


def test_the_own_source_row_does_not_count():
    asked = queries(("A", None), ("A", "a1"), ("A", "a1"))
    vectors = np.stack([towards(9, 0, 1, 0), towards(9, 0, 1, 0), towards(9, 2, 1, 0)])
    found = consistency(asked, vectors, ROWS, EYE)
    assert found.rank.tolist() == [1, 2, 1]
    assert found.nearest[1] == ["B", "A", "C"]
    assert found.doubts(1).tolist() == [False, True, False]
    assert found.doubts(2).tolist() == [False, False, False]


def test_a_label_without_another_row_is_not_judged():
    asked = queries(("B", "b1"), ("B", None), ("unknown", None))
    vectors = np.stack([EYE[3]] * 3)
    found = consistency(asked, vectors, ROWS, EYE)
    assert found.can_judge.tolist() == [False, True, False]
    assert found.doubts(1).tolist() == [False, True, False]
    assert found.doubts(10).tolist() == [False, False, False]


def test_beyond_the_tenth_label_is_doubted_at_any_rank():
    labels = [f"L{n:02}" for n in range(12)]
    rows = pl.DataFrame({"row_id": labels, "query": labels, "label": labels})
    vector = np.arange(12, 0, -1, dtype=np.float32)[None]
    found = consistency(
        queries(("L11", None)), vector / np.linalg.norm(vector), rows, np.eye(12, dtype=np.float32)
    )
    assert found.rank.tolist() == [0]
    assert found.doubts(10).tolist() == [True]


def test_no_queries_are_no_trouble():
    found = consistency(queries(), np.zeros((0, 4), np.float32), ROWS, EYE)
    assert found.doubts(1).tolist() == []


def test_vectors_of_two_models_are_refused():
    with pytest.raises(StaleVectorsError):
        consistency(queries(("A", None)), np.zeros((1, 3), np.float32), ROWS, EYE)
