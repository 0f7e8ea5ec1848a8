"""Batch mode end to end against a real server: what is out, what comes back, what is bought."""

from collections import Counter

import polars as pl
import pytest
from llm_batches import BatchFault, BatchServer, HttpFault
from llm_server import Fault, Request, translation_of
from test_generation_translation import CONFIG, HINGLISH, kb

from monoglot.config import LanguageConfig, SpendingConfig
from monoglot.errors import BatchPendingError, BudgetError, ConfigError, EndpointError
from monoglot.generation import asking, batches
from monoglot.generation.batch_records import BatchRecords
from monoglot.generation.ledger import Ledger
from monoglot.generation.spending import Budget
from monoglot.generation.translation import pending, translate


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


def run(rows, server, ledger, *, batch=True, language=HINGLISH, spending=None, **changes):
    settings = server.settings(**{"llm_attempts": 2, **changes})
    return translate(
        rows,
        language,
        CONFIG,
        kb_language="en",
        settings=settings,
        ledger=ledger,
        budget=Budget(SpendingConfig(batch=batch, **(spending or {}))),
    )


def submit(rows, server, ledger, **changes):
    """A run that ends waiting; what it says is out."""
    with pytest.raises(BatchPendingError) as ended:
        run(rows, server, ledger, **changes)
    return ended.value.out


def take_in(server, ledger, **changes):
    settings = server.settings(**{"llm_attempts": 2, **changes})
    return list(batches.take_in(settings, ledger, SpendingConfig()).notes)


def plan(rows, server, ledger):
    return pending(
        rows, HINGLISH, CONFIG, kb_language="en", settings=server.settings(), ledger=ledger
    )


def right(rows):
    return [translation_of(text, "hi-Latn") for text in rows["query"]]


def is_everything_in(ledger):
    """Whether nothing is out or claimed, and no reply is without a row."""
    orphans = ledger.read("SELECT 1 FROM replies WHERE id NOT IN (SELECT reply FROM rows)")
    tables = ("batches", "batch_rows", "claims")
    return not orphans and not any(ledger.read(f"SELECT 1 FROM {table}") for table in tables)


def text_of(number):
    return f"where is my parcel number {number} from the shop"


def rows_of(line):
    """The rows a line of a batch asks for."""
    return Request(line["body"], "", 0).rows


def on(number, fault):
    """A fault of each request that asks for a row."""
    return lambda texts: fault if text_of(number) in texts else None


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


# Fault of the request with row 7 -> rows submitted a second time, and how they were packed then.
LINE_FAULTS = {
    "lost": (BatchFault("lost"), [3, 3, 3, 1]),
    "garbled": (BatchFault("garbled"), [3, 3, 3, 1]),
    "server error": (BatchFault("error", 500), [3, 3, 3, 1]),
    "bad request": (BatchFault("error", 400), [3, 3, 3, 1]),
    "content filter": (BatchFault("error", 400, "content_filter"), [3, 3, 3, 1]),
    "refused": (BatchFault("refused", fault=Fault.refused()), [3, 3, 3, 1]),
    "cut off": (BatchFault("refused", fault=Fault.says("")), [3, 3, 3, 1]),
    "not worked on": (BatchFault("expired"), [10]),
    "rows lost": (BatchFault("refused", fault=Fault.lose(0, 1)), [2]),
    "out of order": (BatchFault("refused", fault=Fault.reorder()), []),
    "twice": (BatchFault("twice"), []),
}


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
        assert batches.cancel(server.settings(), ledger.path) == 1
        assert server.batches["batch_1"]["status"] == "cancelling"
        assert submit(rows, server, ledger, batch=False).rows == 30
        server.finish("cancelled")
        asked = server.rows
        bought = run(rows, server, ledger, batch=False)
        live = server.rows - asked
    assert bought.rows.height == 30
    assert live == Counter(rows["query"][:10].to_list())
    assert is_everything_in(ledger)


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


def keys_of(rows):
    from monoglot.generation.translation import _asks_of, _sent_for

    ordered = rows.sort("row_id")
    sent = _sent_for(ordered["query"], None)
    keyed, asks = _asks_of(ordered, sent, HINGLISH, CONFIG, CONFIG.model, kb_language="en")
    return keyed["_key"].to_list(), asks


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


PRICES = {CONFIG.model: {"input": 4.0, "output": 8.0}}


