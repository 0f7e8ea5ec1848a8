"""Rank distinct labels for each query: the measure every system here is judged by.

A user is helped by the right label, not by the right row, and a label with many similar rows
would fill a plain top ten. So the nearest `depth` rows are read and each label counts once: by the
votes of its rows where a temperature is given (see `votes`), by its nearest row where none is.
Exact, in blocks: memory does not grow with queries times rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.errors import StaleVectorsError
from monoglot.learning.votes import DEPTH, votes

PLACES = 10
_QUERIES_PER_BLOCK = 128
_ROWS_PER_BLOCK = 65_536
_LOW = np.uint64(0xFFFFFFFF)
_SIGN = np.uint32(0x80000000)
_LOWEST = np.finfo(np.float32).min

Floats = NDArray[np.float32]
Scores = Callable[[slice, slice], Floats]


@dataclass(frozen=True)
class Ranking:
    """The first distinct labels of each query, best first; -1 (and -inf) where there are fewer.

    Attributes:
        names: the distinct labels; `label` counts in this list.
        label: (queries, places) position in `names`.
        row: (queries, places) position of the nearest row with that label.
        score: (queries, places) that row's score.
        share: (queries, places) the label's share of the votes; NaN where there was no vote.
    """

    names: pl.Series
    label: NDArray[np.int64]
    row: NDArray[np.int64]
    score: Floats
    share: Floats

    def place_of(self, wanted: Sequence[str] | pl.Series) -> NDArray[np.int32]:
        """The place (1 = first) of each query's wanted label, 0 where it is not listed."""
        hits = self.label == _codes(wanted, self.names)[:, None]
        hits &= self.label >= 0
        return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0).astype(np.int32)


def rank(
    query_vectors: Floats,
    row_vectors: Floats,
    row_labels: Sequence[str] | pl.Series,
    *,
    depth: int = DEPTH,
    places: int = PLACES,
    exclude: NDArray[np.int64] | None = None,
    temperature: float | None = None,
) -> Ranking:
    """Rank labels by the dot product of unit vectors, that is, by cosine.

    Args:
        query_vectors: (queries, d).
        row_vectors: (rows, d), made by the same model.
        row_labels: the label of each row.
        depth: how many of the nearest rows are read for labels.
        places: how many distinct labels are kept.
        exclude: for each query one row that it must not find (its own source), or -1. None: no
            query has such a row.
        temperature: of the rows' votes; None: the nearest row decides.

    Raises:
        StaleVectorsError: the dimensions differ, so that two models must be at work.
        ValueError: a vector has a value that is no number.
    """
    if query_vectors.shape[1] != row_vectors.shape[1]:
        raise StaleVectorsError(
            f"questions have {query_vectors.shape[1]} dimensions and rows {row_vectors.shape[1]}: "
            "they are of two models. Encode both with the same one."
        )
    for name, vectors in (("question", query_vectors), ("row", row_vectors)):
        if not np.isfinite(vectors.sum(dtype=np.float64)):  # a sum keeps any NaN or infinity
            raise ValueError(f"a {name} vector is not finite: its model is broken")
    return rank_by(
        lambda queries, rows: query_vectors[queries] @ row_vectors[rows].T,
        len(query_vectors),
        row_labels,
        depth=depth,
        places=places,
        exclude=exclude,
        temperature=temperature,
    )


