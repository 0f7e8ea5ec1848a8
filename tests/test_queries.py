"""Labelled queries and existing translations: what is read, joined and left out, and why."""

import unicodedata

import polars as pl
import pytest

from monoglot.config import LanguageConfig, QueriesFile
from monoglot.contracts import KnowledgeBase, Queries, Rejects
from monoglot.errors import DataError
from monoglot.identity import text_digest
from monoglot.knowledge.queries import load_queries, load_translations, unknown_labels


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="given.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def rejected(loaded):
    Rejects.validate(loaded.rejects)
    return loaded.rejects.select("row", "column", "value", "rule", "reason").rows()


def read_queries(path, **columns):
    loaded = load_queries(QueriesFile(path=path, columns=columns))
    Queries.validate(loaded.rows)
    return loaded


def test_queries_are_read_in_the_order_of_the_file(write):
    text = "label,text,language,english,query_id\ntrack, kahan  hai ,hi-Latn,where,q1\n"
    loaded = read_queries(write(text + "track,abhi tak nahi aaya,hi-Latn,,\n"))
    assert loaded.rejects.is_empty()
    made = text_digest("hi-Latn", "track", "abhi tak nahi aaya", "0")
    assert loaded.rows.rows() == [
        ("q1", "kahan hai", "hi-Latn", "track", "native", None, "where"),
        (made, "abhi tak nahi aaya", "hi-Latn", "track", "native", None, None),
    ]


def test_columns_of_queries_are_mapped(write):
    path = write("frage\tsprache\tziel\nwo?\tde\ttrack\n", "q.tsv")
    loaded = read_queries(path, text="frage", language="sprache", label="ziel")
    assert loaded.rows.select("text", "language", "label").rows() == [("wo?", "de", "track")]


@pytest.mark.parametrize("lacking", ["text", "language", "label"])
def test_a_missing_column_of_queries_is_named(write, lacking):
    names = [name for name in ("text", "language", "label", "english") if name != lacking]
    with pytest.raises(DataError, match=rf"q\.csv: has no column {lacking} \(found: {names[0]}"):
        read_queries(write(",".join(names) + "\na,b,c\n", "q.csv"))


def test_queries_that_cannot_be_used_are_rejected(write):
    text = "text,language,label\n,de,a\nx,,a\nx,de, \nx\x07,de,a\nx,de,a,b\nx,de,a\n"
    loaded = read_queries(write(text + "x,de,a\n" * 19))
    assert loaded.rows["text"].to_list() == ["x"] * 20
    assert [(row, column, rule) for row, column, _, rule, _ in rejected(loaded)] == [
        (2, "text", "empty"),
        (3, "language", "empty"),
        (4, "label", "empty"),
        (5, "text", "control_character"),
        (6, None, "too_many_fields"),
    ]


def test_a_file_without_one_good_query_is_refused(write):
    with pytest.raises(DataError, match=r"no row can be used\. The first: row 2, column text: the"):
        read_queries(write("text,language,label\n,de,a\n"))


def test_a_repeated_question_counts_as_often_as_it_is_asked(write):
    line = "wo ist es,de,track\n"
    rows = read_queries(write("text,language,label\n" + line * 2 + "wo,de,track\n" + line)).rows
    assert rows["text"].to_list() == ["wo ist es", "wo ist es", "wo", "wo ist es"]
    assert rows["query_id"].to_list() == [
        text_digest("de", "track", text, str(number))
        for text, number in zip(rows["text"], (0, 1, 0, 2), strict=True)
    ]
    fewer = read_queries(write("text,language,label\nnew,de,a\n" + line)).rows
    assert fewer["query_id"][1] == rows["query_id"][0]  # whatever stands around it


def test_a_given_query_id_counts_once(write):
    text = "query_id,text,language,label\nq,a,de,x\n,b,de,x\nq,c,de,x\n" + ",b,de,x\n" * 2
    loaded = read_queries(write(text))
    assert loaded.rows["text"].to_list() == ["a", "b", "b", "b"]
    assert rejected(loaded) == [
        (4, "query_id", "q", "duplicate_query_id", "row 2 has this query id")
    ]


