"""Batches that fail in part or as a whole: what was answered is kept, what was lost asked again."""

import io
import json
from collections import Counter

import polars as pl
import pytest
from batched_translation import (
    LINE_FAULTS,
    is_everything_in,
    on,
    plan,
    right,
    rows_of,
    run,
    submit,
    take_in,
    text_of,
)
from llm_batches import BatchFault, BatchServer, HttpFault
from parcels import kb

from monoglot.errors import EndpointError
from monoglot.generation import asking, batches
from monoglot.generation.batch_records import BatchRecords
from monoglot.generation.batch_results import results_in


@pytest.mark.parametrize("name", LINE_FAULTS)
def test_after_any_fault_of_a_line_only_what_was_lost_is_asked_again(ledger, name):
    fault, packs = LINE_FAULTS[name]
    rows = kb(30)
    with BatchServer(line_faults=on(7, fault)) as server:
        submit(rows, server, ledger)
        server.finish("expired" if fault.kind == "expired" else "completed")
        server.line_faults = lambda _: None
        if packs:
            assert submit(rows, server, ledger).rows == sum(packs)
            assert [len(rows_of(line)) for line in server.lines_of("batch_2")] == packs
            server.finish()
        bought = run(rows, server, ledger)
        asked = server.rows
    assert bought.rows["text"].to_list() == right(rows)
    assert bought.rejects.height == 0
    again = 0 if fault.kind == "expired" else sum(packs)
    assert asked.total() == 30 + again
    assert is_everything_in(ledger)


def test_a_row_that_never_works_ends_as_refused_and_takes_no_other_along(ledger):
    rows = kb(30)
    with BatchServer(line_faults=on(7, BatchFault("error", 500))) as server:
        for packs in ([10, 10, 10], [3, 3, 3, 1], [1, 1, 1]):
            submit(rows, server, ledger)
            lines = server.lines_of(f"batch_{len(server.batches)}")
            assert [len(rows_of(line)) for line in lines] == packs
            server.finish()
        bought = run(rows, server, ledger)
        assert server.rows[text_of(7)] == asking.MAX_TRIES
        assert len(server.batches) == asking.MAX_TRIES
    assert bought.rows.height == 29
    assert bought.rejects["value"].to_list() == [text_of(7)]
    assert "asked 3 times" in bought.rejects["reason"][0]


def test_a_bad_row_that_is_alone_in_its_last_batches_ends_as_refused_too(ledger):
    rows = kb(20)
    with BatchServer(line_faults=on(7, BatchFault("error", 500))) as server:
        good = rows.filter(pl.col("query") != text_of(7))
        for some, requests in ((rows, 2), (rows, 4), (good, 2), (rows, 1)):
            assert submit(some, server, ledger).requests == requests
            server.finish()
        bought = run(rows, server, ledger)
    assert bought.rejects["value"].to_list() == [text_of(7)]
    assert bought.rows.height == 19


def test_an_expired_batch_keeps_what_was_answered_and_frees_the_rest(ledger):
    rows = kb(30)
    with BatchServer(line_faults=lambda _: BatchFault("expired")) as server:
        submit(rows, server, ledger)
        server.finish("expired")
        out = submit(rows, server, ledger)
        assert (out.batches, out.rows, len(server.batches)) == (1, 30, 2)
        server.line_faults = on(7, BatchFault("expired"))
        server.finish("expired")
        assert submit(rows, server, ledger).rows == 10
        server.line_faults = lambda _: None
        server.finish()
        assert run(rows, server, ledger).rows.height == 30
        assert server.rows == dict.fromkeys(rows["query"], 1)
        packs = [len(rows_of(line)) for line in server.lines_of("batch_3")]
    assert packs == [10]  # no try was counted


def test_a_cancelled_batch_keeps_what_was_answered_and_frees_the_rest(ledger):
    rows = kb(30)
    with BatchServer(line_faults=on(7, BatchFault("lost"))) as server:
        submit(rows, server, ledger)
        assert batches.cancel(server.settings(), ledger) == (1, ())
        assert server.batches["batch_1"]["status"] == "cancelling"
        assert submit(rows, server, ledger, batch=False).rows == 30
        server.finish("cancelled")
        asked = server.rows
        bought = run(rows, server, ledger, batch=False)
        live = server.rows - asked
    assert bought.rows.height == 30
    assert live == Counter(rows["query"][:10].to_list())
    assert is_everything_in(ledger)


