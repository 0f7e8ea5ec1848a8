"""What a search among many rows knows of each without reading the table: its label and its rank.

By NumPy throughout: polars takes some tenths of a millisecond for each step on few rows, and all of
them were an eighth of a search among a million.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.serving.neighbours import Hits


class RowPlaces:
    """The place of LanceDB's ids of rows among all of a version's in their order.

    The ids of a table's file follow one another, but for rows that were deleted since: runs of them
    are a few numbers, looked up at once, where the ids themselves are megabytes.

    Args:
        rows: (n,) all ids, ascending.
    """

    def __init__(self, rows: NDArray[np.uint64]) -> None:
        first = np.flatnonzero(np.diff(rows, prepend=rows[:1]) != 1)
        self._first = first
        self._ids = rows[first]
        self._length = np.diff(first, append=len(rows))

    def of(self, rows: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Places of ids, each of which is one of all."""
        run = np.searchsorted(self._ids, rows, side="right") - 1
        places: NDArray[np.int64] = self._first[run] + (rows - self._ids[run]).astype(np.int64)
        return places

    def holds(self, rows: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of these ids are among all."""
        run = np.searchsorted(self._ids, rows, side="right") - 1
        # Before the first of all, `run` is -1: the last run, which the id is not in either.
        apart = rows - self._ids[run]
        return apart < self._length[run].astype(np.uint64)


class RowLabels:
    """Every row's label, and its place in the order of the row ids: six bytes a row.

    Args:
        rows: `row` (LanceDB's id, ascending), row_id and label of all rows of a version.
    """

    def __init__(self, rows: pl.DataFrame) -> None:
        self._places = RowPlaces(rows["row"].to_numpy())
        self._names = rows["label"].unique(maintain_order=True)
        self._label = rows["label"].cast(pl.Enum(self._names)).to_physical().to_numpy()
        self._rank = np.empty(rows.height, np.uint32)
        self._rank[rows["row_id"].arg_sort().to_numpy()] = np.arange(rows.height, dtype=np.uint32)

    def best(self, found: Hits, k: int) -> pl.DataFrame:
        """The k best hits of each question, equal scores in the order of the row ids.

        Returns:
            `question`, `row`, label, `score`.
        """
        places = self._places.of(found.row)
        order = np.lexsort((self._rank[places], -found.score, found.question))
        question = found.question[order]
        order = order[np.arange(len(order)) - np.searchsorted(question, question) < k]
        return pl.DataFrame(
            {
                "question": found.question[order].astype(np.uint32),
                "row": found.row[order],
                "label": self._names[self._label[places[order]]],
                "score": found.score[order],
            }
        )
