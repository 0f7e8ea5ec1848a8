"""Sampling: each strategy follows its slow definition; no negative shares its anchor's label."""

import typing
from zlib import crc32

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_cases import Case, outcomes, random_matrix, similarity_of, unit_vectors

from monoglot.errors import DataError
from monoglot.learning import mining
from monoglot.learning.by_similarity import Material
from monoglot.learning.distributions import Pool
from monoglot.learning.mined import ByScore
from monoglot.learning.mining import Space, mine, own_best, own_means
from monoglot.learning.negatives import STRATEGIES, Draws, draw_negatives, draw_planned
from monoglot.learning.pairs import make_triplets
from monoglot.learning.similarity import LabelSimilarity
from monoglot.learning_config import RANKED, SamplingConfig, SimilarityConfig

EVERY = sorted(STRATEGIES)


def config_of(strategy, **more):
    return SamplingConfig(strategy=strategy, rank_window=(2, 4), **more)


def drawn_often(material: Material, anchor: int, times: int, seed: int = 0) -> Draws:
    """Negatives of one anchor, drawn for many times."""
    plan = STRATEGIES[material.config.strategy].plan(material)
    anchors, nothing = np.full(times, anchor), np.empty((times, 0), dtype=np.int64)
    rng = np.random.default_rng(seed)
    positions, probabilities = draw_planned(plan, material, anchors, nothing, rng)
    return Draws(material.pool.rows[positions], probabilities)


def test_the_config_offers_every_strategy_and_knows_which_rank_rows():
    offered = typing.get_args(SamplingConfig.model_fields["strategy"].annotation)
    assert sorted(offered) == EVERY
    assert sorted(RANKED) == [name for name in EVERY if STRATEGIES[name].mine is not None]


@pytest.mark.parametrize("strategy", EVERY)
@given(
    sizes=st.lists(st.integers(0, 5), min_size=2, max_size=8),
    seed=st.integers(0, 5),
    temperature=st.sampled_from([0.01, 0.1, 10.0]),
    progress=st.sampled_from([0.0, 0.4, 1.0]),
)
@settings(max_examples=30, deadline=None)
def test_negatives_are_distinct_rows_of_other_labels(strategy, sizes, seed, temperature, progress):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    anchors = np.flatnonzero(sizes).repeat(3)
    case = Case(labels, anchors, len(sizes), seed)
    config = config_of(strategy, similarity=SimilarityConfig(temperature=temperature))
    fewest = len(labels) - max(sizes)
    if len(anchors) == 0:
        return
    material = case.material(config, progress)
    if fewest < 3:
        with pytest.raises(DataError, match="3 negatives"):
            draw_negatives(material, np.random.default_rng(seed))
        return
    draws = draw_negatives(material, np.random.default_rng(seed))
    assert draws.rows.shape == (len(anchors), 3)
    assert (labels[draws.rows] != anchors[:, None]).all()
    assert all(len(set(row)) == 3 for row in draws.rows.tolist())
    assert ((draws.probabilities > 0) & (draws.probabilities <= 1 + 1e-9)).all()
    again = draw_negatives(material, np.random.default_rng(seed))
    assert (again.rows == draws.rows).all()
    assert (again.probabilities == draws.probabilities).all()


SMALL = Case([0, 0, 1, 1, 2, 3, 1], [0, 0, 1, 2, 2, 3], 4, seed=3, sources=[0, 1, 2, -1, 4, 5])


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("strategy", EVERY)
def test_draws_follow_a_slow_sampler_and_report_its_probabilities(strategy, progress):
    if progress > 0 and strategy != "curriculum":
        pytest.skip("the epoch bears on the curriculum alone")
    config = config_of(
        strategy,
        random_negatives=1,
        hard_negatives=1,
        simans_a=2.0,
        similarity=SimilarityConfig(temperature=0.3),
    )
    material = SMALL.material(config, progress)
    for anchor in (0, 2, 5):
        fallback = SMALL.row_labels != SMALL.anchor_labels[anchor]
        expected = outcomes([*SMALL.expected(anchor, config, progress), fallback])
        times = 20_000
        draws = drawn_often(material, anchor, times)
        found, first, times_seen = np.unique(
            draws.rows, axis=0, return_index=True, return_counts=True
        )
        seen = dict.fromkeys(expected, 0)
        seen |= dict(zip(map(tuple, found.tolist()), times_seen.tolist(), strict=True))
        assert seen.keys() == expected.keys()
        likely = {outcome: p for outcome, p in expected.items() if times * p >= 5}
        statistic = sum((seen[it] - times * p) ** 2 / (times * p) for it, p in likely.items())
        degrees = max(1, len(likely) - 1)
        # Mean plus five standard deviations of a chi-squared variable: one false alarm in 10^5.
        assert statistic < degrees + 5 * np.sqrt(2 * degrees)
        reported = draws.probabilities[first].prod(axis=1)
        wanted = [expected[tuple(row)] for row in found.tolist()]
        assert reported == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("strategy", EVERY)
