"""Failing endpoints, killed processes and two buyers at once: nothing lost, nothing paid twice.

The same runs as `benchmarks.llm_faults`, which makes them with 5,000 rows, on some hundred.
"""

import pytest

from benchmarks import llm_faults, loopback_llm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs with the same seed."""
    return [
        llm_faults.under_faults(1600, tmp_path_factory.mktemp("faults"), poisoned=0.01, seed=2)
        for _ in range(2)
    ]


def test_every_row_ends_translated_or_refused_with_a_reason(runs):
    for run in runs:
        assert set(loopback_llm.FAULTS) < set(run["faults"])
        assert run["never_answered"] > 5
        assert run["translated"] + run["refused"] == 1600
        assert run["right"] == run["translated"]
        assert run["refused_are_the_poisoned"]


def test_no_row_is_asked_again_whose_answer_arrived_and_only_lost_answers_cost_twice(runs):
    for run in runs:
        assert run["asked_again"] == 0
        assert run["extra_answers"] == run["lost_answers"] - run["never_answered"] > 0
        assert run["completions"] == run["usage"] + run["lost"] - run["faults"].get(
            "content filter as HTTP 400", 0
        )


def test_the_same_seed_gives_the_same_tables(runs):
    assert runs[0]["digest"] == runs[1]["digest"]


def test_kill_9_costs_at_most_the_requests_in_flight(tmp_path):
    run = llm_faults.under_kills(500, tmp_path, kills=3)
    assert (run["exit_code"], run["rows_left"], run["ledger_is_whole"]) == (0, 0, True)
    assert run["killed"] > 0
    assert run["undisturbed"] <= run["paid"] <= run["bound"]


def test_two_processes_at_once_share_the_work_and_buy_nothing_twice(tmp_path):
    run = llm_faults.two_at_once(600, tmp_path)
    assert (run["exit_codes"], run["ledger_is_whole"]) == ([0, 0], True)
    assert (run["rows_bought"], run["bought_twice"]) == (600, 0)


def test_every_fault_says_what_it_takes():
    texts = [f"text {number}" for number in range(10)]
    rows = [{"id": f"r{number:04}", "text": text} for number, text in enumerate(texts)]
    for name, fault in loopback_llm.FAULTS.items():
        answers = [{"id": row["id"], "text": "x" + row["text"]} for row in rows]
        text = loopback_llm._spoilt(answers, name)
        kept = {row["text"] for row in rows if f'"id": "{row["id"]}", "text": "x' in text}
        if name not in ("row repeated differently", "content filter as HTTP 400"):
            assert kept == loopback_llm._delivered(rows, fault), name
