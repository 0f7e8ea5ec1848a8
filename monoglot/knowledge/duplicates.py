"""Near-duplicates of short texts: pairs that share most of their trigrams of characters.

Two texts are near-duplicates from a Jaccard similarity of `SIMILAR` of their sets of trigrams on,
after `identity.normalised`. The join is exact. It looks only at pairs that share one of their
rarest trigrams: a pair above the threshold must (the prefix filter of Chaudhuri et al. 2006 and
of AllPairs, Bayardo et al. 2007), so that 100,000 texts are compared with 100,000 others without
a matrix of their product.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.identity import normalised

# Of the 71 pairs of a human train and a test query of Hinglish-TOP that are this alike, 70 have one
# label: they differ by a number, a spelling or a small word. At 0.75 and at 0.7 one pair in 13 and
# in 20 is of two labels, and three times as many rows would go.
SIMILAR = 0.8

_BLOCK = 1024  # texts whose candidates are worked out at a time: bounds the memory
_PART = 128  # of them, that are compared with each other before the next ones
_CHECKED = 65_536  # candidates whose trigrams are compared at a time

Integers = NDArray[np.int64]


def near_pairs(
    texts: Sequence[str], others: Sequence[str] | None = None, similar: float = SIMILAR
) -> pl.DataFrame:
    """All pairs of near-duplicates, equal texts among them.

    Args:
        texts: n texts.
        others: m texts to compare them with; None: with each other, each pair once.
        similar: Jaccard similarity from which a pair counts, above 0.

    Returns:
        Columns left (position in `texts`), right (position in `others`; of two texts compared
        with each other the later one is left) and similarity, sorted by left and right.
    """
    within = others is None
    both = [*texts, *(others or ())]
    if not texts or (not within and not others):
        return _table([], [], [])
    join = _Join(both, similar)
    start = 0 if within else len(texts)
    behind = join.behind(np.arange(start, len(both)))
    parts = []
    for first in range(0, len(texts), _BLOCK):
        block = np.arange(first, min(first + _BLOCK, len(texts)))
        parts.append(join.near(block, behind, later=within))
    left, right, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _table(left, right - start, scores)


def near_to(texts: Sequence[str], others: Sequence[str], similar: float = SIMILAR) -> pl.Series:
    """For each text the position of the most similar near-duplicate among others, or null."""
    best = (
        near_pairs(texts, others, similar)
        .sort("left", "similarity", "right", descending=[False, True, False])
        .unique("left", keep="first")
    )
    places = pl.DataFrame({"left": np.arange(len(texts), dtype=np.int64)})
    return places.join(best, on="left", how="left", maintain_order="left")["right"]


def repeats(
    texts: Sequence[str],
    within: Sequence[str],
    similar: float = SIMILAR,
) -> list[int | None]:
    """For each text the earlier one of its group that it repeats, or None for those to keep.

    Read in order: a text is kept unless it is a near-duplicate of one kept before. So what is
    added at the end changes nothing before it.

    Args:
        texts: in order of preference.
        within: the group of each; texts of different groups never repeat each other.
        similar: see `near_pairs`.
    """
    repeated: list[int | None] = [None] * len(texts)

    def mark(left: Integers, right: Integers) -> None:
        for place in np.lexsort((right, left)):
            one, two = int(left[place]), int(right[place])
            free = repeated[one] is None and repeated[two] is None
            if free and within[one] == within[two]:
                repeated[one] = two

    # Only kept texts are compared with: those of one template are one of these, and all pairs of
    # them would be more than memory holds.
    join = _Join(texts, similar) if texts else None
    kept: list[int] = []
    for first in range(0, len(texts), _BLOCK):
        assert join is not None
        block = np.arange(first, min(first + _BLOCK, len(texts)))
        left, right, _ = join.near(block, join.behind(np.array(kept, dtype=np.int64)))
        mark(left, right)
        in_block: list[int] = []
        for part in _parts([int(it) for it in block if repeated[it] is None]):
            both = np.array([*in_block, *part], dtype=np.int64)
            left, right, _ = join.near(np.array(part), join.behind(both), later=True)
            mark(left, right)
            in_block += [it for it in part if repeated[it] is None]
        kept += in_block
    return repeated


def _parts(texts: Sequence[int]) -> Iterator[Sequence[int]]:
    return (texts[first : first + _PART] for first in range(0, len(texts), _PART))


def groups_of(texts: Sequence[str], similar: float = SIMILAR) -> Integers:
    """The group (n,) of each text: chains of near-duplicates fall together; numbered from 0."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not texts:
        return np.zeros(0, dtype=np.int64)
    pairs = near_pairs(texts, similar=similar)
    ones = np.ones(pairs.height, dtype=np.int8)
    links = coo_array((ones, (pairs["left"], pairs["right"])), shape=(len(texts), len(texts)))
    _, groups = connected_components(links, directed=False)
    return np.asarray(groups, dtype=np.int64)


