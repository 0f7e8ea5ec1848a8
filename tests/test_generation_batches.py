"""Batch mode end to end against a real server: what is out, what comes back, what is bought."""

import pytest
from batched_translation import is_everything_in, keys_of, plan, right, run, submit, take_in
from llm_batches import BatchFault, BatchServer
from llm_server import Fault
from parcels import kb

from monoglot.config import LanguageConfig
from monoglot.generation import batches
from monoglot.generation.batch_records import BatchRecords
from monoglot.generation.ledger import Ledger


def test_a_run_submits_and_ends_and_a_later_one_has_the_answers(ledger):
    rows = kb(25)
    with BatchServer() as server:
        out = submit(rows, server, ledger)
        assert (out.batches, out.requests, out.rows) == (1, 3, 25)
        assert server.requests == []
        again = submit(rows, server, ledger)
        assert again == out
        assert len(server.batches) == 1
        server.finish()
        bought = run(rows, server, ledger)
        assert server.rows == dict.fromkeys(rows["query"], 1)
        assert len(server.batches) == 1
    assert bought.rows["text"].to_list() == right(rows)
    assert (bought.usage.requests, bought.from_ledger, bought.rejects.height) == (3, 0, 0)
    assert is_everything_in(ledger)


def test_a_batch_line_is_what_a_live_request_would_send(tmp_path):
    rows = kb(25)
    with BatchServer() as server:
        with Ledger(tmp_path / "live.sqlite") as ledger:
            run(rows, server, ledger, batch=False, llm_concurrency=1)
        with Ledger(tmp_path / "batch.sqlite") as ledger:
            submit(rows, server, ledger)
        [batch] = server.batches
        lines = server.lines_of(batch)
        assert [line["body"] for line in lines] == [request.body for request in server.requests]
        assert {(line["method"], line["url"]) for line in lines} == {
            ("POST", "/v1/chat/completions")
        }
        assert len({line["custom_id"] for line in lines}) == 3
        [name] = server.batches[batch]["metadata"].values()
        assert all(line["custom_id"].startswith(name) for line in lines)


def test_replies_and_their_usage_are_those_of_a_live_run_and_marked_as_batched(tmp_path):
    tables, learnt = [], []
    rows = kb(25)
    for batch in (False, True):
        with BatchServer() as server, Ledger(tmp_path / f"{batch}.sqlite") as ledger:
            if batch:
                submit(rows, server, ledger)
                server.finish()
            run(rows, server, ledger, batch=batch)
            tables.append(
                ledger.read(
                    "SELECT key, sent_as, prompt_tokens, completion_tokens, cached_tokens, model, "
                    "kind, expected_prompt, expected_completion "
                    "FROM rows JOIN replies ON reply = id ORDER BY key"
                )
            )
            learnt.append(ledger.calibration(tables[-1][0][6]))
            marked = ledger.read("SELECT count(*), count(DISTINCT batch) FROM batched_replies")
            assert marked == [(3, 1) if batch else (0, 0)]
    assert tables[0] == tables[1]
    assert learnt[0] == learnt[1]
    assert learnt[1].replies == 3
    assert len(tables[0]) == 25


def test_batches_are_split_by_requests_and_by_bytes(ledger, monkeypatch):
    with BatchServer() as server:
        out = submit(kb(45), server, ledger, llm_batch_requests=2)
        assert (out.batches, out.requests, out.rows) == (3, 5, 45)
        assert [len(server.lines_of(name)) for name in server.batches] == [2, 2, 1]
        spanish = LanguageConfig(code="es", name="Spanish")
        monkeypatch.setattr(batches, "MOST_BYTES", 1000)  # any request is longer
        out = submit(kb(45), server, ledger, language=spanish)
        assert (out.batches, out.requests) == (5, 5)
        server.finish()
        assert run(kb(45), server, ledger).rows.height == 45
        assert run(kb(45), server, ledger, language=spanish).rows.height == 45
        assert set(server.rows.values()) == {2}
    assert is_everything_in(ledger)


