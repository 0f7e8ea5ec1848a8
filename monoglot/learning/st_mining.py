"""The negatives that sentence-transformers would mine, for a comparison with what it recommends.

Its `mine_hard_negatives` (6.2.0) at its documented best: `relative_margin=0.05`,
`sampling_strategy="top"`, exact search, tuples of equal width. The rule is written out here, since
the function itself needs `datasets` and pandas for what is a search and a threshold; a test holds
the two together where `datasets` is installed. It knows no labels, so some of its negatives are
right answers: they are counted, not removed, being a part of what it recommends.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.contracts import Triplets, empty
from monoglot.learning.ranking import Floats

Integers = NDArray[np.int64]

RELATIVE_MARGIN = 0.05
_QUERIES_PER_BLOCK = 512


@dataclass(frozen=True, eq=False)
class Mined:
    """Mined negatives as a training takes them.

    Attributes:
        triplets: `contracts.Triplets`, alike in every epoch; empty where nothing was found.
        dropped: anchors that have too few negatives below the margin, and are not trained on.
        same_label: share of the negatives that have the anchor's own label.
    """

    triplets: pl.DataFrame
    dropped: int
    same_label: float


def mined_triplets(
    anchors: pl.DataFrame,
    anchor_vectors: Floats,
    rows: pl.DataFrame,
    row_vectors: Floats,
    *,
    negatives: int,
    epochs: int,
    batch_size: int,
    seed: int,
) -> Mined:
    """Triplets of mined negatives, for as many optimiser steps as the anchors' epochs would take.

    Args:
        anchors: `contracts.Queries` to train on.
        anchor_vectors: (anchors, d), of length 1.
        rows: rows to choose from (row_id, query, label); the first of a text stands for all.
        row_vectors: (rows, d).
        negatives: how many each anchor gets.
        epochs: of the training compared with.
        batch_size: of both.
        seed: of the positive of an anchor that has no English source among the rows.
    """
    positives = _positives(anchors, rows, seed)
    first = rows.with_row_index("place").select(pl.col("place").min().over("query"))
    first_of = first["place"].cast(pl.Int64).to_numpy()
    found = mine(
        anchors["text"],
        anchor_vectors,
        row_vectors,
        first_of,
        positives=positives,
        negatives=negatives,
    )
    kept = np.flatnonzero((found >= 0).all(axis=1))
    if len(kept) == 0:
        return Mined(empty(Triplets), anchors.height, 0.0)
    row_labels, row_ids = rows["label"].to_numpy(), rows["row_id"].to_numpy()
    same = row_labels[found[kept]] == anchors["label"].to_numpy()[kept, None]
    one = pl.DataFrame(
        {
            "anchor": anchors["query_id"].to_numpy()[kept],
            "positive_row": row_ids[positives[kept]],
            "negative_rows": row_ids[found[kept]].tolist(),
            "probabilities": [[1.0] * negatives] * len(kept),
            "strategy": ["st_mined"] * len(kept),
        }
    )
    steps = epochs * -(-anchors.height // batch_size)
    rounds = max(1, round(steps / -(-len(kept) // batch_size)))
    triplets = pl.concat(
        [one.select(pl.lit(epoch, pl.Int32).alias("epoch"), pl.all()) for epoch in range(rounds)]
    )
    dropped = anchors.height - len(kept)
    return Mined(triplets.sort("epoch", "anchor"), dropped, float(same.mean()))


def mine(
    texts: pl.Series,
    vectors: Floats,
    row_vectors: Floats,
    first_of: Integers,
    *,
    positives: Integers,
    negatives: int,
) -> Integers:
    """Positions (n, negatives) of each anchor's mined rows, -1 where there are too few.

    The best `10 * negatives` and a few more rows are looked at; of these, the positives of an
    anchor's text are no candidates, nor what is nearer than its furthest positive less the margin.

    Args:
        texts: (n,) anchors; those with one text share their positives.
        vectors: (n, d) of the anchors.
        row_vectors: (m, d).
        first_of: (m,) the first row with the same text.
        positives: (n,) position of each anchor's positive.
        negatives: how many are wanted.
    """
    of_text = texts.rank("dense").to_numpy().astype(np.int64) - 1
    own = np.unique(np.stack([of_text, first_of[positives]]), axis=1)
    limits = np.full(of_text.max(initial=-1) + 1, np.inf, np.float32)
    np.minimum.at(limits, of_text, (vectors * row_vectors[positives]).sum(axis=1))
    limits -= np.abs(limits) * RELATIVE_MARGIN
    distinct = np.flatnonzero(first_of == np.arange(len(first_of)))
    most = int(np.bincount(own[0]).max(initial=0))
    looked_at = min(10 * negatives + 2 * most, len(distinct))
    found = np.full((len(texts), negatives), -1, np.int64)
    for start in range(0, len(texts), _QUERIES_PER_BLOCK):
        block = np.arange(start, min(start + _QUERIES_PER_BLOCK, len(texts)))
        scores = vectors[block] @ row_vectors[distinct].T
        best = np.argsort(-scores, axis=1, kind="stable")[:, :looked_at]
        kept = np.take_along_axis(scores, best, axis=1) <= limits[of_text[block], None]
        codes = of_text[block, None] * len(first_of) + distinct[best]
        kept &= ~np.isin(codes, own[0] * len(first_of) + own[1])
        order = np.argsort(~kept, axis=1, kind="stable")[:, :negatives]
        chosen = distinct[np.take_along_axis(best, order, axis=1)]
        usable = np.take_along_axis(kept, order, axis=1)
        found[block, : chosen.shape[1]] = np.where(usable, chosen, -1)
    return found


def _positives(anchors: pl.DataFrame, rows: pl.DataFrame, seed: int) -> Integers:
    """Position of each anchor's own English source, or of a row of its label drawn at random."""
    places = rows.select("row_id", "label").with_row_index("place")
    own = anchors.join(
        places.select("row_id", "place"),
        left_on="source_row_id",
        right_on="row_id",
        how="left",
        maintain_order="left",
    )["place"]
    of_label = places.group_by("label").agg("place").sort("label")
    lists = anchors.select("label").join(of_label, on="label", how="left", maintain_order="left")
    rng = np.random.default_rng(seed)
    at = pl.Series(rng.random(anchors.height)) * lists["place"].list.len()
    drawn = lists["place"].list.get(at.floor().cast(pl.Int64))
    return own.fill_null(drawn).cast(pl.Int64).to_numpy()
