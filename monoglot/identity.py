"""Digests: what makes two inputs, tables or settings the same thing.

Everything here is stable across processes, machines and library versions, which neither Python's
nor polars' own hashes are. Values that cannot be written canonically are refused, not guessed.
"""

import functools
import hashlib
import json
import sys
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
        TypeError: for sets, bytes, objects and other values without one obvious order or form.
    """
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


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
    own hash with its chunks, the text does not.
    """
    sha = hashlib.sha256(canonical_json({n: str(t) for n, t in frame.schema.items()}).encode())
    for piece in frame.iter_slices(100_000):
        sha.update(piece.write_ndjson().encode())
    return sha.hexdigest()


def normalised(text: str) -> str:
    """Text as compared for leaks and joins: NFKC, case-folded, no punctuation, single spaces.

    Punctuation is told by its Unicode category: a regular expression's word characters leave out
    the vowel signs of Devanagari and its relatives, without which words fall together.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.translate(_punctuation()).split())


@functools.cache
def _punctuation() -> dict[int, str]:
    """A space for every punctuation mark and symbol."""
    codes = range(sys.maxunicode + 1)
    return {code: " " for code in codes if unicodedata.category(chr(code))[0] in "PS"}
