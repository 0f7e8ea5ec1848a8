"""Label x label similarity: what makes a negative hard (arXiv 2506.02527, Algorithm 1).

The paper leaves its similarity undefined. Ours comes from one or several sources, see
`similarity_sources`. A single source keeps its own scale. Several are blended by their weights,
each shifted and stretched to mean 0 and standard deviation `SPREAD` over all pairs of labels that
it knows: cosines of one model lie in 0.7 to 1 and shared levels of a path at 0 or 1, and neither
should drown the other. A pair that a source does not know is left to those that do.

All pairs are kept up to `DENSE_UP_TO` labels; beyond, only the nearest `NEIGHBOURS_BEYOND` of each:
memory then grows with the labels, not with their square.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.learning.similarity_file import read_similarity
from monoglot.learning.similarity_sources import (
    Encode,
    Lexical,
    Scores,
    Source,
    centroids,
    paths,
    texts,
)
from monoglot.learning_config import SimilarityConfig, SimilaritySource

DENSE_UP_TO = 2048  # labels
NEIGHBOURS_BEYOND = 256
SPREAD = 0.2  # of a blended source; chosen, not measured
_BLOCK = 1024


@dataclass(frozen=True)
class LabelSimilarity:
    """The nearest other labels of each label, most similar first.

    Attributes:
        labels: the L labels, sorted.
        neighbours: (L, m) positions in `labels`, never the own one.
        scores: (L, m) similarities of those.
        warnings: what the sources had to do without, one sentence each.
    """

    labels: tuple[str, ...]
    neighbours: NDArray[np.int32]
    scores: NDArray[np.float32]
    warnings: tuple[str, ...] = ()

    def table(self) -> pl.DataFrame:
        """The same as a table, a row a label, for `of_table`."""
        return pl.DataFrame(
            {
                "label": self.labels,
                "neighbours": pl.Series(
                    self.neighbours, dtype=pl.Array(pl.Int32, self.neighbours.shape[1])
                ).arr.to_list(),
                "scores": pl.Series(self.scores).arr.to_list(),
            }
        )

    @classmethod
    def of_table(cls, table: pl.DataFrame) -> "LabelSimilarity":
        """What `table` wrote."""
        width = len(table["neighbours"][0]) if table.height else 0
        return cls(
            tuple(table["label"]),
            table["neighbours"].explode().to_numpy().reshape(-1, width),
            table["scores"].explode().to_numpy().reshape(-1, width),
        )


def label_similarity(
    rows: pl.DataFrame,
    config: SimilarityConfig,
    encode: Encode | None,
    *,
    levels: int | None = None,
) -> LabelSimilarity:
    """Similarity of the labels of `rows` (row_id, query, label, label_path, label_text, part).

    Args:
        rows: the knowledge base with its split.
        config: which sources to use.
        encode: texts to unit vectors by the base model; None where `config.needs_model` is false.
        levels: how deep the source `path` reads the taxonomy, for measuring what a shallow one
            costs; None: all of it.

    Raises:
        ConfigError: a source needs a column that the knowledge base has not.
        DataError: the user's file cannot be used.
    """
    labels = rows["label"].unique().sort()
    sources: list[Source] = [
        paths(rows, levels) if name == "path" else _source(name, rows, labels, config.file, encode)
        for name in config.weights
    ]
    warnings = [warning for source in sources for warning in source.warnings]
    if len(sources) > 1:
        scales = [_Scale.of(source) for source in sources]
        blended = _Blend(sources, scales, list(config.weights.values()))
        unknown = ~np.logical_or.reduce([source.known for source in sources])
    else:
        blended, unknown = None, ~sources[0].known
    if unknown.any():
        warnings.append(
            f"similarity: no source knows {int(unknown.sum()):,} of {len(labels):,} labels: all "
            "others are alike to them. Blend in another source, such as lexical."
        )
    neighbours, scores = _nearest(blended or sources[0], len(labels), _kept(len(labels)))
    return LabelSimilarity(tuple(labels), neighbours, scores, tuple(warnings))


def shuffled(similarity: LabelSimilarity, share: float, seed: int) -> LabelSimilarity:
    """The same similarities with a share of the labels in one another's places, none in its own.

    For measuring what a wrong similarity costs: sizes, scores and their spread stay as they are,
    only which label has which is wrong.

    Args:
        similarity: of L labels.
        share: of the labels to displace, 0 to 1; a single one has nowhere to go.
        seed: of the choice.
    """
    total = len(similarity.labels)
    moved = np.random.default_rng(seed).permutation(total)[: round(share * total)]
    stands_for, stood_for_by = np.arange(total), np.arange(total)
    stands_for[moved] = np.roll(moved, 1)
    stood_for_by[stands_for] = np.arange(total)
    neighbours = stood_for_by[similarity.neighbours[stands_for]].astype(np.int32)
    return replace(similarity, neighbours=neighbours, scores=similarity.scores[stands_for])


def _source(
    name: SimilaritySource,
    rows: pl.DataFrame,
    labels: pl.Series,
    file: Path | None,
    encode: Encode | None,
) -> Source:
    if name == "lexical":
        return Lexical(rows)
    if name == "file":
        assert file is not None
        return read_similarity(file, labels)
    assert encode is not None
    return texts(rows, encode) if name == "text" else centroids(rows, labels, encode)


class _Scale(NamedTuple):
    """Mean and standard deviation of a source's scores over all pairs of labels that it knows."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, source: Source) -> "_Scale":
        total = len(source.known)
        number, added, squared = 0, 0.0, 0.0
        for start in range(0, total, _BLOCK):
            block = source.scores(start, min(start + _BLOCK, total)).astype(np.float64)
            pairs = source.known[start : start + len(block), None] & source.known
            own = np.arange(len(block))
            pairs[own, start + own] = False
            number += int(pairs.sum())
            added += float(block[pairs].sum())
            squared += float((block[pairs] ** 2).sum())
        mean = added / max(1, number)
        return cls(mean, float(np.sqrt(max(0.0, squared / max(1, number) - mean**2))))