def test_when_as_many_rows_are_left_as_are_drawn_each_is_drawn_once(strategy):
    """Sixteen of sixteen: drawing again and again would not end, and none may be left out."""
    labels = [0] * 3 + [1] * 10 + [2] * 6
    case = Case(labels, [0, 1], 3)
    config = SamplingConfig(
        strategy=strategy, random_negatives=7, hard_negatives=9, rank_window=(1, 16)
    )
    draws = drawn_often(case.material(config, 0.5), 0, 200)
    assert (np.sort(draws.rows, axis=1) == np.arange(3, 19)).all()
    assert draws.probabilities[:, -1] == pytest.approx(np.ones(200))
    with pytest.raises(DataError, match="only 9 rows"):
        draw_negatives(case.material(config, 0.5), np.random.default_rng(0))


def bag_of_letters(texts):
    """Unit vectors that depend on the text alone."""
    return np.concatenate(
        [unit_vectors(1, np.random.default_rng(crc32(text.encode())), width=6) for text in texts]
    )


def table(rows_of_label):
    return pl.DataFrame(
        [
            {"row_id": f"{label}-{n}", "query": f"{label} {n}", "label": label, "part": "training"}
            for label, size in rows_of_label.items()
            for n in range(size)
        ]
    )


def anchors_of(rows):
    return rows.select(
        query_id=pl.concat_str(pl.lit("q-"), "row_id"),
        text=pl.concat_str("query", pl.lit(" bhai")),
        label="label",
        source_row_id=pl.when(pl.col("row_id").str.ends_with("0")).then("row_id"),
    )


@pytest.mark.parametrize("strategy", EVERY)
def test_the_order_of_the_inputs_changes_nothing(strategy):
    rows = table({"l00": 4, "l01": 1, "l02": 6, "l03": 3})
    anchors, similarity = anchors_of(rows), similarity_of(random_matrix(4))

    def drawn(anchors, rows):
        options = {"epochs": 3, "seed": 1, "encode": bag_of_letters}
        return make_triplets(anchors, rows, similarity, config_of(strategy), **options)

    first = drawn(anchors, rows)
    assert first.equals(drawn(anchors.sample(fraction=1, shuffle=True, seed=0), rows.reverse()))
    assert first["strategy"].unique().to_list() == [strategy]
    label_of = dict(rows.select("row_id", "label").iter_rows())
    own = dict(anchors.select("query_id", "label").iter_rows())
    pairs = first.explode("negative_rows").select("anchor", "negative_rows").iter_rows()
    assert all(label_of[negative] != own[anchor] for anchor, negative in pairs)


def test_an_anchor_whose_label_has_no_usable_row_is_left_out():
    rows = table({"l00": 3, "l01": 3}).with_columns(
        part=pl.when(pl.col("label") == "l01").then(pl.lit("held_out")).otherwise(pl.lit("index"))
    )
    config = SamplingConfig(strategy="random", random_negatives=0, hard_negatives=0)
    drawn = make_triplets(anchors_of(rows), rows, None, config, epochs=1, seed=0)
    assert drawn["anchor"].to_list() == ["q-l00-0", "q-l00-1", "q-l00-2"]
    assert drawn["negative_rows"].to_list() == [[], [], []]


def test_a_random_negative_can_be_any_row_even_beyond_the_kept_neighbours():
    labels = np.repeat(np.arange(6), 2)
    whole = similarity_of(random_matrix(6))
    near = LabelSimilarity(whole.labels, whole.neighbours[:, :2], whole.scores[:, :2])
    config = SamplingConfig(strategy="random", random_negatives=1, hard_negatives=0)
    material = Material(Pool.of(labels, 6), np.zeros(2000, dtype=np.int64), config, near)
    draws = draw_negatives(material, np.random.default_rng(0))
    assert set(draws.rows.ravel().tolist()) == set(range(2, 12))


