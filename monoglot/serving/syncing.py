"""Bring a table to hold exactly the given rows: write, delete, and see to its search index."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from monoglot.learning.votes import DEPTH
from monoglot.serving import neighbours, tables
from monoglot.serving.neighbours import Effort, Floats
from monoglot.serving.table_search import TableSearch

if TYPE_CHECKING:
    from lance import LanceDataset, LanceFragment
    from lancedb.table import LanceTable

Encode = Callable[[Sequence[str]], Floats]
Progress = Callable[[int, int], None]

CHUNK = 20_000  # texts encoded at a time
# Rows that may have changed since an index's recall was measured.
_MOST_UNMEASURED = 5_000
# A table is some eight files of rows, so that a worn one can be rewritten by itself, and the small
# ones, of less than a 16th of its rows, that each sync adds.
_FILES = 8
_LEAST_ROWS = 1_000  # of a file: fewer are not worth one
_SMALL = 1 / 16
_MOST_SMALL_FILES = 20
_WORN = 0.1  # of a file's rows are gone
_MOST_GONE = 0.25  # of all rows
_REWRITTEN = 0.25  # of all rows, at most, at a time
_ALL_PARTS = 1_000  # more than an index has
_IDS_PER_DELETE = 5_000


class Measured(NamedTuple):
    """How an index is to be searched, and how far that is to be relied on.

    Attributes:
        effort: that was measured.
        changed: rows that changed since.
        undeleted: the version to search, of `undeleted_version`.
    """

    effort: Effort
    changed: int
    undeleted: int | None = None


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
    soon as it is encoded, as one file or several (see `tidy`).

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
        for part in whole.iter_slices(_rows_per_file(rows)):
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


def add_to_index(table: "LanceTable") -> None:
    """Add new rows to the table's approximate index, if it has one.

    They would be found all the same, one by one: a thousand of a million make a search more than
    half as long again. It takes a second in a million rows, where the index as it was built has
    place for them.
    """
    with tables.explained("indexed"):
        if table.list_indices() and table.index_stats("vector_idx").num_unindexed_rows:
            # Into one, since each part of an index is searched by itself.
            tables.by_lance(table).optimize.optimize_indices(num_indices_to_merge=_ALL_PARTS)
            table.checkout_latest()
            _leave_out_emptied(tables.by_lance(table))
            table.checkout_latest()


def _leave_out_emptied(data: "LanceDataset") -> None:
    """Have the index that was just written not name files of which no row is left.

    Lance goes on naming them, and while it does, asks of each code whether its row is deleted.
    """
    import lance

    made = data.read_transaction(data.version).operation
    if not isinstance(made, lance.LanceOperation.CreateIndex):
        return
    there = {it.fragment_id for it in data.get_fragments()}
    named = [
        dataclasses.replace(it, fragment_ids=there & set(it.fragment_ids))
        for it in made.new_indices
    ]
    if named != made.new_indices:
        lance.LanceDataset.commit(
            data,
            lance.LanceOperation.CreateIndex(new_indices=named, removed_indices=made.new_indices),
            read_version=data.version,
        )


def tidy(table: "LanceTable") -> None:
    """Merge the small files that edits leave, and rewrite worn ones, once it is worth it.

    The release before keeps the files that it has. So worn ones are rewritten one at a time, or
    more up to a quarter of all rows: LanceDB's `optimize` would copy all of a table that has less
    than a million, and twice as much would be there.
    """
    with tables.explained("tidied"):
        data = tables.by_lance(table)
        files = data.get_fragments()
        rows = table.count_rows()
        small = {it.fragment_id for it in files if it.physical_rows < _SMALL * rows}
        # Lance merges neighbours alone.
        runs = [list(it) for _, it in itertools.groupby(files, lambda it: it.fragment_id in small)]
        beside = [it for run in runs for it in run if len(run) > 1 and it.fragment_id in small]
        gone = sum(it.num_deletions for it in files)
        if (
            len(beside) < _MOST_SMALL_FILES
            and sum(map(_rows_of, beside)) < _rows_per_file(rows)
            and gone < _MOST_GONE * rows
        ):
            return
        merged = small | _most_worn([it for it in files if it.fragment_id not in small], rows)
        data.optimize.compact_files(
            target_rows_per_fragment=_rows_per_file(rows),
            excluded_fragment_ids=[it.fragment_id for it in files if it.fragment_id not in merged],
        )
        table.checkout_latest()


def _rows_per_file(rows: int) -> int:
    return max(_LEAST_ROWS, -(-rows // _FILES))


def _rows_of(file: "LanceFragment") -> int:
    return int(file.physical_rows - file.num_deletions)


def _most_worn(files: Sequence["LanceFragment"], rows: int) -> set[int]:
    """Ids of worn files to rewrite now: one, and more up to a quarter of all rows.

    Args:
        files: in their order, without small ones. No two that are beside each other are chosen,
            which Lance would make into one.
        rows: of the table.
    """
    worn = [n for n, it in enumerate(files) if it.num_deletions > _WORN * it.physical_rows]
    worn.sort(key=lambda n: files[n].num_deletions / files[n].physical_rows, reverse=True)
    chosen: set[int] = set()
    copied = 0
    for number in worn:
        if chosen & {number - 1, number + 1}:
            continue
        copied += _rows_of(files[number])
        if chosen and copied > _REWRITTEN * rows:
            break
        chosen.add(number)
    return {files[number].fragment_id for number in chosen}


def undeleted_version(table: "LanceTable") -> int | None:
    """Commit a version that has the deleted rows, too, beside the versions that follow one another.

    Where any row is deleted, LanceDB asks of each code whether its row is, and compares the codes
    one by one: a search among a million rows takes three times as long. So this version, of the
    same files but without their lists of deleted rows, is searched, and `TableSearch` drops those
    of what it finds.

    Returns:
        None: no row is deleted, or most are, which are better left out from the start.
    """
    data = tables.by_lance(table)

    import lance  # the line above says it, where it is missing

    files = data.get_fragments()
    bare = [
        dataclasses.replace(it.metadata, deletion_file=None) for it in files if it.num_deletions
    ]
    if not bare or sum(it.num_deletions for it in files) > table.count_rows():
        return None
    # Detached: at no moment is it the newest version, which the next sync would go on from.
    made = lance.LanceDataset.commit(
        data,
        lance.LanceOperation.Update(updated_fragments=bare),
        read_version=data.version,
        detached=True,
    )
    return int(made.version)


def make_searchable(
    uri: str,
    table: "LanceTable",
    measured: Measured | None,
    known: Callable[[], tuple[Floats, Floats]],
) -> Measured:
    """See that the table has an approximate index, and that it is known what that finds.

    Once a few thousand rows have changed, recall is measured again. Where it has fallen below what
    is needed, the index is built anew, since the rows may have moved away from what it was built
    on.

    Args:
        uri: where the tables are.
        table: open for writing.
        measured: how it was searched before; None: that does not hold any more, or is not known.
        known: gives queries of the knowledge base itself (q, d), and the score of the tenth nearest
            row of each (q,).
    """
    from lancedb.index import IvfRq

    with tables.explained("indexed"):
        if table.list_indices():
            undeleted = undeleted_version(table)
            if measured is not None and measured.changed <= _MOST_UNMEASURED:
                return measured._replace(undeleted=undeleted)
            effort = _effort_for(uri, table, undeleted, *known())
            if effort.recall >= neighbours.ENOUGH_RECALL:
                return Measured(effort, 0, undeleted)
        table.create_index("vector", config=IvfRq(distance_type="cosine"), replace=True)
        undeleted = undeleted_version(table)
        return Measured(_effort_for(uri, table, undeleted, *known()), 0, undeleted)


def _effort_for(
    uri: str, table: "LanceTable", undeleted: int | None, queries: Floats, reached: Floats
) -> Effort:
    """The least effort that finds enough, by the search that will answer."""
    search = TableSearch(uri, table.name, table.version, undeleted)
    return neighbours.least_effort(lambda effort: search.nearest(queries, DEPTH, effort), reached)
