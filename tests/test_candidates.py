"""Candidates: one row a label, found by the model and by words, in an order that says nothing."""

import numpy as np
import polars as pl

from monoglot.contracts import Candidates
from monoglot.learning.candidates import BY_MODEL, BY_WORDS, find_candidates

LABELS = 30


def rows_of(rows_per_label=2):
    number = range(LABELS * rows_per_label)
    return pl.DataFrame(
        {
            "row_id": [f"r{n:03}" for n in number],
            "query": [f"topic{n // rows_per_label:02} wording{n}" for n in number],
            "label": [f"l{n // rows_per_label:02}" for n in number],
            "label_path": None,
            "label_text": None,
            "answer": None,
        },
        schema_overrides=dict.fromkeys(("label_path", "label_text", "answer"), pl.String),
    )


def encode(texts):
    """A model that knows numbers alone: the nearest rows are those of the nearest number."""
    angles = [int("".join(filter(str.isdigit, text))[:2] or 0) / LABELS for text in texts]
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def asked(*texts):
    return pl.DataFrame({"query_id": [f"q{n}" for n in range(len(texts))], "text": texts})


def test_each_label_once_by_its_nearest_row_in_the_order_of_rows():
    rows = rows_of()
    found = find_candidates(asked("00", "abc 12"), rows, encode(rows["query"]), encode)
    Candidates.validate(found)
    assert found.select("query_id", "row_id").equals(
        found.select("query_id", "row_id").sort("query_id", "row_id")
    )
    assert found.select("query_id", "label").is_unique().all()
    first = found.filter(pl.col("query_id") == "q0")["label"].to_list()
    assert first[:BY_MODEL] == [f"l{n:02}" for n in range(BY_MODEL)]
    around = found.filter(pl.col("query_id") == "q1")["label"].to_list()
    assert {"l11", "l12", "l13"} <= set(around)
    assert BY_MODEL <= len(around) <= BY_MODEL + BY_WORDS
    assert find_candidates(
        asked("abc 12", "00").reverse(), rows.reverse(), encode(rows.reverse()["query"]), encode
    )["row_id"].n_unique()


def test_shared_words_find_what_the_model_cannot_read():
    rows = rows_of().with_columns(
        query=pl.when(pl.col("label") == "l29").then(pl.lit("parcel nahi aaya")).otherwise("query")
    )
    labels = find_candidates(
        asked("mera parcel abhi tak nahi aaya"), rows, encode(rows["query"]), encode
    )["label"]
    assert "l29" in labels


def test_what_was_shown_is_not_shown_again_and_what_has_no_wording_is_not_searched():
    rows = rows_of()
    queries = asked("00", "01").with_columns(english=pl.Series(["04", None]))
    shown = find_candidates(queries, rows, encode(rows["query"]), encode)
    further = find_candidates(queries, rows, encode(rows["query"]), encode, shown, by="english")
    assert further["query_id"].unique().to_list() == ["q0"]
    before = set(shown.filter(pl.col("query_id") == "q0")["label"])
    assert not before & set(further["label"])
    assert further["label"].len() >= BY_MODEL
    nothing = queries.with_columns(english=pl.lit(None, pl.String))
    assert find_candidates(
        nothing, rows, encode(rows["query"]), encode, shown, by="english"
    ).is_empty()


def test_fewer_labels_than_wanted_are_all_of_them():
    rows = rows_of().filter(pl.col("label") < "l03")
    found = find_candidates(asked("00"), rows, encode(rows["query"]), encode)
    assert found["label"].to_list() == ["l00", "l01", "l02"]
    assert find_candidates(asked("00"), rows, encode(rows["query"]), encode, found).is_empty()