def test_an_edit_while_a_batch_is_out_submits_the_new_rows_alone(ledger):
    with BatchServer() as server:
        submit(kb(20), server, ledger)
        out = submit(kb(20, start=5), server, ledger)
        assert (out.batches, out.rows) == (2, 20)
        assert [len(server.lines_of(name)) for name in server.batches] == [2, 1]
        server.finish("completed", "batch_2")
        assert submit(kb(20, start=5), server, ledger).rows == 15
        server.finish()
        assert run(kb(20, start=5), server, ledger).rows.height == 20
        assert run(kb(20), server, ledger).rows.height == 20  # the five that were taken out
        assert server.rows == dict.fromkeys(kb(25)["query"], 1)


def test_rows_nobody_asks_for_any_more_are_taken_in_too(ledger):
    with BatchServer() as server:
        submit(kb(10), server, ledger)
        server.finish()
        assert take_in(server, ledger) == []
        assert plan(kb(10), server, ledger).from_ledger == 10
    assert is_everything_in(ledger)


def test_a_plan_does_not_count_rows_that_are_out(ledger):
    with BatchServer() as server:
        submit(kb(10), server, ledger)
        work = plan(kb(30), server, ledger)
        assert (work.rows, work.out, work.requests, work.refused) == (20, 10, 2, 0)
        assert len(server.batches) == 1


def test_switching_batch_off_buys_what_is_not_out_and_nothing_twice(ledger):
    with BatchServer() as server:
        submit(kb(20), server, ledger)
        out = submit(kb(30), server, ledger, batch=False)
        assert (out.batches, out.rows) == (1, 20)
        assert server.rows == dict.fromkeys(kb(10, start=20)["query"], 1)
        server.finish()
        assert run(kb(30), server, ledger, batch=False).rows.height == 30
        assert server.rows == dict.fromkeys(kb(30)["query"], 1)


def test_rows_that_another_process_is_buying_are_left_to_it(ledger):
    rows = kb(20)
    keys, _ = keys_of(rows)
    with BatchServer() as server:
        assert len(ledger.claim("elsewhere|1|x", keys[:10], 10).won) == 10
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("monoglot.generation.buying._Purchase.is_needed", False)
            assert submit(rows, server, ledger).rows == 10


def test_rows_that_go_out_while_they_are_being_bought_are_not_waited_for(ledger, monkeypatch):
    """As when another process submits them between two looks of a live run."""
    seen = BatchRecords.out
    answers = iter([set()])
    with BatchServer() as server:
        submit(kb(10), server, ledger)
        monkeypatch.setattr(BatchRecords, "out", lambda self, keys: next(answers, seen(self, keys)))
        monkeypatch.setattr(BatchRecords, "holding", lambda *_: [])
        assert submit(kb(20), server, ledger, batch=False).rows == 10
        assert server.rows == dict.fromkeys(kb(10, start=10)["query"], 1)


def test_a_batch_at_another_endpoint_is_left_there(ledger):
    with BatchServer() as here, BatchServer() as there:
        submit(kb(10), there, ledger)
        out = submit(kb(10), here, ledger, batch=False)
        assert out.rows == 10
        [note] = take_in(here, ledger)
        assert there.base_url in note
        assert (here.requests, here.batches) == ([], {})
        there.finish()
        assert take_in(there, ledger) == []
        assert run(kb(10), here, ledger).rows.height == 10


def test_text_in_any_script_survives_the_way_out_and_back(ledger):
    rows = kb(3)
    said = '{"rows": [{"id": "%s", "text": "\\ud83d half \u2028 \u0905\u092a \u0085 nel"}]}'
    with BatchServer() as server:
        submit(rows, server, ledger)
        [line] = server.lines_of("batch_1")
        ids = [
            row["id"] for row in batches.json.loads(line["body"]["messages"][1]["content"])["rows"]
        ]
        good = said % ids[0]
        whole = good.replace("\\ud83d half ", "")
        server.line_faults = lambda _: BatchFault("refused", fault=Fault.says(whole))
        server.finish()
        server.line_faults = lambda _: BatchFault("refused", fault=Fault.says(good))
        submit(rows, server, ledger)
        server.finish()
        server.line_faults = lambda _: None
        submit(rows, server, ledger)
    keyed = ledger.read("SELECT count(*) FROM replies")
    assert keyed == [(2,)]
    assert plan(rows, server, ledger).from_ledger == 1
