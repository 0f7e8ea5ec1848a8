"""The kinds of files: how each gives its column names and the wanted fields of its records."""

import csv
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import polars as pl

from monoglot.errors import DataError
from monoglot.knowledge.rejects import ROW, RejectList

_MAX_FIELD_CHARS = 10_000_000
_MAX_INTEGER = 2.0**63  # a larger float fits no integer of polars
_UNCLOSED = "unexpected end of data"  # as csv calls it

Wanted = Mapping[str, str]  # our column name to the file's


class Found(NamedTuple):
    """What a file holds.

    Attributes:
        names: of all its columns.
        rows: `_row` and the wanted columns under our names, as texts; null where there is none.
    """

    names: list[str]
    rows: pl.DataFrame


def read_parquet(path: Path, wanted: Wanted, place: str) -> Found:
    """Read a Parquet file; numbers and dates become their text; errors call it `place`.

    A whole float is written as an integer, and NaN is null: a column of integers with a gap is
    floats in many tools.

    Raises:
        DataError: the file is damaged, or a wanted column holds lists, structs, or bytes that are
            no text.
    """
    try:
        scan = pl.scan_parquet(path, glob=False)
        schema = scan.collect_schema()
        chosen = [name for name in dict.fromkeys(wanted.values()) if name in schema]
        nested = next((name for name in chosen if schema[name].is_nested()), None)
        if nested is not None:
            raise DataError(f"{place}: column {nested} is {schema[nested]}. Give it as text.")
        raw = scan.select(chosen).collect()
        frame = raw.select(_texts(column, place) for column in raw)
    # A damaged page can make polars panic, which is no Exception.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(f"{place}: is not a readable Parquet file: {error}") from error
    rows = frame.select(
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(ROW),
        *(
            (pl.col(their) if their in schema else pl.lit(None, pl.String)).alias(our)
            for our, their in wanted.items()
        ),
    )
    return Found(list(schema), rows)


def _texts(column: pl.Series, place: str) -> pl.Series:
    """A column of a Parquet file as texts."""
    if column.dtype == pl.Binary:
        return _decoded(column, place)
    texts = column.cast(pl.String)
    if not column.dtype.is_float():
        return texts
    wide = column.cast(pl.Float64)
    whole = (wide == wide.floor()) & (wide.abs() < _MAX_INTEGER)
    integers = wide.cast(pl.Int64, strict=False).cast(pl.String)
    frame = pl.DataFrame({"text": texts, "integer": integers, "whole": whole, "nan": wide.is_nan()})
    chosen = pl.when("nan").then(None).when("whole").then("integer").otherwise("text")
    return frame.select(chosen.alias(column.name)).to_series()


def _decoded(column: pl.Series, place: str) -> pl.Series:
    try:
        return column.cast(pl.String)
    except pl.exceptions.ComputeError:
        for row, value in enumerate(column, start=1):
            try:
                (value or b"").decode()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{place}: row {row}, column {column.name}: is not UTF-8 text (byte "
                    f"0x{value[error.start]:02x} is no part of it). Write the column as text."
                ) from None
        raise


def read_csv(stream: Iterable[str], wanted: Wanted, rejects: RejectList) -> Found:
    """Read text whose fields are separated by commas, or semicolons, and may be quoted."""
    lines = iter(stream)
    head = list(_to_first_with_text(lines))
    delimiter = separator_of(head[-1] if head else "")
    source = _Delimited(itertools.chain(head, lines), rejects, delimiter=delimiter)
    return _read_delimited(source, wanted, rejects)


def separator_of(names: str) -> str:
    """What separates the fields of a CSV file, told by its line of names.

    Spreadsheets write semicolons where a comma is in every number, as in most of Europe.
    """
    return ";" if ";" in names and "," not in names else ","