class _Blend:
    """The weighted mean of several sources on one scale, over those that know a pair."""

    def __init__(self, sources: list[Source], scales: list[_Scale], weights: list[float]) -> None:
        self._parts = list(zip(sources, scales, weights, strict=True))

    def scores(self, start: int, stop: int) -> Scores:
        """Blended similarities of some labels with all; 0, the mean, where no source knows them."""
        shape = (stop - start, len(self._parts[0][0].known))
        total, weight_of_all = np.zeros(shape), np.zeros(shape)
        for source, scale, weight in self._parts:
            # A source that finds all labels alike tells none apart.
            stretch = SPREAD / scale.deviation if scale.deviation > 1e-6 else 0.0
            pairs = weight * (source.known[start:stop, None] & source.known)
            total += pairs * ((source.scores(start, stop) - scale.mean) * stretch)
            weight_of_all += pairs
        return np.asarray(total / np.maximum(weight_of_all, 1e-9), dtype=np.float32)


def _kept(labels: int) -> int:
    return labels - 1 if labels <= DENSE_UP_TO else NEIGHBOURS_BEYOND


def _nearest(
    source: Source | _Blend, total: int, keep: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The `keep` nearest other labels of each and their scores, in blocks of bounded memory."""
    neighbours = np.empty((total, keep), dtype=np.int32)
    scores = np.empty((total, keep), dtype=np.float32)
    for start in range(0, total, _BLOCK):
        block = source.scores(start, min(start + _BLOCK, total)).copy()
        own = np.arange(len(block))
        block[own, start + own] = -np.inf
        # Equal scores keep the labels' order, so that every machine lists the same neighbours.
        order = np.argsort(-block, axis=1, kind="stable")[:, :keep]
        neighbours[start : start + len(block)] = order
        scores[start : start + len(block)] = np.take_along_axis(block, order, axis=1)
    return neighbours, scores
