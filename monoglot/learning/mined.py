"""Negatives by a model's scores: what the mining tools do, with labels; and what it confuses.

Each strategy has two halves: `mine_...` ranks rows once for a model, and what it found is drawn
from in every epoch. A row of the anchor's own label is never mined.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monoglot.learning.by_similarity import Material, label_first
from monoglot.learning.distributions import (
    ByAnchor,
    ByLabel,
    Distribution,
    Floats,
    Integers,
    Mixture,
    Vectors,
)
from monoglot.learning.mining import Mined, Space, background, mine, own_best, own_means
from monoglot.learning_config import SamplingConfig

_CANDIDATES = 128  # rows an anchor kept for simans: its weights fall off far before
_CONFUSED_ROWS = 64  # rows an anchor looked at for the labels it is taken for
_CONFUSED_LABELS = 64  # labels kept for each label
_SMOOTHING = 1.0  # anchors' worth of label similarity in what the model confuses
_LEAST_UNIT = 1e-3  # of the calibrated scale: a model that tells nothing apart has none


class ByScore:
    """The nearest rows first."""

    def __call__(self, scores: Vectors, anchors: Integers) -> Vectors:  # noqa: ARG002
        """The scores themselves."""
        return scores

    def of(self, anchors: slice) -> "ByScore":  # noqa: ARG002
        """Alike for all anchors."""
        return self


@dataclass(frozen=True)
class Below:
    """The nearest of the rows that score less than an anchor's ceiling (a,)."""

    ceiling: Floats

    def __call__(self, scores: Vectors, anchors: Integers) -> Vectors:
        """The scores, minus infinity from the ceiling on."""
        below = scores < self.ceiling[anchors][:, None]
        return np.where(below, scores, np.float32(-np.inf)).astype(np.float32, copy=False)

    def of(self, anchors: slice) -> "Below":
        """With the ceilings of these."""
        return Below(self.ceiling[anchors])


@dataclass(frozen=True)
class Above:
    """The nearest of the rows that score more than an anchor's floor (a,)."""

    floor: Vectors

    def __call__(self, scores: Vectors, anchors: Integers) -> Vectors:
        """The scores, minus infinity up to the floor."""
        return np.where(scores > self.floor[anchors][:, None], scores, np.float32(-np.inf))

    def of(self, anchors: slice) -> "Above":
        """With the floors of these."""
        return Above(self.floor[anchors])


@dataclass(frozen=True)
class Around:
    """The rows whose scores are nearest to an anchor's target (a,), in some unit."""

    target: Floats
    unit: float

    def __call__(self, scores: Vectors, anchors: Integers) -> Vectors:
        """The distances, turned about."""
        return -np.abs((scores - self.target[anchors][:, None]) / self.unit).astype(np.float32)

    def of(self, anchors: slice) -> "Around":
        """With the targets of these."""
        return Around(self.target[anchors], self.unit)


def mine_top(space: Space, config: SamplingConfig) -> Mined:
    """As many of the nearest rows as are drawn."""
    return mine(space, config.negatives, ByScore())


def mine_window(space: Space, config: SamplingConfig) -> Mined:
    """The nearest rows up to the end of the window."""
    return mine(space, config.rank_window[1], ByScore())


def mine_positive_aware(space: Space, config: SamplingConfig) -> Mined:
    """The nearest rows that score less than the anchor's positive by a margin.

    NV-Retriever (arXiv 2407.15831) takes a fixed margin or share of the positive's
    score. Scores of one model lie in 0.7 to 1.0 and of another in 0 to 1, so the margin here is a
    distance that the positives' scores themselves show: from their median to a lower quantile.
    """
    positives = own_means(space)
    known = positives[np.isfinite(positives)]
    margin = (
        float(np.median(known) - np.quantile(known, config.margin_quantile)) if len(known) else 0.0
    )
    ceiling = np.nan_to_num(positives, nan=np.inf) - margin
    return mine(space, config.negatives, Below(ceiling))


