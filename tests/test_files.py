"""Every kind of file people have, whole and broken: what is read, rejected and said."""

import polars as pl
import pytest

from monoglot.errors import DataError
from monoglot.knowledge.files import read_table

NEEDED, OPTIONAL = ("query", "label"), ("answer",)


@pytest.fixture
def read(tmp_path):
    """Read a file of this name and content (text or bytes): the rows, and the rejects in short."""

    def read_file(name, content, columns=None):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        frame, rejects = read_table(path, columns or {}, NEEDED, OPTIONAL)
        assert frame.schema == {"_row": pl.Int64, **dict.fromkeys((*NEEDED, *OPTIONAL), pl.String)}
        return frame.rows(), [(e["row"], e["rule"], e["reason"]) for e in rejects.entries]

    return read_file


@pytest.fixture
def refusal(read, tmp_path):
    """What is said on a file that cannot be used, without its folder."""

    def say(name, content, columns=None):
        with pytest.raises(DataError) as caught:
            read(name, content, columns)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return say


def parquet(tmp_path, columns, **schema):
    path = tmp_path / "made.parquet"
    pl.DataFrame(columns, **schema).write_parquet(path)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["missing.csv", "missing.parquet", "x" * 300 + ".csv"])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(DataError, match=r"no such file. Check the path|File name too long"):
        read_table(tmp_path / name, {}, NEEDED, OPTIONAL)


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "kb.csv").mkdir()
    with pytest.raises(DataError, match=r"kb\.csv: is a folder\. Check the path in monoglot\.yaml"):
        read_table(tmp_path / "kb.csv", {}, NEEDED, OPTIONAL)


@pytest.mark.parametrize("name", ["kb.xlsx", "kb", "kb.json", "kb.csv.gz"])
def test_an_unknown_kind_is_refused_with_the_known_ones(refusal, name):
    assert refusal(name, "query,label\na,b\n") == (
        f"{name}: unknown kind of file; give .csv, .tsv, .jsonl or .parquet."
    )


@pytest.mark.parametrize("name", ["kb.csv", "kb.tsv", "kb.jsonl", "kb.parquet"])
def test_an_empty_file_is_refused(refusal, name):
    assert refusal(name, "") == f"{name}: is empty. Give a file with rows."


@pytest.mark.parametrize("content", ["\ufeff", "\n\n", " \n,,\n"])
def test_a_file_of_blank_lines_is_empty(refusal, content):
    assert refusal("kb.csv", content) == "kb.csv: is empty. Give a file with rows."


def test_a_few_zeros_in_a_text_are_told_by_their_line_or_kept(read):
    rows, rejects = read("kb.csv", "query,label,answer\nhello th\0re,greet,a\nbye bye,leave,b\0c\n")
    assert [row[0] for row in rows] == [2, 3]
    assert rejects == []
    assert rows[1][3] == "b\0c"


@pytest.mark.parametrize(("name", "tab"), [("kb.csv", ","), ("kb.tsv", "\t")])
def test_rows_cleared_in_a_spreadsheet_are_no_rows(read, name, tab):
    lines = ("query,label,answer", "a,b,c", ",,", " , , ", "d,e,", ",,")
    rows, rejects = read(name, "\n".join(lines).replace(",", tab))
    assert [row[:3] for row in rows] == [(2, "a", "b"), (5, "d", "e")]
    assert rejects == []


@pytest.mark.parametrize(("name", "tab"), [("kb.csv", ","), ("kb.tsv", "\t")])
def test_a_header_alone_has_no_rows(refusal, name, tab):
    assert refusal(name, f"query{tab}label\n").startswith(f"{name}: has no rows. Add at least one")


def test_a_parquet_file_without_rows_is_refused(refusal, tmp_path):
    content = parquet(tmp_path, {"query": [], "label": []})
    assert refusal("kb.parquet", content).startswith("kb.parquet: has no rows.")


@pytest.mark.parametrize("name", ["kb.csv", "kb.tsv", "kb.jsonl"])
def test_text_files_that_are_none_are_refused(refusal, name):
    assert refusal(name, b"\x7fELF\x02\x01\0\0\0") == (
        f"{name}: is a binary file, not text. Give .csv, .tsv, .jsonl or .parquet."
    )
    assert "is a binary file" in refusal(name, "query,label\n".encode("utf-16-le"))  # no mark
    assert "is UTF-16 text" in refusal(name, "query,label\n".encode("utf-16"))
    assert refusal(name, "\ufeffquery".encode("utf-16-be")) == (
        f"{name}: is UTF-16 text. Save it as UTF-8."
    )


