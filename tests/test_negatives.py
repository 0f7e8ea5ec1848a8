"""Sampling: the distribution is Algorithm 1's, and no negative shares its anchor's label."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monoglot.errors import ConfigError, DataError
from monoglot.learning.negatives import STRATEGIES, Pool, draw_negatives
from monoglot.learning.similarity import LabelSimilarity, label_similarity
from monoglot.learning_config import SamplingConfig, SimilarityConfig


def similarity_of(matrix: np.ndarray) -> LabelSimilarity:
    hidden = matrix.astype(np.float32).copy()
    np.fill_diagonal(hidden, -np.inf)
    order = np.argsort(-hidden, axis=1, kind="stable")[:, : len(matrix) - 1]
    return LabelSimilarity(
        tuple(f"l{number:02}" for number in range(len(matrix))),
        order.astype(np.int32),
        np.take_along_axis(hidden, order, axis=1),
    )


def random_similarity(labels: int, seed: int = 0) -> LabelSimilarity:
    return similarity_of(np.random.default_rng(seed).uniform(-0.2, 0.9, (labels, labels)))


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@given(
    sizes=st.lists(st.integers(0, 5), min_size=3, max_size=8),
    seed=st.integers(0, 5),
    temperature=st.sampled_from([0.01, 0.1, 10.0]),
)
@settings(max_examples=40, deadline=None)
def test_negatives_are_distinct_rows_of_other_labels(strategy, sizes, seed, temperature):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    anchors = np.arange(len(sizes)).repeat(7)
    config = SamplingConfig(strategy=strategy, similarity=SimilarityConfig(temperature=temperature))
    pool = Pool.of(labels, len(sizes))
    fewest = len(labels) - max(sizes)
    rng = np.random.default_rng(seed)
    if fewest < 3:
        with pytest.raises(DataError, match="3 negatives"):
            draw_negatives(anchors, pool, random_similarity(len(sizes), seed), config, rng)
        return
    draws = draw_negatives(anchors, pool, random_similarity(len(sizes), seed), config, rng)
    assert draws.rows.shape == (len(anchors), 3)
    assert (labels[draws.rows] != anchors[:, None]).all()
    assert all(len(set(row)) == 3 for row in draws.rows.tolist())
    assert ((draws.probabilities > 0) & (draws.probabilities <= 1 + 1e-9)).all()


def exact_distribution(labels, own, weights_of_row, draws):
    """Probability of every ordered outcome of a slow, obvious sampler without replacement."""
    outcomes = {(): 1.0}
    for weights in weights_of_row[:draws]:
        following = {}
        for drawn, probability in outcomes.items():
            left = [
                (row, weights[row])
                for row in range(len(labels))
                if labels[row] != own and row not in drawn
            ]
            total = sum(weight for _, weight in left)
            for row, weight in left:
                following[(*drawn, row)] = probability * weight / total
        outcomes = following
    return outcomes


@pytest.mark.parametrize("strategy", ["algorithm1", "weighted", "random"])
def test_draws_follow_a_slow_sampler_and_report_its_probabilities(strategy):
    labels = np.array([0, 0, 1, 1, 2, 3])
    matrix = np.array(
        [[1, 0.5, 0.3, -0.1], [0.5, 1, 0.2, 0.1], [0.3, 0.2, 1, 0], [-0.1, 0.1, 0, 1]]
    )
    config = SamplingConfig(
        strategy=strategy,
        random_negatives=1,
        hard_negatives=1,
        similarity=SimilarityConfig(temperature=0.3),
    )
    hard = np.exp(matrix[0][labels] / 0.3)
    flat = np.ones(len(labels))
    plan = {"algorithm1": [flat, hard], "weighted": [hard, hard], "random": [flat, flat]}[strategy]
    expected = exact_distribution(labels, 0, plan, 2)
    draws = draw_negatives(
        np.zeros(40_000, dtype=np.int64),
        Pool.of(labels, 4),
        similarity_of(matrix),
        config,
        np.random.default_rng(7),
    )
    seen = dict.fromkeys(expected, 0)
    for outcome in map(tuple, draws.rows.tolist()):
        seen[outcome] += 1
    statistic = sum(
        (seen[outcome] - 40_000 * p) ** 2 / (40_000 * p) for outcome, p in expected.items()
    )
    degrees = len(expected) - 1
    # Mean plus five standard deviations of a chi-squared variable: one false alarm in 10^5.
    assert statistic < degrees + 5 * np.sqrt(2 * degrees)
    reported = draws.probabilities.prod(axis=1)
    assert reported == pytest.approx([expected[tuple(row)] for row in draws.rows.tolist()])


def test_a_random_negative_can_be_any_row_even_beyond_the_kept_neighbours():
    labels = np.repeat(np.arange(6), 2)
    whole = random_similarity(6)
    near = LabelSimilarity(whole.labels, whole.neighbours[:, :2], whole.scores[:, :2])
    config = SamplingConfig(strategy="random", random_negatives=1, hard_negatives=0)
    draws = draw_negatives(
        np.zeros(2000, dtype=np.int64), Pool.of(labels, 6), near, config, np.random.default_rng(0)
    )
    assert set(draws.rows.ravel().tolist()) == set(range(2, 12))


def test_hardest_takes_the_nearest_label_and_the_next_only_when_it_runs_out():
    matrix = np.array([[1, 0.9, 0.5, 0.1], [0.9, 1, 0, 0], [0.5, 0, 1, 0], [0.1, 0, 0, 1]])
    labels = np.array([0, 1, 1, 1, 2, 2, 3])
    config = SamplingConfig(strategy="hardest", random_negatives=0, hard_negatives=3)
    draws = draw_negatives(
        np.array([0, 0]),
        Pool.of(labels, 4),
        similarity_of(matrix),
        config,
        np.random.default_rng(0),
    )
    assert [sorted(row) for row in draws.rows.tolist()] == [[1, 2, 3]] * 2


ROWS = pl.DataFrame(
    {
        "row_id": ["a", "b", "c", "d"],
        "query": ["refund late", "refund missing", "reset password", "refund wallet"],
        "label": ["late", "missing", "password", "wallet"],
        "label_path": ["refunds/late", "refunds/missing", "account/password", "refunds/wallet"],
        "label_text": ["late refund", None, "password", "wallet refund"],
        "part": ["training", "index", "training", "training"],
    }
)


def bag_of_words(texts):
    words = sorted({word for text in texts for word in text.split()})
    vectors = np.array(
        [[text.split().count(word) for word in words] for text in texts], dtype=np.float32
    )
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("path", {"missing": 1.0, "wallet": 1.0, "password": 0.0}),
        ("text", {"missing": 0.0, "wallet": 0.5, "password": 0.0}),
        ("centroid", {"missing": 0.5, "wallet": 0.5, "password": 0.0}),
    ],
)
def test_similarity_of_each_source(source, expected):
    encode = None if source == "path" else bag_of_words
    found = label_similarity(ROWS, SimilarityConfig(source=source), encode)
    own = found.labels.index("late")
    named = {
        found.labels[label]: float(score)
        for label, score in zip(found.neighbours[own], found.scores[own], strict=True)
    }
    if source == "text":  # a label without text is described by its path: "refunds missing"
        assert named.pop("missing") == 0.0
        expected = {key: value for key, value in expected.items() if key != "missing"}
    assert named == pytest.approx(expected)


def test_path_similarity_without_paths_says_what_to_do():
    rows = ROWS.with_columns(pl.lit(None, dtype=pl.String).alias("label_path"))
    with pytest.raises(ConfigError, match="label_path column"):
        label_similarity(rows, SimilarityConfig(source="path"), None)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_proposed_row_takes_the_place_of_one_hard_negative(strategy):
    labels = np.repeat(np.arange(5), 4)
    config = SamplingConfig(strategy=strategy, random_negatives=1, hard_negatives=2)
    pool, similarity = Pool.of(labels, 5), random_similarity(5)
    anchors = np.array([0, 0, 1, 2, 3] * 50)
    proposed = np.array([17, -1, 5, 0, 9] * 50)  # the third is a row of the anchor's own label
    rng = np.random.default_rng(0)
    draws = draw_negatives(anchors, pool, similarity, config, rng, proposed=proposed)
    taken = np.array([1, 0, 0, 1, 1] * 50, dtype=bool) & (strategy != "random")
    assert (draws.rows[taken, 0] == proposed[taken]).all()
    assert (draws.probabilities[taken, 0] == 1.0).all()
    assert (labels[draws.rows] != anchors[:, None]).all()
    assert all(len(set(row)) == 3 for row in draws.rows.tolist())
    if strategy == "algorithm1":  # one random negative and one hard one are left beside it
        assert draws.probabilities[taken, 1] == pytest.approx(1 / 15)
    alone = draw_negatives(anchors[~taken], pool, similarity, config, np.random.default_rng(0))
    assert (draws.rows[~taken] == alone.rows).all()
    assert (draws.probabilities[~taken] == alone.probabilities).all()


def test_draws_beside_a_proposed_row_report_their_probabilities():
    """Row 2 is given; the random one is any other row, the hard one weighted, without those two."""
    labels = np.array([0, 0, 1, 1, 2, 3])
    matrix = np.array(
        [[1, 0.5, 0.3, -0.1], [0.5, 1, 0.2, 0.1], [0.3, 0.2, 1, 0], [-0.1, 0.1, 0, 1]]
    )
    config = SamplingConfig(similarity=SimilarityConfig(temperature=0.5))
    pool, own = Pool.of(labels, 4), np.zeros(4000, dtype=np.int64)
    proposed = np.full(4000, 2)
    rng = np.random.default_rng(1)
    draws = draw_negatives(own, pool, similarity_of(matrix), config, rng, proposed=proposed)
    weights = np.exp(matrix[0][labels] / 0.5) * (labels != 0)
    for row, told in zip(draws.rows[:200], draws.probabilities[:200], strict=True):
        left = weights.sum() - weights[2] - weights[row[1]]
        assert told == pytest.approx([1.0, 1 / 3, weights[row[2]] / left])
    assert np.bincount(draws.rows[:, 1], minlength=6)[[3, 4, 5]] == pytest.approx(1333, abs=110)


def test_without_hard_negatives_a_proposal_is_left_alone():
    labels = np.repeat(np.arange(3), 3)
    config = SamplingConfig(hard_negatives=0, random_negatives=2)
    args = (np.zeros(9, dtype=np.int64), Pool.of(labels, 3), random_similarity(3), config)
    alone = draw_negatives(*args, np.random.default_rng(0))
    given = draw_negatives(*args, np.random.default_rng(0), proposed=np.full(9, 4))
    assert (given.rows == alone.rows).all()
