"""Rows whose requests get no reply: left out of this run, told, and asked again by the next."""

import polars as pl
import pytest
from llm_server import Fault, LLMServer
from test_flows import by_llm, current_of, outcomes_of, plan_of, stages_of
from tiny_line import request_of, store_of

from flows.retrain import retrain
from monoglot.runs import Runs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api", "no_endpoint")]


@pytest.fixture
def outage(monkeypatch):
    """An endpoint that has no reply for some texts, as long as they stand in `outage.lost`."""
    with LLMServer() as server:
        server.lost = set()
        server.faults = lambda request: (
            Fault.status(503) if server.lost & set(request.texts) else None
        )
        settings = {**server.environment, "MONOGLOT_LLM_ROWS_PER_REQUEST": "4"}
        for name, value in {**settings, "MONOGLOT_LLM_ATTEMPTS": "1"}.items():
            monkeypatch.setenv(name, value)
        yield server


def test_what_got_no_reply_is_asked_again_and_nothing_else(tmp_path, outage):
    by_llm(tmp_path, "hi-Latn")
    rows = pl.read_csv(tmp_path / "kb.csv")["query"].to_list()
    outage.lost = set(rows[::30])
    first = retrain(request_of(tmp_path))
    translated = stages_of(first)["translate hi-Latn"].artifact
    lost = translated.unanswered
    assert 0 < lost <= 3
    rejects = store_of(tmp_path).table(translated, "rejects.parquet")
    assert rejects.filter(rule="no_reply").height == lost == first.unanswered
    planned = plan_of(tmp_path)
    assert planned.work.kind == "retrain"
    assert f"{lost} rows got no reply" in planned.work.reasons[0]
    assert planned.requests[0].work.rows == lost

    outage.lost = set()
    outage.requests.clear()
    second = retrain(request_of(tmp_path))
    assert set(outage.rows.values()) == {1}
    assert sum(outage.rows.values()) == lost
    again = stages_of(second)["translate hi-Latn"].artifact
    assert (again.rows, again.unanswered) == (translated.rows + lost, 0)
    assert outcomes_of(second)["knowledge base"] == "reused"
    assert plan_of(tmp_path).work.kind == "nothing"
    assert retrain(request_of(tmp_path)) == second


def test_a_row_that_never_gets_a_reply_is_given_up_after_three_runs(tmp_path, outage):
    by_llm(tmp_path, "hi-Latn")
    outage.lost = set(pl.read_csv(tmp_path / "kb.csv")["query"].to_list()[:2])
    left = [retrain(request_of(tmp_path)).unanswered for _ in range(3)]
    assert left[0] == left[1] > left[2] == 0
    outage.requests.clear()
    assert plan_of(tmp_path).work.kind == "nothing"
    record = retrain(request_of(tmp_path))
    assert (record, outage.requests) == (Runs(store_of(tmp_path)).last(), [])
    assert current_of(tmp_path).id == record.release