def overlap(texts: Sequence[str]) -> float:
    """Mean Jaccard similarity over all pairs of some texts; 0 where there is no pair."""
    if len(texts) < 2:
        return 0.0
    grams = _trigrams(texts).astype(np.float64)
    common = (grams @ grams.T).toarray()
    sizes = common.diagonal()
    scores = common / (sizes[:, None] + sizes[None, :] - common)
    return float(scores[np.triu_indices(len(texts), 1)].mean())


# scikit-learn and scipy are of the pipeline only and carry no types.


class _Join:
    """Texts by their trigrams, for comparing parts of them.

    Args:
        texts: at least one.
        similar: Jaccard similarity from which a pair counts.
    """

    def __init__(self, texts: Sequence[str], similar: float) -> None:
        self._similar = similar
        self._grams = _trigrams(texts)
        self._sizes = np.diff(self._grams.indptr)
        self._heads = _rarest(self._grams, similar)

    def behind(self, places: Integers) -> tuple[Any, Integers]:
        """The texts at these places, as `near` compares with them."""
        return self._heads[places].T.tocsr(), places

    def near(
        self, block: Integers, behind: tuple[Any, Integers], *, later: bool = False
    ) -> tuple[Integers, Integers, NDArray[np.float64]]:
        """Near pairs (left, right, similarity) of a block of texts with those behind it.

        With `later`, only pairs of which the left text is the later one.
        """
        heads, places = behind
        found = (self._heads[block] @ heads).tocoo()
        a, b = block[found.row], places[found.col]
        sizes = self._sizes
        smaller, larger = np.minimum(sizes[a], sizes[b]), np.maximum(sizes[a], sizes[b])
        possible = smaller >= self._similar * larger
        if later:
            possible &= a > b
        a, b = a[possible], b[possible]
        score = _jaccard(self._grams, sizes, a, b)
        near = score >= self._similar - 1e-9
        return a[near], b[near], score[near]


def _trigrams(texts: Sequence[str]) -> Any:
    """(n, trigrams) 0/1 CSR matrix of each text's trigrams, ends marked; no row is empty."""
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(analyzer=_trigrams_of, dtype=np.int32).fit_transform(texts)


def _trigrams_of(text: str) -> set[str]:
    marked = f"  {normalised(text)} "
    return {marked[place : place + 3] for place in range(len(marked) - 2)}


def _rarest(grams: Any, similar: float) -> Any:
    """The same matrix with only so many of each row's rarest trigrams as a near pair must share."""
    from scipy.sparse import csr_array

    by_rarity = np.argsort(np.asarray(grams.sum(axis=0)).ravel(), kind="stable")
    place = np.empty_like(by_rarity)
    place[by_rarity] = np.arange(len(by_rarity))
    moved = csr_array(
        (np.ones(len(grams.indices), dtype=np.int32), place[grams.indices], grams.indptr),
        shape=grams.shape,
    )
    moved.sort_indices()
    sizes = np.diff(moved.indptr)
    kept = sizes - np.ceil(similar * sizes - 1e-9).astype(np.int64) + 1
    inside = np.arange(len(moved.indices)) - np.repeat(moved.indptr[:-1], sizes)
    head = inside < np.repeat(kept, sizes)
    starts = np.concatenate([[0], np.cumsum(kept)])
    return csr_array((moved.data[head], moved.indices[head], starts), shape=moved.shape)


def _jaccard(grams: Any, sizes: Integers, a: Integers, b: Integers) -> NDArray[np.float64]:
    """Jaccard similarity of the rows a and b (pairs,)."""
    parts = [np.zeros(0)]
    for start in range(0, len(a), _CHECKED):
        one, two = a[start : start + _CHECKED], b[start : start + _CHECKED]
        common = np.asarray(grams[one].multiply(grams[two]).sum(axis=1)).ravel()
        parts.append(common / (sizes[one] + sizes[two] - common))
    return np.concatenate(parts)


def _table(left: Any, right: Any, scores: Any) -> pl.DataFrame:
    schema = {"left": pl.Int64, "right": pl.Int64, "similarity": pl.Float64}
    made = pl.DataFrame({"left": left, "right": right, "similarity": scores}, schema=schema)
    return made.sort("left", "right")