def test_labels_the_knowledge_base_lacks_are_counted():
    rows = pl.DataFrame({"label": ["a", "b"]})
    asked = pl.DataFrame({"label": ["b", *"gfedcgc", "a"]})
    assert unknown_labels(asked, rows) == (
        "7 of 9 evaluation questions have a label that the knowledge base lacks (78%; 5 labels: "
        "c, d, e, f, g); each counts as a miss"
    )
    more = asked.extend(pl.DataFrame({"label": ["h"]}))
    assert "8 of 10" in unknown_labels(more, rows)
    assert "(80%; 6 labels: c, d, e, f, g, ...)" in unknown_labels(more, rows)
    assert unknown_labels(asked[:1], rows) is None


ROWS = pl.DataFrame(
    [
        ("r1", "Where is my parcel?", "track", None, None, None),
        ("r2", "where is my parcel", "lost", None, None, None),
        ("r3", "Cancel it", "cancel", None, None, None),
        ("r4", "C'est où, ça ?", "track", None, None, None),
    ],
    schema=dict.fromkeys(KnowledgeBase.column_names(), pl.String),
    orient="row",
)
LANGUAGE = LanguageConfig(code="hi-Latn", name="Hinglish")


@pytest.fixture
def translate(write):
    """Load translations from the text of a file."""

    def load(text, name="given.csv"):
        language = LANGUAGE.model_copy(update={"translations": write(text, name)})
        loaded = load_translations(language, ROWS)
        Queries.validate(loaded.rows)
        return loaded

    return load


def pairs(loaded):
    return loaded.rows.select("source_row_id", "text").rows()


def test_a_translation_takes_label_and_english_from_its_row(translate):
    loaded = translate("row_id,translation\nr3,cancel karo\n")
    made = text_digest("hi-Latn", "r3", "cancel karo")
    assert loaded.rows.rows() == [
        (made, "cancel karo", "hi-Latn", "cancel", "translated", "r3", "Cancel it")
    ]
    assert loaded.rejects.is_empty()


def test_a_source_is_matched_to_the_letter_or_else_without_case_and_punctuation(translate):
    text = "source,translation\nWhere is my parcel?,kahan\nWHERE is my parcel!,kidhar\n"
    decomposed = unicodedata.normalize("NFD", "c'est ou\u0300 ça")
    loaded = translate(text + f'"cancel, it.",hatao\n{decomposed},kahan hai\n')
    assert pairs(loaded) == [
        ("r1", "kahan"),
        ("r1", "kidhar"),
        ("r2", "kidhar"),
        ("r3", "hatao"),
        ("r4", "kahan hai"),
    ]
    assert loaded.rejects.is_empty()
    assert loaded.rows["english"][0] == "Where is my parcel?"


SEVERAL = "row_id,source,translation\n" + "".join(f"r3,cancel IT!,c{n}\n" for n in range(9))
FITTING = [("r3", f"c{n}") for n in range(9)]


def test_a_row_id_and_another_rows_source_are_a_mismatch(translate):
    loaded = translate(f"{SEVERAL}r1,Cancel it,a\nr2,WHERE is my parcel!,b\nr4,,d\n")
    assert pairs(loaded) == [*FITTING, ("r2", "b"), ("r4", "d")]
    reason = "row id r1 is of the text Where is my parcel?, not of Cancel it"
    assert rejected(loaded) == [(11, "source", "Cancel it", "source_mismatch", reason)]
    assert loaded.warnings == ()


def test_ids_of_another_knowledge_base_are_refused(translate):
    with pytest.raises(DataError, match=r"2 of 4 rows are rejected \(source_mismatch 2\)"):
        translate("row_id,source,translation\n" + "r1,Cancel it,a\nr3,Cancel it,b\n" * 2)


