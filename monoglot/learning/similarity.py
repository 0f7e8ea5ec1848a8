"""Label x label similarity: what makes a negative hard (arXiv 2506.02527, Algorithm 1).

The paper leaves its similarity undefined. Ours is one of three, see `SOURCES`; each gives a score
in [-1, 1] for any two labels. All pairs are kept up to `DENSE_UP_TO` labels; beyond, only the
nearest `NEIGHBOURS_BEYOND` of each: memory then grows with the labels, not with their square.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.errors import ConfigError
from monoglot.learning_config import SimilarityConfig

Encode = Callable[[list[str]], NDArray[np.float32]]

DENSE_UP_TO = 2048  # labels
NEIGHBOURS_BEYOND = 256
_BLOCK = 1024


@dataclass(frozen=True)
class LabelSimilarity:
    """The nearest other labels of each label, most similar first.

    Attributes:
        labels: the L labels, sorted.
        neighbours: (L, m) positions in `labels`, never the own one.
        scores: (L, m) similarities of those.
    """

    labels: tuple[str, ...]
    neighbours: NDArray[np.int32]
    scores: NDArray[np.float32]


def label_similarity(
    rows: pl.DataFrame, config: SimilarityConfig, encode: Encode | None
) -> LabelSimilarity:
    """Similarity of the labels of `rows` (columns query, label, label_path, label_text, part).

    Args:
        rows: the knowledge base with its split.
        config: which source to use.
        encode: texts to unit vectors by the base model; None for the source `path`, which needs
            none.

    Raises:
        ConfigError: the source needs a column that the knowledge base has not.
    """
    labels = rows["label"].unique().sort()
    vectors = SOURCES[config.source](rows, labels, encode)
    neighbours, scores = _nearest(vectors, _kept(len(labels)))
    return LabelSimilarity(tuple(labels), neighbours, scores)


def _centroids(rows: pl.DataFrame, labels: pl.Series, encode: Encode | None) -> NDArray[np.float32]:
    """Mean direction of each label's training queries; of its index queries where it has none."""
    assert encode is not None
    training = rows.filter(pl.col("part") == "training")
    alone = rows.filter(~pl.col("label").is_in(training["label"].unique().implode()))
    used = pl.concat([training, alone])
    codes = _codes(used["label"], labels)
    vectors = encode(used["query"].to_list())
    sums = np.zeros((len(labels), vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, codes, vectors)
    return _unit(sums)


def _texts(rows: pl.DataFrame, _: pl.Series, encode: Encode | None) -> NDArray[np.float32]:
    """Vector of each label's `label_text`; of its path and name in words where it has none."""
    assert encode is not None
    name = pl.coalesce("label_path", "label").str.replace_all(r"[_/\-.]+", " ")
    named = (
        rows.group_by("label")
        .agg(pl.coalesce("label_text", name).drop_nulls().first().alias("text"))
        .sort("label")
    )
    return encode(named["text"].to_list())


def _paths(rows: pl.DataFrame, labels: pl.Series, _: Encode | None) -> NDArray[np.float32]:
    """One-hot levels of `label_path`: the cosine of two labels is their share of common levels.

    The last level is the label itself and is left out where the path ends in it.
    """
    if rows["label_path"].null_count() == rows.height:
        raise ConfigError(
            "sampling.similarity.source: path needs a label_path column in the knowledge base "
            "(such as payments/refund). Add one, or use centroid or text."
        )
    paths = rows.group_by("label").agg(pl.col("label_path").drop_nulls().first()).sort("label")
    prefixes: dict[str, int] = {}
    of_label: list[list[int]] = []
    for label, path in paths.iter_rows():
        levels = str(path or "").strip("/").split("/")
        levels = levels[:-1] if levels[-1] == label or len(levels) > 1 else levels
        chain = ["/".join(levels[: depth + 1]) for depth in range(len(levels))]
        of_label.append([prefixes.setdefault(prefix, len(prefixes)) for prefix in chain if prefix])
    hot = np.zeros((len(labels), max(1, len(prefixes))), dtype=np.float32)
    for number, own in enumerate(of_label):
        hot[number, own] = 1.0
    return _unit(hot)


SOURCES: dict[str, Callable[[pl.DataFrame, pl.Series, Encode | None], NDArray[np.float32]]] = {
    "centroid": _centroids,
    "text": _texts,
    "path": _paths,
}


def _kept(labels: int) -> int:
    return labels - 1 if labels <= DENSE_UP_TO else NEIGHBOURS_BEYOND


def _nearest(
    vectors: NDArray[np.float32], keep: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The `keep` nearest other rows of each row and their cosines, in blocks of bounded memory."""
    total = len(vectors)
    neighbours = np.empty((total, keep), dtype=np.int32)
    scores = np.empty((total, keep), dtype=np.float32)
    for start in range(0, total, _BLOCK):
        block = vectors[start : start + _BLOCK] @ vectors.T
        own = np.arange(len(block))
        block[own, start + own] = -np.inf
        # Equal scores keep the labels' order, so that every machine lists the same neighbours.
        order = np.argsort(-block, axis=1, kind="stable")[:, :keep]
        neighbours[start : start + len(block)] = order
        scores[start : start + len(block)] = np.take_along_axis(block, order, axis=1)
    return neighbours, scores


def _codes(values: pl.Series, labels: pl.Series) -> NDArray[np.int64]:
    """Position of each value in the sorted labels."""
    return np.searchsorted(labels.to_numpy(), values.to_numpy())


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)
