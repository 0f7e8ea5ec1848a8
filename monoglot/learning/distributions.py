"""Distributions over rows, one for each anchor, drawn from without replacement.

A label's rows are consecutive in a `Pool`, so that a draw by label is a draw of a label (by its
cumulated mass) and of a row in it (uniform): no array of anchors x rows is ever made. A row drawn
twice is drawn again, which is exactly sampling without replacement; the few anchors that keep
meeting rows they have are drawn for from what is left of their distribution, which is dearer.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]

_ROUNDS = 8  # of drawing again, before the anchors left get their exact distribution instead
_CHUNK = 1 << 23  # elements of an array of anchors x labels


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

    def places(self, rows: Integers) -> Integers:
        """Where in the pool the rows at the caller's positions are; -1 for -1."""
        place = np.empty(len(self.rows) + 1, dtype=np.int64)
        place[self.rows] = np.arange(len(self.rows))
        place[-1] = -1
        return place[rows]


class Distribution(Protocol):
    """A distribution over a pool's rows for each anchor; it never gives a row of its label."""

    def draw(self, anchors: Integers, drawn: Integers, rng: np.random.Generator) -> Integers:
        """One pool position for each of m anchors (m,), none of its drawn ones (m, j)."""

    def weights(self, anchors: Integers, positions: Integers) -> Floats:
        """Weights (m, j) of the rows at pool positions (m, j)."""

    def totals(self, anchors: Integers) -> Floats:
        """Sum of the weights of all rows of the pool (m,)."""

    def left(self, anchors: Integers, drawn: Integers) -> Floats:
        """Sum of the weights of the rows that are not among the drawn ones (m,)."""


def _left(distribution: Distribution, anchors: Integers, drawn: Integers) -> Floats:
    """What is left by subtraction; 0 where a billionth or less is, which may be rounding."""
    totals = distribution.totals(anchors)
    left = totals - distribution.weights(anchors, drawn).sum(axis=1)
    return np.where(left > 1e-9 * np.maximum(totals, 1e-300), left, 0.0)


class _DrawnAgain(ABC):
    """A distribution that is quick to draw from as it is, and dearer without some rows."""

    def draw(self, anchors: Integers, drawn: Integers, rng: np.random.Generator) -> Integers:
        """One pool position for each anchor that is not among its drawn ones."""
        new = self._any(anchors, rng)
        again = np.flatnonzero((new[:, None] == drawn).any(axis=1))
        for _ in range(_ROUNDS):
            if len(again) == 0:
                return new
            new[again] = self._any(anchors[again], rng)
            again = again[(new[again][:, None] == drawn[again]).any(axis=1)]
        if len(again) > 0:
            new[again] = self._other(anchors[again], np.sort(drawn[again], axis=1), rng)
        return new

    @abstractmethod
    def _any(self, anchors: Integers, rng: np.random.Generator) -> Integers:
        """One pool position for each anchor, perhaps one it has."""

    @abstractmethod
    def _other(self, anchors: Integers, drawn: Integers, rng: np.random.Generator) -> Integers:
        """One pool position for each anchor that is not among its drawn ones, ascending."""


class Uniform(_DrawnAgain):
    """Every row of another label alike."""

    def __init__(self, pool: Pool, labels: Integers) -> None:
        self._pool = pool
        self._labels = labels
        self._others = len(pool.rows) - pool.sizes

    def _any(self, anchors: Integers, rng: np.random.Generator) -> Integers:
        own = self._labels[anchors]
        return self._beside_own(own, _below(self._others[own], rng))

    def _other(self, anchors: Integers, drawn: Integers, rng: np.random.Generator) -> Integers:
        own = self._labels[anchors]
        behind = drawn >= self._pool.starts[own + 1][:, None]
        places = drawn - np.where(behind, self._pool.sizes[own][:, None], 0)
        place = _below(self._others[own] - drawn.shape[1], rng)
        return self._beside_own(own, _past(place, places, np.zeros_like(own)))

    def _beside_own(self, own: Integers, place: Integers) -> Integers:
        """A place among the other labels' rows; those behind the own block move by its size."""
        behind = place >= self._pool.starts[own]
        return np.asarray(place + np.where(behind, self._pool.sizes[own], 0))

    def weights(self, anchors: Integers, positions: Integers) -> Floats:
        """1 for a row of another label."""
        own = self._labels[anchors]
        return np.asarray(self._pool.labels[positions] != own[:, None], dtype=np.float64)

    def totals(self, anchors: Integers) -> Floats:
        """Number of rows of other labels."""
        return np.asarray(self._others[self._labels[anchors]], dtype=np.float64)

    def left(self, anchors: Integers, drawn: Integers) -> Floats:
        """Number of rows of other labels that are not drawn."""
        return _left(self, anchors, drawn)


