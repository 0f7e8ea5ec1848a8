"""Digests: what makes two inputs, tables or settings the same thing.

Everything here is stable across processes, machines and library versions, which neither Python's
nor polars' own hashes are. Values that cannot be written canonically are refused, not guessed.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import polars as pl
from pydantic import BaseModel

from monoglot.errors import DataError

_CHUNK = 1 << 20


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces, so that equal values have equal text.

    Raises:
        TypeError: for sets, bytes, paths, objects and other values without one obvious order or
            form, and for names that are no text: 1 and "1" would be one name.
        ValueError: for NaN and infinities, which JSON has no word for.
    """
    if isinstance(value, BaseModel):
        value = value.model_dump()
    _refuse_other_names(value)
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def _refuse_other_names(value: Any) -> None:
    if isinstance(value, dict):
        others = [name for name in value if not isinstance(name, str)]
        if others:
            raise TypeError(f"a name must be text, not {type(others[0]).__name__}: {others[0]!r}")
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for item in value:
        _refuse_other_names(item)


def digest(value: Any) -> str:
    """SHA-256 (hex) of `canonical_json(value)`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@runtime_checkable
class Reference(Protocol):
    """Something that stands for content kept elsewhere: an artifact, a model."""

    @property
    def digest(self) -> str:
        """Digest of the content."""


def identity_of(value: Any) -> Any:
    """What a value stands for in a key, as JSON: content, never a name or a place.

    A reference stands for its digest, a path for the kind and bytes of its file, a pydantic model
    for its fields; other values for themselves.

    Raises:
        DataError: a path cannot be read.
    """
    if isinstance(value, Reference):
        return {"digest": value.digest}
    if isinstance(value, Path):
        try:
            return {"file": file_digest(value), "kind": value.suffix.lower()}
        except OSError as error:
            raise DataError(
                f"{value}: cannot be read ({error.strerror}). Check the path in monoglot.yaml."
            ) from error
    if isinstance(value, BaseModel):
        return {name: identity_of(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, dict):
        return {name: identity_of(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [identity_of(item) for item in value]
    return value


def text_digest(*parts: str) -> str:
    """First 16 hex digits (64 bits) of the SHA-256 of some texts: ids of rows and queries.

    At a million rows the chance of any collision is 3e-8; a collision would show as a duplicate
    row id, which the contract of every table rejects.
    """
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read in pieces."""
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            sha.update(piece)
    return sha.hexdigest()


def files_digest(folder: Path, names: Iterable[str] | None = None) -> str:
    """Digest of a folder's files (relative names and bytes), or of the named ones alone."""
    chosen = (
        sorted(path for path in folder.rglob("*") if path.is_file())
        if names is None
        else sorted(folder / name for name in names)
    )
    return digest({str(path.relative_to(folder)): file_digest(path) for path in chosen})


def frame_digest(frame: pl.DataFrame) -> str:
    """Digest of a table's columns, types and rows in their order.

    The rows are hashed as JSON lines: parquet bytes change with the writer's version and a frame's
    own hash with its chunks, the text does not. Floats are written as texts before, since JSON
    would write NaN and the infinities as null.

    Raises:
        TypeError: a column holds bytes or objects, which JSON cannot hold.
    """
    names = [[name, str(kind)] for name, kind in frame.schema.items()]
    sha = hashlib.sha256(canonical_json(names).encode())
    exact = frame.cast({name: _without_floats(kind) for name, kind in frame.schema.items()})
    for piece in exact.iter_slices(100_000):
        sha.update(piece.write_ndjson().encode())
    return sha.hexdigest()


def _without_floats(kind: pl.DataType) -> pl.DataType:
    """The type with texts in the place of floats, lists included."""
    if kind.is_float():
        return pl.String()
    if isinstance(kind, pl.List):
        return pl.List(_without_floats(_instance(kind.inner)))
    if isinstance(kind, pl.Array):
        return pl.Array(_without_floats(_instance(kind.inner)), kind.size)
    if isinstance(kind, pl.Struct):
        fields = {field.name: _without_floats(_instance(field.dtype)) for field in kind.fields}
        return pl.Struct(fields)
    if isinstance(kind, pl.Binary | pl.Object):
        raise TypeError(f"a table with a column of type {kind} has no digest")
    return kind


def _instance(kind: Any) -> pl.DataType:
    """A type as an instance; polars gives some inner types as classes."""
    made: pl.DataType = kind() if isinstance(kind, type) else kind
    return made


def normalised(text: str) -> str:
    """Text as compared for leaks and joins: NFKC, case-folded, no punctuation, single spaces.

    Punctuation is told by its Unicode category: a regular expression's word characters leave out
    the vowel signs of Devanagari and its relatives, without which words fall together. Marks
    without a shape (joiners, directions, emoji variants) are dropped, since they differ from
    keyboard to keyboard, and so are the vowels of Arabic and Hebrew, which few people type. A text
    of punctuation and symbols alone keeps them: "?" is not "!".
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words = unicodedata.normalize("NFKC", folded.translate(_WITHOUT_PUNCTUATION))
    return " ".join(words.split()) or " ".join(folded.split())


def all_normalised(texts: pl.Series) -> pl.Series:
    """`normalised` of each text, null for null; in a third of the time where most are ASCII."""
    text, words = pl.col("text"), pl.col("words")
    folded = _single_spaces(text.str.to_lowercase().str.replace_all(_ASCII_SPACE, " "))
    frame = texts.alias("text").to_frame().with_columns(folded=folded)
    frame = frame.with_columns(
        words=_single_spaces(pl.col("folded").str.replace_all(_ASCII_PUNCTUATION, " "))
    )
    quick = frame.select(pl.when(words == "").then("folded").otherwise(words))["folded"]
    others = frame.select(text.str.len_bytes() != text.str.len_chars())["text"].arg_true()
    return quick.scatter(others, [normalised(each) for each in texts.gather(others)])


def _single_spaces(text: pl.Expr) -> pl.Expr:
    # Not " +", which would copy the text at each of its spaces.
    return text.str.replace_all(" {2,}", " ").str.strip_chars(" ")


# What `str.split` takes for a space beside the space; and punctuation and symbols, as Unicode's
# categories have them.
_ASCII_SPACE = r"[\t-\r\x1c-\x1f]"
_ASCII_PUNCTUATION = r"[!-/:-@\[-`{-~]"


class _Characters(dict[int, str]):
    """A space for punctuation and symbols, nothing for marks without a shape; filled when asked."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if category == "Cf" or _OPTIONAL.match(character):
            self[code] = ""
        else:
            self[code] = " " if category[0] in "PS" else character
        return self[code]


# Signs that the same word is written with or without: Arabic and Hebrew vowels, the stroke that
# stretches an Arabic word, and the variants of emoji.
_OPTIONAL = re.compile(
    "[\u0640\u064b-\u0652\u0670\u05b0-\u05bd\u05bf\u05c1\u05c2\u05c7\ufe00-\ufe0f]"
)
_WITHOUT_PUNCTUATION = _Characters()
