"""Bring a table to hold exactly the given rows: write, delete, and see to its search index."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from monoglot.learning.votes import DEPTH
from monoglot.serving import neighbours, tables
from monoglot.serving.neighbours import Effort, Floats
from monoglot.serving.table_search import TableSearch

if TYPE_CHECKING:
    from lancedb.table import LanceTable

Encode = Callable[[Sequence[str]], Floats]
Progress = Callable[[int, int], None]

CHUNK = 20_000  # texts per commit
# Rows that may have changed since an index's recall was measured.
_MOST_UNMEASURED = 5_000
# Each sync leaves a file of rows. A file of a 16th of all rows is large, and worn once a tenth of
# its own rows are gone.
_MOST_SMALL_FILES = 20
_LARGE = 16
_WORN = 0.1
_ALL_PARTS = 1_000  # more than an index has
_NEVER = timedelta(days=36_500)  # keeps `optimize` from removing versions
_IDS_PER_DELETE = 5_000


class Measured(NamedTuple):
    """How an index is to be searched, and how far that is to be relied on.

    Attributes:
        effort: that was measured.
        changed: rows that changed since.
    """

    effort: Effort
    changed: int


def write_rows(
    table: "LanceTable",
    before: "LanceTable",
    have: pl.DataFrame,
    changed: pl.DataFrame,
    encode: Encode,
    *,
    on_progress: Progress | None = None,
    chunk: int,
) -> int:
    """Insert or replace rows, committed chunk by chunk; the number of texts that were encoded.

    Rows of one text are in one chunk, so that no text is encoded twice.

    Args:
        table: open for writing.
        before: the version that is changed, pinned: LanceDB's row ids hold in one version only.
        have: its rows, from `tables.digests_of`.
        changed: with both digests.
        encode: n texts to (n, d) vectors.
        on_progress: told `(rows written, rows to write)`.
        chunk: distinct texts per commit.
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
        _upsert(table, piece.drop("_rowid").join(vectors, on="text_digest"))
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


def tidy(table: "LanceTable") -> None:
    """Merge the small files of rows that edits leave, once they are many, and rewrite worn ones.

    Any other large file stays as it is. LanceDB's `optimize` would copy all rows of a table that
    has less than a million, and for as long as a release names a version of before, both are there.
    """
    with tables.explained("tidied"):
        if table.stats()["fragment_stats"]["num_fragments"] < _MOST_SMALL_FILES:
            return
        data = tables.by_lance(table)
        files = data.get_fragments()
        least = table.count_rows() / _LARGE
        staying = [
            file.fragment_id
            for file in files
            if file.count_rows() >= least and file.num_deletions <= _WORN * file.physical_rows
        ]
        if len(files) - len(staying) < _MOST_SMALL_FILES:
            return
        data.optimize.compact_files(excluded_fragment_ids=staying)
        table.checkout_latest()


def make_searchable(
    uri: str,
    table: "LanceTable",
    measured: Measured | None,
    known: Callable[[], tuple[Floats, Floats]],
) -> Measured:
    """Build the table's approximate index, or extend it, and measure what it finds.

    Rows that the index lacks would be found all the same, one by one: a thousand of a million make
    a search more than half as long again. They are added to it, which takes a second in a million
    rows, where the index as it was built has place for them: once a few thousand rows have changed,
    recall is measured again. Where it has fallen below what is needed, the index is built
    anew, since the rows may have moved away from what it was built on.

    Args:
        uri: where the tables are.
        table: open for writing.
        measured: how it was searched before; None: that does not hold any more, or is not known.
        known: gives queries of the knowledge base itself (q, d), and the score of the tenth nearest
            row of each (q,).
    """
    from lancedb.index import IvfRq

    with tables.explained("indexed"):
        found = table.index_stats("vector_idx") if table.list_indices() else None
        if found is not None:
            if found.num_unindexed_rows:
                # Into one, since each part of an index is searched by itself.
                tables.by_lance(table).optimize.optimize_indices(num_indices_to_merge=_ALL_PARTS)
                table.checkout_latest()
            if measured is not None and measured.changed <= _MOST_UNMEASURED:
                return measured
            effort = _effort_for(uri, table, *known())
            if effort.recall >= neighbours.ENOUGH_RECALL:
                return Measured(effort, 0)
        # One file of rows in place of one for each chunk: a search reads those that it found out of
        # it in half the time.
        table.optimize(cleanup_older_than=_NEVER)
        table.create_index("vector", config=IvfRq(distance_type="cosine"), replace=True)
        return Measured(_effort_for(uri, table, *known()), 0)


def _effort_for(uri: str, table: "LanceTable", queries: Floats, reached: Floats) -> Effort:
    """The least effort that finds enough, by the search that will answer."""
    search = TableSearch(uri, table.name, table.version)
    return neighbours.least_effort(lambda effort: search.nearest(queries, DEPTH, effort), reached)
