"""From vectors to outcomes, to the JSON of `monoglot evaluate`, and to lists of mistakes."""

import json

import numpy as np
import polars as pl
import pytest

from monoglot.contracts import KnowledgeBase, Outcomes, Queries, empty
from monoglot.errors import RunError, StaleVectorsError
from monoglot.learning.evaluation import as_json, evaluate_vectors, with_english
from monoglot.learning.metrics import summarise
from monoglot.learning.mistakes import confusions, per_label, won_and_lost

ROWS = pl.DataFrame(
    {
        "row_id": ["r1", "r2", "r3", "r4"],
        "query": ["where is my order", "track it", "refund me", "cancel it"],
        "label": ["track", "track", "refund", "cancel"],
        "label_path": [None] * 4,
        "label_text": [None] * 4,
        "answer": [None] * 4,
    },
    schema=empty(KnowledgeBase).schema,
)
ROW_VECTORS = np.eye(4, dtype=np.float32)


def questions(*rows):
    """A `Queries` table of (id, label, English or None, source row or None)."""
    return pl.DataFrame(
        [
            {
                "query_id": query_id,
                "text": f"text of {query_id}",
                "language": "hi-Latn",
                "label": label,
                "origin": "translated" if source else "native",
                "source_row_id": source,
                "english": english,
            }
            for query_id, label, english, source in rows
        ],
        schema=empty(Queries).schema,
    )


def near(*order):
    """A vector that is nearest to the rows in this order."""
    vector = np.zeros(4, np.float32)
    vector[list(order)] = [0.9, 0.4, 0.15, 0.05][: len(order)]
    return vector


THREE = questions(
    ("q1", "track", "Where is it?", None),
    ("q2", "refund", None, None),
    ("q3", "gift cards", "  ", None),
)
VECTORS = np.array([near(3, 0), near(2, 1), near(0, 1, 2, 3)])


def test_outcomes_of_each_question_and_its_control():
    found = evaluate_vectors(THREE, VECTORS, np.array([near(0)]), ROWS, ROW_VECTORS)
    assert Outcomes.is_valid(found)
    assert found.select("query_id", "control", "rank", "known").rows() == [
        ("q1", False, 2, True),
        ("q2", False, 1, True),
        ("q3", False, 0, False),
        ("q1", True, 1, True),
    ]
    first = found.row(0, named=True)
    assert first["text"] == "text of q1"
    assert first["group"] == "where is it"
    assert first["top_labels"] == ["cancel", "track", "refund"]
    assert (first["top_row"], first["top_query"]) == ("r4", "cancel it")
    assert first["top_score"] == pytest.approx(0.9)
    assert found["group"].to_list() == ["where is it", "text of q2", "text of q3", "where is it"]
    assert found.row(3, named=True)["text"] == "Where is it?"


def test_copies_of_a_question_are_no_further_evidence():
    copies = THREE.with_columns(text=pl.Series(["Track it!", "track it", "cancel"]), english=None)
    copies = copies.cast({"english": pl.String})
    found = evaluate_vectors(copies, VECTORS, None, ROWS, ROW_VECTORS)
    assert found["group"].to_list() == ["track it", "track it", "cancel"]


def test_an_unknown_label_is_a_miss_and_counted():
    scores = summarise(evaluate_vectors(THREE, VECTORS, None, ROWS, ROW_VECTORS))["all"]
    assert (scores.questions, scores.unknown) == (3, 1)
    assert scores.micro["mrr"] == pytest.approx((0.5 + 1 + 0) / 3)


def test_a_held_out_translation_may_not_find_its_own_source_in_either_language():
    table = questions(
        ("q1", "track", "where is my order", "r1"),
        ("q2", "cancel", "cancel it", "r4"),
        ("q3", "refund", "refund me", "gone from the knowledge base"),
    )
    vectors = np.array([near(0, 3, 1), near(3, 0), near(2)])
    found = evaluate_vectors(table, vectors, vectors, ROWS, ROW_VECTORS)
    assert found["rank"].to_list() == [2, 0, 1, 2, 0, 1]
    assert found["top_row"].to_list() == ["r4", "r1", "r3"] * 2
    assert found["known"].to_list() == [True] * 6


def test_vectors_of_another_table_or_model_are_refused():
    with pytest.raises(RunError, match=r"3 questions, but 2 vectors"):
        evaluate_vectors(THREE, VECTORS[:2], None, ROWS, ROW_VECTORS)
    with pytest.raises(RunError, match=r"1 questions with an English wording, but 3 vectors"):
        evaluate_vectors(THREE, VECTORS, VECTORS, ROWS, ROW_VECTORS)
    with pytest.raises(StaleVectorsError):
        evaluate_vectors(THREE, VECTORS[:, :3], None, ROWS, ROW_VECTORS)


