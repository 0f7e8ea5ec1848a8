"""Digests: equal things have one, different things two, and what has no one form has none."""

import hashlib
import math
import subprocess
import sys
import unicodedata
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from monoglot.errors import DataError
from monoglot.identity import (
    all_normalised,
    canonical_json,
    digest,
    file_digest,
    files_digest,
    frame_digest,
    identity_of,
    normalised,
    text_digest,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=12,
)  # fmt: skip


class Stage(BaseModel):
    share: float = 0.5
    files: tuple[Path, ...] = ()


def test_the_order_of_names_makes_no_difference():
    assert canonical_json({"b": [1, None, True], "a": "é"}) == '{"a":"é","b":[1,null,true]}'
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest((1, 2)) == digest([1, 2]) != digest([2, 1])


@given(JSON, JSON)
def test_equal_digests_mean_equal_values(one, other):
    assert digest(one) == digest(one)
    if digest(one) == digest(other):
        assert one == other


@pytest.mark.parametrize(
    "value",
    [{1, 2}, frozenset(), b"x", Path("x"), object(), date(2026, 1, 1), {"a": [{"b": {3}}]}],
    ids=lambda value: type(value).__name__,
)
def test_values_without_one_form_are_refused(value):
    with pytest.raises(TypeError):
        canonical_json(value)
    with pytest.raises(TypeError):
        digest({"nested": [value]})


@pytest.mark.parametrize("name", [1, 1.5, True, None])
def test_names_that_json_would_rewrite_are_refused(name):
    with pytest.raises(TypeError, match="a name must be text, not"):
        digest({"a": ({name: 1},)})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_without_a_json_form_are_refused(value):
    for nested in (value, [value], {"a": value}, Stage(share=value)):
        with pytest.raises(ValueError, match="not JSON compliant"):
            digest(nested)


def test_a_model_stands_for_its_fields():
    assert digest(Stage()) == digest({"share": 0.5, "files": []})
    with pytest.raises(TypeError):  # a path is a place: only `identity_of` knows its content
        digest(Stage(files=(Path("x"),)))


def test_digests_are_those_of_other_processes():
    code = "from monoglot.identity import *; print(digest({'b': 1, 'a': 'é'}), text_digest('x'))"
    told = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert told == [
        hashlib.sha256('{"a":"é","b":1}'.encode()).hexdigest(),
        hashlib.sha256(b"x").hexdigest()[:16],
    ]


def test_text_digests_know_where_a_text_ends():
    assert len({text_digest("ab", "c"), text_digest("a", "bc"), text_digest("abc")}) == 3


def test_identity_of_a_file_is_its_kind_and_bytes(tmp_path):
    one, same, other = tmp_path / "a.CSV", tmp_path / "b.csv", tmp_path / "c.tsv"
    for path in (one, same, other):
        path.write_bytes(b"x")
    assert identity_of(one) == identity_of(same) == {"file": file_digest(one), "kind": ".csv"}
    assert identity_of(other) != identity_of(one)
    nested = identity_of({"config": Stage(files=(one,)), "list": [one]})
    assert nested == {
        "config": {"share": 0.5, "files": [identity_of(one)]},
        "list": [identity_of(one)],
    }
    same.write_bytes(b"y")
    assert identity_of(same) != identity_of(one)


