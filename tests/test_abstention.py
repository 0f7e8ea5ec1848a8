"""The calibration keeps its promise on simulated queries, and says where it cannot."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monoglot.contracts import Outcomes, empty
from monoglot.learning.abstention import (
    Sample,
    calibrate,
    curve,
    find_threshold,
    is_too_small,
    samples_of,
)
from monoglot.learning.thresholds import Abstention, Threshold

NONE = np.zeros(0)


def population(size, seed):
    """Scores and mistakes: the higher the score, the rarer a mistake; 8 % wrong in all."""
    rng = np.random.default_rng(seed)
    scores = rng.beta(6, 3, size)
    return scores, rng.random(size) < 0.9 * (1 - scores) ** 2.5


def outside(size, seed):
    return np.random.default_rng(seed).beta(3, 5, size)


def sample(scores, wrong, others=NONE, share=0.1):
    return Sample.of(
        np.array(scores, dtype=float), np.array(wrong, dtype=bool), np.array(others), share
    )


@pytest.mark.parametrize("others", [0, 300])
def test_the_rate_holds_on_queries_that_were_not_seen(others):
    """In 60 calibrations the promise may fail in 5 %: three times, and by chance in six."""
    scores, wrong = population(200_000, seed=1)
    far = outside(200_000, seed=2)
    broken, certain, coverage = 0, 0, []
    for seed in range(60):
        drawn = population(500, seed=100 + seed)
        found = find_threshold(sample(*drawn, outside(others, seed=200 + seed)), 0.1)
        certain += found.certain
        coverage.append(found.coverage)
        answered = scores >= found.score
        share = 0.1 if others else 0.0
        asked = (1 - share) * answered.mean() + share * (far >= found.score).mean()
        mistaken = (1 - share) * (answered & wrong).mean()
        mistaken += share * (far >= found.score).mean()
        broken += found.certain and mistaken / asked > 0.1
    assert certain >= 50
    assert broken <= 6
    assert np.mean(coverage) > 0.6  # a threshold that answers nothing would keep any promise


SCORED = st.lists(
    st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]), st.booleans()), min_size=1, max_size=60
)
RATES = st.floats(0.01, 0.6)


@settings(max_examples=40)
@given(SCORED, st.lists(st.sampled_from([0.1, 0.5, 0.9]), max_size=20), RATES, RATES)
def test_a_stricter_rate_never_answers_more(scored, others, one, other):
    drawn = sample(*zip(*scored, strict=True), others)
    strict, lax = (find_threshold(drawn, rate) for rate in sorted((one, other)))
    if strict.score is None or lax.score is None:
        assert strict.score is None
        return
    if strict.certain == lax.certain:
        assert strict.score >= lax.score
    assert lax.certain or not strict.certain


@settings(max_examples=40)
@given(SCORED, st.lists(st.sampled_from([0.1, 0.5, 0.9]), max_size=20), RATES)
def test_figures_are_those_of_the_threshold(scored, others, rate):
    """Counted one by one; equal scores are answered together or not at all."""
    found = find_threshold(sample(*zip(*scored, strict=True), others), rate)
    if found.score is None:
        assert (found.coverage, found.wrong, found.certain) == (0.0, None, False)
        return
    answered = [wrong for score, wrong in scored if score >= found.score]
    passed = [score for score in others if score >= found.score]
    share = 0.1 if others else 0.0
    inside = (1 - share) * len(answered) / len(scored)
    beyond = share * len(passed) / max(len(others), 1)
    mistaken = (1 - share) * sum(answered) / len(scored) + beyond
    assert found.coverage == pytest.approx(len(answered) / len(scored))
    assert found.wrong == pytest.approx(mistaken / (inside + beyond))
    assert found.wrong <= rate + 1e-9
    assert found.wrong <= found.at_most <= 1
    assert not found.certain or found.at_most <= rate
    assert found.caught == (pytest.approx(1 - len(passed) / len(others)) if others else None)


def test_all_right_answers_everything_and_all_wrong_answers_nothing():
    scores = np.linspace(0.2, 0.9, 400)
    right = find_threshold(sample(scores, np.zeros(400)), 0.05)
    assert (right.score, right.coverage, right.wrong, right.certain) == (0.2, 1.0, 0.0, True)
    wrong = find_threshold(sample(scores, np.ones(400)), 0.05)
    assert (wrong.score, wrong.coverage, wrong.certain) == (None, 0.0, False)
    assert wrong.verdict == "not reached"


def test_one_score_for_all_is_answered_or_not_as_a_whole():
    tied = sample(np.full(400, 0.5), np.arange(400) < 8)
    assert find_threshold(tied, 0.05).score == 0.5
    assert find_threshold(tied, 0.01).score is None


def test_without_confidence_the_measured_rate_decides_and_is_called_that():
    drawn = sample(np.linspace(0.2, 0.9, 40), np.arange(40) < 10)
    found = find_threshold(drawn, 0.05)
    assert not found.certain
    assert found.wrong <= 0.05 < found.at_most
    assert found.coverage > 0.7
    assert found.verdict == "as measured; not certain"


def test_more_questions_answer_more():
    coverage = [
        find_threshold(sample(*population(size, seed=3)), 0.1).coverage for size in (300, 3000)
    ]
    assert coverage[0] < coverage[1]


def test_out_of_scope_queries_raise_the_threshold_by_their_share_and_not_their_number():
    scores, wrong = population(2000, seed=4)
    alone = find_threshold(sample(scores, wrong), 0.1)
    few, many = (
        find_threshold(sample(scores, wrong, np.tile(outside(500, seed=5), times)), 0.1)
        for times in (1, 4)
    )
    heavy = find_threshold(sample(scores, wrong, outside(500, seed=5), 0.3), 0.1)
    assert alone.score < few.score < heavy.score
    assert few.score == pytest.approx(many.score, abs=0.02)
    assert few.caught > 0.7
    assert alone.caught is None


def test_too_small_is_what_could_not_show_the_rate_without_a_mistake():
    for size in (20, 80, 90, 400):
        perfect = sample(np.linspace(0, 1, size), np.zeros(size))
        assert is_too_small(perfect, 0.05) == (not find_threshold(perfect, 0.05).certain), size
    assert is_too_small(sample(NONE, NONE), 0.05)


def outcomes(language, scores, wrong, *, control=False, prefix="q"):
    count = len(scores)
    return pl.DataFrame(
        {
            "query_id": [f"{prefix}-{language}-{n}" for n in range(count)],
            "control": [control] * count,
            "language": [language] * count,
            "text": ["text"] * count,
            "label": ["a"] * count,
            "group": [f"{prefix}-{language}-{n}" for n in range(count)],
            "known": [True] * count,
            "rank": [2 if bad else 1 for bad in wrong],
            "top_labels": [["a"]] * count,
            "top_row": ["r"] * count,
            "top_query": ["query"] * count,
            "top_score": list(scores),
            "top_share": [1.0] * count,
        },
        schema=empty(Outcomes).schema,
    )


NOTHING = empty(Outcomes)


def test_each_language_has_its_own_threshold_and_a_rare_one_that_of_all():
    easy, hard = population(600, seed=6), population(600, seed=7)
    table = pl.concat(
        [
            outcomes("hi-Latn", *easy),
            outcomes("ar", hard[0] * 0.5, hard[1]),
            outcomes("es", [0.9, 0.8], [False, True]),
            outcomes("hi-Latn", easy[0], np.zeros(600), control=True),
        ]
    )
    samples = samples_of(table, NOTHING, 0.1, "en")
    assert list(samples) == ["ar", "en", "es", "hi-Latn", "all"]
    assert len(samples["all"].scores) == 1202  # the controls are no users' questions
    found = calibrate(samples, 0.1)
    assert found.languages["ar"].score < found.languages["hi-Latn"].score
    assert found.languages["en"].coverage == 1.0
    rare = found.languages["es"]
    assert (rare.pooled, rare.score, rare.questions) == (True, found.overall.score, 2)
    [warning] = found.warnings()
    assert "Abstention, es: that at most 10.0% of the answered are wrong is not certain" in warning
    assert "too few questions" in warning


def test_no_question_gives_no_thresholds():
    samples = samples_of(NOTHING, NOTHING, 0.1, "en")
    assert calibrate(samples, 0.05) is None
    assert curve(samples).is_empty()


def test_out_of_scope_queries_are_those_of_the_language_or_where_these_are_few_all():
    table = pl.concat([outcomes("hi-Latn", [0.5], [False]), outcomes("ar", [0.5], [False])])
    many = [0.1, 0.2] * 15
    others = pl.concat(
        [
            outcomes("HI-LATN", many, [True] * 30, prefix="o"),
            outcomes("ar", [0.3], [True], prefix="o"),
            outcomes("und", [0.4], [True], prefix="o"),
        ]
    )
    samples = samples_of(table, others, 0.2, "en")
    assert samples["hi-Latn"].outside.tolist() == pytest.approx(sorted(many))
    assert samples["ar"].outside.tolist() == pytest.approx([*sorted(many), 0.3, 0.4])
    assert samples["all"].share == 0.2


def test_questions_of_one_source_count_once_and_what_found_no_row_is_wrong():
    table = outcomes("hi-Latn", [0.5, 0.6, None], [False, False, True])
    table = table.with_columns(group=pl.Series(["one", "one", "two"]))
    drawn = samples_of(table, NOTHING, 0.1, "en")["all"]
    assert len(drawn.scores) == 2
    assert drawn.mistakes.tolist() == [-1.0]


def test_the_curve_ends_at_the_whole():
    scores, wrong = population(1000, seed=8)
    drawn = curve(samples_of(outcomes("hi-Latn", scores, wrong), NOTHING, 0.1, "en"))
    one = drawn.filter(language="hi-Latn")
    assert one.height == 200
    assert one["coverage"].is_sorted()
    assert one["coverage"][-1] == 1.0
    assert one["rate"][-1] == pytest.approx(wrong.mean())


def threshold(score):
    return Threshold(
        score=score, certain=True, questions=9, out_of_scope=0, coverage=1.0, wrong=0.0,
        at_most=0.1, caught=None,
    )  # fmt: skip


def test_an_unknown_language_is_judged_by_the_most_careful_threshold():
    found = Abstention(
        max_wrong=0.05,
        out_of_scope_share=0.0,
        overall=threshold(0.5),
        languages={"hi-Latn": threshold(0.4), "ar": threshold(0.7)},
    )
    assert found.score_of("HI-latn") == 0.4
    assert found.score_of("ar") == 0.7
    assert found.score_of(None) == found.score_of("fr") == 0.7
    assert Abstention.model_validate_json(found.model_dump_json()) == found
    never = found.model_copy(update={"languages": {**found.languages, "es": threshold(None)}})
    assert never.score_of("es") is never.score_of(None) is None
    assert never.score_of("ar") == 0.7
