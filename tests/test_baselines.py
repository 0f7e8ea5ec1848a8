"""Baselines without training: rows small enough to see the answer, and public data."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from monoglot.contracts import KnowledgeBase, Outcomes, Queries, empty
from monoglot.learning import ranking
from monoglot.learning.baselines import bm25, bm25_scores, tfidf
from monoglot.learning.heads import Head, evaluate_head, evenly, fit_head
from monoglot.learning.metrics import summarise
from monoglot.learning.ranking import rank_labels

PUBLIC = Path(__file__).parents[2] / "shared/data/hinglish_top"

ROWS = pl.DataFrame(
    {
        "row_id": ["r1", "r2", "r3"],
        "query": ["Where is my order?", "Refund my money", "कहाँ है"],
        "label": ["track", "refund", "where"],
        "label_path": [None] * 3,
        "label_text": [None] * 3,
        "answer": [None] * 3,
    },
    schema=empty(KnowledgeBase).schema,
)
QUESTIONS = pl.DataFrame(
    {
        "query_id": ["q1", "q2", "q3", "q4"],
        "text": ["mera ordr kidhar", "refund chahiye", "12345", "REFUND MY MONEY"],
        "language": ["hi-Latn"] * 4,
        "label": ["track", "refund", "track", "refund"],
        "origin": ["native"] * 4,
        "source_row_id": [None, None, None, "r2"],
        "english": ["where is my order", None, None, None],
    },
    schema=empty(Queries).schema,
)


def test_shared_letters_find_the_label_and_nothing_shared_finds_nothing():
    found = tfidf(QUESTIONS, ROWS)
    assert Outcomes.is_valid(found)
    assert found.select("query_id", "control", "rank").rows() == [
        ("q1", False, 1),
        ("q2", False, 1),
        ("q3", False, 0),
        ("q4", False, 0),
        ("q1", True, 1),
    ]
    assert found["top_labels"].to_list()[2] == []


def test_no_control_where_no_question_has_english():
    found = tfidf(QUESTIONS.with_columns(english=pl.lit(None, pl.String)), ROWS)
    assert found["control"].to_list() == [False] * 4


def test_blocks_do_not_change_the_result(monkeypatch):
    whole = tfidf(QUESTIONS, ROWS)
    monkeypatch.setattr(ranking, "_QUERIES_PER_BLOCK", 2)
    monkeypatch.setattr(ranking, "_ROWS_PER_BLOCK", 1)
    assert tfidf(QUESTIONS, ROWS).equals(whole)


def test_bm25_finds_whole_words_and_not_parts_of_them():
    found = bm25(QUESTIONS, ROWS)
    assert Outcomes.is_valid(found)
    assert found.select("query_id", "control", "rank").rows() == [
        ("q1", False, 0),  # "ordr" is another word
        ("q2", False, 1),
        ("q3", False, 0),
        ("q4", False, 0),  # its own source is not found
        ("q1", True, 1),
    ]


def test_bm25_weighs_words_as_published():
    known = pl.Series(["red red shoe", "red hat", "कहाँ है"])
    scores = bm25_scores(known)(pl.Series(["red", "कहाँ"]))(slice(0, 2), slice(0, 3))
    mean = (3 + 2 + 2) / 3
    rarity = np.log(1 + (3 - 2 + 0.5) / (2 + 0.5))  # two rows of three have "red"

    def weight(times, length):
        return rarity * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * length / mean))

    assert scores[0, :2] == pytest.approx([weight(2, 3), weight(1, 2)], rel=1e-5)
    assert np.isneginf(scores[0, 2])
    assert np.isneginf(scores[1]).tolist() == [True, True, False]


def corners(*labels):
    """Three vectors near a corner of the space for each label."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.eye(len(labels), 4, dtype=np.float32), 3, axis=0)
    vectors += rng.normal(0, 0.05, vectors.shape).astype(np.float32)
    return vectors, [label for label in labels for _ in range(3)]


@pytest.mark.parametrize("labels", [("refund", "track"), ("refund", "track", "where")])
def test_a_head_learns_labels_and_one_the_rows_lack_is_a_miss(labels):
    vectors, names = corners(*labels)
    head = Head.of_table(fit_head(vectors, names).table())
    assert head.probabilities(vectors).sum(axis=1) == pytest.approx(np.ones(len(vectors)), abs=1e-5)
    asked = QUESTIONS.with_columns(label=pl.Series(["track", "refund", "returns", "refund"]))
    vectors = np.eye(len(labels), 4, dtype=np.float32)[[1, 0, 1, 1]]
    vectors[3, 0] = 0.3  # the second guess of the last question is no tie
    found = evaluate_head(asked, vectors, vectors[:1], ROWS, head)
    assert Outcomes.is_valid(found)
    assert found["rank"].to_list() == [1, 1, 0, 2, 1]
    assert found["known"].to_list() == [True, True, False, True, True]
    assert found["control"].to_list() == [False] * 4 + [True]
    assert found["top_row"].null_count() == 5


def test_a_head_of_one_label_answers_it():
    head = fit_head(np.eye(2, dtype=np.float32), ["track", "track"])
    assert head.probabilities(np.eye(2, dtype=np.float32)).tolist() == [[1.0], [1.0]]


def test_labels_of_one_score_keep_their_order_and_unlearnt_ones_are_not_found():
    names = pl.Series(["a", "b", "c"])
    found = rank_labels(np.array([[0.5, 0.5]], np.float32), ["c", "a"], names, places=3)
    assert found.label.tolist() == [[0, 2, -1]]
    assert found.place_of(["b"]).tolist() == [0]


def test_too_many_texts_are_drawn_evenly_over_the_labels():
    texts = pl.DataFrame({"text": list("abcdefgh"), "label": ["x"] * 6 + ["y"] * 2})
    drawn = evenly(texts, 4, seed=1)
    assert sorted(drawn["label"]) == ["x", "x", "y", "y"]
    assert drawn.equals(evenly(texts, 4, seed=1))
    assert evenly(texts, 8, seed=1).equals(texts)


@pytest.mark.skipif(not PUBLIC.exists(), reason="the public evaluation data is not here")
def test_figures_on_public_data():
    def read(name):
        return pl.read_csv(PUBLIC / name, separator="\t", quote_char=None)

    nothing = pl.lit(None, pl.String)
    rows = read("kb.tsv").filter(pl.col("first_split") == "train")
    rows = rows.select(row_id="kb_id", query="text", label="label")
    questions = (
        read("queries.tsv")
        .filter(pl.col("split") == "validation")
        .select(
            query_id="qid", text="text", language="lang", label="label", origin=pl.lit("native"),
            source_row_id=nothing, english="en_text",
        )
    )  # fmt: skip
    found = tfidf(questions, rows)
    native, control = summarise(found)["all"], summarise(found, control=True)["all"]
    assert (native.questions, native.unknown) == (1024, 3)
    assert native.micro["hit@1"] == pytest.approx(0.600, abs=0.002)
    assert native.micro["mrr"] == pytest.approx(0.714, abs=0.002)
    assert control.micro["hit@1"] == pytest.approx(0.736, abs=0.002)
