"""The failure signatures that show in vectors: a language that lies apart, mislabelled rows."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.learning.diagnostics import EXAMPLES, Finding, counted
from monoglot.learning.label_sums import label_sums
from monoglot.learning.ranking import Floats

# At 1 a query's language moves it as far as its label does: neighbours are chosen by language.
_APART = 1.0
# A label needs as many rows for its centroid, and a row as many others of its label, to be judged.
_ROWS_OF_LABEL = 3
_LABELS = 3  # of two, what sets them apart is as far as anything else
_NEIGHBOURS = 10
# Share of the nearest rows that must agree on another label: a clear majority of ten.
_AGREE = 0.7
# Scores of one look at mislabelled rows: some seconds. Beyond 22,000 rows, some are looked at.
_MOST_CELLS = 500_000_000
_CELLS_PER_BLOCK = 16_000_000  # sorting takes 16 bytes of each


def language_offset(
    query_vectors: Floats, query_labels: pl.Series, row_vectors: Floats, row_labels: pl.Series
) -> float | None:
    """How far a language moves a query, in units of how far a label does.

    The mean shift from a label's rows to its queries, over the labels that have both, divided by
    the mean distance of a label's centroid from that of all labels. Comparing label by label, a
    language whose users ask about other things does not count as lying apart.

    Args:
        query_vectors: (n, d) queries in one language.
        query_labels: (n,) their labels.
        row_vectors: (m, d) rows of the knowledge base, by the same model.
        row_labels: (m,) their labels.

    Returns:
        None where fewer than three labels have queries, and rows enough.
    """
    names = row_labels.unique().sort()
    asked_of = query_labels.is_in(names.implode()).to_numpy()
    rows, sizes = _centroids(row_vectors, row_labels, names)
    queries, numbers = _centroids(query_vectors[asked_of], query_labels.filter(asked_of), names)
    both = (sizes >= _ROWS_OF_LABEL) & (numbers > 0)
    if both.sum() < _LABELS:
        return None
    rows, queries = rows[both], queries[both]
    shift = float(np.linalg.norm((queries - rows).mean(axis=0)))
    spread = float(np.linalg.norm(rows - rows.mean(axis=0), axis=1).mean())
    return shift / spread if spread > 0 else None


def _centroids(
    vectors: Floats, labels: pl.Series, names: pl.Series
) -> tuple[Floats, NDArray[np.int64]]:
    """The mean vector of each named label (m, d), 0 where it has none; and how many it has (m,)."""
    codes = np.searchsorted(names.to_numpy(), labels.to_numpy())
    sums = label_sums(codes, vectors, len(names), np.float32)
    sizes = np.bincount(codes, minlength=len(names))
    sums /= np.maximum(sizes, 1)[:, None]
    return sums, sizes


def apart(language: str, before: float | None, after: float | None) -> Finding:
    """Whether a language lies apart from the rows after training.

    Args:
        language: its code.
        before: `language_offset` by the untuned model.
        after: the same by the tuned one.
    """
    check = f"Where {language} lies"
    if before is None or after is None:
        why = f"it takes {_LABELS} labels with questions and {_ROWS_OF_LABEL} rows each"
        return Finding(check, "not checked", why)
    seen = (
        f"The language moves a query {after:.2f} times as far as its label does ({before:.2f} "
        "before training)."
    )
    if after < _APART:
        return Finding(check, "fine", seen)
    return Finding(
        check, "found", seen,
        "Queries find neighbours by language before they find them by label: the languages are "
        "not aligned.",
        "Train on more translations of each label, raise sampling.own_source_share so that more "
        "of them are paired with their own source, or lower merging.base_weight.",
    )  # fmt: skip


def mislabelled(rows: pl.DataFrame, vectors: Floats, *, seed: int = 0) -> Finding:
    """Rows whose nearest other rows agree on another label.

    Confident learning (Northcutt et al., arXiv 1911.00068): a row counts as class j where its
    probability of j reaches the mean of that class's own rows, and as mislabelled where that is
    another class than its own. The probability is the share among the ten nearest rows, the row
    itself left out. A row of a small class whose fellows are all near is not suspected, though
    others fill the ten; and classes with very few rows are not judged at all.

    Args:
        rows: columns row_id, query and label.
        vectors: (rows, d), of length 1, by the tuned model.
        seed: of the choice of rows to look at, where there are too many.
    """
    check = "Rows that look mislabelled"
    sizes = rows.select(pl.len().over("label")).to_series().to_numpy()
    judged = np.flatnonzero(sizes > _ROWS_OF_LABEL)
    most = max(1, _MOST_CELLS // max(1, rows.height))
    if len(judged) > most:
        rng = np.random.default_rng(seed)
        judged = np.sort(rng.choice(judged, most, replace=False))
    if len(judged) == 0 or rows["label"].n_unique() < 2:
        return Finding(check, "not checked", f"no label has more than {_ROWS_OF_LABEL} rows")
    names = rows["label"].unique().sort()
    codes = np.searchsorted(names.to_numpy(), rows["label"].to_numpy())
    other, share, own = _votes(vectors, codes, judged)
    mean_own = np.bincount(codes[judged], own, len(names)) / np.maximum(
        np.bincount(codes[judged], minlength=len(names)), 1
    )
    own /= np.minimum(sizes[judged] - 1, _NEIGHBOURS) / _NEIGHBOURS  # of the fellows it can have
    suspect = (share >= np.maximum(mean_own[other], _AGREE)) & (share > own)
    order = np.lexsort((judged, own - share))
    chosen = order[suspect[order]]
    looked_at = f"{len(judged):,} of {rows.height:,} rows looked at"
    if len(chosen) == 0:
        return Finding(check, "fine", f"{looked_at}.")
    texts = rows["query"].gather(judged[chosen])
    examples = [
        {"text": text, "label": names[int(codes[judged[row]])], "other": names[int(other[row])]}
        for text, row in zip(texts, chosen[:EXAMPLES], strict=False)
    ]
    return Finding(
        check, "found",
        f"{counted(len(chosen), 'row')} whose nearest rows agree on another label ({looked_at}).",
        "Some of them stand under the wrong label; others show two labels that mean nearly the "
        "same. Either way they teach the model to confuse the two.",
        "Read them, the surest first, and move those that are wrong.",
        tuple(examples),
        len(chosen),
    )  # fmt: skip


def _votes(
    vectors: Floats, codes: NDArray[np.int64], judged: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """For each judged row the other label with most neighbours, its share, and the own label's."""
    near = min(_NEIGHBOURS, len(codes) - 1)
    other = np.zeros(len(judged), np.int64)
    shares = np.zeros((2, len(judged)), np.float32)
    at_once = max(1, _CELLS_PER_BLOCK // len(codes))
    for start in range(0, len(judged), at_once):
        block = judged[start : start + at_once]
        scores = vectors[block] @ vectors.T
        scores[np.arange(len(block)), block] = -np.inf
        nearest = np.argpartition(-scores, near - 1, axis=1)[:, :near]
        found = codes[nearest]
        for row, labels in enumerate(found, start=start):
            counted = np.bincount(labels[labels != codes[judged[row]]])
            shares[1, row] = (labels == codes[judged[row]]).mean()
            if counted.size:
                other[row], shares[0, row] = counted.argmax(), counted.max() / near
    return other, shares[0], shares[1]
