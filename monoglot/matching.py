"""`Pattern`: what `monoglot forget` looks for, in texts, tables and files of any kind."""

import contextlib
import html
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from monoglot.errors import InputError

_OF_JSON = re.compile(r'(?:\\u[0-9a-fA-F]{4})+|\\(["\\/bfnrt])')
_MEANT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_OF_MARKDOWN = re.compile(r"\\([!-/:-@\[-`{-~])")
_DEPTHS = 2  # of JSON in JSON: a record in a database's column, a reply in its envelope
_AROUND = 18  # characters shown on each side of a match in an example
_PIECE, _OVERLAP = 1 << 22, 1 << 14  # bytes of a file that are searched at a time, and again
_SHOWN = 2  # characters of a match that an example shows


class Pattern:
    """A regular expression, or a text as it is; whatever its case and Unicode form."""

    def __init__(self, text: str, *, literal: bool = False) -> None:
        """Check and compile it.

        Args:
            text: regular expression (Python's), or the text itself.
            literal: it is the text itself.

        Raises:
            InputError: it is no regular expression, or matches the empty text, and so everything.
        """
        text = unicodedata.normalize("NFC", text)
        try:
            self._compiled = re.compile(re.escape(text) if literal else text, re.IGNORECASE)
        except re.error as error:
            raise InputError(
                f"{text!r} is no regular expression ({error}). Give --literal to look for the "
                "text as it is."
            ) from error
        if self._compiled.search(""):
            raise InputError(f"{text!r} matches every text. Say more exactly what to forget.")

    def is_in(self, text: str) -> bool:
        """Whether a text holds it."""
        return bool(self._compiled.search(unicodedata.normalize("NFC", text)))

    def replaced(self, text: str, by: str) -> str:
        """A text with another in the place of each match."""
        return self._compiled.sub(lambda _: by, unicodedata.normalize("NFC", text))

    def example(self, text: str) -> str:
        """Where a text holds it, the match masked, so that a screen or log does not keep it."""
        text = " ".join(unicodedata.normalize("NFC", text).split())
        found = self._compiled.search(text)
        if found is None:  # the match spans what was a line break
            return "***"
        start, end = found.span()
        left = "..." if start > _AROUND else ""
        right = "..." if len(text) - end > _AROUND else ""
        before = self.replaced(text[max(0, start - _AROUND) : start], "***")
        after = self.replaced(text[end : end + _AROUND], "***")
        return f"{left}{before}{found[0][:_SHOWN]}***{after}{right}"

    def in_bytes(self, raw: bytes) -> str | None:
        """A text that holds it among what the bytes may say, or None."""
        return next((text for text in _readings(raw) if self.is_in(text)), None)

    def in_file(self, path: Path) -> str | None:
        """A text of the file that holds it, or None; tables are read, other files searched."""
        if path.suffix == ".parquet":
            with contextlib.suppress(OSError, pl.exceptions.PolarsError):  # damaged: look at bytes
                return next(self.matches(pl.read_parquet(path, glob=False)), None)
        with path.open("rb") as stream:
            before = b""
            while piece := stream.read(_PIECE):
                found = self.in_bytes(before + piece)
                if found is not None:
                    return found
                before = piece[-_OVERLAP:]
        return None

    def in_rows(self, frame: pl.DataFrame) -> pl.Series:
        """For each row whether one of its texts holds it."""
        found = pl.Series("found", [False] * frame.height, dtype=pl.Boolean)
        for column in frame.iter_columns():
            texts = _as_texts(column)
            if texts is not None:
                known = {text: self.is_in(text) for text in texts.drop_nulls().unique()}
                found |= texts.replace_strict(known, default=False, return_dtype=pl.Boolean)
        return found

    def matches(self, frame: pl.DataFrame) -> Iterator[str]:
        """The texts of a table that hold it, as they are."""
        for column in frame.iter_columns():
            texts = _as_texts(column)
            if texts is not None:
                yield from (text for text in texts.drop_nulls().unique() if self.is_in(text))


def _as_texts(column: pl.Series) -> pl.Series | None:
    """A column as texts, lists and structs as JSON; None for numbers and vectors."""
    kind = column.dtype
    if isinstance(kind, pl.String | pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    if isinstance(kind, pl.List) and isinstance(kind.inner, pl.String):
        return column.list.join("\n", ignore_nulls=True)
    if isinstance(kind, pl.List | pl.Struct):
        told = column.to_frame().write_ndjson().split("\n")[:-1]
        lines = map(_without_json, told)
        return pl.Series(column.name, lines, dtype=pl.String)
    return None


def _readings(raw: bytes) -> Iterator[str]:
    """A file's text, and the same without the escapes of HTML, CSV, Markdown and JSON.

    What kind of file the bytes are from is not asked: a database or a log holds several.
    """
    text = raw.decode("utf-8", "replace")
    yield text
    if "&" in text:
        yield html.unescape(text)
    if '""' in text:
        yield text.replace('""', '"')
    for _ in range(_DEPTHS):
        if "\\" not in text:
            return
        yield _without_markdown(text)
        text = _without_json(text)
        yield text
    yield _without_markdown(text)  # a report in a column of JSON


def _without_markdown(text: str) -> str:
    return _OF_MARKDOWN.sub(r"\1", text)


def _without_json(text: str) -> str:
    """A text with one depth of JSON's escapes undone, in one pass from the left."""
    return _OF_JSON.sub(_unescaped, text)


def _unescaped(found: re.Match[str]) -> str:
    """What an escape stands for; of a run of code units, since an emoji is two of them."""
    if found[1] is not None:
        return _MEANT.get(found[1], found[1])
    return bytes.fromhex(found[0].replace("\\u", "")).decode("utf-16-be", "replace")
