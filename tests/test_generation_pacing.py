"""The pace of requests: even, shared, corrected by what was counted. Time stands still here."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from llm_server import MODEL, LLMServer
from test_generation_llm import ask

from monoglot.generation import pacing
from monoglot.generation.pacing import Limits, Pace, limits_of


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_turns_are_spread_evenly_over_the_minute():
    clock = Clock()
    pace = Pace(120, clock)
    assert [pace.take() for _ in range(4)] == [0.0, 0.5, 1.0, 1.5]
    clock.now += 1.75
    assert pace.take() == 0.25
    clock.now += 60.0  # a pause is no credit for a burst
    assert [pace.take() for _ in range(2)] == [0.0, 0.5]


def test_no_limit_is_no_wait():
    pace = Pace(0, Clock())
    assert [pace.take(10_000) for _ in range(3)] == [0.0, 0.0, 0.0]


def test_tokens_are_taken_by_estimate_and_corrected_by_the_count():
    pace = Pace(6000, Clock())
    assert [pace.take(100), pace.take(100)] == [0.0, 1.0]
    pace.correct(50)
    assert pace.take(100) == 2.5
    pace.correct(-200)
    assert pace.take(0) == 1.5


def test_threads_share_the_pace():
    pace = Pace(60, Clock())
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(lambda _: pace.take(), range(50))) == [float(n) for n in range(50)]


@pytest.fixture
def waits(monkeypatch):
    """The waits that were asked for; none is waited."""
    told = []

    async def note(seconds):
        told.append(seconds)

    monkeypatch.setattr(pacing.asyncio, "sleep", note)
    return told


def test_a_request_waits_for_the_slower_of_both(waits):
    limits = Limits(60, 600, Clock())

    async def asking():
        for tokens in (5, 20, 5):
            await limits.turn(tokens)

    asyncio.run(asking())
    assert waits == [1.0, 2.5]
    limits.correct(5, 15)
    asyncio.run(limits.turn(0))
    assert waits[-1] == 4.0


def test_all_endpoints_of_a_process_share_their_models_limits():
    with LLMServer() as server:
        paced = server.settings(llm_requests_per_minute=30)
        assert limits_of(paced, MODEL) is limits_of(paced, MODEL)
        assert limits_of(paced, MODEL) is not limits_of(paced, "another")


def test_the_endpoint_keeps_the_pace_and_counts_what_it_got(monkeypatch):
    turns, corrections = [], []

    async def turn(self, tokens):
        turns.append(tokens)

    monkeypatch.setattr(Limits, "turn", turn)
    monkeypatch.setattr(Limits, "correct", lambda _, *told: corrections.append(told))
    with LLMServer() as server:
        replies = ask(server.settings(llm_requests_per_minute=30), times=2)
    used = replies[0].usage.prompt_tokens + replies[0].usage.completion_tokens
    assert turns == [0, 0]
    assert corrections == [(0, used)] * 2
