"""Sub-batches of texts of like length: what padding and small batches cost, weighed.

Texts with as many letters differ much in tokens, since a model knows one language's words whole and
spells another's: sub-batches by letters had 1.5 times the needed tokens on Hinglish-TOP, equal ones
by tokens 1.2 times.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Integers = NDArray[np.int64]

_CHUNK = 4096  # texts tokenised at a time


class Size(NamedTuple):
    """Of sub-batches: texts at most, and the padding tokens that are cheaper than one more."""

    most: int
    overhead: int


SIZES = {"cpu": Size(64, 24), "cuda": Size(512, 4096), "mps": Size(128, 512)}


def size_for(device: str, most: int | None = None) -> Size:
    """The size of sub-batches on a type of device, such as `cpu`, of `most` texts if given."""
    size = SIZES.get(device, SIZES["cpu"])
    return size if most is None else size._replace(most=min(size.most, most))


def sub_batches(lengths: Integers, size: Size) -> list[Integers]:
    """Positions of texts in sub-batches, the shortest texts first.

    Args:
        lengths: (n,) of the texts, in any order.
        size: of the sub-batches.
    """
    order = np.argsort(lengths, kind="stable")
    return np.split(order, cuts(lengths[order], *size))


def cuts(lengths: Integers, most: int, overhead: int) -> list[int]:
    """Where to cut texts into sub-batches, so that padded tokens and sub-batches cost least.

    Args:
        lengths: (n,) of the texts, ascending; a sub-batch is padded to its last one.
        most: texts in a sub-batch at most.
        overhead: of a sub-batch, in tokens.
    """
    places = _candidates(lengths, most)
    least = np.zeros(len(places))
    start = np.zeros(len(places), dtype=np.int64)
    from_place = np.searchsorted(places, places - most)
    for end in range(1, len(places)):
        first = np.arange(from_place[end], end)
        padded = (places[end] - places[first]) * lengths[places[end] - 1]
        costs = least[first] + padded + overhead
        best = int(np.argmin(costs))
        least[end], start[end] = costs[best], first[best]
    found = []
    end = int(start[-1])
    while end > 0:
        found.append(int(places[end]))
        end = int(start[end])
    return found[::-1]


def _candidates(lengths: Integers, most: int) -> Integers:
    """Places of which some are a cheapest way to cut, with 0 and n; a GPU waits for all of them.

    A cut between two texts of one length can move on by a text, which costs nothing more, unless
    the sub-batch before it is full: it need be looked for only where the length changes, and at
    full sub-batches from there or from another such place.
    """
    count = len(lengths)
    is_one = np.zeros(count + 1, dtype=bool)
    is_one[[0, count]] = True
    is_one[1:count] = lengths[1:] != lengths[:-1]
    for place in range(0, count + 1 - most, most):
        block = is_one[place : place + most]
        after = is_one[place + most : place + 2 * most]
        after |= block[: len(after)]
    return np.flatnonzero(is_one)


def lengths_by(model: "SentenceTransformer", texts: Sequence[str]) -> Integers:
    """Length (n,) of each text: tokens where the model reads them in order, else letters."""
    if model.transformers_model is None:
        return np.array([len(text) for text in texts], dtype=np.int64)
    lengths: list[int] = []
    for start in range(0, len(texts), _CHUNK):
        part = list(texts[start : start + _CHUNK])
        lengths += map(len, model.tokenizer(part, truncation=False, verbose=False)["input_ids"])
    return np.array(lengths, dtype=np.int64)
