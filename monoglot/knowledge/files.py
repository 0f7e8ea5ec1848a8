"""Reading the files people have: CSV, TSV, JSONL and Parquet to a table of texts with row numbers.

A record that cannot be read is kept as a reject and does not stop the rest. CSV is read with
quotes (a quoted field may hold line breaks, so a row's number is that of its first line). TSV has
no quoting: a tab or a line end always separates, and a quotation mark is a character of the text.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from monoglot.contracts import Rejects, empty
from monoglot.errors import DataError

ROW = "_row"
_VALUE_CHARS = 200
_KINDS = ".csv, .tsv, .jsonl or .parquet"
_MAX_FIELD_CHARS = 10_000_000

Record = tuple[int, dict[str, Any]]


@dataclass(frozen=True)
class Loaded:
    """A table that was read and checked.

    Attributes:
        rows: the good rows.
        rejects: the others, as `contracts.Rejects`.
        warnings: what is allowed but worth a look, one sentence each.
    """

    rows: pl.DataFrame
    rejects: pl.DataFrame
    warnings: tuple[str, ...] = ()


@dataclass
class RejectList:
    """Collects rejects of one file."""

    file: Path
    entries: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self, row: int | None, column: str | None, value: str | None, rule: str, reason: str
    ) -> None:
        """Note one rejected record."""
        shown = None if value is None else value[:_VALUE_CHARS]
        self.entries.append(
            {
                "file": str(self.file),
                "row": row,
                "column": column,
                "value": shown,
                "rule": rule,
                "reason": reason,
            }
        )

    def add_rows(self, rows: pl.DataFrame, column: str, rule: str, reason: pl.Expr | str) -> None:
        """Note all of `rows` (with `_row` and `column`) as breaking one rule."""
        said = pl.lit(reason) if isinstance(reason, str) else reason
        chosen = rows.select(row=pl.col(ROW), value=pl.col(column), reason=said)
        for row, value, why in chosen.iter_rows():
            self.add(row, column, value, rule, why)

    def table(self) -> pl.DataFrame:
        """The rejects as `contracts.Rejects`, in the order of the file."""
        return pl.DataFrame(self.entries, schema=empty(Rejects).schema).sort(
            "row", nulls_last=False
        )


def read_table(
    path: Path,
    columns: Mapping[str, str],
    required: Sequence[str],
    optional: Sequence[str],
) -> tuple[pl.DataFrame, RejectList]:
    """Read the wanted columns of a file as texts.

    Args:
        path: .csv, .tsv, .jsonl or .parquet.
        columns: our column name to the file's, where they differ.
        required: our names of columns that must be there.
        optional: our names of columns that are null where they are missing.

    Returns:
        A frame of strings with `_row` (line of the file, or record for Parquet, from 1), and the
        records that could not be read.

    Raises:
        DataError: the file as a whole cannot be used; says why and what to do.
    """
    unknown = sorted(set(columns) - {*required, *optional})
    if unknown:
        raise DataError(
            f"{path}: columns: {', '.join(unknown)} is none of ours. "
            f"Known: {', '.join([*required, *optional])}."
        )
    rejects = RejectList(path)
    frame = _raw(path, rejects)
    theirs = {name: columns.get(name, name) for name in (*required, *optional)}
    missing = [name for name in required if theirs[name] not in frame.columns]
    missing += [name for name in columns if name in optional and theirs[name] not in frame.columns]
    if missing:
        raise DataError(
            f"{path}: has no column {', '.join(theirs[name] for name in missing)} "
            f"(found: {', '.join(c for c in frame.columns if c != ROW)}). "
            f"Name yours under `columns:`, such as {{{missing[0]}: your_name}}."
        )
    wanted = [
        pl.col(theirs[name]).alias(name)
        if theirs[name] in frame.columns
        else pl.lit(None, dtype=pl.String).alias(name)
        for name in theirs
    ]
    if frame.is_empty():
        raise DataError(f"{path}: has no rows. Add at least one, or name another file.")
    return frame.select(pl.col(ROW), *wanted), rejects


def cleaned(*names: str) -> list[pl.Expr]:
    """The columns NFC-normalised, without outer spaces, inner white space single, empty as null."""
    return [
        pl.col(name)
        .str.normalize("NFC")
        .str.replace_all(r"\s+", " ")
        .str.strip_chars()
        .replace("", None)
        .alias(name)
        for name in names
    ]


def _raw(path: Path, rejects: RejectList) -> pl.DataFrame:
    """All columns of the file under its own names, with `_row`."""
    kind = path.suffix.lower()
    if kind not in _READERS and kind != ".parquet":
        raise DataError(f"{path}: unknown kind of file; give {_KINDS}.")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise DataError(f"{path}: {what}. Check the path in monoglot.yaml.")
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path}: is empty. Give a file with rows.")
        if kind == ".parquet":
            return _parquet(path)
        _refuse_binary(path)
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return _frame(_READERS[kind](stream, rejects), path)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is not UTF-8 text (byte 0x{error.object[error.start]:02x} is no part of it). "
            "Save it as UTF-8."
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check its rights.") from error


def _refuse_binary(path: Path) -> None:
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: is UTF-16 text. Save it as UTF-8.")
    if b"\0" in head:
        raise DataError(f"{path}: is a binary file, not text. Give {_KINDS}.")


def _parquet(path: Path) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: is not a readable Parquet file: {error}") from error
    texts = [
        pl.col(name).cast(pl.String)
        for name, kind in frame.schema.items()
        if not kind.is_nested() and kind != pl.Binary
    ]
    return (
        frame.select(texts).with_row_index(ROW, offset=1).with_columns(pl.col(ROW).cast(pl.Int64))
    )


def _frame(records: Iterator[tuple[list[str], Iterator[list[Any]]]], path: Path) -> pl.DataFrame:
    names, rows = next(records)
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"{path}: column {', '.join(twice)} is there twice. Rename one.")
    schema = {ROW: pl.Int64, **dict.fromkeys(names, pl.String)}
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def _delimited(
    stream: Any, rejects: RejectList, **dialect: Any
) -> Iterator[tuple[list[str], Iterator[list[Any]]]]:
    csv.field_size_limit(_MAX_FIELD_CHARS)
    reader = csv.reader(stream, strict=True, **dialect)
    try:
        header = [name.strip() for name in next(reader)]
    except (StopIteration, csv.Error) as error:
        raise DataError(f"{rejects.file}: has no readable header line: {error}") from error
    yield header, _records(reader, len(header), rejects)


def _records(reader: Any, width: int, rejects: RejectList) -> Iterator[list[Any]]:
    """Row number and fields of each record that has not more fields than the header."""
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            rejects.add(line, None, None, "unreadable", f"the record cannot be parsed: {error}")
            continue
        if len(fields) > width:
            reason = f"{len(fields)} fields under {width} column names; quote the separator"
            rejects.add(line, None, " | ".join(fields), "too_many_fields", reason)
        elif fields:
            yield [line, *fields, *[None] * (width - len(fields))]


def _csv(stream: Any, rejects: RejectList) -> Iterator[tuple[list[str], Iterator[list[Any]]]]:
    return _delimited(stream, rejects)


def _tsv(stream: Any, rejects: RejectList) -> Iterator[tuple[list[str], Iterator[list[Any]]]]:
    return _delimited(stream, rejects, delimiter="\t", quoting=csv.QUOTE_NONE)


def _jsonl(stream: Any, rejects: RejectList) -> Iterator[tuple[list[str], Iterator[list[Any]]]]:
    records: list[Record] = []
    names: dict[str, None] = {}
    for line, text in enumerate(stream, start=1):
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except ValueError as error:
            rejects.add(line, None, text.strip(), "unreadable", f"not JSON: {error}")
            continue
        if not isinstance(record, dict):
            rejects.add(line, None, text.strip(), "unreadable", "not a JSON object")
            continue
        names.update(dict.fromkeys(record))
        records.append((line, record))
    yield (
        list(names),
        ([line, *(_text(record.get(name)) for name in names)] for line, record in records),
    )


def _text(value: Any) -> str | None:
    """A JSON value as text: strings as they are, null as missing, the rest as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


_READERS = {".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl}
