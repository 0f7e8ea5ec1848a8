"""What each sampling strategy ought to do, written slowly and obviously, for `test_negatives.py`.

A strategy is a list of weights over all rows for each of its draws; own-label rows weigh nothing.
"""

import numpy as np

from monoglot.learning.by_similarity import Material
from monoglot.learning.distributions import Pool
from monoglot.learning.mining import Space
from monoglot.learning.negatives import STRATEGIES
from monoglot.learning.similarity import LabelSimilarity
from monoglot.learning_config import SamplingConfig


def similarity_of(matrix: np.ndarray) -> LabelSimilarity:
    """A dense label similarity from its matrix."""
    hidden = matrix.astype(np.float32).copy()
    np.fill_diagonal(hidden, -np.inf)
    order = np.argsort(-hidden, axis=1, kind="stable")[:, : len(matrix) - 1]
    return LabelSimilarity(
        tuple(f"l{number:02}" for number in range(len(matrix))),
        order.astype(np.int32),
        np.take_along_axis(hidden, order, axis=1),
    )


def random_matrix(labels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.2, 0.9, (labels, labels))


def unit_vectors(count: int, rng: np.random.Generator, width: int = 4) -> np.ndarray:
    vectors = rng.normal(size=(count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Case:
    """Rows with labels, anchors, vectors of both and a label similarity."""

    def __init__(self, row_labels, anchor_labels, labels, seed=0, sources=None):
        rng = np.random.default_rng(seed)
        self.row_labels, self.labels = np.array(row_labels), labels
        self.anchor_labels = np.array(anchor_labels)
        self.matrix = random_matrix(labels, seed)
        centres = unit_vectors(labels, rng)
        self.rows = self._near(centres[self.row_labels], rng)
        self.anchors = self._near(centres[self.anchor_labels], rng)
        self.sources = np.full(len(anchor_labels), -1) if sources is None else np.array(sources)

    @staticmethod
    def _near(centres: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Vectors about those of their labels, some nearer to another's."""
        vectors = centres + 0.8 * unit_vectors(len(centres), rng)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def material(self, config: SamplingConfig, progress: float = 0.0) -> Material:
        """What a strategy draws from."""
        pool = Pool.of(self.row_labels, self.labels)
        space = Space(
            self.anchors,
            self.rows[pool.rows],
            self.anchor_labels,
            pool.places(self.sources),
            pool,
        )
        mine = STRATEGIES[config.strategy].mine
        return Material(
            pool=pool,
            labels=self.anchor_labels,
            config=config,
            similarity=similarity_of(self.matrix),
            mined=None if mine is None else mine(space, config),
            progress=progress,
        )

    def scores(self, anchor: int) -> np.ndarray:
        return np.round(self.rows @ self.anchors[anchor], 5)

    def expected(self, anchor: int, config: SamplingConfig, progress: float = 0.0) -> list:
        """The weights of all rows for each draw of an anchor."""
        own = self.anchor_labels[anchor]
        others = self.row_labels != own
        flat = others.astype(float)
        draws = config.random_negatives + config.hard_negatives
        hard = np.exp(self.matrix[own][self.row_labels] / config.similarity.temperature) * others
        sizes = np.bincount(self.row_labels, minlength=self.labels)[self.row_labels]
        by_label = hard / sizes
        name = config.strategy
        if name.startswith("algorithm1"):
            of_kind = by_label if name.endswith("label_first") else hard
            return [flat] * config.random_negatives + [of_kind] * config.hard_negatives
        if name == "curriculum":
            return [(1 - progress) * flat / flat.sum() + progress * hard / hard.sum()] * draws
        if name == "hardest":
            return [self._nearest_labels(own, draws)] * draws
        if name == "confusion":
            return [self._confused(own, by_label)] * draws
        if name in ("random", "weighted"):
            return [flat if name == "random" else hard] * draws
        return [self._by_score(anchor, config, others)] * draws

    def _nearest_labels(self, own: int, draws: int) -> np.ndarray:
        weights, found = np.zeros(len(self.row_labels)), 0
        for label in sorted(set(range(self.labels)) - {own}, key=lambda it: -self.matrix[own, it]):
            if found < draws:
                weights[self.row_labels == label] = 1.0
                found += int((self.row_labels == label).sum())
        return weights

    def _by_score(self, anchor: int, config: SamplingConfig, others: np.ndarray) -> np.ndarray:
        scores = self.scores(anchor)
        ranked = sorted(np.flatnonzero(others), key=lambda row: -scores[row])
        draws = config.random_negatives + config.hard_negatives
        positives = [
            np.mean(self.rows[self.row_labels == label] @ self.anchors[number])
            for number, label in enumerate(self.anchor_labels)
        ]
        if config.strategy == "simans":
            blind = [np.mean(self.rows @ vector) for vector in self.anchors]
            unit = max(np.median(np.subtract(positives, blind)), 1e-3)
            target = positives[anchor] + config.simans_b * unit
            exponents = -config.simans_a * ((scores - target) / unit) ** 2
            return np.where(others, np.exp(exponents - exponents[others].max()), 0.0)
        if config.strategy == "positive_aware":
            margin = np.median(positives) - np.quantile(positives, config.margin_quantile)
            ranked = [row for row in ranked if scores[row] < positives[anchor] - margin]
        first, last = config.rank_window if config.strategy == "rank_window" else (1, draws)
        weights = np.zeros(len(scores))
        weights[ranked[first - 1 : last]] = 1.0
        return weights

    def _confused(self, own: int, by_label: np.ndarray) -> np.ndarray:
        counts = np.zeros(self.labels)
        for anchor in np.flatnonzero(self.anchor_labels == own):
            scores = self.scores(anchor)
            of_own = self.row_labels == own
            if self.sources[anchor] >= 0:
                of_own[self.sources[anchor]] = False
            if of_own.any():
                above = scores > scores[of_own].max()
                counts[list(set(self.row_labels[above & (self.row_labels != own)]))] += 1
        sizes = np.bincount(self.row_labels, minlength=self.labels)
        per_row = np.where(sizes > 0, counts / np.maximum(sizes, 1), 0.0)[self.row_labels]
        return by_label / by_label.sum() + per_row  # similarity weighs as much as one anchor


def outcomes(weights_of_draws: list) -> dict:
    """Probability of every ordered outcome of a slow, obvious sampler without replacement.

    Where no mass is left, any other row of another label is drawn: `weights_of_draws` ends with
    those, as 0 and 1.
    """
    *draws, fallback = weights_of_draws
    found = {(): 1.0}
    for weights in draws:
        following = {}
        for drawn, probability in found.items():
            left = np.array(weights, dtype=float)
            left[list(drawn)] = 0.0
            if left.sum() <= 0:
                left = np.array(fallback, dtype=float)
                left[list(drawn)] = 0.0
            for row in np.flatnonzero(left):
                following[(*drawn, int(row))] = probability * left[row] / left.sum()
        found = following
    return found
