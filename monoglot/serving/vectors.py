"""The vectors of an index, all or some, and what is near those that are asked as queries."""

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.learning import votes
from monoglot.serving import neighbours
from monoglot.serving.neighbours import Floats


class Vectors(NamedTuple):
    """All vectors of an index: row i has id `row_ids[i]`, label `labels[i]`, vector `matrix[i]`.

    `temperature` is that of their votes; see `Index.temperature`.
    """

    row_ids: pl.Series
    labels: pl.Series
    matrix: Floats
    temperature: float | None

    def in_order(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows of a knowledge base that are here, in the order of the vectors."""
        ids = self.row_ids.to_frame("row_id")
        return ids.join(rows, on="row_id", how="left", maintain_order="left")


class Asked(NamedTuple):
    """Rows of an index that were asked as queries, and the nearest of all its rows to each.

    Attributes:
        sample: the rows that were asked.
        rows: row_id and label of all rows.
        positions: (q, k) of the nearest ones in `rows`, in no order, with the asked row itself.
        scores: (q, k) cosines.
    """

    sample: Vectors
    rows: pl.DataFrame
    positions: NDArray[np.int64]
    scores: Floats

    def known_neighbours(self) -> tuple[Floats, Floats]:
        """Each query, and the score of its tenth nearest row, to measure a search by."""
        tenth = np.sort(self.scores, axis=1)[:, -neighbours.NEIGHBOURS]
        return self.sample.matrix, tenth

    def temperature(self) -> float:
        """Of the votes of the rows beside the asked one; see `votes`."""
        asked = pl.DataFrame({"own": self.sample.row_ids, "wanted": self.sample.labels})
        question = np.repeat(np.arange(len(self.scores)), self.scores.shape[1])
        near = self.rows[self.positions.ravel()]
        found = pl.concat([asked[question], near], how="horizontal").select(
            question=question,
            score=self.scores.ravel(),
            same=pl.col("label") == pl.col("wanted"),
            other=pl.col("row_id") != pl.col("own"),
        )
        return votes.vote_temperature(found.filter("other").drop("other"))