def _to_first_with_text(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if line.strip():
            return


def read_tsv(stream: Iterable[str], wanted: Wanted, rejects: RejectList) -> Found:
    """Read text whose fields are separated by tabs and never quoted."""
    source = _Delimited(stream, rejects, delimiter="\t", quoting=csv.QUOTE_NONE)
    return _read_delimited(source, wanted, rejects)


class _Delimited:
    """Records of a delimited text, with the number of the line that each starts in."""

    def __init__(self, stream: Iterable[str], rejects: RejectList, **dialect: Any) -> None:
        csv.field_size_limit(_MAX_FIELD_CHARS)
        self._reader = csv.reader(stream, strict=True, **dialect)
        self._rejects = rejects

    def header(self) -> list[str]:
        """The names in the first line that is not blank."""
        try:
            for fields in self._reader:
                if any(name.strip() for name in fields):
                    return [name.strip() for name in fields]
        except csv.Error as error:
            raise DataError(
                f"{self._rejects.file}: line {self._reader.line_num}: the column names cannot be "
                f"read: {error}. Mend the line."
            ) from error
        raise DataError(f"{self._rejects.file}: is empty. Give a file with rows.")

    def records(self, width: int) -> Iterator[tuple[int, list[str]]]:
        """Each record of at most `width` fields, and the line that it starts in."""
        while True:
            line = self._reader.line_num + 1
            try:
                fields = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._reject_lines(line, error)
                continue
            if len(fields) > width:
                reason = f"{len(fields)} fields under {width} column names; quote the separator"
                shown = " | ".join(fields)
                self._rejects.add(line, None, shown, "too_many_fields", reason)
            elif len(fields) == 1 or any(field.strip() for field in fields):
                yield line, fields  # else a row that was cleared in a sheet: separators alone

    def _reject_lines(self, first: int, error: csv.Error) -> None:
        """One reject a line, so that a quotation mark that takes half the file counts as such."""
        why = "a quotation mark is not closed" if str(error) == _UNCLOSED else str(error)
        reason = f"the record cannot be parsed: {why}"
        self._rejects.add(first, None, None, "unreadable", reason)
        for line in range(first + 1, self._reader.line_num + 1):
            reason = f"part of the record that starts in row {first} and cannot be parsed"
            self._rejects.add(line, None, None, "unreadable", reason)


def _read_delimited(source: _Delimited, wanted: Wanted, rejects: RejectList) -> Found:
    names = source.header()
    twice = sorted(name for name in set(wanted.values()) if names.count(name) > 1)
    if twice:
        raise DataError(f"{rejects.file}: column {', '.join(twice)} is there twice. Rename one.")
    places = {our: names.index(their) for our, their in wanted.items() if their in names}
    lines: list[int] = []
    values: dict[str, list[str | None]] = {our: [] for our in places}
    columns = [(values[our].append, place) for our, place in places.items()]
    for line, fields in source.records(len(names)):
        lines.append(line)
        for append, place in columns:  # a record may lack its last fields
            append(fields[place] if place < len(fields) else None)
    rows = pl.DataFrame(
        {ROW: lines, **values}, schema={ROW: pl.Int64, **dict.fromkeys(places, pl.String)}
    )
    missing = {our: pl.lit(None, pl.String) for our in wanted.keys() - places.keys()}
    return Found(names, rows.with_columns(**missing).select(ROW, *wanted))


def read_jsonl(stream: Iterable[str], wanted: Wanted, rejects: RejectList) -> Found:
    """Read one JSON object a line; numbers become their text, lists and objects are none."""
    records: list[tuple[Any, ...]] = []
    names: dict[str, None] = {}
    for line, text in enumerate(stream, start=1):
        if not text.strip():
            continue
        try:
            record = _DECODER.decode(text)
        except (ValueError, RecursionError) as error:
            reason = f"not JSON: {getattr(error, 'msg', error)}"
            rejects.add(line, None, text.strip(), "unreadable", reason)
            continue
        if not isinstance(record, dict):
            rejects.add(line, None, text.strip(), "unreadable", "not a JSON object")
            continue
        names.update(dict.fromkeys(record))
        bad = next((our for our in wanted if not _is_text(record.get(wanted[our]))), None)
        if bad is None:
            records.append((line, *(_as_text(record.get(their)) for their in wanted.values())))
        else:
            reason = f"the {bad} is a list, an object or half a character, not a text"
            rejects.add(line, bad, text.strip(), "no_text", reason)
    return Found(list(names), _frame(records, wanted))


def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return not isinstance(value, dict | list)
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:  # an escape may name half a pair, which no table can hold
        return False
    return True


def _as_text(value: Any) -> str | None:
    if isinstance(value, float):
        return float_as_text(value)
    return value if value is None or isinstance(value, str) else json.dumps(value)


def float_as_text(value: float) -> str | None:
    """A number as every kind of file and table gives it: see `read_parquet`."""
    if math.isnan(value):
        return None
    is_whole = value.is_integer() and abs(value) < _MAX_INTEGER
    return str(int(value)) if is_whole else str(value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("an object has one name twice")
    return record


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _frame(records: list[tuple[Any, ...]], wanted: Wanted) -> pl.DataFrame:
    schema = {ROW: pl.Int64, **dict.fromkeys(wanted, pl.String)}
    return pl.DataFrame(records, schema=schema, orient="row")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)
