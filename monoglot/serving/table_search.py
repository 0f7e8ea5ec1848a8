"""`TableSearch`: one version of a table, asked for the rows nearest to vectors.

By LanceDB's coroutines, a query in one step. Its synchronous table takes five, each from one thread
to another and back, and reads the schema twice: a millisecond of ten among a million rows.
"""

from typing import TYPE_CHECKING

import numpy as np

from monoglot.remote.place import storage_options
from monoglot.serving.neighbours import Effort, Floats, Hits
from monoglot.serving.tables import explained

if TYPE_CHECKING:
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
        with explained(f"opened at version {version} of {name}"):
            self._table: AsyncTable = LOOP.run(_opened(uri, name, version))

    def nearest(self, vectors: Floats, k: int, effort: Effort | None) -> Hits:
        """The k nearest rows of each vector (q, d), by the table's index or, without one, exactly.

        No column is read: three of texts, for 200 rows of a million, take as long as to find them.

        Raises:
            StoreError: the table cannot be searched.
        """
        with explained("searched"):
            query = self._table.query().nearest_to(vectors).distance_type("cosine")
            if effort is None:
                query = query.bypass_vector_index()
            else:
                query = query.nprobes(effort.nprobes).refine_factor(effort.refine)
            # `_distance` is named, since LanceDB prints a warning per query where it is not.
            found = self._loop.run(query.with_row_id().select(["_distance"]).limit(k).to_arrow())
        one = "query_index" not in found.column_names
        return Hits(
            np.zeros(len(found), np.int64) if one else found["query_index"].to_numpy().astype(int),
            found["_rowid"].to_numpy(),
            1 - found["_distance"].to_numpy(),
        )


async def _opened(uri: str, name: str, version: int) -> "AsyncTable":
    import lancedb

    base = await lancedb.connect_async(uri, storage_options=storage_options(uri))
    table = await base.open_table(name)
    await table.checkout(version)
    return table
