"""Negatives by the similarity of labels: the paper's weighting, its variants and a curriculum."""

from dataclasses import dataclass

import numpy as np

from monoglot.learning.distributions import (
    ByLabel,
    Distribution,
    Floats,
    Integers,
    Mixture,
    Pool,
    Uniform,
)
from monoglot.learning.mining import Mined
from monoglot.learning.similarity import LabelSimilarity
from monoglot.learning_config import SamplingConfig


@dataclass(frozen=True)
class Material:
    """What a strategy draws from.

    Attributes:
        pool: the rows.
        labels: (a,) label codes of the anchors.
        config: numbers of negatives, and the strategies' own settings.
        similarity: of the labels; None: the strategy uses none.
        mined: what its `mine` gave; None: it ranks no rows.
        progress: 0 in the first epoch, 1 in the last.
    """

    pool: Pool
    labels: Integers
    config: SamplingConfig
    similarity: LabelSimilarity | None = None
    mined: Mined | None = None
    progress: float = 0.0

    @property
    def draws(self) -> int:
        """Negatives an anchor."""
        return self.config.negatives

    @property
    def needed_similarity(self) -> LabelSimilarity:
        """The similarity of the labels, which the strategy says it needs."""
        assert self.similarity is not None
        return self.similarity

    @property
    def needed_mined(self) -> Mined:
        """The mined rows, which the strategy says it needs."""
        assert self.mined is not None
        return self.mined


def weighted(given: Material) -> Distribution:
    """Each row weighs exp(label similarity / temperature): a label's mass is its size times that.

    This is what the paper's Algorithm 1 says: it draws rows.
    """
    similarity = given.needed_similarity
    return ByLabel(given.pool, given.labels, similarity.neighbours, _exponentials(given))


def label_first(given: Material) -> Distribution:
    """A label in proportion to exp(similarity / temperature), whatever its size, then a row of it.

    A label's weight shrinks as its rows are drawn, since a second draw finds fewer of them.
    """
    similarity = given.needed_similarity
    sizes = np.maximum(given.pool.sizes[similarity.neighbours], 1)
    return ByLabel(given.pool, given.labels, similarity.neighbours, _exponentials(given) / sizes)


def hardest(given: Material) -> Distribution:
    """Only rows of the nearest labels: as few labels as have enough rows for all draws."""
    similarity = given.needed_similarity
    sizes = given.pool.sizes[similarity.neighbours]
    before = np.cumsum(sizes, axis=1) - sizes
    nearest = (before < given.draws).astype(np.float64)
    return ByLabel(given.pool, given.labels, similarity.neighbours, nearest)


def _exponentials(given: Material) -> Floats:
    """(L, m) exp(similarity / temperature), up to a factor for each label."""
    scores = given.needed_similarity.scores.astype(np.float64)
    highest = scores.max(axis=1, keepdims=True, initial=-1e300)
    return np.asarray(np.exp((scores - highest) / given.config.similarity.temperature))


def curriculum(given: Material) -> Distribution:
    """From random to weighted: the share of weighted draws grows evenly over the epochs."""
    share = np.full(len(given.labels), given.progress)
    return Mixture(Uniform(given.pool, given.labels), weighted(given), share)
