"""Reading the files people have: CSV, TSV, JSONL and Parquet to a table of texts with row numbers.

A record that cannot be read is kept as a reject and does not stop the rest. CSV has commas, or
semicolons where its line of names has no comma, and is read with quotes (a quoted field may hold
line breaks, so a row's number is that of its first line); a record that a stray quotation mark
makes unreadable is one reject for each line it takes. TSV has no quoting: a tab or a line end
always separates, and a quotation mark is a character of the text. A short record lacks its last
fields, and separators alone are no record. Numbers are read as their text, whole ones without a
point; lists and objects are none.
"""

import codecs
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import polars as pl

from monoglot.errors import DataError
from monoglot.knowledge.formats import Found, read_csv, read_jsonl, read_parquet, read_tsv
from monoglot.knowledge.rejects import RejectList

_KINDS = ".csv, .tsv, .jsonl or .parquet"
_MAX_NAMES_SHOWN = 30
_FEW_ZEROS = 0.1  # of a text; UTF-16 has one in two, and other binary files are no UTF-8
_READERS = {".csv": read_csv, ".tsv": read_tsv, ".jsonl": read_jsonl}


def read_table(
    path: Path,
    columns: Mapping[str, str] | None,
    required: Sequence[str],
    optional: Sequence[str],
    *,
    shown: str = "",
) -> tuple[pl.DataFrame, RejectList]:
    """Read the wanted columns of a file as texts.

    Args:
        path: .csv, .tsv, .jsonl or .parquet.
        columns: our column name to the file's, where they differ. None: the config has no place
            to say so.
        required: our names of columns that must be there.
        optional: our names of columns that are null where they are missing.
        shown: what errors and rejects call the file, where it was fetched. Empty: its path.

    Returns:
        A frame of strings with `_row` (line of the file, or record for Parquet, from 1), and the
        records that could not be read.

    Raises:
        DataError: the file as a whole cannot be used; says why and what to do.
    """
    named, place = columns or {}, shown or str(path)
    unknown = sorted(set(named) - {*required, *optional})
    if unknown:
        raise DataError(
            f"{place}: columns: {', '.join(unknown)} is none of ours. "
            f"Known: {', '.join([*required, *optional])}."
        )
    rejects = RejectList(place)
    wanted = {name: named.get(name, name) for name in (*required, *optional)}
    found = _found(path, wanted, rejects)
    if found.rows.is_empty() and rejects.entries:
        raise DataError(f"{place}: no record can be read. {rejects.first()} Mend the file.")
    needed = [*required, *(name for name in optional if name in named)]
    missing = [name for name in needed if wanted[name] not in found.names]
    if missing:
        _refuse_missing(place, path, {name: wanted[name] for name in missing}, found.names, columns)
    if found.rows.is_empty():
        raise DataError(f"{place}: has no rows. Add at least one, or name another file.")
    return found.rows, rejects


def refuse_no_file(path: Path) -> None:
    """Refuse a path that was given by hand; `read_table` takes it to be of the config.

    Raises:
        DataError: no file is there.
    """
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError:  # such as a name that is too long, which `read_table` tells as it is
        return
    if not is_file:
        what = "is a folder" if is_folder else "no such file"
        raise DataError(f"{path}: {what}. Check the path you gave.")


def _refuse_missing(
    place: str,
    path: Path,
    missing: Mapping[str, str],
    names: list[str],
    columns: Mapping[str, str] | None,
) -> NoReturn:
    shown = ", ".join(names[:_MAX_NAMES_SHOWN]) + (", ..." if len(names) > _MAX_NAMES_SHOWN else "")
    remedy = (
        "Rename yours in the file."
        if columns is None
        else f"Name yours under `columns:`, such as {{{next(iter(missing))}: your_name}}."
    )
    if path.suffix.lower() == ".csv" and len(names) == 1 and "\t" in names[0]:
        remedy = "Its fields must be separated by commas or semicolons; for tabs call it .tsv."
    raise DataError(
        f"{place}: has no column {', '.join(missing.values())} (found: {shown or 'none'}). {remedy}"
    )


def _found(path: Path, wanted: Mapping[str, str], rejects: RejectList) -> Found:
    kind = path.suffix.lower()
    if kind not in _READERS and kind != ".parquet":
        raise DataError(f"{rejects.file}: unknown kind of file; give {_KINDS}.")
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "no such file"
            raise DataError(f"{rejects.file}: {what}. Check the path in monoglot.yaml.")
        if path.stat().st_size == 0:
            raise DataError(f"{rejects.file}: is empty. Give a file with rows.")
        if kind == ".parquet":
            return read_parquet(path, wanted, rejects.file)
        _refuse_binary(path, rejects.file)
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return _READERS[kind](stream, wanted, rejects)
    except UnicodeDecodeError as error:
        line, byte = _first_bad_byte(path, rejects.file)
        raise DataError(
            f"{rejects.file}: is not UTF-8 text (line {line}: byte 0x{byte:02x} is no part of it). "
            "Save it as UTF-8."
        ) from error
    except OSError as error:
        raise DataError(
            f"{rejects.file}: cannot be read ({error.strerror}). Check the path and its rights."
        ) from error


def _refuse_binary(path: Path, place: str) -> None:
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{place}: is UTF-16 text. Save it as UTF-8.")
    if b"\0" in head and not _is_mostly_text(head):
        raise DataError(f"{place}: is a binary file, not text. Give {_KINDS}.")


def _is_mostly_text(head: bytes) -> bool:
    """Whether the beginning of a file is text in which a few zeros have slipped."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # it may end within a character
    except UnicodeDecodeError:
        return False
    return head.count(0) < _FEW_ZEROS * len(head)


def _first_bad_byte(path: Path, place: str) -> tuple[int, int]:
    """Line and value of the first byte that is no UTF-8."""
    with path.open("rb") as stream:
        for line, raw in enumerate(stream, start=1):
            try:
                raw.decode()
            except UnicodeDecodeError as error:
                return line, raw[error.start]
    raise DataError(f"{place}: changed while it was read. Run again.")
