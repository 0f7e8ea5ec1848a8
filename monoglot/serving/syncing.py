"""Bring a table to hold exactly the given rows: what is written and deleted."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from monoglot.serving import compaction, neighbours, tables
from monoglot.serving.neighbours import Floats

if TYPE_CHECKING:
    from lancedb.table import LanceTable

Encode = Callable[[Sequence[str]], Floats]
Progress = Callable[[int, int], None]

CHUNK = 20_000  # texts encoded at a time
_IDS_PER_DELETE = 5_000


def write_rows(
    table: "LanceTable",
    before: "LanceTable",
    have: pl.DataFrame,
    changed: pl.DataFrame,
    encode: Encode,
    *,
    rows: int,
    on_progress: Progress | None = None,
    chunk: int,
) -> int:
    """Insert or replace rows, chunk by chunk; the number of texts that were encoded.

    Rows of one text are in one chunk, so that no text is encoded twice. A chunk is committed as
    soon as it is encoded, as one file or several (see `compaction`).

    Args:
        table: open for writing.
        before: the version that is changed, pinned: LanceDB's row ids hold in one version only.
        have: its rows, from `tables.digests_of`.
        changed: with both digests.
        encode: n texts to (n, d) vectors.
        rows: that the table will have.
        on_progress: told `(rows written, rows to write)`.
        chunk: distinct texts encoded at a time.
    """
    known = have.unique("text_digest").select("text_digest", "_rowid")
    pieces = (
        changed.join(known, on="text_digest", how="left")
        .sort("text_digest", "row_id")
        .with_columns(chunk=(pl.col("text_digest").rank("dense") - 1) // chunk)
        .partition_by("chunk", maintain_order=True, include_key=False)
    )
    encoded = done = 0
    for piece in pieces:
        texts = piece.unique("text_digest", maintain_order=True)
        new = texts.filter(pl.col("_rowid").is_null())
        vectors = pl.concat(
            [_kept(before, texts.drop_nulls("_rowid")), _encoded(before, new, encode)]
        )
        whole = piece.drop("_rowid").join(vectors, on="text_digest")
        for part in whole.iter_slices(compaction.rows_per_file(rows)):
            _upsert(table, part)
        encoded += new.height
        done += piece.height
        if on_progress is not None:
            on_progress(done, changed.height)
    return encoded


def _kept(before: "LanceTable", texts: pl.DataFrame) -> pl.DataFrame:
    """Vectors that the table holds already: text_digest, vector."""
    query = before.take_row_ids(texts["_rowid"].to_list()).select(["text_digest", "vector"])
    with tables.explained("read"):
        return pl.DataFrame(query.to_arrow())


def _encoded(before: "LanceTable", texts: pl.DataFrame, encode: Encode) -> pl.DataFrame:
    """New vectors, checked: text_digest, vector."""
    dimensions = tables.dimensions_of(before.schema)
    queries = texts["query"].to_list()
    vectors = encode(queries) if queries else np.zeros((0, dimensions), np.float32)
    vectors = neighbours.check_vectors(vectors, queries, dimensions)
    kind = pl.Array(pl.Float32, dimensions)
    return texts.select("text_digest", vector=pl.Series(vectors, dtype=kind))


def _upsert(table: "LanceTable", whole: pl.DataFrame) -> None:
    schema = table.schema
    merge = table.merge_insert("row_id").when_matched_update_all().when_not_matched_insert_all()
    with tables.explained("written"):
        merge.execute(whole.select(schema.names).to_arrow().cast(schema))


def delete_rows(table: "LanceTable", row_ids: pl.Series) -> None:
    """Delete rows by id."""
    for piece in row_ids.to_frame().iter_slices(_IDS_PER_DELETE):
        quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in piece["row_id"])
        with tables.explained("written"):
            table.delete(f"row_id IN ({quoted})")
