"""Unlabelled user queries: each asked about once, none of the evaluation, nothing lost silently."""

import polars as pl
import pytest

from monoglot.config import UserQueriesFile
from monoglot.contracts import Candidates, Gaps, Queries, Rejects, UserQueries, empty
from monoglot.errors import DataError
from monoglot.identity import normalised
from monoglot.knowledge.gaps import grouped
from monoglot.knowledge.user_queries import known_candidates, load_user_queries, unasked
from monoglot.store import Key, Store


@pytest.fixture
def load(tmp_path):
    def load_text(text, *codes, columns=()):
        path = tmp_path / "asked.csv"
        path.write_text(text, encoding="utf-8")
        return load_user_queries(UserQueriesFile(path=path, columns=dict(columns)), codes)

    return load_text


def test_a_query_is_one_row_with_how_often_it_was_asked(load):
    loaded = load(
        "text\nmera parcel abhi tak kahan hai\nMera parcel abhi tak kahan hai??\npaisa wapas kab\n"
        "mera parcel abhi tak kaha hai\nपैसे कब\n",
        "hi-Latn",
    )
    UserQueries.validate(loaded.rows)
    assert loaded.rows["query_id"].is_sorted()
    times = {normalised(text): count for text, count in loaded.rows.select("text", "times").rows()}
    assert sum(times.values()) == 5
    assert times["paisa wapas kab"] == times["पैसे कब"] == 1
    # Of the two spellings the one with the lower digest stays; the other is named as a reject.
    [stays] = [text for text in times if text.startswith("mera")]
    assert times[stays] == 3
    Rejects.validate(loaded.rejects)
    [(value, rule, reason)] = loaded.rejects.select("value", "rule", "reason").rows()
    assert {normalised(value), stays} == {
        "mera parcel abhi tak kahan hai",
        "mera parcel abhi tak kaha hai",
    }
    assert rule == "near_duplicate"
    assert normalised(reason) == f"counts as {stays}"


def test_neither_order_nor_counts_change_what_is_asked(load):
    lines = [
        "mera parcel abhi tak kahan hai",
        "mera parcel abhi tak kaha hai",
        "mera parcel abhi tak kahaan hai",
        "paisa wapas",
    ]
    one = load("\n".join(["text", *lines]), "hi-Latn").rows
    other = load("\n".join(["text", *lines[::-1], *lines[:2]]), "hi-Latn").rows
    assert one.drop("times").equals(other.drop("times"))
    assert (one["times"].sum(), other["times"].sum()) == (4, 6)


def test_the_language_is_the_files_or_the_only_one(load):
    text = "said,lang\nek,HI-latn\ndo,\nteen,fr\n"
    columns = {"text": "said", "language": "lang"}
    alone = load(text, "hi-Latn", columns=columns)
    assert alone.rows.select("text", "language").sort("text").rows() == [
        ("do", "hi-Latn"),
        ("ek", "hi-Latn"),
    ]
    several = load(text, "hi-Latn", "ar", columns=columns)
    assert several.rows.select("text", "language").rows() == [("ek", "hi-Latn")]
    assert several.rejects.select("row", "value", "rule").rows() == [
        (3, "do", "language_missing"),
        (4, "fr", "language_not_listed"),
    ]


def test_what_is_no_query_is_rejected(load):
    text = f'text\n""\n{"a long letter " * 40}\nbad\x07bell\n' + "ok hai\n" * 8
    loaded = load(text, "hi-Latn")
    assert loaded.rows["text"].to_list() == ["ok hai"]
    assert loaded.rejects["rule"].to_list() == ["empty", "too_long", "control_character"]
    with pytest.raises(DataError, match="no row can be used"):
        load("text\n\x07\n", "hi-Latn")


def questions(*pairs):
    return pl.DataFrame(
        [(f"q{n}", text, "hi-Latn", "a", "native", None, en) for n, (text, en) in enumerate(pairs)],
        schema=empty(Queries).schema,
        orient="row",
    )