class ByLabel(_DrawnAgain):
    """Rows weighted by their label's place among the neighbours of the own label.

    Args:
        pool: the rows.
        labels: (a,) label codes of the anchors.
        neighbours: (L, m) label codes that can be drawn for each own label, each at most once;
            the own one fills a shorter list up, with weight 0.
        weights: (L, m) weight of one row of that label.
    """

    def __init__(
        self, pool: Pool, labels: Integers, neighbours: NDArray[np.int32], weights: Floats
    ) -> None:
        self._pool = pool
        self._labels = labels
        self._neighbours = neighbours
        self._weights = weights
        self._ladder = _Ladder(weights * pool.sizes[neighbours])
        pairs = (np.arange(len(weights))[:, None] * len(weights) + neighbours).ravel()
        self._order = np.argsort(pairs)
        self._pairs = pairs[self._order]

    def _any(self, anchors: Integers, rng: np.random.Generator) -> Integers:
        """A label by its mass, then a row of it."""
        own = self._labels[anchors]
        label = self._neighbours[own, self._ladder.draw(own, rng)]
        return np.asarray(self._pool.starts[label] + _below(self._pool.sizes[label], rng))

    def _other(self, anchors: Integers, drawn: Integers, rng: np.random.Generator) -> Integers:
        """The same with the mass of the labels, and the rows in them, that are left."""
        size = max(1, _CHUNK // self._neighbours.shape[1])
        return np.concatenate(
            [
                self._other_of(self._labels[anchors[at : at + size]], drawn[at : at + size], rng)
                for at in range(0, len(anchors), size)
            ]
        )

    def _other_of(self, own: Integers, drawn: Integers, rng: np.random.Generator) -> Integers:
        left = self._pool.sizes[self._neighbours[own]]
        place, found = self._find(own, drawn)
        rows, columns = np.nonzero(found)
        np.subtract.at(left, (rows, place[rows, columns] % left.shape[1]), 1)
        column = choose(self._weights[own] * left, rng)
        label = self._neighbours[own, column]
        start = self._pool.starts[label]
        inside = _below(left[np.arange(len(own)), column], rng)
        return _past(start + inside, drawn, start)

    def _find(self, own: Integers, positions: Integers) -> tuple[Integers, NDArray[np.bool_]]:
        """Where in the flat neighbours the labels of the rows are (m, j), and whether there."""
        wanted = own[:, None] * len(self._weights) + self._pool.labels[positions]
        place = np.minimum(np.searchsorted(self._pairs, wanted), len(self._pairs) - 1)
        return self._order[place], self._pairs[place] == wanted

    def weights(self, anchors: Integers, positions: Integers) -> Floats:
        """Weight of the row's label for the own label; 0 beyond its neighbours."""
        place, found = self._find(self._labels[anchors], positions)
        return np.where(found, self._weights.ravel()[place], 0.0)

    def totals(self, anchors: Integers) -> Floats:
        """Mass of all neighbours."""
        return np.asarray(self._ladder.totals[self._labels[anchors]])

    def left(self, anchors: Integers, drawn: Integers) -> Floats:
        """Mass of the neighbours' rows that are not drawn."""
        return _left(self, anchors, drawn)


class ByAnchor:
    """A short list of rows for each anchor, each with its own weight.

    Args:
        rows: (a, w) pool positions, each at most once for an anchor.
        weights: (a, w) of them; 0 where a shorter list is filled up with anything.
    """

    def __init__(self, rows: Integers, weights: Floats) -> None:
        self._rows = rows
        self._weights = weights
        self._totals = weights.sum(axis=1)

    def draw(self, anchors: Integers, drawn: Integers, rng: np.random.Generator) -> Integers:
        """From what is left of the list: it is short, so that nothing need be drawn again."""
        place = choose(self._without(anchors, drawn), rng)
        return np.asarray(self._rows[anchors, place])

    def _without(self, anchors: Integers, drawn: Integers) -> Floats:
        """Weights (m, w) of the lists, 0 for what is drawn."""
        rows, weights = self._rows[anchors], self._weights[anchors]
        for column in drawn.T:
            weights[rows == column[:, None]] = 0.0
        return weights

    def weights(self, anchors: Integers, positions: Integers) -> Floats:
        """Weight of a row in the anchor's list; 0 beside it."""
        rows, weights = self._rows[anchors], self._weights[anchors]
        found = [np.where(rows == at[:, None], weights, 0.0).sum(axis=1) for at in positions.T]
        return np.stack(found, axis=1) if found else np.zeros(positions.shape)

    def totals(self, anchors: Integers) -> Floats:
        """Sum of the list's weights."""
        return np.asarray(self._totals[anchors])

    def left(self, anchors: Integers, drawn: Integers) -> Floats:
        """Sum of the weights that are left, however small: a list's tail is drawn from, too."""
        return np.asarray(self._without(anchors, drawn).sum(axis=1))


class Mixture:
    """Two distributions, the second with a share of its own for each anchor.

    Args:
        first, second: the distributions.
        share: (a,) of the second, in [0, 1]; must be below 1 where the first has all the mass, and
            0 where the second has none.
    """

    def __init__(self, first: Distribution, second: Distribution, share: Floats) -> None:
        self._parts = (first, second)
        self._share = share

    def _scales(self, anchors: Integers) -> tuple[Floats, Floats]:
        """What one unit of weight of each part counts (m,)."""
        share = self._share[anchors]
        first, second = (np.maximum(part.totals(anchors), 1e-300) for part in self._parts)
        return (1.0 - share) / first, np.where(share > 0, share / second, 0.0)

    def draw(self, anchors: Integers, drawn: Integers, rng: np.random.Generator) -> Integers:
        """A part, in proportion to what is left of it, then a row of that."""
        first, second = (
            scale * part.left(anchors, drawn)
            for part, scale in zip(self._parts, self._scales(anchors), strict=True)
        )
        from_second = rng.random(len(anchors)) * (first + second) >= first
        # Rounding must not choose a part of which nothing is left.
        from_second = np.where(second <= 0, False, np.where(first <= 0, True, from_second))
        new = np.empty(len(anchors), dtype=np.int64)
        for part, which in zip(self._parts, (~from_second, from_second), strict=True):
            new[which] = part.draw(anchors[which], drawn[which], rng)
        return new

    def weights(self, anchors: Integers, positions: Integers) -> Floats:
        """The shares' sum of both parts' probabilities."""
        first, second = (
            scale[:, None] * part.weights(anchors, positions)
            for part, scale in zip(self._parts, self._scales(anchors), strict=True)
        )
        return first + second

    def totals(self, anchors: Integers) -> Floats:
        """1, as far as the parts have mass."""
        first, second = (
            scale * part.totals(anchors)
            for part, scale in zip(self._parts, self._scales(anchors), strict=True)
        )
        return first + second

    def left(self, anchors: Integers, drawn: Integers) -> Floats:
        """The shares' sum of what is left of both parts."""
        first, second = (
            scale * part.left(anchors, drawn)
            for part, scale in zip(self._parts, self._scales(anchors), strict=True)
        )
        return first + second


class _Ladder:
    """Quick draws of a column by its mass, from many rows of masses (r, w)."""

    def __init__(self, mass: Floats) -> None:
        cumulated = np.cumsum(mass, axis=1)
        self.totals = np.asarray(cumulated[:, -1])
        self._width = mass.shape[1]
        self._last = _last_positive(mass)
        # Each row's cumulated mass, scaled into [row, row + 1]: one sorted array to search.
        scaled = cumulated / np.maximum(self.totals, 1e-300)[:, None]
        self._steps = (scaled + np.arange(len(mass))[:, None]).ravel()

    def draw(self, rows: Integers, rng: np.random.Generator) -> Integers:
        """One column for each of m rows (m,)."""
        place = np.searchsorted(self._steps, rng.random(len(rows)) + rows, side="right")
        return np.asarray(np.clip(place - rows * self._width, 0, self._last[rows]))


def choose(mass: Floats, rng: np.random.Generator) -> Integers:
    """One column for each row of masses (m, w), in proportion to them: (m,)."""
    cumulated = np.cumsum(mass, axis=1)
    place = (cumulated <= rng.random(len(mass))[:, None] * cumulated[:, -1:]).sum(axis=1)
    return np.asarray(np.minimum(place, _last_positive(mass)))


def _last_positive(mass: Floats) -> Integers:
    """The last column with mass of each row, beyond which rounding must not lead; or the last."""
    return np.asarray(mass.shape[1] - 1 - np.argmax(mass[:, ::-1] > 0, axis=1))


def _below(limits: Integers, rng: np.random.Generator) -> Integers:
    """A whole number from 0 up to each limit, that excluded."""
    return np.asarray((rng.random(len(limits)) * limits).astype(np.int64))


def _past(place: Integers, taken: Integers, start: Integers) -> Integers:
    """Places counted among those not taken (m, j; ascending) from a start on, as plain ones."""
    for column in taken.T:
        place = place + ((column >= start) & (column <= place))
    return place
