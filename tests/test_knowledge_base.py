"""The knowledge base: which rows are kept, which are not and why, ids, digest, warnings."""

import unicodedata

import polars as pl
import pytest

from monoglot.config import KnowledgeBaseConfig
from monoglot.contracts import KnowledgeBase, Rejects
from monoglot.errors import DataError
from monoglot.identity import frame_digest, text_digest
from monoglot.knowledge.knowledge_base import load_knowledge_base

GOOD = [("hi", "greet"), ("hello", "greet"), ("bye", "part"), ("see you", "part")]


@pytest.fixture
def load(tmp_path):
    """Load rows (tuples or dicts) from a file; all rejects are allowed unless said otherwise."""

    def load_rows(rows, **config):
        rows = [
            row if isinstance(row, dict) else dict(zip(COLUMNS, row, strict=True)) for row in rows
        ]
        path = tmp_path / "kb.jsonl"
        pl.DataFrame(rows, infer_schema_length=None).write_ndjson(path)
        return load_knowledge_base(
            KnowledgeBaseConfig(path=path, **{"max_reject_share": 1.0, **config})
        )

    return load_rows


COLUMNS = ("query", "label")


def rejected(loaded):
    KnowledgeBase.validate(loaded.rows)
    Rejects.validate(loaded.rejects)
    return loaded.rejects.select("row", "column", "rule", "reason").rows()


def queries(loaded):
    return sorted(loaded.rows["query"])


def test_every_good_row_is_kept_sorted_by_id(load):
    loaded = load(GOOD)
    assert sorted(loaded.rows.select("query", "label").rows()) == sorted(GOOD)
    assert loaded.rows["row_id"].to_list() == sorted(
        text_digest(label, query) for query, label in GOOD
    )
    assert loaded.rejects.is_empty()
    assert loaded.warnings == ()


def test_texts_are_cleaned_and_answers_keep_their_lines(load):
    row = {
        "query": "\u00a0Where\r\n is\t\tmy   parcel ",
        "label": " track ",
        "label_path": " orders / track ",
        "label_text": "",
        "answer": " First line.\n\nSecond  line.\n",
        "row_id": " r1 ",
    }
    rows = load([row, *GOOD]).rows
    assert rows.filter(pl.col("row_id") == "r1").rows() == [
        (
            "r1",
            "Where is my parcel",
            "track",
            "orders / track",
            None,
            "First line.\n\nSecond  line.",
        )
    ]


def test_composed_and_decomposed_writing_is_one(load):
    text = "où est mon café ? किताब फ़ोन"
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    assert forms[0] != forms[1]
    first, second = (load([*GOOD, (form, "order")]) for form in forms)
    assert first.digest == second.digest
    both = load([*GOOD, *((form, "order") for form in forms)])
    assert rejected(both) == [(6, "query", "duplicate", "same as row 5")]


@pytest.mark.parametrize("nothing", ["", " ", "\u3000\t", "\u200b\ufeff", None])
def test_rows_without_query_or_label_are_rejected(load, nothing):
    loaded = load([(nothing, "greet"), *GOOD, ("hey", nothing)])
    assert rejected(loaded) == [
        (1, "query", "empty", "the query is empty"),
        (6, "label", "empty", "the label is empty"),
    ]


def test_over_long_queries_are_rejected_and_shown_cut(load):
    loaded = load([*GOOD, ("é" * 300, "part"), ("é" * 299, "part")], max_chars=299)
    assert rejected(loaded) == [
        (5, "query", "too_long", "longer than knowledge_base.max_chars (299)")
    ]
    assert loaded.rejects["value"].to_list() == ["é" * 200]
    assert "é" * 299 in queries(loaded)


@pytest.mark.parametrize("control", ["\0", "\x07", "\x1b", "\x1f", "\x7f", "\x9f"])
@pytest.mark.parametrize("column", ["query", "label", "row_id", "label_path", "label_text"])
def test_control_characters_are_rejected(load, control, column):
    bad = {"query": "hey", "label": "greet", column: f"a{control}b"}
    loaded = load([bad, *GOOD])
    assert rejected(loaded) == [(1, column, "control_character", "holds a control character")]
    assert loaded.rejects["value"].to_list() == [f"a{control}b"]