def test_a_large_label_is_drawn_by_its_size_row_first_and_not_label_first():
    """Two labels as similar as each other, of 1 and 9 rows."""
    case = Case([0] * 2 + [1] + [2] * 9, [0], 3)
    case.matrix[0, 1:] = 0.5
    for strategy, share in (("weighted", 0.1), ("algorithm1_label_first", 0.5)):
        config = SamplingConfig(strategy=strategy, random_negatives=0, hard_negatives=1)
        draws = drawn_often(case.material(config), 0, 20_000)
        of_the_small_one = (draws.rows == 2).mean()
        assert of_the_small_one == pytest.approx(share, abs=0.02)
        assert set(draws.probabilities[draws.rows == 2].round(9)) == {share}


def test_the_curriculum_goes_from_random_to_weighted():
    rows = table({"l00": 2, "l01": 2, "l02": 30})
    matrix = np.array([[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1]])
    config = SamplingConfig(strategy="curriculum", random_negatives=0, hard_negatives=1)
    drawn = make_triplets(
        anchors_of(rows).filter(pl.col("label") == "l00"),
        rows,
        similarity_of(matrix),
        config,
        epochs=201,
        seed=0,
    )
    hard = drawn.with_columns(hard=pl.col("negative_rows").list.first().str.starts_with("l01"))
    thirds = hard.group_by(pl.col("epoch") // 67, maintain_order=True).agg(pl.col("hard").mean())
    first, second, third = thirds["hard"]
    assert first < 0.35 < second < 0.65 < third
    ends = hard.group_by("epoch", maintain_order=True).agg(pl.col("probabilities").list.first())
    assert ends["probabilities"][0].to_list() == pytest.approx([1 / 32] * 2)


@pytest.mark.parametrize("strategy", ["positive_aware", "simans"])
def test_another_scale_of_the_models_scores_changes_nothing(strategy):
    """Cosines of E5 lie in 0.7 to 1: thresholds and distances must not depend on that."""
    case = Case(np.repeat(np.arange(5), 6), np.repeat(np.arange(5), 4), 5)
    config = config_of(strategy)
    plain = draw_negatives(case.material(config), np.random.default_rng(0))
    # A common direction added to every vector squeezes all cosines into the upper end.
    share = np.float32(0.8)
    for name in ("rows", "anchors"):
        vectors = getattr(case, name)
        wide = np.concatenate([vectors * np.sqrt(1 - share), np.ones((len(vectors), 1))], axis=1)
        wide[:, -1] *= np.sqrt(share)
        setattr(case, name, wide.astype(np.float32))
    assert (case.rows @ case.anchors.T).min() > 0.55
    squeezed = draw_negatives(case.material(config), np.random.default_rng(0))
    assert (plain.rows == squeezed.rows).mean() > 0.97  # but for rounding at five decimals


def test_a_label_that_is_confused_with_none_is_drawn_for_by_similarity():
    case = Case([0, 0, 1, 1, 2, 2], [0, 0, 1, 1], 3)
    case.rows = np.eye(3, dtype=np.float32)[case.row_labels]
    case.anchors = np.array([[1, 0, 0], [1, 0, 0], [0, 0.6, 0.8], [0, 0.6, 0.8]], dtype=np.float32)
    config = config_of("confusion", random_negatives=0, hard_negatives=1)
    material = case.material(config)
    clear = drawn_often(material, 0, 4000)
    weights = np.exp(case.matrix[0, 1:] / 0.1)
    wanted = weights[1] / weights.sum()
    assert (case.row_labels[clear.rows] == 2).mean() == pytest.approx(wanted, abs=0.04)
    confused = drawn_often(material, 2, 4000)
    weights = np.exp(case.matrix[1, [0, 2]] / 0.1)
    # Both anchors of label 1 are taken for label 2: two counts beside one by similarity.
    wanted = 2 / 3 + weights[1] / weights.sum() / 3
    assert (case.row_labels[confused.rows] == 2).mean() == pytest.approx(wanted, abs=0.04)


def brute_mine(space, keep):
    """Every score at once, own labels hidden; equal ones in the order of the rows."""
    scores = np.round(space.anchors @ space.rows.T, 5)
    scores[space.labels[:, None] == space.pool.labels] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :keep]
    found = np.take_along_axis(scores, order, axis=1)
    return np.where(np.isfinite(found), order, -1), found


