"""`TableSearch`: one version of a table, asked for the rows nearest to vectors.

By LanceDB's coroutines, a query in one step. Its synchronous table takes five, each from one thread
to another and back, and reads the schema twice: a millisecond of ten among a million rows.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from monoglot.remote.place import storage_options
from monoglot.serving.kept_vectors import Keeping, KeptVectors
from monoglot.serving.neighbours import Effort, Floats, Hits
from monoglot.serving.tables import explained

if TYPE_CHECKING:
    from lancedb.query import AsyncVectorQuery
    from lancedb.table import AsyncTable


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
        self._read = lambda: KeptVectors.read(uri, name, version)
        self.keeping: Keeping | None = None
        with explained(f"opened at version {version} of {name}"):
            self._table: AsyncTable = LOOP.run(_opened(uri, name, version))

    def keep_vectors(self) -> None:
        """From now on, read the vectors once enough was asked: for a process that serves."""
        if self.keeping is None:
            self.keeping = Keeping(self._read)

    def nearest(self, vectors: Floats, k: int, effort: Effort | None) -> Hits:
        """The rows nearest to each vector (q, d), by the table's index or, without one, exactly.

        No column is read: three of texts, for 200 rows of a million, take as long as to find them.

        Returns:
            The k nearest of each, and where the vectors are kept `effort.refine` times as many.

        Raises:
            StoreError: the table cannot be searched.
        """
        if effort is None:
            return self._found(vectors, k, lambda query: query.bypass_vector_index())
        kept = self.keeping.after(len(vectors)) if self.keeping else None
        if kept is None:
            return self._found(
                vectors,
                k,
                lambda query: query.nprobes(effort.nprobes).refine_factor(effort.refine),
            )
        found = self._found(vectors, k * effort.refine, lambda query: query.nprobes(effort.nprobes))
        return kept.scored(found, vectors)

    def _found(
        self, vectors: Floats, k: int, how: "Callable[[AsyncVectorQuery], AsyncVectorQuery]"
    ) -> Hits:
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

    def rows_at(self, rows: Sequence[int], columns: Sequence[str]) -> pl.DataFrame:
        """`row` and some columns of rows by LanceDB's id, in no order.

        Raises:
            StoreError: the table cannot be read.
        """
        with explained("read"):
            query = self._table.take_row_ids(list(rows)).with_row_id().select(list(columns))
            return pl.DataFrame(self._loop.run(query.to_arrow())).rename({"_rowid": "row"})


async def _opened(uri: str, name: str, version: int) -> "AsyncTable":
    import lancedb

    base = await lancedb.connect_async(uri, storage_options=storage_options(uri))
    table = await base.open_table(name)
    await table.checkout(version)
    return table
