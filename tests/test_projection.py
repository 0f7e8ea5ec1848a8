"""Two dimensions of many: the widest ones, the same each time, with the cosine beside them."""

import numpy as np
import polars as pl
import pytest

from monoglot.contracts import Queries, empty
from monoglot.learning.projection import ROWS, projection


def questions(languages, english):
    count = len(languages)
    return pl.DataFrame(
        {
            "query_id": [f"q{number}" for number in range(count)],
            "text": ["text"] * count,
            "language": languages,
            "label": ["a"] * count,
            "origin": ["native"] * count,
            "source_row_id": [None] * count,
            "english": english,
        },
        schema=empty(Queries).schema,
    )


def unit(vectors):
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_language_that_lies_apart_is_seen_apart():
    rng = np.random.default_rng(0)
    rows = unit(rng.normal(0, 0.1, (40, 8)) + np.eye(8)[0])
    apart = unit(rng.normal(0, 0.1, (30, 8)) + np.eye(8)[1])
    found = projection(questions(["ar"] * 30, [None] * 30), apart, None, rows)
    x = {name: found.filter(series=name)["x"] for name in (ROWS, "ar")}
    assert x[ROWS].max() < x["ar"].min() or x["ar"].max() < x[ROWS].min()
    assert found["series"].to_list() == [ROWS] * 40 + ["ar"] * 30
    assert found["cosine"].null_count() == 70


def test_cosine_is_of_a_question_and_its_own_english():
    vectors = unit([[1, 0], [0, 1], [1, 0]])
    english = unit([[1, 0], [1, 1]])
    table = questions(["ar", "hi", "hi"], ["one", None, "three"])
    found = projection(table, vectors, english, vectors)
    cosines = dict(found.select("series", "cosine").unique().iter_rows())
    assert cosines == {ROWS: None, "ar": pytest.approx(1.0), "hi": pytest.approx(np.sqrt(0.5))}


def test_points_are_sampled_and_always_the_same():
    rng = np.random.default_rng(0)
    rows, asked = unit(rng.normal(size=(50, 4))), unit(rng.normal(size=(9, 4)))
    table = questions(["ar"] * 9, [None] * 9)
    found = projection(table, asked, None, rows, at_most=20, seed=3)
    assert found.group_by("series").len().sort("series").rows() == [("ar", 9), (ROWS, 20)]
    assert found.equals(projection(table, asked, None, rows, at_most=20, seed=3))


def test_one_row_and_no_question():
    table = questions([], [])
    found = projection(table, np.empty((0, 3), np.float32), None, unit([[1, 2, 3]]))
    assert found.select("series", "x", "y").rows() == [(ROWS, 0.0, 0.0)]
