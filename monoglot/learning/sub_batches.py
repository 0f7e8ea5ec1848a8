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
    count = len(lengths)
    least = np.zeros(count + 1)
    start = np.zeros(count + 1, dtype=np.int64)
    for end in range(1, count + 1):
        first = np.arange(max(0, end - most), end)
        costs = least[first] + (end - first) * lengths[end - 1] + overhead
        best = int(np.argmin(costs))
        least[end], start[end] = costs[best], first[best]
    found = []
    end = int(start[count])
    while end > 0:
        found.append(end)
        end = int(start[end])
    return found[::-1]


def lengths_by(model: "SentenceTransformer", texts: Sequence[str]) -> Integers:
    """Length (n,) of each text: tokens where the model reads them in order, else letters."""
    if model.transformers_model is None:
        return np.array([len(text) for text in texts], dtype=np.int64)
    lengths: list[int] = []
    for start in range(0, len(texts), _CHUNK):
        part = list(texts[start : start + _CHUNK])
        lengths += map(len, model.tokenizer(part, truncation=False, verbose=False)["input_ids"])
    return np.array(lengths, dtype=np.int64)
