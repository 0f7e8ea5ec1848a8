"""The gate's rule on figures, and the figures on outcomes."""

import polars as pl
import pytest

from monoglot.learning.bootstrap import Interval
from monoglot.learning.gate import (
    Comparison,
    Guarded,
    GuardOutcomes,
    Measured,
    compare,
    decide,
    untrained_guards,
)
from monoglot.learning_config import GateConfig


def measured(gain, low, high, questions=400):
    return Measured(questions, 0.7 + gain, 0.7, Interval(gain, low, high, questions))


def comparison(target, english=None):
    return Comparison("release r1", "mrr", target, english)


SURE = measured(0.1, 0.05, 0.15)
UNSURE = measured(0.01, -0.02, 0.04)
SAME = measured(0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("target", "english", "config", "promote"),
    [
        (SURE, SAME, {}, True),
        (SURE, None, {}, True),
        (SAME, SAME, {}, False),
        (UNSURE, SAME, {}, False),
        (UNSURE, SAME, {"certain": False}, True),
        (SURE, SAME, {"min_gain": 0.04}, True),
        (SURE, SAME, {"min_gain": 0.05}, False),
        (SURE, SAME, {"min_gain": 0.09, "certain": False}, True),
        (SURE, SAME, {"min_gain": 0.1, "certain": False}, False),
        (SURE, measured(-0.01, -0.03, 0.01), {}, True),
        (SURE, measured(-0.011, -0.03, 0.01), {}, False),
        (SURE, measured(-0.011, -0.03, 0.01), {"max_english_loss": 0.02}, True),
        (measured(-0.1, -0.2, -0.05), measured(0.1, 0.05, 0.2), {"certain": False}, False),
    ],
)
def test_rule(target, english, config, promote):
    assert decide(comparison(target, english), GateConfig(**config)).promote is promote


def test_what_floats_leave_behind_decides_nothing():
    lost_one_of_100 = measured(0.69 - 0.7, -0.03, 0.0)
    assert lost_one_of_100.gain.mean < -0.01
    assert decide(comparison(SURE, lost_one_of_100), GateConfig()).promote
    gained_one_of_100 = measured(0.71 - 0.7, 0.0, 0.03)
    assert gained_one_of_100.gain.mean > 0.01
    config = GateConfig(min_gain=0.01, certain=False)
    assert not decide(comparison(gained_one_of_100), config).promote


def test_reasons_carry_the_figures():
    decision = decide(comparison(SURE, measured(-0.02, -0.03, -0.01)), GateConfig())
    assert decision.reasons == (
        "MRR over 400 questions: 0.800, against 0.700 of release r1; gain +0.100 "
        "(95% interval +0.050 to +0.150). All of the interval is above 0.000.",
        "English control over 400 questions: 0.680, against 0.700; loss -0.020 "
        "(95% interval -0.030 to -0.010). It may lose at most 0.010, and lost more.",
    )


def test_what_was_not_measured_is_said():
    without_control = decide(comparison(SURE), GateConfig())
    assert without_control.reasons[1].startswith("English was not checked")
    nothing = decide(comparison(None), GateConfig())
    assert not nothing.promote
    assert "split.evaluation_share" in nothing.reasons[0]
    few = decide(comparison(measured(1.0, 1.0, 1.0, questions=3)), GateConfig())
    assert "of little worth with fewer than 30 English sources" in few.reasons[0]


def test_many_questions_of_few_sources_make_no_gain_certain():
    found = [
        pl.concat([outcomes([rank], control=False)] * 300).with_columns(
            query_id=pl.int_range(300).cast(pl.String),
            group=(pl.int_range(300) % sources).cast(pl.String),
        )
        for sources in (5, 6)
        for rank in (1, 2)
    ]
    five, six = (
        compare(better, worse, "the untuned model", GateConfig())
        for better, worse in (found[:2], found[2:])
    )
    told = decide(five, GateConfig())
    assert not told.promote
    assert (
        "an interval tells something from 6 sources on, and the questions have 5"
        in (told.reasons[0])
    )
    assert decide(five, GateConfig(certain=False)).promote
    assert decide(six, GateConfig()).promote


def outcomes(ranks, *, control):
    count = len(ranks)
    return pl.DataFrame(
        {
            "query_id": [f"q{number}" for number in range(count)],
            "control": control,
            "language": "hi-Latn",
            "label": "a",
            "group": [f"g{number}" for number in range(count)],
            "known": True,
            "rank": pl.Series(ranks, dtype=pl.Int32),
        }
    )


