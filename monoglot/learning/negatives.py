"""Which rows an anchor is pushed away from: a table of strategies behind one interface.

A negative is a row of another label. Algorithm 1 (arXiv 2506.02527) mixes random rows with rows
drawn in proportion to the similarity of their label to the anchor's own; others rank rows by a
model, as the tools do that mine hard negatives. The draws of an anchor are without replacement, and
each comes with the probability it had, given the draws before it. Where a strategy has no row left
for an anchor, the rest is filled with random ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from monoglot.errors import DataError
from monoglot.learning.by_similarity import Material, curriculum, hardest, label_first, weighted
from monoglot.learning.distributions import Distribution, Floats, Integers, Uniform
from monoglot.learning.mined import (
    confusion,
    mine_confused,
    mine_positive_aware,
    mine_simans,
    mine_top,
    mine_window,
    ranked,
    simans,
)
from monoglot.learning.mining import Mined, Space
from monoglot.learning_config import SamplingConfig


@dataclass(frozen=True)
class Draws:
    """Negatives of m anchors: positions in the caller's rows (m, k), and probabilities (m, k)."""

    rows: Integers
    probabilities: Floats


@dataclass(frozen=True)
class Strategy:
    """One way to choose negatives.

    Attributes:
        plan: the distribution of each draw; random ones first.
        by_label: needs the similarity of labels.
        mine: ranks rows by a model; None: needs none. Once for each model, not for each epoch.
    """

    plan: Callable[[Material], Sequence[Distribution]]
    by_label: bool = False
    mine: Callable[[Space, SamplingConfig], Mined] | None = None


def _all_of(kind: Callable[[Material], Distribution]) -> Callable[[Material], list[Distribution]]:
    return lambda given: [kind(given)] * given.draws


def _mixed(hard: Callable[[Material], Distribution]) -> Callable[[Material], list[Distribution]]:
    """Algorithm 1: random rows beside the hard ones, which do not let the model forget the rest."""
    return lambda given: (
        [Uniform(given.pool, given.labels)] * given.config.random_negatives
        + [hard(given)] * given.config.hard_negatives
    )


STRATEGIES: dict[str, Strategy] = {
    "algorithm1": Strategy(_mixed(weighted), by_label=True),
    "algorithm1_label_first": Strategy(_mixed(label_first), by_label=True),
    "random": Strategy(_all_of(lambda given: Uniform(given.pool, given.labels))),
    "weighted": Strategy(_all_of(weighted), by_label=True),
    "hardest": Strategy(_all_of(hardest), by_label=True),
    "top_k": Strategy(_all_of(lambda given: ranked(given, 1, given.draws)), mine=mine_top),
    "rank_window": Strategy(
        _all_of(lambda given: ranked(given, *given.config.rank_window)), mine=mine_window
    ),
    "positive_aware": Strategy(
        _all_of(lambda given: ranked(given, 1, given.draws)), mine=mine_positive_aware
    ),
    "simans": Strategy(_all_of(simans), mine=mine_simans),
    "confusion": Strategy(_all_of(confusion), by_label=True, mine=mine_confused),
    "curriculum": Strategy(_all_of(curriculum), by_label=True),
}


def draw_negatives(
    given: Material, rng: np.random.Generator, *, proposed: Integers | None = None
) -> Draws:
    """Negatives of all anchors by the configured strategy.

    Args:
        given: what is drawn from.
        rng: of all draws.
        proposed: (a,) a row for each anchor (its position in the caller's rows) that takes the
            place of one hard negative, or -1; it stands first, with probability 1, and the others
            are drawn beside it. A row of the anchor's own label is not taken, nor any where the
            strategy draws no hard negative. None: there are none.

    Raises:
        DataError: fewer rows of other labels than negatives are asked for.
    """
    _refuse_few_rows(given)
    positions = np.full((len(given.labels), given.draws), -1, dtype=np.int64)
    probabilities = np.ones(positions.shape)
    if positions.size == 0:
        return Draws(positions, probabilities)
    plan = STRATEGIES[given.config.strategy].plan(given)
    first = _usable(proposed, given, plan)
    # Hard negatives stand last in every plan: a proposed row takes the place of one of them.
    for shorter, which in ((plan, first < 0), (plan[:-1], first >= 0)):
        chosen = np.flatnonzero(which)
        beside = first[chosen, None][:, : len(plan) - len(shorter)]
        drawn = draw_planned(shorter, given, chosen, beside, rng)
        positions[chosen], probabilities[chosen] = drawn
    return Draws(given.pool.rows[positions], probabilities)


def _refuse_few_rows(given: Material) -> None:
    others = len(given.pool.rows) - given.pool.sizes[given.labels]
    fewest = int(others.min(initial=given.draws))
    if fewest < given.draws:
        raise DataError(
            f"sampling: {given.draws} negatives an anchor are asked for, but a label has only "
            f"{fewest} rows of other labels beside it. Lower random_negatives and "
            "hard_negatives, or add rows to the knowledge base."
        )


def _usable(proposed: Integers | None, given: Material, plan: Sequence[Distribution]) -> Integers:
    """(a,) pool positions of the proposed rows that can serve, -1 elsewhere."""
    if proposed is None or isinstance(plan[-1], Uniform):
        return np.full(len(given.labels), -1, dtype=np.int64)
    place = given.pool.places(proposed)
    return np.where((place >= 0) & (given.pool.labels[place] != given.labels), place, -1)


def draw_planned(
    plan: Sequence[Distribution],
    given: Material,
    anchors: Integers,
    beside: Integers,
    rng: np.random.Generator,
) -> tuple[Integers, Floats]:
    """Draw one row from each distribution of a plan, for some anchors.

    Args:
        plan: k distributions.
        given: what they are over.
        anchors: (m,) positions of the anchors, in any number and order.
        beside: (m, j) pool positions of rows that they have already.
        rng: of all draws.

    Returns:
        Pool positions (m, j + k), those of `beside` first, and the probability of each.
    """
    anything = Uniform(given.pool, given.labels)
    width = beside.shape[1]
    positions = np.full((len(anchors), width + len(plan)), -1, dtype=np.int64)
    positions[:, :width] = beside
    probabilities = np.ones(positions.shape)
    for number, distribution in enumerate(plan, start=width):
        drawn = positions[:, :number]
        # Where all mass of a distribution is drawn already, the rest is filled at random.
        mass = distribution.left(anchors, drawn)
        for source, which in (
            (distribution, np.flatnonzero(mass > 0)),
            (anything, np.flatnonzero(mass <= 0)),
        ):
            new = source.draw(anchors[which], drawn[which], rng)
            weight = source.weights(anchors[which], new[:, None])[:, 0]
            left = source.left(anchors[which], drawn[which])
            positions[which, number] = new
            probabilities[which, number] = np.minimum(weight / left, 1.0)  # but for rounding
    return positions, probabilities
