"""Anchors, positives and negatives of every epoch: the `Triplets` table.

The paper pairs a translated query with an index query of the same label (arXiv 2506.02527,
section 3.2). Drawing the positive anew each epoch, from all rows of the label and at times the
anchor's own English source, teaches more from the same translations (see benchmarks/results).
"""

from dataclasses import replace

import numpy as np
import polars as pl

from monoglot.errors import DataError
from monoglot.learning.by_similarity import Material
from monoglot.learning.distributions import Integers, Pool
from monoglot.learning.mining import Mined, Search, Space
from monoglot.learning.negatives import STRATEGIES, Draws, draw_negatives
from monoglot.learning.similarity import LabelSimilarity
from monoglot.learning.similarity_sources import Encode, label_codes
from monoglot.learning_config import SamplingConfig


class Partners:
    """Draws the partners of all anchors for one epoch; the same inputs give the same ones.

    Args:
        anchors: `contracts.Queries` to train on; those whose label has no usable row are left out,
            and translations of index rows where these alone are positives (the paper's split).
        rows: the knowledge base with its split (row_id, query, label, part).
        similarity: of the labels of `rows`; None where the strategy uses none.
        config: strategy and numbers of negatives, where positives come from.
        epochs: how many times each anchor gets new partners.
        seed: of all draws.
        proposals: `contracts.Proposals`: a row for some anchors that takes the place of one hard
            negative in every epoch; None: there are none.

    Raises:
        DataError: no anchors.
    """

    def __init__(
        self,
        anchors: pl.DataFrame,
        rows: pl.DataFrame,
        similarity: LabelSimilarity | None,
        config: SamplingConfig,
        *,
        epochs: int,
        seed: int,
        proposals: pl.DataFrame | None = None,
    ) -> None:
        parts = ["index"] if config.positives == "index" else ["index", "training"]
        self._rows = rows.filter(pl.col("part").cast(pl.String).is_in(parts)).sort("row_id")
        if config.positives == "index":
            anchors = _without_translations_of(self._rows["row_id"], anchors)
        self._anchors = anchors.join(self._rows, on="label", how="semi").sort("query_id")
        if self._anchors.is_empty():
            raise DataError(
                "There is nothing to train on: no translation, synthetic or native query is left "
                "after the checks. See the rejects in the report."
            )
        labels = rows["label"].unique().sort()
        ids = self._rows["row_id"]
        self._config, self._epochs, self._seed = config, epochs, seed
        self._sources = _places(self._anchors["source_row_id"], ids)
        self._proposed = (
            None if proposals is None else _places(_proposed(self._anchors, proposals), ids)
        )
        self._given = Material(
            pool=Pool.of(label_codes(self._rows["label"], labels), len(labels)),
            labels=label_codes(self._anchors["label"], labels),
            config=config,
            similarity=similarity,
        )

    def mined(self, encode: Encode, search: Search | None = None) -> Mined | None:
        """The rows that a model ranks high for each anchor; None where the strategy ranks none.

        Args:
            encode: texts to unit vectors by that model.
            search: who searches the rows; None: this process does.
        """
        mine = STRATEGIES[self._config.strategy].mine
        if mine is None:
            return None
        pool = self._given.pool
        space = Space(
            anchors=encode(self._anchors["text"].to_list()),
            rows=encode(self._rows["query"].gather(pool.rows).to_list()),
            labels=self._given.labels,
            sources=pool.places(self._sources),
            pool=pool,
            search=search,
        )
        return mine(space, self._config)

    def of(self, epoch: int, mined: Mined | None) -> pl.DataFrame:
        """The `contracts.Triplets` of one epoch, sorted by anchor.

        Args:
            epoch: from 0.
            mined: what `mined` gave, by the model that is to rank for this epoch.

        Raises:
            DataError: too few rows to draw from.
        """
        rng = np.random.default_rng([self._seed, epoch])
        progress = epoch / max(1, self._epochs - 1)
        given = replace(self._given, mined=mined, progress=progress)
        positives = _positives(given, self._sources, rng)
        negatives = draw_negatives(given, rng, proposed=self._proposed)
        ids = self._rows["row_id"]
        return pl.DataFrame(
            {
                "epoch": np.full(len(positives), epoch, dtype=np.int32),
                "anchor": self._anchors["query_id"],
                "positive_row": ids.gather(positives),
                **_lists(negatives, ids),
            }
        ).with_columns(strategy=pl.lit(self._config.strategy))