def test_compare_measures_questions_and_control_apart():
    reference = pl.concat([outcomes([2] * 40, control=False), outcomes([1] * 40, control=True)])
    candidate = pl.concat([outcomes([1] * 40, control=False), outcomes([2] * 40, control=True)])
    found = compare(candidate, reference, "the untuned model", GateConfig())
    assert found.target == Measured(40, 1.0, 0.5, Interval(0.5, 0.5, 0.5, 40))
    assert found.english == Measured(40, 0.5, 1.0, Interval(-0.5, -0.5, -0.5, 40))
    assert not decide(found, GateConfig()).promote


def test_compare_uses_the_configured_metric_and_may_find_nothing_to_measure():
    config = GateConfig(metric="hit@1")
    ten = outcomes([2] * 10, control=False)
    found = compare(ten, ten, "the untuned model", config)
    assert found.target == Measured(10, 0.0, 0.0, Interval(0.0, 0.0, 0.0, 10))
    assert found.english is None
    assert compare(ten.clear(), ten.clear(), "the untuned model", config).target is None


def guard(change, max_loss=0.01, name="clinc150"):
    before = {"the untuned model": 0.7, "release r1": 0.69}
    return Guarded(name, max_loss, before, "the untuned model", change)


LOST = measured(-0.02, -0.03, -0.01)


@pytest.mark.parametrize(
    ("guards", "promote"),
    [
        ([guard(SAME)], True),
        ([guard(SAME), guard(LOST)], False),
        ([guard(LOST, max_loss=0.02)], True),
        ([guard(measured(0.69 - 0.7, -0.03, 0.0))], True),
        ([Guarded("es", 0.01)], True),
    ],
)
def test_each_guard_has_a_floor(guards, promote):
    found = decide(Comparison("release r1", "mrr", SURE, SAME, tuple(guards)), GateConfig())
    assert found.promote is promote
    assert found.guards == tuple(guards)
    assert len(found.reasons) == 2 + len(guards)


def test_the_reason_names_the_guard_and_its_figures():
    guards = (guard(LOST), Guarded("es", 0.01))
    decision = decide(Comparison("release r1", "mrr", SURE, SAME, guards), GateConfig())
    assert decision.reasons[2:] == (
        "Guard clinc150 over 400 questions: 0.680, against 0.700 of the untuned model; loss -0.020 "
        "(95% interval -0.030 to -0.010). It may lose at most 0.010, and lost more.",
        "Guard es was not checked: it has no question.",
    )


def test_a_guard_is_measured_against_the_best_model_before():
    """Each release loses less than is allowed to the one before it: together they lose more."""
    asked = outcomes([1] * 96 + [2] * 4, control=False)
    before = {
        "the untuned model": outcomes([1] * 100, control=False),
        "release r1": outcomes([1] * 98 + [2] * 2, control=False),
    }
    target = outcomes([1] * 40, control=False), outcomes([2] * 40, control=False)
    found = compare(
        *target, "release r1", GateConfig(), [GuardOutcomes("es", 0.015, asked, before)]
    )
    [es] = found.guards
    assert (es.against, es.before) == (
        "the untuned model",
        {"the untuned model": 1.0, "release r1": 0.99},
    )
    assert es.measured.candidate == pytest.approx(0.98)
    assert not es.kept
    assert not decide(found, GateConfig()).promote
    alone = GuardOutcomes("es", 0.015, asked, {"release r1": before["release r1"]})
    assert decide(compare(*target, "r1", GateConfig(), [alone]), GateConfig()).promote


def test_labels_that_nothing_was_trained_on_are_guarded_in_both_languages():
    def answered(native, english):
        table = pl.concat([outcomes(native, control=False), outcomes(english, control=True)])
        held_out = pl.col("query_id").is_in(["q0", "q1"])
        return table.with_columns(label=pl.when(held_out).then(pl.lit("b")).otherwise("label"))

    untuned = answered([2, 2, 2, 2], [1, 1, 2, 2])
    tuned = answered([1, 2, 1, 1], [2, 1, 1, 1])
    guards = untrained_guards(["b"], 0.01, tuned, untuned)
    found = compare(tuned, untuned, "the untuned model", GateConfig(), guards).guards
    assert [(each.name, each.measured.questions, each.kept) for each in found] == [
        ("untrained labels", 2, True),
        ("untrained labels, in English", 2, False),
    ]
    assert found[0].measured.gain.mean == pytest.approx(0.25)
    assert untrained_guards([], 0.01, tuned, untuned) == []
