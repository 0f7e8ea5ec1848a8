"""Where the similarity of labels comes from: what they are called, filed under, and asked."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.errors import ConfigError
from monoglot.learning.label_sums import label_sums

Encode = Callable[[list[str]], NDArray[np.float32]]
Scores = NDArray[np.float32]

# As in `baselines.tfidf`: pieces within words, since few labels share whole words.
_CHARACTERS = (2, 5)
_QUERIES_READ = 100  # of a label: more of them change its shares of letters no longer


class Source(Protocol):
    """Similarity of L labels by one source."""

    @property
    def known(self) -> NDArray[np.bool_]:
        """The labels of which the source knows anything (L,)."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What it had to do without, one sentence each."""

    def scores(self, start: int, stop: int) -> Scores:
        """Similarities (stop - start, L), in [-1, 1], of some labels with all."""


@dataclass(frozen=True)
class Cosines:
    """Similarity as the cosine of vectors (L, d) of length 1, or 0 for an unknown label."""

    vectors: NDArray[np.float32]
    known: NDArray[np.bool_]
    warnings: tuple[str, ...] = ()

    def scores(self, start: int, stop: int) -> Scores:
        """Cosines of some labels with all."""
        return self.vectors[start:stop] @ self.vectors.T


class Lexical:
    """Pieces of words that the queries of two labels share: cosine of their TF-IDF weights."""

    warnings: tuple[str, ...] = ()

    def __init__(self, rows: pl.DataFrame) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        queries = rows.sort("label", "row_id").group_by("label", maintain_order=True)
        texts = queries.agg(pl.col("query").head(_QUERIES_READ).str.join("\n"))["query"]
        weigh = TfidfVectorizer(
            analyzer="char_wb", ngram_range=_CHARACTERS, dtype=np.float32, sublinear_tf=True
        )
        self._weights = weigh.fit_transform(texts)
        self._columns = self._weights.T.tocsc()
        self.known = np.ones(len(texts), dtype=np.bool_)

    def scores(self, start: int, stop: int) -> Scores:
        """Cosines of some labels with all."""
        return np.asarray((self._weights[start:stop] @ self._columns).toarray(), dtype=np.float32)


def centroids(rows: pl.DataFrame, labels: pl.Series, encode: Encode) -> Cosines:
    """Mean direction of each label's training queries; of its index queries where it has none."""
    training = rows.filter(pl.col("part") == "training")
    alone = rows.filter(~pl.col("label").is_in(training["label"].unique().implode()))
    used = pl.concat([training, alone])
    vectors = encode(used["query"].to_list())
    sums = label_sums(label_codes(used["label"], labels), vectors, len(labels), np.float32)
    return Cosines(_unit(sums), np.ones(len(labels), dtype=np.bool_))


def texts(rows: pl.DataFrame, encode: Encode) -> Cosines:
    """Vector of each label's `label_text`; of its path and name in words where it has none."""
    name = pl.coalesce("label_path", "label").str.replace_all(r"[_/\-.]+", " ")
    named = (
        rows.group_by("label")
        .agg(
            pl.coalesce("label_text", name).drop_nulls().first().alias("text"),
            pl.col("label_text").is_null().all().alias("bare"),
        )
        .sort("label")
    )
    known = np.ones(named.height, dtype=np.bool_)
    bare = int(named["bare"].sum())
    warning = (
        f"similarity by text: {bare:,} of {named.height:,} labels have no label_text; their path "
        "or name stands for it."
    )
    return Cosines(encode(named["text"].to_list()), known, (warning,) if bare else ())


def paths(rows: pl.DataFrame, levels: int | None = None) -> Cosines:
    """One-hot levels of `label_path`: the cosine of two labels is their share of common levels.

    The last level is the label itself and is left out where the path ends in it.

    Args:
        rows: with label and label_path.
        levels: how deep the taxonomy is read; None: all of it.

    Raises:
        ConfigError: no label has a path.
    """
    found = rows.group_by("label").agg(pl.col("label_path").drop_nulls().first()).sort("label")
    known = found["label_path"].is_not_null().to_numpy()
    if not known.any():
        raise ConfigError(
            "sampling.similarity.source: path needs a label_path column in the knowledge base "
            "(such as payments/refund). Add one, or use centroid, text or lexical."
        )
    prefixes: dict[str, int] = {}
    of_label = [
        [
            prefixes.setdefault(prefix, len(prefixes))
            for prefix in _above(label, path or "")[:levels]
        ]
        for label, path in found.iter_rows()
    ]
    hot = np.zeros((len(known), max(1, len(prefixes))), dtype=np.float32)
    for number, own in enumerate(of_label):
        hot[number, own] = 1.0
    bare = int((~known).sum())
    warning = f"similarity by path: {bare:,} of {len(known):,} labels have no label_path."
    return Cosines(_unit(hot), known, (warning,) if bare else ())


def _above(label: str, path: str) -> list[str]:
    """The levels above a label, outermost first, each with those above it."""
    levels = [level for level in re.split("/+", path) if level]
    if levels and (levels[-1] == label or len(levels) > 1):
        levels = levels[:-1]
    return ["/".join(levels[: depth + 1]) for depth in range(len(levels))]


def label_codes(values: pl.Series, labels: pl.Series) -> NDArray[np.int64]:
    """Position of each value among the labels, all of which it must be one of."""
    return values.cast(pl.Enum(labels)).to_physical().to_numpy().astype(np.int64)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)