def test_the_evaluation_and_what_people_labelled_are_not_asked_about(load):
    loaded = load(
        "text\nMERA parcel abhi tak kahan hai?\nmera parcel abhi tak kahan h\n"
        "where is my parcel right now\nwhere is my parcel right nw\n"
        "paisa wapas kab aayega\ncard band karo\n",
        "hi-Latn",
    )
    kept, rejects = unasked(
        loaded.rows,
        questions(
            ("mera parcel abhi tak kahan hai", "Where is my parcel right now?"), ("kuch aur", None)
        ),
        questions(("Card band karo!", None)),
    )
    assert kept["text"].to_list() == ["paisa wapas kab aayega"]
    Rejects.validate(rejects)
    assert dict(rejects.select("value", "rule").rows()) == {
        text: rule
        for text, rule in {
            "MERA parcel abhi tak kahan hai?": "evaluation_text",
            "mera parcel abhi tak kahan h": "near_evaluation",
            "where is my parcel right now": "evaluation_text",
            "where is my parcel right nw": "near_evaluation",
            "card band karo": "labelled_already",
        }.items()
        if text in loaded.rows["text"]
    }
    assert rejects.height >= 3


def test_what_people_found_no_answer_for_is_not_asked_about(load):
    loaded = load("text\naaj mausam kaisa hai\norder kahan hai\n", "hi-Latn")
    outside = questions(("Aaj mausam, kaisa hai?", None))
    kept, rejects = unasked(loaded.rows, questions(), None, outside)
    assert kept["text"].to_list() == ["order kahan hai"]
    assert rejects.select("value", "rule").rows() == [("aaj mausam kaisa hai", "out_of_scope")]


def rows_of(*queries):
    return pl.DataFrame(
        {
            "row_id": [f"r{n}" for n in range(len(queries))],
            "query": queries,
            "label": [f"l{n}" for n in range(len(queries))],
            "label_path": None,
            "label_text": None,
            "answer": None,
        },
        schema_overrides=dict.fromkeys(("label_path", "label_text", "answer"), pl.String),
    )


def test_a_plan_knows_the_candidates_whose_rows_are_unchanged(tmp_path):
    rows = rows_of("one", "two", "three")
    asked = pl.DataFrame(
        {"query_id": ["qa", "qb", "qc"], "text": "x", "language": "hi-Latn", "times": 1}
    )
    found = pl.concat(
        [
            rows.filter(pl.col("row_id").is_in(ids)).select(
                pl.lit(query).alias("query_id"), *Candidates.column_names()[1:]
            )
            for query, ids in {"qa": ["r0", "r1"], "qb": ["r1", "r2"]}.items()
        ]
    )
    store = Store.open(str(tmp_path / "store"))
    with store.writing(Key.of("candidates", 1, {}, "x")) as draft:
        draft.write_table(found)
    now = rows.with_columns(
        query=pl.when(pl.col("row_id") == "r2").then(pl.lit("edited")).otherwise("query")
    )
    told = known_candidates(asked, now, store).group_by("query_id").agg("query").sort("query_id")
    assert told.rows() == [
        ("qa", ["one", "two"]),  # as they were searched
        ("qb", ["one", "two", "edited"]),  # one is edited: to be asked again, about as long
        ("qc", ["one", "two", "edited"]),  # new
    ]
    with store.writing(Key.of("candidates", 1, {}, "damaged")) as draft:
        draft.write_table(found)
    [newest, _] = store.newest("candidates")
    (store.folder(newest) / "table.parquet").write_bytes(b"no table")
    assert known_candidates(asked, now, store).height == 8
    assert known_candidates(asked, now, None).height == 9
    assert known_candidates(asked.clear(), now, store).is_empty()


def test_gaps_that_ask_the_same_are_one_line():
    gaps = pl.DataFrame(
        [
            ("a", "drone se bhejo", "hi-Latn", 2, "can you deliver by drone"),
            ("b", "drone delivery hai kya", "hi-Latn", 5, "Can you deliver by a drone?"),
            ("c", "توصيل بطائرة", "ar", 1, "can you deliver by drone"),
            ("d", "kuch bhi", "hi-Latn", 3, None),
        ],
        schema=empty(Gaps).schema,
        orient="row",
    )
    assert grouped(gaps).rows() == [
        (
            "Can you deliver by a drone?",
            8,
            3,
            ["ar", "hi-Latn"],
            ["drone delivery hai kya", "drone se bhejo", "توصيل بطائرة"],
        ),
        ("kuch bhi", 3, 1, ["hi-Latn"], ["kuch bhi"]),
    ]
    assert grouped(gaps.clear()).is_empty()