@pytest.mark.parametrize("mark", ["\u200d", "\u200c", "\u064b", "\u094d", "\ufe0f", "\u202e"])
def test_marks_of_other_scripts_are_no_control_characters(load, mark):
    assert f"a{mark}b" in queries(load([(f"a{mark}b", "greet"), *GOOD]))


def test_a_repeated_row_is_rejected_once_for_each_repeat(load):
    loaded = load([*GOOD, ("hi", "greet"), (" hi", "greet ")])
    assert rejected(loaded) == [
        (5, "query", "duplicate", "same as row 1"),
        (6, "query", "duplicate", "same as row 1"),
    ]
    assert loaded.rows.height == 4


def test_of_contradicting_rows_the_first_is_kept(load):
    loaded = load([*GOOD, ("hi", "part"), ("hi", "greet"), ("Hi", "greet")])
    assert rejected(loaded) == [
        (5, "query", "contradiction", "row 1 has this query under label greet, which was kept"),
        (6, "query", "duplicate", "same as row 1"),
    ]
    assert dict(loaded.rows.select("query", "label").iter_rows())["hi"] == "greet"


def test_a_given_row_id_counts_once(load):
    ids = ["b", "a", None, "b", "c"]
    rows = [
        {"row_id": row_id, "query": f"q{number}", "label": "ab"[number % 2]}
        for number, row_id in enumerate(ids)
    ]
    loaded = load(rows)
    assert rejected(loaded) == [(4, "row_id", "duplicate_row_id", "row 1 has this row id")]
    assert set(loaded.rows.select("row_id", "query").rows()) == {
        ("b", "q0"),
        ("a", "q1"),
        (text_digest("a", "q2"), "q2"),
        ("c", "q4"),
    }


def test_a_rejected_row_takes_no_id_from_another(load):
    rows = [
        {"row_id": "x", "query": "hi", "label": "greet"},
        {"row_id": "y", "query": "hi", "label": "greet"},
        {"row_id": "y", "query": "bye", "label": "part"},
    ]
    loaded = load(rows)
    assert rejected(loaded) == [(2, "query", "duplicate", "same as row 1")]
    assert loaded.rows["row_id"].to_list() == ["x", "y"]


def test_a_record_that_cannot_be_read_is_a_reject_beside_the_others(tmp_path):
    path = tmp_path / "kb.csv"
    path.write_text("query,label\n,a\nhi,a,b\nyo,a\nbye,b\n", encoding="utf-8")
    loaded = load_knowledge_base(KnowledgeBaseConfig(path=path, max_reject_share=0.5))
    assert loaded.rejects.rows() == [
        (str(path), 2, "query", None, "empty", "the query is empty"),
        (
            str(path),
            3,
            None,
            "hi | a | b",
            "too_many_fields",
            "3 fields under 2 column names; quote the separator",
        ),
    ]


def test_too_many_rejects_stop_the_run_and_are_counted(load, tmp_path):
    rows = [*GOOD, *[("hi", "part")] * 2, ("", "greet")]
    assert load(rows, max_reject_share=3 / 7).rows.height == 4
    with pytest.raises(DataError) as caught:
        load(rows, max_reject_share=0.42)
    assert str(caught.value) == (
        f"{tmp_path}/kb.jsonl: 3 of 7 rows are rejected (contradiction 2, empty 1), more than "
        "knowledge_base.max_reject_share (42%). Such as row 5, column query: row 1 has this "
        "query under label greet, which was kept. Mend the file, or raise the share."
    )


def test_lines_lost_to_a_stray_quotation_mark_count_as_rejects(tmp_path):
    lines = [f"q{number},l{number % 2}" for number in range(100)]
    lines[50] = '"' + lines[50]
    path = tmp_path / "kb.csv"
    path.write_text("\n".join(["query,label", *lines]), encoding="utf-8")
    with pytest.raises(DataError, match=r"50 of 100 rows are rejected \(unreadable 50\).* row 52:"):
        load_knowledge_base(KnowledgeBaseConfig(path=path))