def test_a_file_that_cannot_be_read_has_no_identity(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(DataError, match=r"cannot be read \(.*\)\. Check the path"):
            identity_of([path])


def test_file_digests_are_sha256_of_all_pieces(tmp_path):
    content = bytes(range(256)) * 8200  # more than two pieces
    path = tmp_path / "file"
    path.write_bytes(content)
    assert file_digest(path) == hashlib.sha256(content).hexdigest()


def test_a_folders_digest_is_that_of_its_names_and_bytes(tmp_path):
    def folder(name, **files):
        for file, text in files.items():
            path = tmp_path / name / file.replace("_", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path / name

    one = files_digest(folder("one", a="1", b_c="2"))
    assert files_digest(folder("two", b_c="2", a="1")) == one
    others = [
        files_digest(folder("three", a="2", b_c="1")),
        files_digest(folder("four", a="1", b_d="2")),
        files_digest(folder("five", a="1")),
    ]
    assert len({one, *others}) == 4
    assert files_digest(tmp_path / "one", ["a"]) == others[2]


FRAME = pl.DataFrame(
    {
        "text": ["a", None, "", "line\nend", "क़"],
        "number": [1.0, math.nan, math.inf, None, -0.5],
        "lists": [[0.5], [math.nan], None, [], [None]],
        "count": [1, 2, 3, None, 5],
    }
)


def test_a_tables_digest_does_not_see_chunks():
    pieces = pl.concat([FRAME[:1], FRAME[1:4], FRAME[4:]], rechunk=False)
    assert pieces.n_chunks() == 3
    assert frame_digest(pieces) == frame_digest(FRAME) == frame_digest(FRAME.clone())


def test_a_tables_digest_does_not_see_how_many_rows_are_hashed_at_once():
    many = pl.DataFrame({"n": pl.int_range(250_001, eager=True)})
    lines = "".join(f'{{"n":{n}}}\n' for n in range(250_001))
    expected = hashlib.sha256(canonical_json([["n", "Int64"]]).encode() + lines.encode())
    assert frame_digest(many) == expected.hexdigest()


def test_a_tables_digest_sees_order_names_types_and_values():
    frames = [
        FRAME,
        FRAME.reverse(),
        FRAME[:-1],
        FRAME.select("number", "text", "lists", "count"),
        FRAME.rename({"text": "texts"}),
        FRAME.with_columns(pl.col("number").cast(pl.Float32)),
        FRAME.with_columns(pl.col("count").cast(pl.Float64)),
        FRAME.with_columns(pl.col("text").fill_null("")),
        FRAME.with_columns(pl.col("text").fill_null("null")),
        FRAME.with_columns(pl.col("number").fill_nan(None)),
        FRAME.with_columns(pl.col("number").replace(math.inf, -math.inf)),
        FRAME.with_columns(pl.col("lists").list.eval(pl.element().fill_nan(None))),
        FRAME.with_columns(pl.col("lists").fill_null([])),
        FRAME.with_columns(pl.col("count").cast(pl.String)),
        FRAME.clear(),
        FRAME.clear().drop("count"),
    ]
    assert len({frame_digest(frame) for frame in frames}) == len(frames)


@given(st.lists(st.tuples(st.text(), st.floats(width=64)), max_size=5), st.integers(0, 5))
def test_tables_of_one_digest_are_equal(rows, cut):
    schema = {"a": pl.String, "b": pl.Float64}
    rows = [(text.encode(errors="replace").decode(), number) for text, number in rows]
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    again = pl.concat([frame[:cut], frame[cut:]], rechunk=False)
    assert frame_digest(again) == frame_digest(frame)
    if frame_digest(frame.reverse()) == frame_digest(frame):
        assert frame.reverse().equals(frame)


@pytest.mark.parametrize("values", [[b"x"], [[b"x"]], [{"x": b"x"}]])
def test_a_table_of_bytes_has_no_digest(values):
    with pytest.raises(TypeError, match="a column of type Binary has no digest"):
        frame_digest(pl.DataFrame({"a": values}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Where's  my PARCEL?! ", "where s my parcel"),
        ("Straße", "strasse"),
        ("mera parcel kahan hai??", "mera parcel kahan hai"),
        ("किताब, की कीमत क्या है।", "किताब की कीमत क्या है"),
        ("क़", "क़"),  # one sign or two: NFKC takes it apart
        ("أَيْنَ طلبي؟", "أين طلبي"),
        ("مرحبا\u200f", "مرحبا"),
        ("می\u200cروم", "میروم"),
        ("thanks 👍🏽 ❤️", "thanks"),
        ("\uff11\uff12\uff13 \uff45\uff55\uff52", "123 eur"),  # full-width
        ("ﬁne²", "fine2"),
        ("٣ أيام", "٣ أيام"),  # digits of other scripts stay what they are
        ("snake_case-word", "snake case word"),
        ("???", "???"),
        ("👍🏽", "👍🏽"),
        ("", ""),
    ],
)
def test_text_is_normalised(text, expected):
    assert normalised(text) == unicodedata.normalize("NFKC", expected)


def test_vowel_signs_tell_words_apart():
    assert len({normalised(word) for word in ("कि", "की", "कु", "के", "क", "क्")}) == 6
    assert normalised("أُرِيدُ تَحْوِيـــل") == normalised("أريد تحويل")
    assert normalised("שָׁלוֹם") == normalised("שלום")
    assert len({normalised(mark) for mark in ("?", "!", "👍", "👎", "+", "-")}) == 6


ASCII_TEXT = st.text(st.characters(max_codepoint=0x7F))


@settings(max_examples=300)
@given(st.lists(st.none() | ASCII_TEXT | st.text(st.characters(codec="utf-8"))))
def test_all_texts_are_normalised_as_each_is(texts):
    found = all_normalised(pl.Series(texts, dtype=pl.String))
    assert found.to_list() == [None if text is None else normalised(text) for text in texts]


@settings(max_examples=300)
@given(st.text(st.characters(codec="utf-8")))
def test_normalised_text_is_stable_in_every_writing(text):
    once = normalised(text)
    assert normalised(once) == once
    assert once == once.strip()
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert normalised(unicodedata.normalize(form, text)) == once
    assert normalised(f" {text}\n") == once
