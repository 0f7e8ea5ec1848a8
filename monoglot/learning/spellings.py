"""Noisy spellings of anchors: light augmentation of romanised text, drawn anew for each epoch.

They are drawn before the first step, so that a resumed training reads the very texts it would have
read, and by anchor, whatever partners the anchor has in an epoch.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.spelling import noisy_spelling, words_of

Integers = NDArray[np.int64]

_STREAM = 1  # of random numbers, beside that of the batches


@dataclass(frozen=True)
class SpellingNoise:
    """Which anchors get another spelling for an epoch.

    Attributes:
        share: of the anchors that may get one.
        respelt: the ids of those.
        seed: of all draws.
    """

    share: float
    respelt: Collection[str]
    seed: int


def spellings_of(
    anchors: pl.DataFrame, rows: pl.DataFrame, texts: list[str], noise: SpellingNoise, epochs: int
) -> tuple[list[str], list[Integers]]:
    """The texts with further spellings, and which of them each anchor has in each epoch.

    Args:
        anchors: `contracts.Queries`.
        rows: the knowledge base (query), whose words keep their spelling nearly always.
        texts: those of the anchors in the order of their ids, then any others.
        noise: which anchors, and the seed.
        epochs: how many.

    Returns:
        The texts with the new ones after them, and (n,) positions of them for each epoch.
    """
    as_they_are = np.arange(anchors.height)
    if noise.share == 0.0 or len(noise.respelt) == 0:
        return texts, [as_they_are] * epochs
    respelt = anchors["query_id"].sort().is_in(list(noise.respelt)).to_numpy()
    known = set().union(*map(words_of, rows["query"]))
    place: dict[str, int] = {}
    spelt = []
    for epoch in range(epochs):
        rng = np.random.default_rng([noise.seed, epoch, _STREAM])
        drawn = respelt & (rng.random(anchors.height) < noise.share)
        positions = as_they_are.copy()
        for number in np.flatnonzero(drawn):
            spelling = noisy_spelling(texts[number], known, rng)
            positions[number] = place.setdefault(spelling, len(texts) + len(place))
        spelt.append(positions)
    return [*texts, *place], spelt