def test_no_question_and_no_control_give_empty_tables():
    none = THREE.clear()
    nothing = np.empty((0, 4), np.float32)
    assert evaluate_vectors(none, nothing, nothing, ROWS, ROW_VECTORS).is_empty()
    assert with_english(THREE)["query_id"].to_list() == ["q1"]


def test_a_knowledge_base_of_one_row_that_is_excluded_finds_nothing():
    table = questions(("q1", "track", None, "r1"))
    found = evaluate_vectors(table, VECTORS[:1], None, ROWS[:1], ROW_VECTORS[:1])
    row = found.row(0, named=True)
    assert (row["rank"], row["top_labels"], row["top_row"], row["top_score"]) == (0, [], None, None)


def test_a_summary_as_json():
    asked = evaluate_vectors(THREE, VECTORS, np.array([near(0)]), ROWS, ROW_VECTORS)
    found = json.loads(json.dumps(as_json(summarise(asked)), allow_nan=False))
    assert list(found) == ["hi-Latn", "all"]
    assert found["all"] == found["hi-Latn"]
    assert found["all"] == {
        "n": 3,
        "hit@1": 0.3333,
        "hit@3": 0.6667,
        "hit@5": 0.6667,
        "mrr": 0.5,
        "macro_hit@1": 0.3333,
        "macro_hit@3": 0.6667,
        "macro_hit@5": 0.6667,
        "macro_mrr": 0.5,
        "labels": 3,
        "label_not_in_kb": 1,
    }
    assert as_json(summarise(asked, control=True))["all"]["mrr"] == 1.0
    without = evaluate_vectors(THREE, VECTORS, None, ROWS, ROW_VECTORS)
    assert as_json(summarise(without, control=True)) == {}


BEFORE = evaluate_vectors(
    questions(
        ("q1", "track", "Where is it?", None),
        ("q2", "track", None, None),
        ("q3", "track", None, None),
        ("q4", "refund", None, None),
    ),
    np.array([near(2, 0), 1.1 * near(2, 3, 0), near(0), near(2)]),
    np.array([near(0)]),
    ROWS,
    ROW_VECTORS,
)


def test_labels_with_the_most_mistakes_come_first():
    assert per_label(BEFORE).rows() == [
        ("track", True, 3, 2, pytest.approx(1 / 3), 1.0, pytest.approx((1 / 2 + 1 / 3 + 1) / 3)),
        ("refund", True, 1, 0, 1.0, 1.0, 1.0),
    ]


def test_confusions_show_the_surest_mistake():
    assert confusions(BEFORE).rows() == [
        ("track", "refund", 2, pytest.approx(2 / 3), "text of q2", "refund me")
    ]


def test_confusions_count_questions_without_any_answer():
    table = questions(("q1", "track", None, "r1"))
    alone = evaluate_vectors(table, VECTORS[:1], None, ROWS[:1], ROW_VECTORS[:1])
    assert confusions(alone).rows() == [("track", None, 1, 1.0, "text of q1", None)]


def test_won_and_lost():
    after = evaluate_vectors(
        questions(
            ("q1", "track", None, None),
            ("q2", "track", None, None),
            ("q3", "track", None, None),
            ("q4", "refund", None, None),
        ),
        np.array([near(0), near(1), near(0), near(3, 2)]),
        None,
        ROWS,
        ROW_VECTORS,
    )
    columns = ["won", "text", "english", "answered_before", "answered_after", "rank_after"]
    assert won_and_lost(BEFORE, after).select(columns).rows() == [
        (True, "text of q2", None, "refund", "track", 1),
        (True, "text of q1", "Where is it?", "refund", "track", 1),
        (False, "text of q4", None, "refund", "cancel", 2),
    ]
    assert won_and_lost(BEFORE, BEFORE).is_empty()


def test_won_shows_every_label_before_a_second_question_of_one():
    def all_of(rank):
        return pl.concat(
            BEFORE.filter(~pl.col("control")).with_columns(
                pl.lit(f"{label}{number}").alias("query_id"),
                pl.lit(label).alias("label"),
                pl.lit(rank, pl.Int32).alias("rank"),
            )[:1]
            for number in range(2)
            for label in ("a", "b")
        )

    assert won_and_lost(all_of(0), all_of(1))["label"].to_list() == ["a", "b", "a", "b"]
