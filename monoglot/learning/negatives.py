"""Which rows an anchor is pushed away from (arXiv 2506.02527, Algorithm 1): a table of strategies.

A negative is a row of another label. Algorithm 1 mixes random rows with rows drawn in proportion
to the similarity of their label to the anchor's own: each row weighs exp(similarity / temperature),
so a label's mass is its size times that. The draws of an anchor are without replacement, and each
comes with the probability it had, given the draws before it.

A label's rows are consecutive in a `Pool`, so that a draw is a draw of a label (by its cumulated
mass) and of a row in it (uniform): no array of anchors x rows is ever made. A row drawn twice is
drawn again, which is exactly sampling without replacement.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from monoglot.errors import DataError
from monoglot.learning.similarity import LabelSimilarity
from monoglot.learning_config import SamplingConfig

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

_ROUNDS = 32  # rejections, before the few anchors left get their exact distribution instead


@dataclass(frozen=True)
class Pool:
    """Rows to draw from, sorted by label.

    Attributes:
        rows: (n,) positions of the rows in the caller's own order.
        labels: (n,) their label codes, ascending.
        starts: (L + 1,) where each label's rows begin.
    """

    rows: Integers
    labels: Integers
    starts: Integers

    @classmethod
    def of(cls, labels: Integers, number_of_labels: int) -> "Pool":
        """A pool of rows given by their label codes."""
        rows = np.argsort(labels, kind="stable")
        starts = np.zeros(number_of_labels + 1, dtype=np.int64)
        np.cumsum(np.bincount(labels, minlength=number_of_labels), out=starts[1:])
        return cls(rows, labels[rows], starts)

    @property
    def sizes(self) -> Integers:
        """(L,) number of rows of each label."""
        return np.diff(self.starts)


@dataclass(frozen=True)
class Draws:
    """Negatives of m anchors: positions in the caller's rows (m, k), and probabilities (m, k)."""

    rows: Integers
    probabilities: Floats


class Distribution(Protocol):
    """A distribution over a pool's rows for each own label; it never gives an own-label row."""

    def draw(self, labels: Integers, rng: np.random.Generator) -> Integers:
        """One pool position for each of m own labels (m,)."""

    def weights(self, labels: Integers, positions: Integers) -> Floats:
        """Weights (m, j) of the rows at pool positions (m, j)."""

    def totals(self, labels: Integers) -> Floats:
        """Sum of the weights of all rows of the pool (m,)."""


class Uniform:
    """Every row of another label alike."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._others = len(pool.rows) - pool.sizes

    def draw(self, labels: Integers, rng: np.random.Generator) -> Integers:
        """A place among the other labels' rows; those behind the own block move by its size."""
        place = (rng.random(len(labels)) * self._others[labels]).astype(np.int64)
        behind = place >= self._pool.starts[labels]
        return np.asarray(place + np.where(behind, self._pool.sizes[labels], 0))

    def weights(self, labels: Integers, positions: Integers) -> Floats:
        """1 for a row of another label."""
        return np.asarray(self._pool.labels[positions] != labels[:, None], dtype=np.float64)

    def totals(self, labels: Integers) -> Floats:
        """Number of rows of other labels."""
        return np.asarray(self._others[labels], dtype=np.float64)