def test_a_slash_makes_no_other_endpoint(ledger):
    with BatchServer() as server:
        submit(kb(10), server, ledger)
        server.finish()
        same = server.base_url.replace("http", "HTTP", 1) + "/"
        assert take_in(server, ledger, llm_base_url=same) == []
        assert is_everything_in(ledger)
        assert run(kb(10), server, ledger).rows.height == 10
        assert set(server.rows.values()) == {1}


def test_a_batch_at_an_endpoint_that_is_no_more_can_be_given_up(ledger):
    with BatchServer() as gone:
        submit(kb(10), gone, ledger)
    with BatchServer() as server:
        [note] = take_in(server, ledger)
        assert "--cancel" in note
        assert submit(kb(10), server, ledger).rows == 10  # the same ten, still out
        done = batches.cancel(server.settings(), ledger)
        assert done == (0, (gone.base_url,))
        assert run(kb(10), server, ledger, batch=False).rows.height == 10


def test_a_batch_that_the_endpoint_does_not_know_is_freed(ledger):
    with BatchServer() as server:
        submit(kb(10), server, ledger)
        del server.batches["batch_1"]
        [note] = take_in(server, ledger)
        assert "does not know it" in note
        assert is_everything_in(ledger)
        submit(kb(10), server, ledger)
        server.finish()
        assert run(kb(10), server, ledger).rows.height == 10


def test_a_batch_that_fails_as_a_whole_says_why_and_frees_its_rows(ledger):
    with BatchServer() as server:
        submit(kb(10), server, ledger)
        server.fail("model_not_found", "no such model")
        with pytest.raises(EndpointError, match="model_not_found: no such model"):
            run(kb(10), server, ledger)
        assert is_everything_in(ledger)
        submit(kb(10), server, ledger)


def test_a_full_queue_is_no_failure_while_other_batches_make_room(ledger):
    with BatchServer() as server:
        submit(kb(20), server, ledger, llm_batch_requests=1)
        server.finish("completed", "batch_1")
        server.fail("token_limit_exceeded", "Enqueued token limit reached")
        with pytest.raises(EndpointError, match="MONOGLOT_LLM_BATCH_REQUESTS"):
            take_in(server, ledger)
        assert plan(kb(20), server, ledger).from_ledger == 10
        out = submit(kb(40), server, ledger, llm_batch_requests=1)
        assert out.batches == 3
        server.batches["batch_3"]["status"] = "failed"
        error = {"code": "token_limit_exceeded", "message": "full", "line": None}
        server.batches["batch_3"]["errors"] = {"object": "list", "data": [error]}
        [note] = take_in(server, ledger)
        assert "token_limit_exceeded" in note


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (BatchFault("error", 401), "MONOGLOT_LLM_API_KEY"),
        (BatchFault("error", 429, "insufficient_quota"), "Check the account"),
        (BatchFault("error", 500), "HTTP 500"),
        (BatchFault("lost"), "no result"),
    ],
)
def test_where_the_endpoint_fails_and_no_row_is_to_blame_no_try_is_counted(ledger, fault, said):
    with BatchServer(line_faults=lambda _: fault) as server:
        for _ in range(asking.MAX_TRIES + 1):
            submit(kb(10), server, ledger)
            server.finish()
            with pytest.raises(EndpointError, match=said):
                run(kb(10), server, ledger)
        assert plan(kb(10), server, ledger).rows == 10


SUCCESSES_WITHOUT_REPLY = {
    "page": "<html>Down for maintenance</html>",
    "error": {"error": {"code": "overloaded_error", "message": "try again"}},
    "nothing": None,
}


@pytest.mark.parametrize("name", SUCCESSES_WITHOUT_REPLY)
def test_successes_without_a_reply_are_the_endpoints_trouble_and_no_rows(ledger, name, monkeypatch):
    def instead(*_):
        return SUCCESSES_WITHOUT_REPLY[name]

    with BatchServer() as server:
        for _ in range(asking.MAX_TRIES + 1):
            submit(kb(10), server, ledger)
            with monkeypatch.context() as patch:
                patch.setattr("llm_batches.completion_of", instead)
                server.finish()
            with pytest.raises(EndpointError, match="HTTP 200 without a reply"):
                run(kb(10), server, ledger)
        assert is_everything_in(ledger)
        submit(kb(10), server, ledger)
        server.finish()
        assert run(kb(10), server, ledger).rows.height == 10


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ({"choices": [{"message": {"content": ""}}]}, "answered"),
        ({"error": {"code": "content_filter"}}, "answered"),
        ({"error": {"code": "insufficient_quota"}}, "refused"),
        ({"error": {"code": 404}}, "failed"),
    ],
)
def test_a_success_of_a_batch_is_judged_as_one_of_a_request(body, outcome):
    line = {"custom_id": "r", "response": {"status_code": 200, "body": body}}
    [result] = results_in(io.BytesIO(json.dumps(line).encode()))
    assert result.outcome == outcome