def test_a_file_without_one_good_row_is_refused(load):
    with pytest.raises(DataError, match=r"no row can be used\. The first: row 1, column query: th"):
        load([("", "a"), ("", "b")])


def test_one_label_is_refused_by_name(load):
    with pytest.raises(DataError, match=r"kb\.jsonl: all rows have one label \(greet\); two or"):
        load([*GOOD[:2], ("hi", "part")])


def test_labels_with_one_row_are_warned_of(load, tmp_path):
    rows = [*GOOD, *((f"alone {number}", f"single-{number}") for number in range(7))]
    (warning,) = load(rows).warnings
    assert warning == (
        f"{tmp_path}/kb.jsonl: 7 of 9 labels have one row and so train nothing (index only): "
        "single-0, single-1, single-2, single-3, single-4, ..."
    )
    assert load(rows[:5]).warnings[0].endswith("(index only): single-0")


def test_rows_that_contradict_but_for_case_are_warned_of(load, tmp_path):
    loaded = load([*GOOD, ("Hello!", "part"), ("Bye.", "part"), ("?", "greet"), ("!", "part")])
    assert loaded.rejects.is_empty()
    assert loaded.warnings == (
        f"{tmp_path}/kb.jsonl: 1 queries stand under several labels but for case or punctuation, "
        "such as rows 2, 5",
    )


def test_labels_that_are_one_but_for_case_or_invisible_characters_are_warned_of(load, tmp_path):
    labels = ["Billing", "Track", "billing", "billing\u200b", "track", "part"]
    loaded = load([(f"{label} {n}", label) for label in labels for n in range(2)])
    assert loaded.rows["label"].n_unique() == 6
    assert loaded.warnings[0] == (
        f"{tmp_path}/kb.jsonl: 5 labels are 2 but for case, punctuation or invisible characters, "
        "such as 'Billing', 'billing', 'billing\\u200b'; 'Track', 'track'. "
        "Each counts as a label of its own"
    )


def test_the_digest_is_that_of_the_rows_in_any_order_of_the_file(load):
    rows = load(GOOD).rows
    assert load(GOOD[::-1]).digest == load(GOOD).digest == frame_digest(rows)
    seen = {frame_digest(rows)}
    for column in rows.columns:
        changed = rows.with_columns(
            pl.when(pl.int_range(pl.len()) == 2)
            .then(pl.lit("other"))
            .otherwise(pl.col(column))
            .alias(column)
        )
        seen.add(frame_digest(changed))
    assert len(seen | {frame_digest(rows[1:])}) == len(rows.columns) + 2


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_the_kind_of_file_makes_no_difference(load, tmp_path, kind):
    frame = pl.DataFrame(GOOD, schema=["query", "label"], orient="row")
    path = tmp_path / f"same{kind}"
    {
        ".csv": frame.write_csv,
        ".tsv": lambda file: frame.write_csv(file, separator="\t"),
        ".jsonl": frame.write_ndjson,
        ".parquet": frame.write_parquet,
    }[kind](path)
    same = load_knowledge_base(KnowledgeBaseConfig(path=path)).rows
    assert frame_digest(same) == load(GOOD).digest


def test_a_file_is_read_anew_when_its_bytes_or_the_config_change(tmp_path):
    path = tmp_path / "kb.csv"
    path.write_text("query,label\na,x\nb,y\n")
    config = KnowledgeBaseConfig(path=path)
    first = load_knowledge_base(config)
    assert load_knowledge_base(config) is first
    path.write_text("query,label\na,x\nc,y\n")
    assert sorted(load_knowledge_base(config).rows["query"]) == ["a", "c"]
    swapped = KnowledgeBaseConfig(path=path, columns={"query": "label", "label": "query"})
    assert sorted(load_knowledge_base(swapped).rows["query"]) == ["x", "y"]