def mine_simans(space: Space, config: SamplingConfig) -> Mined:
    """The rows of the greatest weights, whose scores become the calibrated distances from b.

    SimANS draws from the rows that score highest (arXiv 2210.11773); where the positive
    scores low, as between languages, these are not the ones it weighs highest, which are kept here.
    Scores are measured in units of the distance from a blindly picked row to a positive, so that
    a and b mean the same for every model.
    """
    positives, blind = own_means(space), background(space)
    known = np.isfinite(positives)
    apart = float(np.median(positives[known] - blind[known])) if known.any() else 0.0
    unit = max(apart, _LEAST_UNIT)
    target = np.where(known, positives, blind + unit) + config.simans_b * unit
    mined = mine(space, _CANDIDATES, Around(target, unit))
    distances = (mined.scores - target[:, None]) / unit
    return Mined(mined.rows, np.where(mined.rows >= 0, distances, -np.inf).astype(np.float32))


def mine_confused(space: Space, _: SamplingConfig) -> Mined:
    """The rows that the model puts before all of the anchor's own label, its source apart.

    An anchor's source is a row of its own label that it renders: to find that one says nothing on
    queries that have no source among the rows.
    """
    return mine(space, _CONFUSED_ROWS, Above(own_best(space)))


def ranked(given: Material, first: int, last: int) -> Distribution:
    """The mined rows from one rank to another alike; ranks count from 1."""
    rows = given.needed_mined.rows
    inside = np.arange(rows.shape[1])
    return ByAnchor(rows, np.where((rows >= 0) & (inside >= first - 1) & (inside < last), 1.0, 0.0))


def simans(given: Material) -> Distribution:
    """Rows in proportion to exp(-a (score - positive's score - b)^2) (arXiv 2210.11773)."""
    mined = given.needed_mined
    closest = -given.config.simans_a * mined.scores.astype(np.float64) ** 2
    highest = closest.max(axis=1, keepdims=True, initial=-1e300)
    return ByAnchor(mined.rows, np.where(mined.rows >= 0, np.exp(closest - highest), 0.0))


def confusion(given: Material) -> Distribution:
    """Labels by how many anchors of the own label the model takes for them, then a row uniformly.

    The counts are smoothed by label similarity, which weighs as much as `_SMOOTHING` anchors: a
    label that the model confuses with none is drawn for by similarity alone.
    """
    counts, neighbours, totals = _confused(given)
    sizes = np.maximum(given.pool.sizes[neighbours], 1)
    seen = ByLabel(given.pool, given.labels, neighbours, counts / sizes)
    share = totals / (totals + _SMOOTHING)
    return Mixture(label_first(given), seen, share[given.labels])


def _confused(given: Material) -> tuple[Floats, NDArray[np.int32], Floats]:
    """For each label: counts of labels it is taken for (L, w), which ones (L, w), their sum."""
    mined, labels = given.needed_mined, len(given.pool.sizes)
    who, column = np.nonzero(mined.rows >= 0)
    other = given.pool.labels[mined.rows[who, column]]
    each = np.unique(who * labels + other)  # an anchor counts once for a label
    pairs, times = np.unique(
        given.labels[each // labels] * labels + each % labels, return_counts=True
    )
    own, taken_for = pairs // labels, pairs % labels
    order = np.lexsort((taken_for, -times, own))
    counted = np.bincount(own, minlength=labels)
    place = np.arange(len(order)) - np.repeat(np.cumsum(counted) - counted, counted)
    width = max(1, min(_CONFUSED_LABELS, int(counted.max(initial=0))))
    neighbours = np.repeat(np.arange(labels, dtype=np.int32)[:, None], width, axis=1)
    counts = np.zeros(neighbours.shape)
    kept = place < width
    at = (own[order][kept], place[kept])
    neighbours[at] = taken_for[order][kept]
    counts[at] = times[order][kept]
    return counts, neighbours, counts.sum(axis=1)