class ByLabel:
    """Rows weighted by their label's place among the neighbours of the own label.

    Args:
        pool: the rows.
        neighbours: (L, m) label codes that can be drawn for each own label.
        weights: (L, m) weight of one row of that label.
    """

    def __init__(self, pool: Pool, neighbours: NDArray[np.int32], weights: Floats) -> None:
        self._pool = pool
        self._neighbours = neighbours
        self._weights = weights
        cumulated = np.cumsum(weights * pool.sizes[neighbours], axis=1)
        self._totals = cumulated[:, -1]
        own = np.arange(len(weights))[:, None]
        # Each label's cumulated mass, scaled into [own, own + 1]: one sorted array to search.
        self._ladder = (cumulated / np.maximum(self._totals, 1e-300)[:, None] + own).ravel()
        pairs = (own * len(weights) + neighbours).ravel()
        self._order = np.argsort(pairs)
        self._pairs = pairs[self._order]

    def draw(self, labels: Integers, rng: np.random.Generator) -> Integers:
        """A label by its mass, then a row of it."""
        width = self._neighbours.shape[1]
        place = np.searchsorted(self._ladder, rng.random(len(labels)) + labels, side="right")
        label = self._neighbours[labels, np.clip(place - labels * width, 0, width - 1)]
        inside = (rng.random(len(labels)) * self._pool.sizes[label]).astype(np.int64)
        return np.asarray(self._pool.starts[label] + inside)

    def weights(self, labels: Integers, positions: Integers) -> Floats:
        """Weight of the row's label for the own label; 0 beyond its neighbours."""
        wanted = labels[:, None] * len(self._weights) + self._pool.labels[positions]
        place = np.minimum(np.searchsorted(self._pairs, wanted), len(self._pairs) - 1)
        found = self._pairs[place] == wanted
        return np.where(found, self._weights.ravel()[self._order[place]], 0.0)

    def totals(self, labels: Integers) -> Floats:
        """Mass of all neighbours."""
        return np.asarray(self._totals[labels])


def weighted(pool: Pool, similarity: LabelSimilarity, config: SamplingConfig) -> Distribution:
    """Rows in proportion to exp(label similarity / temperature)."""
    scores = similarity.scores.astype(np.float64)
    weights = np.exp((scores - scores.max(axis=1, keepdims=True)) / config.similarity.temperature)
    return ByLabel(pool, similarity.neighbours, weights)


def hardest(pool: Pool, similarity: LabelSimilarity, config: SamplingConfig) -> Distribution:
    """Only rows of the nearest labels: as few labels as have enough rows for all draws."""
    sizes = pool.sizes[similarity.neighbours]
    before = np.cumsum(sizes, axis=1) - sizes
    needed = config.random_negatives + config.hard_negatives
    return ByLabel(pool, similarity.neighbours, (before < needed).astype(np.float64))


def _algorithm1(
    pool: Pool, similarity: LabelSimilarity, config: SamplingConfig
) -> Sequence[Distribution]:
    hard = weighted(pool, similarity, config)
    return [Uniform(pool)] * config.random_negatives + [hard] * config.hard_negatives


def _all_of(
    kind: Callable[[Pool, LabelSimilarity, SamplingConfig], Distribution],
) -> Callable[[Pool, LabelSimilarity, SamplingConfig], Sequence[Distribution]]:
    def plan(
        pool: Pool, similarity: LabelSimilarity, config: SamplingConfig
    ) -> Sequence[Distribution]:
        return [kind(pool, similarity, config)] * (config.random_negatives + config.hard_negatives)

    return plan


STRATEGIES: dict[str, Callable[[Pool, LabelSimilarity, SamplingConfig], Sequence[Distribution]]] = {
    "algorithm1": _algorithm1,
    "random": _all_of(lambda pool, _similarity, _config: Uniform(pool)),
    "weighted": _all_of(weighted),
    "hardest": _all_of(hardest),
}


def draw_negatives(
    anchor_labels: Integers,
    pool: Pool,
    similarity: LabelSimilarity,
    config: SamplingConfig,
    rng: np.random.Generator,
    *,
    proposed: Integers | None = None,
) -> Draws:
    """Negatives of m anchors given by their label codes, by the configured strategy.

    Args:
        anchor_labels: (m,) label codes.
        pool: the rows.
        similarity: of the labels.
        config: strategy and numbers.
        rng: of all draws.
        proposed: (m,) a row for each anchor (its position in the caller's rows) that takes the
            place of one hard negative, or -1; it stands first, with probability 1, and the others
            are drawn beside it. A row of the anchor's own label is not taken, nor any where the
            strategy draws no hard negative. None: there are none.

    Raises:
        DataError: fewer rows of other labels than negatives are asked for.
    """
    plan = STRATEGIES[config.strategy](pool, similarity, config)
    others = len(pool.rows) - pool.sizes[anchor_labels]
    if len(plan) > 0 and len(others) > 0 and int(others.min()) < len(plan):
        raise DataError(
            f"sampling: {len(plan)} negatives an anchor are asked for, but a label has only "
            f"{int(others.min())} rows of other labels beside it. Lower random_negatives and "
            "hard_negatives, or add rows to the knowledge base."
        )
    positions = np.full((len(anchor_labels), len(plan)), -1, dtype=np.int64)
    probabilities = np.ones(positions.shape)
    first = _usable(proposed, anchor_labels, pool, plan)
    # Hard negatives stand last in every plan: a proposed row takes the place of one of them.
    for shorter, which in ((plan, first < 0), (plan[:-1], first >= 0)):
        chosen = np.flatnonzero(which)
        given = first[chosen, None][:, : len(plan) - len(shorter)]
        drawn = _draw(shorter, anchor_labels[chosen], given, pool, rng)
        positions[chosen], probabilities[chosen] = drawn
    return Draws(pool.rows[positions], probabilities)


