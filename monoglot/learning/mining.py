"""Rows that a model ranks high for each anchor, own-label rows left out: for mined negatives.

The scores of all anchors with all rows are computed in blocks, and only the best few rows of each
anchor are kept: memory grows with anchors + rows, not with their product. Which rows are best is
the strategy's to say: `Rank` turns a block of scores into ranks. Scores are rounded to five
decimals, so that equal texts tie whatever block they fall in; ties keep the rows' order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from monoglot.learning.distributions import Floats, Integers, Pool, Vectors
from monoglot.learning.label_sums import label_sums


class Rank(Protocol):
    """What makes a row good; data, so that blocks of anchors may be searched elsewhere."""

    def __call__(self, scores: Vectors, anchors: Integers) -> Vectors:
        """Scores (b, c) of anchors at positions (b,) with rows -> rank values.

        The highest are kept, and minus infinity never is. The caller writes to both tables.
        """

    def of(self, anchors: slice) -> "Rank":
        """The same for some of the anchors alone, which count from 0 then."""


_ANCHORS = 1024  # in a block
_ROWS = 8192
_DECIMALS = 5
_CROWD = 4  # times as many rows as are kept, from which a block is thinned before it is sorted


@dataclass(frozen=True)
class Space:
    """Anchors and rows as a model sees them.

    Attributes:
        anchors: (a, d) unit vectors.
        rows: (n, d) unit vectors of the pool's rows, in the pool's order.
        labels: (a,) label codes of the anchors.
        sources: (a,) pool position of the row an anchor was made from, or -1.
        pool: the rows.
        search: who searches all rows for all anchors; None: this process does.
    """

    anchors: Vectors
    rows: Vectors
    labels: Integers
    sources: Integers
    pool: Pool
    search: "Search | None" = None


@dataclass(frozen=True)
class Mined:
    """The best rows of each anchor, best first.

    Attributes:
        rows: (a, w) pool positions; -1 where an anchor has fewer.
        scores: (a, w) their scores; minus infinity there.
    """

    rows: Integers
    scores: Vectors


# As `search_here`, which is the plain one.
Search = Callable[[Space, int, Rank], Mined]


def mine(space: Space, keep: int, rank: Rank) -> Mined:
    """The `keep` rows of other labels with the highest ranks for each anchor.

    Args:
        space: the vectors.
        keep: rows an anchor; fewer where the pool is smaller.
        rank: what makes a row good.
    """
    return (space.search or search_here)(space, keep, rank)


def search_here(space: Space, keep: int, rank: Rank) -> Mined:
    """`mine` in this process, whoever else there is."""
    keep = max(1, min(keep, len(space.rows)))
    found = [
        _best(space, np.arange(at, min(at + _ANCHORS, len(space.anchors))), keep, rank)
        for at in range(0, len(space.anchors), _ANCHORS)
    ]
    if not found:
        return Mined(np.empty((0, keep), np.int64), np.empty((0, keep), np.float32))
    rows = np.concatenate([positions for positions, _ in found])
    return Mined(rows, np.concatenate([scores for _, scores in found]))


def _best(space: Space, anchors: Integers, keep: int, rank: Rank) -> tuple[Integers, Vectors]:
    """Rows and scores of a block of anchors, over all blocks of rows."""
    positions = np.full((len(anchors), keep), -1, dtype=np.int64)
    scores = np.full(positions.shape, -np.inf, dtype=np.float32)
    ranks = scores.copy()
    asked, labels = space.anchors[anchors], space.labels[anchors]
    first_own, end_own = space.pool.starts[labels], space.pool.starts[labels + 1]
    for at in range(0, len(space.rows), _ROWS):
        block = _scores(asked, space.rows[at : at + _ROWS])
        better = rank(block, anchors)  # it may be the block itself
        for number in np.flatnonzero((end_own > at) & (first_own < at + _ROWS)):
            better[number, max(0, first_own[number] - at) : end_own[number] - at] = -np.inf
        who, which = _worth_sorting(better, ranks[:, -1], keep)
        if len(who) == 0:
            continue
        held = np.arange(len(anchors)).repeat(keep)
        everyone = np.concatenate([held, who])
        every_rank = np.concatenate([ranks.ravel(), better[who, which]])
        every_score = np.concatenate([scores.ravel(), block[who, which]])
        every_row = np.concatenate([positions.ravel(), at + which])
        order = np.lexsort((every_row, -every_rank, everyone))
        counts = np.bincount(everyone, minlength=len(anchors))
        first = np.cumsum(counts) - counts
        chosen = order[first[:, None] + np.arange(keep)]
        ranks, scores, positions = every_rank[chosen], every_score[chosen], every_row[chosen]
    return positions, scores


def _worth_sorting(ranks: Vectors, beaten: Vectors, keep: int) -> tuple[Integers, Integers]:
    """Entries (anchor, column) of a block that may be among the best: none is missed."""
    wanted = ranks > beaten[:, None]
    if wanted.sum() > _CROWD * keep * len(ranks) and ranks.shape[1] > keep:
        least = np.partition(ranks, -keep, axis=1)[:, -keep]
        wanted &= ranks >= least[:, None]
    return np.divmod(np.flatnonzero(wanted), wanted.shape[1])


def own_means(space: Space) -> Floats:
    """Mean score of each anchor with the rows of its own label (a,); NaN where it has none.

    What its positive can be expected to score. The positive of a triplet is drawn anew each epoch,
    the mean is not: one mining serves all epochs, and one odd positive moves no threshold.
    """
    sums = label_sums(space.pool.labels, space.rows, len(space.pool.sizes), np.float64)
    sizes = space.pool.sizes.astype(np.float64)
    means = sums / np.where(sizes > 0, sizes, np.nan)[:, None]
    return np.asarray(np.einsum("ad,ad->a", space.anchors, means[space.labels]))


def background(space: Space) -> Floats:
    """Mean score of each anchor with all rows (a,): what a row picked blindly scores."""
    return np.asarray(space.anchors @ space.rows.mean(axis=0, dtype=np.float64))


def own_best(space: Space) -> Vectors:
    """Best score of each anchor with a row of its own label but its source (a,).

    Infinity where there is none: such an anchor tells nothing of what the model mistakes.
    """
    best = np.full(len(space.anchors), np.inf, dtype=np.float32)
    by_label = np.argsort(space.labels, kind="stable")
    starts = np.searchsorted(space.labels[by_label], np.arange(len(space.pool.starts)))
    for label in np.flatnonzero((np.diff(starts) > 0) & (space.pool.sizes > 0)):
        mine_of = by_label[starts[label] : starts[label + 1]]
        first, end = space.pool.starts[label], space.pool.starts[label + 1]
        size = max(1, _ANCHORS * _ROWS // (end - first))
        for at in range(0, len(mine_of), size):
            anchors = mine_of[at : at + size]
            block = _scores(space.anchors[anchors], space.rows[first:end])
            block[space.sources[anchors][:, None] == np.arange(first, end)] = -np.inf
            top = block.max(axis=1)
            best[anchors] = np.where(np.isfinite(top), top, np.inf)
    return best


def _scores(anchors: Vectors, rows: Vectors) -> Vectors:
    scores: Vectors = anchors @ rows.T
    return np.round(scores, _DECIMALS, out=scores)