@pytest.mark.parametrize("keep", [1, 4, 200])
@pytest.mark.parametrize("crowd", [0, 4])
@pytest.mark.parametrize(("anchors", "rows"), [(3, 5), (7, 64), (1024, 8192)])
def test_mining_in_blocks_equals_mining_at_once(monkeypatch, anchors, rows, crowd, keep):
    monkeypatch.setattr(mining, "_ANCHORS", anchors)
    monkeypatch.setattr(mining, "_ROWS", rows)
    monkeypatch.setattr(mining, "_CROWD", crowd)
    rng = np.random.default_rng(0)
    pool = Pool.of(rng.integers(0, 6, 90), 6)
    vectors = unit_vectors(90, rng)
    vectors[20:70] = vectors[rng.integers(0, 20, 50)]  # equal rows in other blocks: ties
    labels = rng.integers(0, 6, 17)
    sources = np.full(17, -1)
    space = Space(unit_vectors(17, rng), vectors, labels, sources, pool)
    found = mine(space, keep, ByScore())
    wanted_rows, wanted_scores = brute_mine(space, keep)
    assert (found.rows == wanted_rows).all()
    assert (found.scores == wanted_scores).all()


def test_scores_with_the_own_label_leave_the_source_out(monkeypatch):
    monkeypatch.setattr(mining, "_ROWS", 1)
    monkeypatch.setattr(mining, "_ANCHORS", 1)
    pool = Pool.of(np.array([0, 0, 1, 2]), 4)
    rows = np.array([[1, 0], [0.6, 0.8], [0, 1], [0, 1]], dtype=np.float32)
    anchors = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    labels, sources = np.array([0, 0, 2]), np.array([0, -1, 3])
    space = Space(anchors, rows, labels, sources, pool)
    assert own_best(space).tolist() == pytest.approx([0.6, 1.0, np.inf])
    assert own_means(space).tolist() == pytest.approx([0.8, 0.8, 1.0])


def test_hardest_takes_the_nearest_label_and_the_next_only_when_it_runs_out():
    case = Case([0, 1, 1, 1, 2, 2, 3], [0, 0], 4)
    case.matrix[0] = [1, 0.9, 0.5, 0.1]
    config = SamplingConfig(strategy="hardest", random_negatives=0, hard_negatives=3)
    draws = draw_negatives(case.material(config), np.random.default_rng(0))
    assert [sorted(row) for row in draws.rows.tolist()] == [[1, 2, 3]] * 2


@pytest.mark.parametrize("strategy", EVERY)
def test_a_proposed_row_takes_the_place_of_one_hard_negative(strategy):
    labels = np.repeat(np.arange(5), 4)
    case = Case(labels, [0, 0, 1, 2, 3] * 50, 5)
    config = config_of(strategy, random_negatives=1, hard_negatives=2)
    material = case.material(config)
    proposed = np.array([17, -1, 5, 0, 9] * 50)  # the third is a row of the anchor's own label
    draws = draw_negatives(material, np.random.default_rng(0), proposed=proposed)
    taken = np.array([1, 0, 0, 1, 1] * 50, dtype=bool) & (strategy != "random")
    assert (draws.rows[taken, 0] == proposed[taken]).all()
    assert (draws.probabilities[taken, 0] == 1.0).all()
    assert (labels[draws.rows] != case.anchor_labels[:, None]).all()
    assert all(len(set(row)) == 3 for row in draws.rows.tolist())
    if strategy.startswith("algorithm1"):  # one random negative and one hard one are left
        assert draws.probabilities[taken, 1] == pytest.approx(1 / 15)


def test_draws_beside_a_proposed_row_report_their_probabilities():
    """Row 2 is given; the random one is any other row, the hard one weighted, without those two."""
    case = Case([0, 0, 1, 1, 2, 3], [0] * 4000, 4)
    config = SamplingConfig(similarity=SimilarityConfig(temperature=0.5))
    rng = np.random.default_rng(1)
    draws = draw_negatives(case.material(config), rng, proposed=np.full(4000, 2))
    weights = np.exp(case.matrix[0][case.row_labels] / 0.5) * (case.row_labels != 0)
    for row, told in zip(draws.rows[:200], draws.probabilities[:200], strict=True):
        left = weights.sum() - weights[2] - weights[row[1]]
        assert told == pytest.approx([1.0, 1 / 3, weights[row[2]] / left], rel=1e-5)
    assert np.bincount(draws.rows[:, 1], minlength=6)[[3, 4, 5]] == pytest.approx(1333, abs=110)


def test_without_hard_negatives_a_proposal_is_left_alone():
    case = Case(np.repeat(np.arange(3), 3), [0] * 9, 3)
    material = case.material(SamplingConfig(hard_negatives=0, random_negatives=2))
    alone = draw_negatives(material, np.random.default_rng(0))
    given = draw_negatives(material, np.random.default_rng(0), proposed=np.full(9, 4))
    assert (given.rows == alone.rows).all()