def test_latin_1_is_refused_with_its_line(refusal):
    rows = "query,label\n" + "a,b\n" * 5000 + "caf\xe9,b\n"
    assert refusal("kb.csv", rows.encode("latin-1")) == (
        "kb.csv: is not UTF-8 text (line 5002: byte 0xe9 is no part of it). Save it as UTF-8."
    )


def test_a_character_cut_off_at_the_end_is_refused(refusal):
    assert "line 2: byte 0xc3 is no part" in refusal("kb.csv", b"query,label\na,caf\xc3")


def test_a_byte_order_mark_is_not_part_of_the_first_name(read):
    for name, content in (
        ("kb.csv", '\ufeff"query",label\na,b\n'),
        ("kb.tsv", "\ufeffquery\tlabel\na\tb\n"),
    ):
        assert read(name, content) == ([(2, "a", "b", None)], [])
    assert read("kb.jsonl", '\ufeff{"query": "a", "label": "b"}') == ([(1, "a", "b", None)], [])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_all_line_ends_are_read(read, end):
    lines = ["query,label", "a,b", f'"c{end}d",e', "f,g", ""]
    assert read("kb.csv", end.join(lines)) == (
        [(2, "a", "b", None), (3, f"c{end}d", "e", None), (5, "f", "g", None)],
        [],
    )
    assert read("kb.tsv", end.join(["query\tlabel", "a\tb", ""])) == ([(2, "a", "b", None)], [])
    objects = ['{"query": "a", "label": "b"}', "", '{"query": "c", "label": "d"}']
    assert read("kb.jsonl", end.join(objects)) == (
        [(1, "a", "b", None), (3, "c", "d", None)],
        [],
    )


def test_a_row_number_is_that_of_the_records_first_line(read):
    text = 'query,label\n\n"one\ntwo\n\nfour",a\n\nlast,b\n'
    assert read("kb.csv", text)[0] == [
        (3, "one\ntwo\n\nfour", "a", None),
        (8, "last", "b", None),
    ]


def test_quoted_fields_hold_separators_and_quotation_marks(read):
    rows, rejects = read("kb.csv", 'query,label,answer\n"a, ""b""",c,"d\te"\nsay "x",f,\n')
    assert rows == [(2, 'a, "b"', "c", "d\te"), (3, 'say "x"', "f", "")]
    assert not rejects


def test_tsv_keeps_quotation_marks(read):
    text = 'query\tlabel\n"a\tb\n"c"\td"d\n'
    assert read("kb.tsv", text) == ([(2, '"a', "b", None), (3, '"c"', 'd"d', None)], [])


def test_a_missing_column_is_named_with_those_found(refusal):
    assert refusal("kb.csv", "question,label,note\na,b,c\n") == (
        "kb.csv: has no column query (found: question, label, note). "
        "Name yours under `columns:`, such as {query: your_name}."
    )
    assert refusal("kb.jsonl", "{}\n").startswith(
        "kb.jsonl: has no column query, label (found: none)"
    )
    wide = ",".join(f"c{number}" for number in range(500))
    assert "c29, ...)" in refusal("kb.csv", f"{wide}\n{wide}\n")


