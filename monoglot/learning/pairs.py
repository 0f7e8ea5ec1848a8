"""Anchors, positives and negatives of every epoch: the `Triplets` table.

The paper pairs a translated query with an index query of the same label (arXiv 2506.02527,
section 3.2). Drawing the positive anew each epoch, from all rows of the label and at times the
anchor's own English source, teaches more from the same translations (see benchmarks/results).
"""

import numpy as np
import polars as pl

from monoglot.errors import DataError
from monoglot.learning.negatives import Integers, Pool, draw_negatives
from monoglot.learning.similarity import LabelSimilarity
from monoglot.learning_config import SamplingConfig


def make_triplets(
    anchors: pl.DataFrame,
    rows: pl.DataFrame,
    similarity: LabelSimilarity,
    config: SamplingConfig,
    *,
    epochs: int,
    seed: int,
    proposals: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Draw the triplets of all epochs; the same inputs give the same table on any machine.

    Args:
        anchors: `contracts.Queries` to train on.
        rows: the knowledge base with its split (row_id, label, part).
        similarity: of the labels of `rows`.
        config: strategy and numbers of negatives, where positives come from.
        epochs: how many times each anchor gets new partners.
        seed: of all draws.
        proposals: `contracts.Proposals`: a row for some anchors that takes the place of one hard
            negative in every epoch; None: there are none.

    Returns:
        `contracts.Triplets`, sorted by epoch and anchor.

    Raises:
        DataError: no anchors, or too few rows to draw from.
    """
    if anchors.is_empty():
        raise DataError(
            "There is nothing to train on: no translation, synthetic or native query is left "
            "after the checks. See the rejects in the report."
        )
    labels = np.asarray(similarity.labels)
    anchors = anchors.sort("query_id")
    parts = ["index"] if config.positives == "index" else ["index", "training"]
    usable = rows.filter(pl.col("part").cast(pl.String).is_in(parts))
    usable = usable.sort("row_id")
    ids = usable["row_id"].to_numpy()
    pool = Pool.of(np.searchsorted(labels, usable["label"].to_numpy()), len(labels))
    codes = np.searchsorted(labels, anchors["label"].to_numpy())
    sources = _places(anchors["source_row_id"], ids)
    proposed = None if proposals is None else _places(_proposed(anchors, proposals), ids)
    tables = []
    for epoch in range(epochs):
        rng = np.random.default_rng([seed, epoch])
        positives = _positives(codes, sources, pool, config, rng)
        negatives = draw_negatives(codes, pool, similarity, config, rng, proposed=proposed)
        tables.append(
            pl.DataFrame(
                {
                    "epoch": np.full(len(codes), epoch, dtype=np.int32),
                    "anchor": anchors["query_id"],
                    "positive_row": ids[positives],
                    "negative_rows": ids[negatives.rows].tolist(),
                    "probabilities": negatives.probabilities.tolist(),
                    "strategy": [config.strategy] * len(codes),
                },
                schema_overrides={
                    "negative_rows": pl.List(pl.String),
                    "probabilities": pl.List(pl.Float64),
                },
            )
        )
    return pl.concat(tables)


def _proposed(anchors: pl.DataFrame, proposals: pl.DataFrame) -> pl.Series:
    """Row id of the negative that is proposed for each anchor, or null."""
    joined = anchors.select("query_id").join(
        proposals, on="query_id", how="left", maintain_order="left"
    )
    return joined["negative_row"]


def _places(row_ids: pl.Series, ids: np.ndarray) -> Integers:
    """Position of each row id among the sorted ids, or -1."""
    wanted = row_ids.fill_null("").to_numpy()
    place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[place] == wanted, place, -1)


def _positives(
    labels: Integers,
    sources: Integers,
    pool: Pool,
    config: SamplingConfig,
    rng: np.random.Generator,
) -> Integers:
    """One row of its own label for each anchor, at times its own source."""
    inside = (rng.random(len(labels)) * pool.sizes[labels]).astype(np.int64)
    drawn = pool.rows[pool.starts[labels] + inside]
    own = (rng.random(len(labels)) < config.own_source_share) & (sources >= 0)
    return np.where(own, sources, drawn)
