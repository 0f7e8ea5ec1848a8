"""`TableSearch`: one version of a table, asked for the rows nearest to vectors.

By Lance's own library, pylance. LanceDB has the same search within, and takes half as long again
for it: 8.5 ms where this takes 6, among a million rows on two cores.
"""

import functools
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from monoglot.errors import StoreError
from monoglot.serving.kept_rows import Keeping, KeptRows
from monoglot.serving.neighbours import Effort, Floats, Hits
from monoglot.serving.row_labels import RowPlaces
from monoglot.serving.tables import ANSWERING, by_lance, explained, open_at, rows_of

if TYPE_CHECKING:
    from lance import LanceDataset

_SPARE = 5  # percent of the rows that are wanted: asked for beside them, where some are deleted
_DEEPER = 4  # times as many are asked for, where most of those were deleted
_LOGGER = logging.getLogger(__name__)


class _Undeleted(NamedTuple):
    """A version that has the deleted rows, too; which rows are not; and how many are, per one."""

    data: "LanceDataset"
    live: RowPlaces
    deleted: float


class TableSearch:
    """One version of a table, for searches of any number of threads.

    Args:
        uri: where the tables are.
        name: of the table.
        version: of it; what is written later is not seen.
        undeleted: its version of `approximate.undeleted_version`, if it has one.

    Raises:
        StoreError: the table or the version is gone.
    """

    def __init__(self, uri: str, name: str, version: int, undeleted: int | None = None) -> None:
        self._read = functools.partial(KeptRows.read, uri, name, version, ANSWERING)
        self.keeping: Keeping | None = None
        self._table = open_at(uri, name, version)
        with explained(f"opened at version {version} of {name}"):
            self._data = by_lance(self._table)
        self._undeleted: _Undeleted | None = None
        if undeleted is not None:
            try:
                self._undeleted = self._open_undeleted(undeleted)
            except StoreError as error:
                _LOGGER.warning("searches take longer, until rows of the index change: %s", error)

    def _open_undeleted(self, version: int) -> _Undeleted:
        with explained(f"opened at version {version} of {self._table.name}"):
            data = self._data.checkout_version(version)
            count = data.count_rows()
        live = rows_of(self._table)
        return _Undeleted(data, RowPlaces(live), count / len(live) - 1)

    def keep_rows(self) -> None:
        """From now on, read all rows once enough was asked: for a process that serves."""
        if self.keeping is None:
            self.keeping = Keeping(self._read)

    def nearest(self, vectors: Floats, k: int, effort: Effort | None) -> Hits:
        """The rows nearest to each vector (q, d), by the table's index or, without one, exactly.

        No column is read: three of texts, for 200 rows of a million, take as long as to find them.

        Returns:
            The k nearest of each, and maybe more: where the rows are kept `effort.refine` times as
            many.

        Raises:
            StoreError: the table cannot be searched.
        """
        if effort is None:
            return self._found(self._data, vectors, k, use_index=False)
        kept = self.keeping.after(len(vectors)) if self.keeping else None
        if kept is None:
            return self._near(vectors, k, effort, refine_factor=effort.refine)
        return kept.scored(self._near(vectors, k * effort.refine, effort), vectors)

    def stop_keeping(self) -> None:
        """Read no further, if rows are being read."""
        if self.keeping is not None:
            self.keeping.stop()

    def _near(self, vectors: Floats, k: int, effort: Effort, **how: Any) -> Hits:
        """The k nearest of each vector by the index; scores are estimated, but for refined ones.

        The partitions next to a vector may hold fewer rows than that, or what is near it be deleted
        for the most part: then more are read, and at last as many as it takes.
        """
        probing = {"nprobes": effort.nprobes, **how}
        to_the_end = {"minimum_nprobes": effort.nprobes, **how}
        searches: list[Callable[[Floats], Hits]] = [
            lambda some: self._at_hand(some, k, **probing),
            lambda some: self._found(self._data, some, k, **to_the_end),
        ]
        if self._undeleted is not None:
            searches.insert(1, lambda some: self._at_hand(some, _DEEPER * k, **probing))
        asked = np.arange(len(vectors))
        parts = []
        for search in searches:
            found = search(vectors[asked])
            few = np.bincount(found.question, minlength=len(asked)) < k
            if search is searches[-1]:
                few[:] = False  # there are no more
            done = ~few[found.question]
            parts.append(Hits(asked[found.question[done]], found.row[done], found.score[done]))
            asked = asked[few]
            if not len(asked):
                break
        return Hits(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    def _at_hand(self, vectors: Floats, k: int, **how: Any) -> Hits:
        """The k nearest of each vector, or fewer where what is near it is deleted."""
        if self._undeleted is None:
            return self._found(self._data, vectors, k, **how)
        data, live, deleted = self._undeleted
        # Deleted rows crowd where others are that took their places: twice their share.
        percent = 100 + math.ceil(200 * deleted) + _SPARE
        found = self._found(data, vectors, -(-k * percent // 100), **how)
        alive = live.holds(found.row)
        return Hits(found.question[alive], found.row[alive], found.score[alive])

    def _found(self, data: "LanceDataset", vectors: Floats, k: int, **how: Any) -> Hits:
        """The k nearest of each vector; `how` is what Lance's `nearest` takes beside them."""
        one = len(vectors) == 1
        asked = {"column": "vector", "q": vectors[0] if one else vectors, "k": k, **how}
        with explained("searched"):
            found = data.to_table(
                columns=["_distance"], with_row_id=True, nearest={"metric": "cosine", **asked}
            )
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
            query = self._table.take_row_ids(rows.to_list()).with_row_id()
            found = query.select(list(ANSWERING)).to_arrow()
            return pl.DataFrame(found).rename({"_rowid": "row"})