def test_a_batch_costs_half(ledger):
    with BatchServer() as server:
        submit(kb(10), server, ledger, spending={"prices": PRICES})
        server.finish()
        run(kb(10), server, ledger, spending={"prices": PRICES})
        live = run(kb(20), server, ledger, batch=False, spending={"prices": PRICES})
    [(usd, sent, received), (live_usd, *_)] = ledger.read(
        "SELECT usd, prompt_tokens, completion_tokens FROM replies ORDER BY id"
    )
    assert usd == pytest.approx((4 * sent + 8 * received) / 1e6 / 2)
    assert live_usd == pytest.approx(live.usage.usd)
    assert live.usage.usd == pytest.approx(
        (4 * live.usage.prompt_tokens + 8 * live.usage.completion_tokens) / 1e6
    )


def test_what_a_batch_brought_in_is_told_once_by_whoever_uses_it_first(ledger):
    spending = {"prices": PRICES}
    with BatchServer() as server:
        submit(kb(30), server, ledger, spending=spending)
        server.finish()
        config = SpendingConfig(prices=PRICES)
        taken = batches.take_in(server.settings(), ledger, config).usage
        first = run(kb(10), server, ledger, spending=spending)
        rest = run(kb(40), server, ledger, batch=False, spending=spending)
        again = run(kb(40), server, ledger, spending=spending)
    assert (taken.requests, taken.usd) == (3, pytest.approx(first.usage.usd * 3, rel=0.05))
    assert (first.usage.requests, first.from_ledger) == (1, 0)
    assert (rest.usage.requests, rest.from_ledger) == (2 + 1, 10)  # one of them bought live
    assert (again.usage.requests, again.usage.price, again.from_ledger) == (0, 0.0, 40)
    [(usd,)] = ledger.read("SELECT sum(usd) FROM replies")
    assert first.usage.usd + rest.usage.usd == pytest.approx(usd)


def test_a_stage_that_still_waits_leaves_what_came_in_to_be_told_at_its_end(ledger):
    with BatchServer() as server:
        submit(kb(20), server, ledger)
        server.finish()
        assert submit(kb(30), server, ledger).rows == 10
        assert ledger.read("SELECT count(*) FROM replies") == [(2,)]
        server.finish()
        bought = run(kb(30), server, ledger)
    assert (bought.usage.requests, bought.from_ledger) == (3, 0)
    assert (bought.usage.prompt_tokens, bought.usage.completion_tokens) == ledger.read(
        "SELECT sum(prompt_tokens), sum(completion_tokens) FROM replies"
    )[0]


def test_a_batch_stays_within_the_budget_and_the_next_run_submits_the_rest(ledger):
    limits = {"max_requests": 2}
    with BatchServer() as server:
        with pytest.raises(BudgetError, match="max_requests = 2"):
            run(kb(50), server, ledger, spending=limits)
        server.finish()
        assert set(server.rows.values()) == {1}
        assert len(server.rows) == 20
        out = submit(kb(50), server, ledger, spending={"max_requests": 9})
        assert (out.requests, out.rows) == (3, 30)
        server.finish()
        assert run(kb(50), server, ledger).rows.height == 50
        assert set(server.rows.values()) == {1}


def test_a_limit_in_dollars_needs_a_price(ledger):
    with BatchServer() as server:
        with pytest.raises(ConfigError, match=r"price of model .toy. is unknown"):
            run(kb(10), server, ledger, spending={"max_usd": 1.0})
        assert server.calls == {}


def test_an_estimate_that_is_too_low_is_reckoned_with(ledger):
    """Before any reply of the kind twice the estimate is set aside, then what was counted."""
    prices = {CONFIG.model: {"input": 1000.0, "output": 1000.0}}
    with BatchServer(count=lambda text: 2 * len(text) // 3) as server:
        planned = pending(
            kb(40), HINGLISH, CONFIG, kb_language="en", settings=server.settings(), ledger=ledger
        )
        tokens = planned.prompt_tokens + planned.completion_tokens
        limits = {"prices": prices, "max_usd": tokens / 1000 / 2}  # half the price, all of them
        with pytest.raises(BudgetError, match="submitted 2 requests, whose answers a later run"):
            run(kb(40), server, ledger, spending=limits)
        server.finish()
        run_again = {"prices": prices, "max_usd": 1e9}
        submit(kb(40), server, ledger, spending=run_again)
        spent = sum(usd for (usd,) in ledger.read("SELECT usd FROM replies"))
        assert spent <= limits["max_usd"] * 1.5
        assert set(server.rows.values()) == {1}