def _usable(
    proposed: Integers | None, labels: Integers, pool: Pool, plan: Sequence[Distribution]
) -> Integers:
    """(m,) pool positions of the proposed rows that can serve, -1 elsewhere."""
    none = np.full(len(labels), -1, dtype=np.int64)
    if proposed is None or not plan or isinstance(plan[-1], Uniform):
        return none
    place = np.empty(len(pool.rows), dtype=np.int64)
    place[pool.rows] = np.arange(len(pool.rows))
    found = np.where(proposed >= 0, place[proposed], 0)
    return np.where((proposed >= 0) & (pool.labels[found] != labels), found, none)


def _draw(
    plan: Sequence[Distribution],
    anchor_labels: Integers,
    given: Integers,
    pool: Pool,
    rng: np.random.Generator,
) -> tuple[Integers, Floats]:
    """Pool positions (m, j + k) of the given (m, j) and k more drawn beside them; probabilities."""
    width = given.shape[1]
    positions = np.full((len(anchor_labels), width + len(plan)), -1, dtype=np.int64)
    positions[:, :width] = given
    probabilities = np.ones(positions.shape)
    for number, distribution in enumerate(plan, start=width):
        drawn = positions[:, :number]
        # Where all mass of a distribution is drawn already, the rest is filled at random.
        mass = _mass_left(distribution, anchor_labels, drawn)
        for source, which in (
            (distribution, np.flatnonzero(mass > 0)),
            (Uniform(pool), np.flatnonzero(mass <= 0)),
        ):
            labels = anchor_labels[which]
            new = _new_rows(source, labels, drawn[which], pool, rng)
            positions[which, number] = new
            left = _mass_left(source, labels, drawn[which])
            probabilities[which, number] = source.weights(labels, new[:, None])[:, 0] / left
    return positions, probabilities


def _mass_left(distribution: Distribution, labels: Integers, drawn: Integers) -> Floats:
    """Mass of the rows that are not drawn yet; 0 where a billionth or less of it is left."""
    totals = distribution.totals(labels)
    left = totals - distribution.weights(labels, drawn).sum(axis=1)
    return np.where(left > 1e-9 * np.maximum(totals, 1e-300), left, 0.0)


def _new_rows(
    distribution: Distribution,
    labels: Integers,
    drawn: Integers,
    pool: Pool,
    rng: np.random.Generator,
) -> Integers:
    """One pool position per anchor that is not among its drawn ones."""
    new = distribution.draw(labels, rng)
    again = np.flatnonzero((new[:, None] == drawn).any(axis=1))
    for _ in range(_ROUNDS):
        if len(again) == 0:
            return new
        new[again] = distribution.draw(labels[again], rng)
        again = again[(new[again][:, None] == drawn[again]).any(axis=1)]
    every = np.arange(len(pool.rows))[None, :]
    for anchor in again:  # a handful, whose mass lies almost wholly on rows already drawn
        weights = distribution.weights(labels[anchor : anchor + 1], every)[0]
        weights[drawn[anchor]] = 0.0
        new[anchor] = rng.choice(len(weights), p=weights / weights.sum())
    return new
