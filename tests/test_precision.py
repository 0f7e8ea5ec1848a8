"""Whether a model runs in bf16: as a measurement says, once a process."""

import pytest

from monoglot.learning import precision

IS_FASTER = precision._is_faster  # the tests' own conftest replaces it


@pytest.fixture
def clock(monkeypatch):
    """A clock that a pass moves on by as much as it is said to take."""
    times = {"now": 0.0}
    monkeypatch.setattr(precision, "_is_faster", IS_FASTER)
    monkeypatch.setattr(precision, "_decided", {})
    monkeypatch.setattr(precision.time, "perf_counter", lambda: times["now"])
    return times


@pytest.mark.parametrize(
    ("ratio", "faster"), [(0.5, True), (0.85, True), (0.95, False), (2, False)]
)
def test_bf16_is_chosen_for_a_clear_gain_alone(clock, ratio, faster):
    passes = []

    def run(bf16):
        passes.append(bf16)
        # The first pass warms up, and the second is disturbed.
        late = {1: 9.0, 2: 9.0}.get(len(passes), 0.0)
        clock["now"] += 0.001 * (ratio if bf16 else 1) + late

    assert precision.bf16_wins("cpu", ("tiny", 32), run) is faster
    asked = len(passes)
    assert asked >= 6
    assert passes.count(True) == passes.count(False)
    assert precision.bf16_wins("cpu", ("tiny", 32), run) is faster
    assert len(passes) == asked  # it was measured once


def test_a_short_pass_is_measured_often(clock):
    passes = []

    def run(bf16):
        passes.append(bf16)
        clock["now"] += 0.001

    precision.bf16_wins("cpu", ("tiny", 32), run)
    assert len(passes) >= 2 * 50


def test_a_device_without_the_choice_is_not_measured(clock):
    assert precision.bf16_wins("mps", ("tiny", 32), pytest.fail) is False
