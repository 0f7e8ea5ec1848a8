"""The gate before training: leaks of every kind are planted, and none comes through."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monoglot.contracts import Queries, Rejects, empty
from monoglot.identity import normalised, text_digest
from monoglot.knowledge.duplicates import SIMILAR, near_to
from monoglot.knowledge.training_set import (
    spelt_like,
    training_set,
    without_guarded,
    without_near_copies,
    without_out_of_scope,
)

HINGLISH_TOP = Path(__file__).parents[2] / "shared/data/hinglish_top"
MADE = ("user", "synthetic")


def queries(*rows):
    """Queries from (text, origin, label, english, source_row_id), the last three if need be."""
    full = [(*row, *(None,) * (5 - len(row))) for row in rows]
    return pl.DataFrame(
        [
            (text_digest(text, origin, str(n)), text, "hi-Latn", label or "a", origin, source, en)
            for n, (text, origin, label, en, source) in enumerate(full)
        ],
        schema=empty(Queries).schema,
        orient="row",
    )


ROWS = pl.DataFrame(
    {
        "row_id": ["r1", "r2", "r3"],
        "query": ["Where is my parcel right now?", "play some house music for me", "Stop it"],
        "label": ["a", "b", "a"],
    }
)
ASKED = queries(
    ("mera parcel abhi tak kahan hai", "native", "a", "Where is my parcel right now?"),
    ("alarm ko saat baje ke liye set karo", "native", "b"),
)


@pytest.mark.parametrize(
    ("anchor", "rule"),
    [
        (("MERA parcel, abhi tak kahan hai!", "synthetic"), "evaluation_text"),
        (("Where is my parcel - right now", "user"), "evaluation_text"),
        (("kidhar", "translated", "a", "where is my parcel right now"), "evaluation_source"),
        (("kidhar", "user", "a", "WHERE is my parcel right now!"), "evaluation_source"),
        (("kidhar", "user", "a", "asks for a parcel", "r1"), "evaluation_source"),
        (("mera parcel abhi tak kaha hai", "synthetic"), "near_evaluation"),
        (("mera parcel abhi tak kaha hai", "user"), "near_evaluation"),
        (("mera parcel abhi tak kaha hai", "translated", "a", "parcel?"), None),
        (("mera parcel abhi tak kaha hai", "native"), None),
        (("kidhar", "user", "a", "where is my parcel right nw"), "near_evaluation"),
        (("play some house music for us", "synthetic", "b"), "near_knowledge_base"),
        (("play some house music for us", "user", "b"), None),
        (("play some house music for us", "translated", "b"), None),
        (("kidhar", "synthetic", "zzz"), "unknown_label"),
        (("kidhar", "user", "a", "asks where", "r3"), None),
    ],
)
def test_each_leak_is_found_and_nothing_else(anchor, rule):
    anchors = queries(("eins zwei drei", "native"), anchor, ("vier fuenf", "synthetic", "b"))
    kept, rejects = training_set(anchors, ROWS, ASKED)
    Queries.validate(kept)
    Rejects.validate(rejects)
    assert rejects["rule"].to_list() == ([] if rule is None else [rule])
    expected = anchors if rule is None else anchors[[0, 2]]
    assert kept.equals(expected.sort("query_id"))


def test_of_two_near_duplicates_of_a_label_the_more_trusted_stays():
    first, second = "order cancel karna hai abhi ke abhi", "order cancel karna hai abhi ke abhi!!"
    for better, worse in (("native", "user"), ("translated", "synthetic"), ("user", "synthetic")):
        anchors = queries((first, worse), (second, better), (first, worse, "b"))
        kept, rejects = without_near_copies(anchors, ROWS, ASKED)
        assert kept.select("text", "label").rows() == [(second, "a"), (first, "b")]
        assert rejects.select("value", "rule").rows() == [(first, "near_duplicate")]
    both = queries((first, "native"), (second, "translated"))
    assert without_near_copies(both, ROWS, ASKED)[0].equals(both)


TEXTS = st.lists(
    st.sampled_from(["mera", "parcel", "kahan", "hai", "alarm", "set"]), min_size=1, max_size=5
).map(" ".join)
ANCHORS = st.lists(
    st.tuples(
        TEXTS,
        st.sampled_from(["native", "translated", *MADE]),
        st.sampled_from("ab"),
        st.none() | TEXTS,
        st.sampled_from([None, "r1", "r3"]),
    ),
    max_size=8,
)


@settings(max_examples=60)
@given(ANCHORS, st.lists(st.tuples(TEXTS, st.just("native"), st.just("a"), st.none() | TEXTS)))
def test_nothing_of_the_evaluation_comes_through_and_nothing_is_lost(given_anchors, given_asked):
    anchors, asked = queries(*given_anchors), queries(*given_asked)
    kept, rejects = training_set(anchors, ROWS, asked)
    assert kept.height + rejects.height == anchors.height
    assert_clean(kept, asked, ROWS)


def assert_clean(kept, asked, rows):
    """No text, wording or source of the evaluation; of what is made, nothing near either."""
    known = {normalised(t) for t in pl.concat([asked["text"], asked["english"]]).drop_nulls()}
    leaking = {
        row for row, query in rows.select("row_id", "query").rows() if normalised(query) in known
    }
    assert not known & {normalised(text) for text in kept["text"]}
    assert not known & {normalised(text) for text in kept["english"].drop_nulls()}
    assert not leaking & set(kept["source_row_id"])
    made = kept.filter(pl.col("origin").cast(pl.String).is_in(MADE))
    texts = pl.concat([asked["text"], asked["english"]]).drop_nulls().to_list()
    for column in ("text", "english"):
        assert near_to(made[column].drop_nulls().to_list(), texts).null_count() == len(
            made[column].drop_nulls()
        )


@pytest.mark.skipif(not HINGLISH_TOP.exists(), reason="public evaluation data is not here")
def test_no_source_or_text_of_hinglish_tops_test_can_train():
    """Its train queries, and copies of its test queries planted as every kind of training query."""

    def read(name):
        return pl.read_csv(
            HINGLISH_TOP / f"{name}.tsv", separator="\t", quote_char=None, infer_schema=False
        )

    def anchors_of(part, prefix, origin, text="text", english="en_text", source=None):
        return part.select(
            pl.format("{}-{}", pl.lit(prefix), "qid").alias("query_id"),
            pl.col(text).alias("text") if isinstance(text, str) else text.alias("text"),
            pl.lit("hi-Latn").alias("language"),
            "label",
            pl.lit(origin).alias("origin"),
            (pl.lit(None, pl.String) if source is None else pl.col(source)).alias("source_row_id"),
            (pl.lit(None, pl.String) if english is None else pl.col(english)).alias("english"),
        ).cast(empty(Queries).schema)

    kb = read("kb").select("label", row_id="kb_id", query="text")
    asked, trained = (read("queries").filter(pl.col("split") == s) for s in ("test", "train"))
    evaluation = anchors_of(asked, "q", "native")
    human = anchors_of(trained, "h", "translated", source="kb_id")
    upper, louder = pl.col("text").str.to_uppercase(), pl.format("{} !!", "en_text")
    plants = {
        "exact": anchors_of(asked, "a", "native", english=None),
        "normalised": anchors_of(asked, "b", "synthetic", upper, None),
        "english": anchors_of(asked, "c", "user", louder, None),
        "source text": anchors_of(asked, "d", "translated", pl.lit("kuch aur"), "en_text"),
        "source row": anchors_of(asked, "e", "user", pl.lit("kuch aur"), None, "kb_id"),
        "near": anchors_of(asked, "f", "synthetic", pl.format("{}n", "text"), None),
    }
    together = pl.concat([human, *plants.values()])
    kept, rejects = training_set(together, kb, evaluation)
    assert kept.height + rejects.height == together.height
    assert_clean(kept, evaluation, kb)
    planted = kept.filter(~pl.col("query_id").str.starts_with("h-"))
    # A letter more makes a query of one or two words another one: below the threshold, not a copy.
    assert set(planted["query_id"].str.slice(0, 1)) <= {"f"}
    assert planted["text"].str.len_chars().max() <= 16
    # The public split was cut by English source: no human train query leaks by it, and those that
    # merely resemble a test query stay.
    lost = human.height - kept.filter(pl.col("query_id").str.starts_with("h-")).height
    assert lost == 0
    near = near_to(human["text"].to_list(), evaluation["text"].to_list(), SIMILAR)
    assert len(near) - near.null_count() == 52


def test_what_a_guard_asks_is_left_out_and_its_translations_are_not():
    anchors = queries(
        ("Mera parcel, kahan hai?", "translated", "a", "Where is my parcel?"),
        ("kidhar", "native", "a", "Where is my parcel?"),
    )
    asked = pl.Series("text", ["mera parcel kahan hai", "Where is my parcel?"])
    kept, rejects = without_guarded(anchors, asked)
    assert kept["text"].to_list() == ["kidhar"]
    assert rejects.select("value", "rule").rows() == [("Mera parcel, kahan hai?", "guarded_text")]
    Rejects.validate(rejects)


def test_what_people_found_no_answer_for_is_not_trained_on():
    anchors = queries(("Aaj mausam kaisa hai?", "user"), ("order kahan hai", "native"))
    kept, rejects = without_out_of_scope(anchors, pl.Series("text", ["aaj mausam, kaisa hai"]))
    assert kept["text"].to_list() == ["order kahan hai"]
    assert rejects.select("value", "rule").rows() == [("Aaj mausam kaisa hai?", "out_of_scope")]
    Rejects.validate(rejects)


@pytest.mark.parametrize("made", MADE)
def test_made_queries_under_several_labels_are_left_out_and_those_of_people_stay(made):
    anchors = queries(
        ("order band karo", made, "a"),
        ("Order band karo!", made, "b"),  # two made ones
        ("gaana bajao", "native", "a"),
        ("gaana bajao", made, "b"),  # a person says otherwise
        ("stop it", made, "b"),  # the knowledge base says otherwise
        ("ruk jao", "native", "a"),
        ("Ruk jao", "translated", "b"),
        ("paisa wapas karo", made, "b"),
    )
    kept, rejects = training_set(anchors, ROWS, ASKED)
    assert set(kept.select("text", "label").rows()) == {
        ("gaana bajao", "a"),
        ("ruk jao", "a"),
        ("Ruk jao", "b"),
        ("paisa wapas karo", "b"),
    }
    assert set(rejects["rule"]) == {"contradictory"}
    assert set(rejects["file"]) == {f"training ({made})"}
    Rejects.validate(rejects)


def test_what_another_spelling_may_turn_into_a_question_is_told():
    texts = ["mere saarey alarms off kardo", "mere sarey alarm off kardo", "kal baarish hogi?"]
    anchors = pl.DataFrame({"query_id": ["a", "b", "c"], "text": texts})
    held = pl.Series("text", ["Mere sarey alarms off kardo!", "kal barish hogi", None])
    assert spelt_like(anchors, held).to_list() == ["a", "c"]
    assert spelt_like(anchors, held.clear()).to_list() == []
