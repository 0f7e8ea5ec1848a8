"""Negatives: a million anchors over 10,000 labels, and the same rows by another library."""

from pathlib import Path

import numpy as np

from benchmarks.memory import forget_peak, peak
from benchmarks.speed.figures import Figure, exponent, seconds_of
from benchmarks.speed.rows import doubling
from benchmarks.speed.st_mining import beside_sentence_transformers
from monoglot.learning.by_similarity import Material
from monoglot.learning.distributions import Pool
from monoglot.learning.negatives import draw_negatives
from monoglot.learning.similarity import LabelSimilarity
from monoglot.learning_config import SamplingConfig

TITLE = "Mining"
_LABELS, _NEIGHBOURS = 10_000, 64


def measure(*, quick: bool, data: Path | None) -> list[Figure]:
    """Anchors and rows in the same number, at doubling sizes; then beside sentence-transformers."""
    most, times = (125_000, 3) if quick else (1_000_000, 5)
    sizes = list(doubling(most, times))
    forget_peak()
    before = peak()
    seconds = [_seconds(size) for size in sizes]
    return [
        Figure(f"{most:,} anchors, {_LABELS:,} labels, k = 3", seconds[-1], "s", most=5.0),
        Figure("memory that this took", (peak() - before) / 2**30, "GiB", most=2.0),
        Figure(f"exponent, {sizes[0]:,} to {most:,}", exponent(sizes, seconds), "", most=1.1),
        *beside_sentence_transformers(quick=quick, data=data),
    ]


def _seconds(size: int) -> float:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, _LABELS, size)
    labels[:_LABELS] = np.arange(_LABELS)
    others = rng.integers(1, _LABELS, (_LABELS, _NEIGHBOURS))
    neighbours = (np.arange(_LABELS)[:, None] + np.sort(others, axis=1)) % _LABELS
    similarity = LabelSimilarity(
        tuple(f"label {number:05}" for number in range(_LABELS)),
        neighbours.astype(np.int32),
        np.sort(rng.random((_LABELS, _NEIGHBOURS), np.float32))[:, ::-1],
    )
    given = Material(
        pool=Pool.of(labels, _LABELS),
        labels=rng.permutation(labels),
        config=SamplingConfig(strategy="algorithm1", random_negatives=1, hard_negatives=2),
        similarity=similarity,
    )
    return seconds_of(lambda: draw_negatives(given, np.random.default_rng(1)))
