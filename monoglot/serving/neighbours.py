"""The nearest rows of a query: exactly, and how much of that an approximate search finds.

Vectors have length 1, so the dot product is the cosine.
"""

import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.errors import ModelError, StaleVectorsError

Floats = NDArray[np.float32]

NEIGHBOURS = 10  # recall is measured at this depth, as LanceDB and ann-benchmarks do
ENOUGH_RECALL = 0.99
# Of a sample of 512 queries (`votes.SAMPLE`), whose error is .0018: what is promised, and twice
# that.
_SAFE_RECALL = 0.9936
_QUERIES_PER_BLOCK = 128
_LENGTH_TOLERANCE = 1e-3
_SAME_SCORE = 1e-5  # rounding of float32 dot products summed in another order


@dataclass(frozen=True)
class Effort:
    """How hard an approximate search looks, and what it found of the true neighbours.

    Attributes:
        nprobes: partitions of the index that are read.
        refine: times the asked rows that are scored again with their full vectors.
        recall: share of the true `NEIGHBOURS` nearest rows that were found.
    """

    nprobes: int
    refine: int
    recall: float


class Hits(NamedTuple):
    """Rows that were found, in no order.

    Attributes:
        question: (n,) number of the vector.
        row: (n,) the table's id of the row, of the version that was searched.
        score: (n,) cosine, or an index's estimate of it.
    """

    question: NDArray[np.int64]
    row: NDArray[np.uint64]
    score: Floats


def check_vectors(vectors: Floats, texts: Sequence[str], dimensions: int) -> Floats:
    """The vectors as float32 (n, d), if each can be found by a cosine search.

    LanceDB accepts infinite vectors, and a zero vector silently vanishes from its results, so
    both are refused here.

    Raises:
        StaleVectorsError: there are not n vectors of d dimensions.
        ModelError: a vector is not finite or not of length 1; names the first such text.
    """
    if vectors.shape != (len(texts), dimensions):
        raise StaleVectorsError(
            f"{len(texts)} texts gave vectors of shape {vectors.shape}, the index holds "
            f"{dimensions} dimensions: another model made it. Encode with the model of the index."
        )
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    bad = ~(np.abs(lengths - 1.0) <= _LENGTH_TOLERANCE)  # also true for NaN and infinity
    if bad.any():
        first = int(np.argmax(bad))
        raise ModelError(
            f"{int(bad.sum())} of {len(texts)} vectors are not of length 1, the first (length "
            f"{lengths[first]:.4g}) is of {texts[first][:80]!r}. The training may have diverged, "
            "or the encoder does not normalise."
        )
    return np.ascontiguousarray(vectors, dtype=np.float32)


def nearest(rows: Floats, queries: Floats, k: int) -> pl.DataFrame:
    """The k nearest rows of each query, best first, equal scores in the order of the rows.

    Args:
        rows: (n, d).
        queries: (q, d).
        k: rows per query; all of them where there are fewer.

    Returns:
        A frame with `question` (number of the query), `position` (number of the row), `score`.
    """
    k = min(k, len(rows))
    positions = np.empty((len(queries), k), np.uint32)
    scores = np.empty((len(queries), k), np.float32)
    for start in range(0, len(queries), _QUERIES_PER_BLOCK):
        block = queries[start : start + _QUERIES_PER_BLOCK] @ rows.T
        for number, own in enumerate(block, start):
            reached = np.partition(own, len(own) - k)[len(own) - k]
            reaching = np.flatnonzero(own >= reached)
            best = reaching[np.argsort(-own[reaching], kind="stable")[:k]]
            positions[number], scores[number] = best, own[best]
    return pl.DataFrame(
        {
            "question": np.repeat(np.arange(len(queries), dtype=np.uint32), k),
            "position": positions.ravel(),
            "score": scores.ravel(),
        }
    )


def nearest_in_blocks(
    blocks: Iterable[Floats], queries: Floats, k: int
) -> tuple[NDArray[np.int64], Floats]:
    """The k nearest rows of each query, of rows that come in blocks: bounded memory, exact.

    Args:
        blocks: the (n, d) vectors of all rows, a part at a time.
        queries: (q, d).
        k: rows per query; all of them where there are fewer.

    Returns:
        (q, k) positions of rows and their (q, k) scores, in no order.
    """
    positions = np.zeros((len(queries), 0), np.int64)
    scores = np.zeros((len(queries), 0), np.float32)
    start = 0
    for block in blocks:
        own, found = _reaching(
            queries @ block.T, scores.min(axis=1) if scores.shape[1] == k else None
        )
        scores = np.concatenate([scores, found], axis=1)
        positions = np.concatenate([positions, own + start], axis=1)
        start += len(block)
        if scores.shape[1] > k:
            best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
            scores = np.take_along_axis(scores, best, 1)
            positions = np.take_along_axis(positions, best, 1)
    return positions, scores


def _reaching(found: Floats, least: Floats | None) -> tuple[NDArray[np.int64], Floats]:
    """Position and score of what scores more than `least` (q,), or all of it, in (q, n) scores.

    Few rows of a later block do: to compare them all takes a sixth of what it takes to rank them.
    Where a question has fewer than another, its last places are of no row, with a score of -inf.
    """
    if least is None:
        return np.broadcast_to(np.arange(found.shape[1]), found.shape), found
    question, own = np.nonzero(found > least[:, None])
    count = np.bincount(question, minlength=len(found))
    place = np.arange(len(question)) - np.repeat(np.cumsum(count) - count, count)
    positions = np.zeros((len(found), int(count.max(initial=0))), np.int64)
    scores = np.full(positions.shape, -np.inf, np.float32)
    positions[question, place], scores[question, place] = own, found[question, own]
    return positions, scores


def recall(found: Hits, reached: Floats) -> float:
    """Share of the true `NEIGHBOURS` nearest rows that a search found.

    A row counts if it scores what the tenth true neighbour does, so that rows of one text, of
    which either may come first, are no error.

    Args:
        found: by the search, at least `NEIGHBOURS` of each query.
        reached: (q,) the score of each query's tenth nearest row.
    """
    enough = found.score >= reached[found.question] - _SAME_SCORE
    right = np.bincount(found.question[enough], minlength=len(reached))
    return float(np.minimum(right, NEIGHBOURS).sum() / (NEIGHBOURS * len(reached)))


# The last reads every partition, and so loses only what 1-bit codes lose.
_PROBES = (20, 40, 60, 80, 90, 100, 110, 120, 140, 160, 320, 640)
# Where that is too much, (nprobes, refine).
_REFINED = ((160, 5), (1_000_000, 20))


def least_effort(search: Callable[[Effort], Hits], reached: Floats) -> Effort:
    """The cheapest effort that surely has enough recall, or else the best one.

    Args:
        search: runs the sample of queries.
        reached: (q,) the score of the same queries' tenth nearest row.
    """
    tried: dict[tuple[int, int], Effort] = {}

    def is_enough(nprobes: int, refine: int) -> bool:
        found = search(Effort(nprobes, refine, recall=0.0))
        tried[nprobes, refine] = Effort(nprobes, refine, recall(found, reached))
        return tried[nprobes, refine].recall >= _SAFE_RECALL

    place = bisect.bisect_left(_PROBES, True, key=lambda nprobes: is_enough(nprobes, 1))
    if place < len(_PROBES):
        return tried[_PROBES[place], 1]
    for effort in _REFINED:
        if is_enough(*effort):
            return tried[effort]
    return max(tried.values(), key=lambda effort: effort.recall)
