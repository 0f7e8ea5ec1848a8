"""Label consistency: does a generated query find its own label in the knowledge base?

The model that judges is no oracle. The untuned one is weak outside of English: on Hinglish-TOP it
has half of the good human queries' labels first, so that a strict threshold would throw away the
very queries that there is most to learn from. `benchmarks/results/quality_gates.md` has the curve.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.learning.evaluation import own_rows
from monoglot.learning.ranking import PLACES, Floats, Ranking, rank

SHOWN = 5


@dataclass(frozen=True)
class Consistency:
    """How each query's own label ranks among the knowledge base's.

    Attributes:
        rank: place of the own label among the distinct labels, 1 for the first; 0 where it is not
            among the first ten.
        nearest: the first labels, best first.
        can_judge: False where no other row has the label, so that it cannot be found.
    """

    rank: NDArray[np.int32]
    nearest: list[list[str]]
    can_judge: NDArray[np.bool_]

    def doubts(self, max_rank: int) -> NDArray[np.bool_]:
        """Which queries do not have their own label among so many of the nearest."""
        doubted: NDArray[np.bool_] = self.can_judge & ((self.rank == 0) | (self.rank > max_rank))
        return doubted


def consistency(
    queries: pl.DataFrame, vectors: Floats, rows: pl.DataFrame, row_vectors: Floats
) -> Consistency:
    """Rank the labels for each query, its own source row left out.

    Args:
        queries: table `Queries`.
        vectors: (queries, d), in their order.
        rows: table `KnowledgeBase`.
        row_vectors: (rows, d), made by the same model.

    Raises:
        StaleVectorsError: the vectors are of two models.
    """
    own = own_rows(queries, rows)
    found = rank(vectors, row_vectors, rows["label"], places=PLACES, exclude=own)
    return Consistency(
        rank=found.place_of(queries["label"]),
        nearest=_nearest(found),
        can_judge=_others_of(queries, rows, own) > 0,
    )


def _nearest(found: Ranking) -> list[list[str]]:
    return [[found.names[code] for code in codes if code >= 0] for codes in found.label.tolist()]


def _others_of(
    queries: pl.DataFrame, rows: pl.DataFrame, own: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Number of rows with each query's label, its own source not counted."""
    counts = dict(rows["label"].value_counts().iter_rows())
    labels = rows["label"].to_list()
    return np.array(
        [
            counts.get(label, 0) - (place >= 0 and labels[place] == label)
            for label, place in zip(queries["label"], own.tolist(), strict=True)
        ],
        dtype=np.int64,
    )