def test_where_columns_cannot_be_mapped_another_remedy_is_given(tmp_path):
    (tmp_path / "t.csv").write_text("source\na\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"no column translation .*\. Rename yours in the file\.$"):
        read_table(tmp_path / "t.csv", None, ("translation",), ("source",))


def test_tabs_in_a_csv_file_are_recognised(refusal):
    assert refusal("kb.csv", "query\tlabel\na\tb\n").endswith(
        "Its fields must be separated by commas or semicolons; for tabs call it .tsv."
    )


def test_semicolons_separate_where_the_names_have_no_comma(read):
    text = '\ufeff\n"query";label;answer\nhello, you;greet;"a;b"\nbye;leave\n'
    rows, rejects = read("kb.csv", text)
    assert [row[1:] for row in rows] == [("hello, you", "greet", "a;b"), ("bye", "leave", None)]
    assert rejects == []
    assert read("kb.csv", "query,label\na;b,c\n")[0] == [(2, "a;b", "c", None)]


def test_columns_are_mapped(read, refusal):
    text = "intent,utterance,query\ngreet,hi,other\n"
    columns = {"query": "utterance", "label": "intent"}
    assert read("kb.csv", text, columns)[0] == [(2, "hi", "greet", None)]
    twofold = {"query": "utterance", "label": "intent", "answer": "utterance"}
    assert read("kb.csv", text, twofold)[0] == [(2, "hi", "greet", "hi")]
    said = refusal("kb.csv", text, {**columns, "answer": "reply"})
    assert said.startswith("kb.csv: has no column reply (found: intent, utterance, query).")
    assert said.endswith("such as {answer: your_name}.")


def test_mapping_an_unknown_name_is_refused_with_the_known_ones(refusal):
    assert refusal("kb.csv", "query,label\na,b\n", {"qeury": "query"}) == (
        "kb.csv: columns: qeury is none of ours. Known: query, label, answer."
    )


def test_a_wanted_column_that_is_there_twice_is_refused(refusal, read):
    assert refusal("kb.csv", "query,label, query\na,b,c\n") == (
        "kb.csv: column query is there twice. Rename one."
    )
    # Unwanted ones harm nobody: spreadsheets write nameless columns behind the last.
    text = "query,note,note,label,,\na,x,y,b,,\n"
    assert read("kb.csv", text) == ([(2, "a", "b", None)], [])


def test_a_column_may_have_the_name_we_count_rows_under(read, tmp_path):
    assert read("kb.csv", "_row,query,label\n7,a,b\n")[0] == [(2, "a", "b", None)]
    assert read("kb.jsonl", '{"_row": 7, "query": "a", "label": "b"}')[0] == [(1, "a", "b", None)]
    content = parquet(tmp_path, {"_row": [7], "query": ["a"], "label": ["b"]})
    assert read("kb.parquet", content)[0] == [(1, "a", "b", None)]


def test_a_record_with_too_many_fields_is_rejected(read):
    rows, rejects = read("kb.csv", "query,label\nhello, you,greet\na,b\n")
    assert rows == [(3, "a", "b", None)]
    assert rejects == [(2, "too_many_fields", "3 fields under 2 column names; quote the separator")]


def test_a_short_record_lacks_its_last_fields(read):
    assert read("kb.csv", "query,label,answer\na,b\nc\n") == (
        [(2, "a", "b", None), (3, "c", None, None)],
        [],
    )


def test_a_record_that_cannot_be_parsed_does_not_stop_the_rest(read):
    rows, rejects = read("kb.csv", 'query,label\n"a"b,c\nd,e\n"f\ng"h,i\nj,k\n')
    assert rows == [(3, "d", "e", None), (6, "j", "k", None)]
    assert [(row, rule) for row, rule, _ in rejects] == [(n, "unreadable") for n in (2, 4, 5)]
    assert rejects[0][2].startswith("the record cannot be parsed: ',' expected after '\"'")
    assert rejects[2][2] == "part of the record that starts in row 4 and cannot be parsed"


def test_a_quotation_mark_never_closed_rejects_every_line_it_takes(read):
    rows, rejects = read("kb.csv", 'query,label\na,b\n"c,d\ne,f\ng,h\n')
    assert rows == [(2, "a", "b", None)]
    assert [row for row, _, _ in rejects] == [3, 4, 5]
    assert rejects[0][2] == "the record cannot be parsed: a quotation mark is not closed"


def test_a_field_as_long_as_a_book_is_rejected(read):
    rows, rejects = read("kb.csv", f"query,label\n{'a' * 10_000_001},b\nc,d\n")
    assert rows == [(3, "c", "d", None)]
    assert [(row, rule) for row, rule, _ in rejects] == [(2, "unreadable")]


def test_where_no_record_can_be_read_the_first_reason_is_said(refusal):
    assert refusal("kb.jsonl", "hello\nyou\n") == (
        "kb.jsonl: no record can be read. The first: row 1: not JSON: Expecting value. "
        "Mend the file."
    )
    assert refusal("kb.csv", "query,label\na,b,c\n").startswith(
        "kb.csv: no record can be read. The first: row 2: 3 fields under 2"
    )


def test_a_header_that_cannot_be_parsed_is_refused(refusal):
    assert refusal("kb.csv", '"query"x,label\na,b\n').startswith(
        "kb.csv: line 1: the column names cannot be read: ',' expected"
    )


@pytest.mark.parametrize(
    ("line", "rule", "reason"),
    [
        ('{"query": "a", "label"', "unreadable", "not JSON: Expecting ':' delimiter"),
        ('{"query": "a", "label": "b"} x', "unreadable", "not JSON: Extra data"),
        ('{"query": "a", "label": NaN}', "unreadable", "not JSON: NaN is no JSON value"),
        ('{"query": "a", "query": "b"}', "unreadable", "not JSON: an object has one name twice"),
        ("[" * 100_000, "unreadable", "not JSON: maximum recursion depth exceeded"),
        ('["a", "b"]', "unreadable", "not a JSON object"),
        ('"a"', "unreadable", "not a JSON object"),
        ("null", "unreadable", "not a JSON object"),
        ('{"query": {"text": "a"}, "label": "b"}', "no_text", "the query is a list, an object"),
        ('{"query": "a", "label": ["b"]}', "no_text", "the label is a list, an object"),
        ('{"query": "a", "label": "b", "answer": {}}', "no_text", "the answer is a list"),
        (r'{"query": "\ud83d", "label": "b"}', "no_text", "the query is a list, an object or half"),
    ],
)
def test_a_broken_json_line_does_not_stop_the_rest(read, line, rule, reason):
    rows, rejects = read("kb.jsonl", f'{line}\n{{"query": "c", "label": "d"}}\n')
    assert rows == [(2, "c", "d", None)]
    ((row, broken, said),) = rejects
    assert (row, broken) == (1, rule)
    assert said.startswith(reason)


def test_json_values_are_read_as_their_text(read):
    text = '{"query": "caf\\u00e9 \\ud83d\\ude00", "label": 7, "x": [1]}\n{"answer": true}\n'
    assert read("kb.jsonl", text + '{"query": 1.50, "label": null}\n')[0] == [
        (1, "café \U0001f600", "7", None),
        (2, None, None, "true"),
        (3, "1.5", None, None),
    ]


def test_parquet_columns_of_any_plain_type_are_read_as_text(read, tmp_path):
    content = parquet(
        tmp_path,
        {"label": [1, None], "query": ["a", "b"], "answer": [b"x", b"caf\xc3\xa9"], "v": [[1], []]},
    )
    assert read("kb.parquet", content) == ([(1, "a", "1", "x"), (2, "b", None, "café")], [])
    dates = pl.Series(["2026-11-23"]).str.to_date()
    content = parquet(tmp_path, {"query": dates, "label": [True]})
    assert read("kb.parquet", content)[0] == [(1, "2026-11-23", "true", None)]


def test_parquet_columns_that_hold_no_texts_are_refused(refusal, tmp_path):
    content = parquet(tmp_path, {"query": [["a"]], "label": ["b"]})
    assert refusal("kb.parquet", content) == (
        "kb.parquet: column query is List(String). Give it as text."
    )
    content = parquet(tmp_path, {"words": [b"a", None, b"c \xff"], "label": ["b"] * 3})
    assert refusal("kb.parquet", content, {"query": "words"}) == (
        "kb.parquet: row 3, column words: is not UTF-8 text (byte 0xff is no part of it). "
        "Write the column as text."
    )


@pytest.mark.parametrize("kind", [pl.Float32, pl.Float64])
def test_floats_of_parquet_are_read_as_people_write_them(read, tmp_path, kind):
    numbers = [1.0, 1.5, float("nan"), None, -0.0, float("inf")]
    content = parquet(tmp_path, {"query": list("abcdef"), "label": pl.Series(numbers, dtype=kind)})
    labels = [label for _, _, label, _ in read("kb.parquet", content)[0]]
    assert labels == ["1", "1.5", None, None, "0", "inf"]
    content = parquet(tmp_path, {"query": ["a"], "label": [1e20]})
    assert float(read("kb.parquet", content)[0][0][2]) == 1e20
    lines = "".join(f'{{"query": "a", "label": {n}}}\n' for n in ("1.0", "1.5", "null", "-0.0"))
    labels = [label for _, _, label, _ in read("kb.jsonl", lines)[0]]
    assert labels == ["1", "1.5", None, "0"]


def test_a_broken_parquet_file_is_refused(refusal, tmp_path):
    whole = parquet(tmp_path, {"query": ["a"] * 50, "label": ["b"] * 50})
    for broken in (b"hello, world", whole[:-9], whole[: len(whole) // 2], whole[100:]):
        assert refusal("kb.parquet", broken).startswith(
            "kb.parquet: is not a readable Parquet file:"
        )


def test_a_panic_in_the_reader_is_a_refusal(refusal, tmp_path, monkeypatch):
    def panic(*args, **kwargs):
        raise pl.exceptions.PanicException("assertion failed")

    monkeypatch.setattr(pl, "scan_parquet", panic)
    assert refusal("kb.parquet", b"PAR1") == (
        "kb.parquet: is not a readable Parquet file: assertion failed"
    )


def test_a_file_name_is_no_pattern(read, tmp_path):
    content = parquet(tmp_path, {"query": ["a"], "label": ["b"]})
    assert read("kb[1]*.parquet", content)[0] == [(1, "a", "b", None)]
