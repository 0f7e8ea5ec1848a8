"""`TableSearch`: one version of a table, asked for the rows nearest to vectors.

By LanceDB's coroutines, a query in one step. Its synchronous table takes five, each from one thread
to another and back, and reads the schema twice: a millisecond of ten among a million rows.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from monoglot.remote.place import storage_options
from monoglot.serving.kept_rows import Keeping, KeptRows
from monoglot.serving.neighbours import Effort, Floats, Hits
from monoglot.serving.tables import ANSWERING, explained

if TYPE_CHECKING:
    from lancedb.query import AsyncVectorQuery
    from lancedb.table import AsyncTable

    _Query = Callable[[AsyncVectorQuery], AsyncVectorQuery]


class TableSearch:
    """One version of a table, for searches of any number of threads.

    Args:
        uri: where the tables are.
        name: of the table.
        version: of it; what is written later is not seen.

    Raises:
        StoreError: the table or the version is gone.
    """

    def __init__(self, uri: str, name: str, version: int) -> None:
        from lancedb.background_loop import LOOP

        self._loop = LOOP
        self._read = functools.partial(KeptRows.read, uri, name, version, ANSWERING)
        self.keeping: Keeping | None = None
        with explained(f"opened at version {version} of {name}"):
            self._table: AsyncTable = LOOP.run(_opened(uri, name, version))

    def keep_rows(self) -> None:
        """From now on, read all rows once enough was asked: for a process that serves."""
        if self.keeping is None:
            self.keeping = Keeping(self._read)

    def nearest(self, vectors: Floats, k: int, effort: Effort | None) -> Hits:
        """The rows nearest to each vector (q, d), by the table's index or, without one, exactly.

        No column is read: three of texts, for 200 rows of a million, take as long as to find them.

        Returns:
            The k nearest of each, and where the rows are kept `effort.refine` times as many.

        Raises:
            StoreError: the table cannot be searched.
        """
        if effort is None:
            return self._found(vectors, k, lambda query: query.bypass_vector_index())
        kept = self.keeping.after(len(vectors)) if self.keeping else None
        if kept is None:
            return self._near(vectors, k, effort, lambda query: query.refine_factor(effort.refine))
        return kept.scored(
            self._near(vectors, k * effort.refine, effort, lambda query: query), vectors
        )

    def stop_keeping(self) -> None:
        """Read no further, if rows are being read."""
        if self.keeping is not None:
            self.keeping.stop()

    def _near(self, vectors: Floats, k: int, effort: Effort, how: "_Query") -> Hits:
        """The k nearest of each vector by the index; scores are estimated, but for refined ones.

        The partitions next to a vector may hold fewer rows than that, since those were deleted:
        then as many are read as it takes.
        """
        found = self._found(vectors, k, lambda query: how(query).nprobes(effort.nprobes))
        few = np.flatnonzero(np.bincount(found.question, minlength=len(vectors)) < k)
        if not len(few):
            return found
        more = self._found(
            vectors[few],
            k,
            lambda query: how(query).maximum_nprobes(0).minimum_nprobes(effort.nprobes),
        )
        enough = ~np.isin(found.question, few)
        return Hits(
            np.concatenate([found.question[enough], few[more.question]]),
            np.concatenate([found.row[enough], more.row]),
            np.concatenate([found.score[enough], more.score]),
        )

    def _found(self, vectors: Floats, k: int, how: "_Query") -> Hits:
        with explained("searched"):
            query = how(self._table.query().nearest_to(vectors).distance_type("cosine"))
            # `_distance` is named, since LanceDB prints a warning per query where it is not.
            found = self._loop.run(query.with_row_id().select(["_distance"]).limit(k).to_arrow())
        one = "query_index" not in found.column_names
        return Hits(
            np.zeros(len(found), np.int64) if one else found["query_index"].to_numpy().astype(int),
            found["_rowid"].to_numpy(),
            1 - found["_distance"].to_numpy(),
        )

    def rows_at(self, rows: pl.Series) -> pl.DataFrame:
        """`row` and the texts that answer of rows by LanceDB's id, each once, in no order.

        Raises:
            StoreError: the table cannot be read.
        """
        kept = self.keeping.kept if self.keeping else None
        if kept is not None:
            return kept.texts_of(rows.to_numpy())
        with explained("read"):
            query = self._table.take_row_ids(rows.to_list()).with_row_id().select(list(ANSWERING))
            return pl.DataFrame(self._loop.run(query.to_arrow())).rename({"_rowid": "row"})


async def _opened(uri: str, name: str, version: int) -> "AsyncTable":
    import lancedb

    base = await lancedb.connect_async(uri, storage_options=storage_options(uri))
    table = await base.open_table(name)
    await table.checkout(version)
    return table