def test_an_empty_account_in_the_middle_of_a_batch_blames_no_row(ledger):
    fault = BatchFault("error", 429, "billing_hard_limit_reached")
    with BatchServer(line_faults=on(7, fault)) as server:
        submit(kb(30), server, ledger)
        server.finish()
        with pytest.raises(EndpointError, match="1 requests failed with HTTP 429"):
            run(kb(30), server, ledger)
        work = plan(kb(30), server, ledger)
        assert (work.from_ledger, work.rows, work.requests) == (20, 10, 1)


def test_an_upload_that_is_cut_is_repeated_and_one_batch_is_created(ledger):
    with BatchServer() as server:
        server.http["POST /files"].append(HttpFault(arrives=0.0))
        submit(kb(10), server, ledger)
        assert (server.calls["POST /files"], len(server.files), len(server.batches)) == (2, 1, 1)
        [line] = server.lines_of("batch_1")
        assert len(rows_of(line)) == 10


def test_a_file_that_is_not_found_at_once_is_waited_for(ledger):
    with BatchServer() as server:
        message = "Cannot find file file-1, or project p does not have access to it."
        server.http["POST /batches"].append(HttpFault(status=400, message=message))
        submit(kb(10), server, ledger)
        assert (server.calls["POST /batches"], len(server.batches)) == (2, 1)


LOST_REPLIES = {
    "dropped": HttpFault(after=True, arrives=0.0),
    "cut": HttpFault(after=True, arrives=0.5),
    "status 500": HttpFault(after=True, status=500),
}


@pytest.mark.parametrize("name", LOST_REPLIES)
def test_a_batch_whose_creation_was_not_answered_is_found_and_not_created_twice(ledger, name):
    with BatchServer() as server:
        for number in range(5):  # others' batches, on more than one page
            told = {"input_file_id": server.keep(b""), "endpoint": "/v1/chat/completions"}
            metadata = {"monoglot": f"other-{number}"}
            server.create({**told, "completion_window": "24h", "metadata": metadata})
        server.http["POST /batches"].append(LOST_REPLIES[name])
        submit(kb(10), server, ledger)
        assert server.calls["POST /batches"] == 1
        [batch] = BatchRecords(ledger).living()
        assert batch.id == "batch_6"


@pytest.mark.parametrize("exists", [True, False])
def test_a_creation_left_in_doubt_is_cleared_up_by_the_next_run(ledger, exists):
    with BatchServer() as server:
        server.http["POST /batches"] += [HttpFault(after=exists, arrives=0.0)]
        server.http["GET /batches"] += [HttpFault(status=500)] * 2
        with pytest.raises(EndpointError, match="Nothing is lost"):
            run(kb(10), server, ledger)
        assert len(server.batches) == exists
        [batch] = BatchRecords(ledger).living()
        assert batch.id is None
        out = submit(kb(10), server, ledger)
        assert (out.batches, out.rows, len(server.batches)) == (1, 10, 1)
        server.finish()
        assert run(kb(10), server, ledger).rows.height == 10
        assert server.rows == dict.fromkeys(kb(10)["query"], 1)


def test_a_batch_that_is_refused_leaves_nothing_out(ledger):
    with BatchServer() as server:
        server.http["POST /files"].append(HttpFault(status=404))
        with pytest.raises(EndpointError, match=r"no Batch API.*`batch: false`"):
            run(kb(10), server, ledger)
        assert is_everything_in(ledger)


def test_results_that_come_cut_off_are_fetched_again(ledger):
    with BatchServer() as server:
        submit(kb(30), server, ledger)
        server.finish()
        server.http["GET /files/*/content"].append(HttpFault(arrives=0.5))
        assert run(kb(30), server, ledger).rows.height == 30
        assert server.rows == dict.fromkeys(kb(30)["query"], 1)


def test_results_that_cannot_be_fetched_stay_out(ledger):
    with BatchServer() as server:
        submit(kb(30), server, ledger)
        server.finish()
        server.http["GET /files/*/content"] += [HttpFault(status=503)] * 2
        with pytest.raises(EndpointError, match="HTTP 503"):
            run(kb(30), server, ledger)
        assert BatchRecords(ledger).outstanding().rows == 30
        assert run(kb(30), server, ledger).rows.height == 30