def make_triplets(
    anchors: pl.DataFrame,
    rows: pl.DataFrame,
    similarity: LabelSimilarity | None,
    config: SamplingConfig,
    *,
    epochs: int,
    seed: int,
    proposals: pl.DataFrame | None = None,
    encode: Encode | None = None,
    search: Search | None = None,
) -> pl.DataFrame:
    """Draw the triplets that need no model in training: of all epochs, or of the first to re-mine.

    Args:
        anchors: `contracts.Queries` to train on.
        rows: the knowledge base with its split.
        similarity: of the labels of `rows`; None where the strategy uses none.
        config: how partners are drawn.
        epochs: how many times each anchor gets new partners.
        seed: of all draws.
        proposals: `contracts.Proposals`; None: there are none.
        encode: texts to unit vectors by the base model; None: the strategy ranks no rows.
        search: who searches the rows that it ranks; None: this process does.

    Returns:
        `contracts.Triplets`, sorted by epoch and anchor.

    Raises:
        DataError: no anchors, or too few rows to draw from.
    """
    partners = Partners(
        anchors, rows, similarity, config, epochs=epochs, seed=seed, proposals=proposals
    )
    mined = None if encode is None else partners.mined(encode, search)
    drawn = 1 if config.remine else epochs
    return pl.concat([partners.of(epoch, mined) for epoch in range(drawn)])


def _without_translations_of(row_ids: pl.Series, anchors: pl.DataFrame) -> pl.DataFrame:
    is_theirs = (pl.col("origin").cast(pl.String) == "translated") & pl.col("source_row_id").is_in(
        row_ids.implode()
    )
    return anchors.filter(~is_theirs.fill_null(value=False))


def _lists(negatives: Draws, ids: pl.Series) -> dict[str, pl.Series]:
    """The negatives' ids and probabilities, a list an anchor."""
    shape = negatives.rows.shape
    flat = {
        "negative_rows": ids.gather(negatives.rows.ravel()),
        "probabilities": pl.Series(negatives.probabilities.ravel(), dtype=pl.Float64),
    }
    if shape[1] == 0:
        return {
            name: pl.Series([[]] * shape[0], dtype=pl.List(values.dtype))
            for name, values in flat.items()
        }
    return {name: values.reshape(shape).arr.to_list() for name, values in flat.items()}


def _proposed(anchors: pl.DataFrame, proposals: pl.DataFrame) -> pl.Series:
    """Row id of the negative that is proposed for each anchor, or null."""
    joined = anchors.select("query_id").join(
        proposals, on="query_id", how="left", maintain_order="left"
    )
    return joined["negative_row"]


def _places(row_ids: pl.Series, ids: pl.Series) -> Integers:
    """Position of each row id among the sorted ids, or -1."""
    known = pl.DataFrame({"id": ids, "place": np.arange(len(ids))})
    wanted = pl.DataFrame({"id": row_ids.cast(pl.String)})
    found = wanted.join(known, on="id", how="left", maintain_order="left")
    return found["place"].fill_null(-1).to_numpy().astype(np.int64)


def _positives(given: Material, sources: Integers, rng: np.random.Generator) -> Integers:
    """One row of its own label for each anchor, at times its own source."""
    labels, pool = given.labels, given.pool
    inside = (rng.random(len(labels)) * pool.sizes[labels]).astype(np.int64)
    drawn = pool.rows[pool.starts[labels] + inside]
    own = (rng.random(len(labels)) < given.config.own_source_share) & (sources >= 0)
    return np.where(own, sources, drawn)
