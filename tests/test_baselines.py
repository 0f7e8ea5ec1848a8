"""TF-IDF on rows small enough to see the answer, and on public data where it is there."""

from pathlib import Path

import polars as pl
import pytest

from monoglot.contracts import KnowledgeBase, Outcomes, Queries, empty
from monoglot.learning import ranking
from monoglot.learning.baselines import tfidf
from monoglot.learning.metrics import summarise

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
