"""Choosing by the split: the parts share no row, and what is held out shows nowhere else."""

import polars as pl

from monoglot.config import SplitConfig
from monoglot.contracts import KnowledgeBase, Queries, Split, empty
from monoglot.knowledge.parts import held_out_share, of_part, topics_of

PARTS = pl.DataFrame(
    Split.validate(
        pl.DataFrame(
            {
                "row_id": ["r1", "r2", "r3", "r4", "r5"],
                "query": ["where", "when", "stop", "end", "halt"],
                "label": ["track", "track", "cancel", "cancel", "cancel"],
                "part": ["index", "training", "held_out", "training", "index"],
            }
        ),
        cast=True,
    )
)


def translations(language, *sources):
    frame = pl.DataFrame(
        {
            "query_id": [f"{language}-{number}" for number in range(len(sources))],
            "text": [f"{language} {source}" for source in sources],
            "language": language,
            "label": "any",
            "origin": "translated",
            "source_row_id": sources,
            "english": None,
        },
        schema_overrides={"english": pl.String},
    )
    return pl.DataFrame(Queries.validate(frame, cast=True))


def test_each_translation_follows_its_row():
    tables = [translations("hi", "r4", "r1", "r3", "r2", "r2"), translations("ar", "r3", "gone")]
    found = {part: of_part(tables, PARTS, part) for part in ("index", "training", "held_out")}
    assert {part: rows["text"].to_list() for part, rows in found.items()} == {
        "index": ["hi r1"],
        "training": ["hi r4", "hi r2", "hi r2"],
        "held_out": ["ar r3", "hi r3"],
    }
    assert all(rows["query_id"].is_sorted() for rows in found.values())
    both = of_part(tables, PARTS, "index", "training")
    assert both["text"].to_list() == ["hi r4", "hi r1", "hi r2", "hi r2"]


def test_without_translations_there_are_none():
    nothing = of_part([], PARTS, "training")
    assert nothing.is_empty()
    Queries.validate(nothing)


def test_native_queries_are_held_out_by_their_text_alone():
    native = translations("hi", *(f"s{number % 1000}" for number in range(2000)))
    config = SplitConfig(evaluation_share=0.2, seed=4)
    chosen = held_out_share(native, config)
    assert chosen.height == 2 * chosen["text"].n_unique()  # both copies of a query, or none
    assert 160 < chosen["text"].n_unique() < 240
    assert held_out_share(native[::7], config).equals(
        chosen.join(native[::7], on="query_id", how="semi")
    )
    other = held_out_share(native, SplitConfig(evaluation_share=0.2, seed=5))
    assert set(other["text"]) != set(chosen["text"])
    assert held_out_share(native, SplitConfig(evaluation_share=0.0)).is_empty()


def test_a_topic_shows_no_query_that_is_held_out():
    rows = PARTS.select("row_id", "query", "label").with_columns(
        label_path=pl.lit(None, dtype=pl.String),
        label_text=pl.Series([None, None, "hidden", None, "stop an order"], dtype=pl.String),
        answer=pl.lit("yes"),
    )
    rows = pl.DataFrame(KnowledgeBase.validate(rows)).reverse()
    topics = topics_of(rows, PARTS, empty(Queries))
    assert topics.rows() == [
        ("cancel", "stop an order", None, ["end", "halt"]),
        ("track", None, None, ["where", "when"]),
    ]


def test_a_topic_shows_no_row_that_is_a_question_in_english():
    rows = PARTS.select("row_id", "query", "label").with_columns(
        label_path=pl.lit(None, dtype=pl.String),
        label_text=pl.lit(None, dtype=pl.String),
        answer=pl.lit(None, dtype=pl.String),
    )
    asked = translations("hi", "r1", "r2", "r4").with_columns(
        english=pl.Series(["Where?", "WHEN", "end"])
    )
    topics = topics_of(rows, PARTS, asked)
    assert topics.select("label", "examples").rows() == [("cancel", ["halt"]), ("track", [])]