def test_a_row_id_that_is_gone_leaves_it_to_the_source(translate):
    text = "r9,cancel it,x\nr8,Cancel it,y\n,Cancel it,z\nr9,,v\nr9,Cancel them,w\n"
    loaded = translate(SEVERAL + text)
    assert pairs(loaded) == [*FITTING, ("r3", "x"), ("r3", "y"), ("r3", "z")]
    assert rejected(loaded) == [
        (row, "row_id", "r9", "no_such_row", "no row of the knowledge base has this row id")
        for row in (14, 15)
    ]
    [warning] = loaded.warnings
    assert warning.endswith(
        "given.csv: 2 translations name a row id that the knowledge base lacks; their rows were "
        "found by source, such as for row 11 (r9, found r3)"
    )


def test_a_language_has_one_spelling(write):
    lines = [f"x{n},{code},a" for n, code in enumerate(["hi-latn", "hi-Latn", "AR", "ar"])]
    path = write("\n".join(["text,language,label", *lines]))
    file = QueriesFile(path=path)
    assert load_queries(file).rows["language"].to_list() == ["hi-latn"] * 2 + ["AR"] * 2
    listed = load_queries(file, codes=("hi-Latn", "de")).rows
    assert listed["language"].to_list() == ["hi-Latn"] * 2 + ["AR"] * 2
    assert load_queries(file, "ar", ("hi-Latn",)).rows["language"].to_list()[2:] == ["ar"] * 2


def test_what_matches_no_row_is_rejected(translate):
    text = "source,translation\nCancel it,a\nCancel them,b\n,c\n?,d\n"
    assert rejected(translate(text)) == [
        (row, "source", value, "no_such_row", "no row of the knowledge base has this source")
        for row, value in ((3, "Cancel them"), (4, None), (5, "?"))
    ]


def test_a_row_may_have_several_translations_but_each_once(translate):
    text = "source,translation\nCancel it,hatao\nCancel it,cancel karo\ncancel it,hatao \n"
    loaded = translate(text)
    assert pairs(loaded) == [("r3", "hatao"), ("r3", "cancel karo")]
    assert rejected(loaded) == [
        (4, "translation", "hatao", "duplicate", "same translation as in row 2")
    ]
    assert loaded.rows["query_id"].n_unique() == 2


def test_empty_and_broken_translations_are_rejected(translate):
    others = "".join(f"r3,hatao{n}\n" for n in range(3))
    loaded = translate(f"row_id,translation\nr1, \nr2,a\x1bb\n{others}")
    assert pairs(loaded) == [("r3", f"hatao{n}") for n in range(3)]
    assert [(row, column, rule) for row, column, _, rule, _ in rejected(loaded)] == [
        (2, "translation", "empty"),
        (3, "translation", "control_character"),
    ]


def test_other_languages_are_left_to_themselves(translate):
    text = "row_id,translation,language\nr1,a,hi-Latn\nr2,b,ar\nr3,c,HI-latn\nr4,d,\n"
    loaded = translate(text)
    assert pairs(loaded) == [("r1", "a"), ("r3", "c"), ("r4", "d")]
    assert set(loaded.rows["language"]) == {"hi-Latn"}
    assert loaded.rejects.is_empty()


def test_a_file_of_other_languages_alone_is_refused(translate):
    with pytest.raises(DataError, match=r"no translation into hi-Latn; .* holds ar, hi\. Write th"):
        translate("row_id,translation,language\nr1,a,hi\nr2,b,ar\nr3,c,hi\n")


def test_a_file_that_names_no_rows_is_refused(translate):
    with pytest.raises(DataError, match=r"names no row: give a column source .* or row_id\.$"):
        translate("translation\na\n")


def test_a_file_that_matches_nothing_is_refused(translate):
    with pytest.raises(
        DataError, match=r"no row can be used\. The first: row 2, column source: no"
    ):
        translate("source,translation\nHello,salaam\n")


def test_a_file_without_translations_says_which_column_it_lacks(translate):
    with pytest.raises(DataError, match=r"no column translation \(found: source, hindi\)\. Rename"):
        translate("source,hindi\nCancel it,hatao\n")