def rank_by(
    scores: Scores,
    queries: int,
    row_labels: Sequence[str] | pl.Series,
    *,
    depth: int = DEPTH,
    places: int = PLACES,
    exclude: NDArray[np.int64] | None = None,
    temperature: float | None = None,
) -> Ranking:
    """Rank labels by any score: `rank` for systems that have no dense vectors.

    Equal scores are ordered by row, so that the result does not depend on how a sort works. A row
    scored -inf is not found at all.

    Args:
        scores: gives the (queries, rows) float32 scores of two slices.
        queries: number of queries.
        row_labels: the label of each row.
        depth: how many of the nearest rows are read for labels.
        places: how many distinct labels are kept.
        exclude: for each query one row that it must not find, or -1; None: there is none.
        temperature: of the rows' votes; None: the nearest row decides.
    """
    names = pl.Series("label", row_labels, dtype=pl.String).unique().sort()
    codes = _codes(row_labels, names)
    found = Ranking(
        names,
        np.full((queries, places), -1, np.int64),
        np.full((queries, places), -1, np.int64),
        np.full((queries, places), -np.inf, np.float32),
        np.full((queries, places), np.nan, np.float32),
    )
    for start in range(0, queries, _QUERIES_PER_BLOCK):
        block = slice(start, min(start + _QUERIES_PER_BLOCK, queries))
        own = None if exclude is None else exclude[block]
        keys = _nearest(scores, block, len(codes), depth, own)
        _take_distinct(keys, codes, found, block, temperature)
    return found


def rank_labels(
    scores: Floats, of: Sequence[str] | pl.Series, names: pl.Series, *, places: int = PLACES
) -> Ranking:
    """Rank labels by a score of each label: for systems that know labels and no rows.

    Equal scores are ordered by label. No place has a row.

    Args:
        scores: (queries, m).
        of: the label of each of the m columns.
        names: all labels there are, in order; those that are not in `of` are never found.
        places: how many labels are kept.
    """
    codes = _codes(of, names)
    by_name = np.argsort(codes, kind="stable")
    found = Ranking(
        names,
        np.full((len(scores), places), -1, np.int64),
        np.full((len(scores), places), -1, np.int64),
        np.full((len(scores), places), -np.inf, np.float32),
        np.full((len(scores), places), np.nan, np.float32),
    )
    kept = min(places, len(codes))
    for start in range(0, len(scores), _QUERIES_PER_BLOCK):
        block = scores[start : start + _QUERIES_PER_BLOCK][:, by_name]
        order = np.argsort(-block, axis=1, kind="stable")[:, :kept]
        here = slice(start, start + len(block))
        found.label[here, :kept] = codes[by_name][order]
        found.score[here, :kept] = np.take_along_axis(block, order, axis=1)
    return found


def _nearest(
    scores: Scores, block: slice, rows: int, depth: int, own: NDArray[np.int64] | None
) -> NDArray[np.uint64]:
    """Keys of the best `depth` rows of each query of a block, best first; 0 where there are fewer.

    Only scores that reach the `depth`-th best so far are looked at twice, so that a large
    knowledge base costs little more than its matrix products.
    """
    queries = block.stop - block.start
    best = np.zeros((queries, depth), np.uint64)
    reached = np.full(queries, _LOWEST, np.float32)
    for start in range(0, rows, _ROWS_PER_BLOCK):
        stop = min(start + _ROWS_PER_BLOCK, rows)
        piece = np.asarray(scores(block, slice(start, stop)), np.float32)
        if own is not None:
            here = np.flatnonzero((own >= start) & (own < stop))
            piece[here, own[here] - start] = -np.inf
        if start == 0 and piece.shape[1] > depth:
            reached = np.partition(piece, piece.shape[1] - depth, axis=1)[:, -depth]
            reached = np.maximum(reached, _LOWEST)
        candidates = np.concatenate([best, _passing(piece, reached, start)], axis=1)
        best = np.partition(candidates, candidates.shape[1] - depth, axis=1)[:, -depth:]
        worst = best.min(axis=1)
        reached = np.where(worst > 0, _score_of(worst), _LOWEST)
    return np.sort(best, axis=1)[:, ::-1]


def _passing(piece: Floats, reached: Floats, first_row: int) -> NDArray[np.uint64]:
    """Keys of the scores that reach each query's threshold, packed to the left, 0 behind them."""
    query, row = np.nonzero(piece >= reached[:, None])
    counts = np.bincount(query, minlength=len(piece))
    position = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    packed = np.zeros((len(piece), counts.max(initial=0)), np.uint64)
    packed[query, position] = _key_of(piece[query, row], row + first_row)
    return packed


