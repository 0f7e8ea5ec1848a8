"""A text is found however a file writes it: `monoglot forget` must overlook none."""

import json
import sqlite3
import time

import polars as pl
import pytest
from tiny_line import write_line

from monoglot.config_file import load_config
from monoglot.feedback.query_log import forget_in_log, lines_with
from monoglot.forgetting import find
from monoglot.matching import Pattern
from monoglot.store import Store
from monoglot.wording import markdown

TEXTS = [
    'refund for "Bob" Smith',
    r"C:\Users\bob and C:\new\table",
    "Bob Smith\nin Pune",
    "Bob\tSmith",
    "Bob/Smith",
    "Bob 😀 Smith",
    "priya_s@x.com",
    "José at the café",
]


def as_html(text):
    return text.replace("&", "&amp;").replace('"', "&#34;").replace("@", "&#64;")


WRITTEN = {
    "as it is": str,
    "JSON": lambda text: json.dumps(text, ensure_ascii=False),
    "ASCII JSON": json.dumps,
    "JSON in JSON": lambda text: json.dumps({"body": json.dumps(text)}),
    "JSON with all that may be escaped": lambda text: json.dumps(text).replace("/", "\\/"),
    "HTML": as_html,
}


@pytest.mark.parametrize("how", WRITTEN)
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_found_however_it_is_written(text, how):
    sought = Pattern(text, literal=True)
    written = f"before {WRITTEN[how](text)} after".encode()
    assert sought.is_in(sought.in_bytes(written))
    assert Pattern("Xavier", literal=True).in_bytes(written) is None


@pytest.mark.parametrize("text", [text for text in TEXTS if "\n" not in text and "\t" not in text])
def test_a_text_in_a_report_is_found_in_the_file_and_in_prefect_s_database(text, tmp_path):
    """Markdown joins the lines of a text, so that only such texts stand in it as they are."""
    report, database = tmp_path / "report.md", tmp_path / "prefect.db"
    report.write_text(f"| {markdown(text)} |")
    with sqlite3.connect(database) as prefect:
        prefect.execute("CREATE TABLE artifact (data JSON)")
        prefect.execute("INSERT INTO artifact VALUES (?)", (json.dumps(report.read_text()),))
    prefect.close()
    for path in (report, database):
        assert Pattern(text, literal=True).in_file(path) is not None, path


@pytest.mark.parametrize("text", TEXTS)
def test_a_logged_query_is_found_and_removed(text, tmp_path):
    path, sought = tmp_path / "queries.jsonl", Pattern(text, literal=True)
    logged = [json.dumps({"text": it}, ensure_ascii=False) for it in ("other", f"for {text}?")]
    path.write_text("\n".join(logged) + "\n")
    assert lines_with(tmp_path, sought) == {path: [f"{logged[1]}\n"]}
    forget_in_log(tmp_path, sought)
    assert path.read_text() == f"{logged[0]}\n"


def test_the_lines_of_the_user_s_files_are_told(tmp_path):
    config = load_config(write_line(tmp_path))
    (tmp_path / "kb.csv").write_text('query,label\nother,a\n"for ""Bob"" Smith",b\n')
    sought = Pattern('for "Bob" Smith', literal=True)
    found = find(config, Store.open(config.store), sought)
    assert found.own == {tmp_path / "kb.csv": [3]}


def test_a_cell_of_several_texts_is_found_as_it_reads():
    cells = [[{"text": 'for "Bob"'}], [{"text": "line\u2028C:\\bob"}], []]
    frame = pl.DataFrame({"rows": cells})
    assert Pattern('"Bob"', literal=True).in_rows(frame).to_list() == [True, False, False]
    assert Pattern(r"C:\bob", literal=True).in_rows(frame).to_list() == [False, True, False]


def test_a_piece_of_backslashes_is_searched_in_time_that_grows_with_it():
    sought = Pattern("Bob", literal=True)
    for raw in (b"\\" * (1 << 20), b"\\u" * (1 << 19), b"\\ud83d" * (1 << 17), b'"' * (1 << 20)):
        begun = time.perf_counter()
        assert sought.in_bytes(raw) is None
        assert time.perf_counter() - begun < 10