def _key_of(score: Floats, row: NDArray[np.int64]) -> NDArray[np.uint64]:
    """One whole number per (score, row) that sorts by score, then by lower row.

    The bits of a float sort like a whole number once the negative ones are turned over. Unique
    keys make every partition and sort exact; adding 0.0 makes -0.0 equal to 0.0.
    """
    bits = (score + np.float32(0.0)).view(np.uint32)
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return (ordered.astype(np.uint64) << np.uint64(32)) | (_LOW - row.astype(np.uint64))


def _score_of(key: NDArray[np.uint64]) -> Floats:
    """The score in a key; NaN for the key 0."""
    ordered = (key >> np.uint64(32)).astype(np.uint32)
    return np.where(ordered & _SIGN, ordered ^ _SIGN, ~ordered).view(np.float32)


def _take_distinct(
    keys: NDArray[np.uint64],
    codes: NDArray[np.int64],
    found: Ranking,
    block: slice,
    temperature: float | None,
) -> None:
    """Write each query's first distinct labels into `found`, from its sorted keys."""
    present = keys > 0
    rows = np.where(present, (_LOW - (keys & _LOW)).astype(np.int64), 0)
    scores = np.where(present, _score_of(keys), -np.inf)
    labels = np.where(present, codes[rows], -1)
    by_label = np.argsort(labels, axis=1, kind="stable")
    grouped = np.take_along_axis(labels, by_label, axis=1)
    starts = np.ones_like(present)
    starts[:, 1:] = grouped[:, 1:] != grouped[:, :-1]
    first = np.empty_like(present)
    np.put_along_axis(first, by_label, starts, axis=1)
    first &= present
    shares = None if temperature is None else _shares(scores, by_label, starts, temperature)
    # A label stands at its nearest row; sorting is stable, so that equal shares keep that order.
    order = np.argsort(~first if shares is None else np.where(first, -shares, 1), kind="stable")
    order = order[:, : found.label.shape[1]]
    query, place = np.nonzero(np.take_along_axis(first, order, axis=1))
    at, column = (query + block.start, place), order[query, place]
    found.label[at] = labels[query, column]
    found.row[at] = rows[query, column]
    found.score[at] = scores[query, column]
    if shares is not None:
        found.share[at] = shares[query, column]


def _shares(
    scores: Floats, by_label: NDArray[np.int64], starts: NDArray[np.bool_], temperature: float
) -> Floats:
    """(queries, depth): the share of the votes that each row's label has.

    Args:
        scores: (queries, depth), best first, -inf where there is no row.
        by_label: (queries, depth) an order that brings rows of one label together.
        starts: (queries, depth) where in that order a label begins.
        temperature: of the votes.
    """
    weights = votes(scores, temperature)
    groups = np.cumsum(starts, axis=1) - 1 + np.arange(len(scores))[:, None] * scores.shape[1]
    ordered = np.take_along_axis(weights, by_label, axis=1)
    sums = np.bincount(groups.ravel(), ordered.ravel(), minlength=scores.size)
    shares = np.empty(scores.shape, np.float32)
    np.put_along_axis(shares, by_label, sums[groups].astype(np.float32), axis=1)
    return shares


def _codes(labels: Sequence[str] | pl.Series, names: pl.Series) -> NDArray[np.int64]:
    """The position of each label in the sorted `names`, -1 where it is not there."""
    series = pl.Series("label", labels, dtype=pl.String)
    table = pl.DataFrame({"label": names, "code": np.arange(len(names), dtype=np.int64)})
    joined = series.to_frame().join(table, on="label", how="left", maintain_order="left")
    return joined["code"].fill_null(-1).to_numpy()
