"""Translation end to end against a real server: what is bought, what is not, and what comes out."""

import asyncio
import threading

import polars as pl
import pytest
from llm_server import Fault, LLMServer, mixture, translation_of
from parcels import CONFIG, HINGLISH, kb, plan
from pydantic import SecretStr

from monoglot.config import LanguageConfig
from monoglot.contracts import Queries, Rejects, empty
from monoglot.errors import EndpointError
from monoglot.generation import asking, translation
from monoglot.generation.ledger import Ledger
from monoglot.generation.quality import keep_good
from monoglot.generation.translation import translate
from monoglot.generation_config import QualityConfig


def run(rows, server, ledger, language=HINGLISH, config=CONFIG, **changes):
    settings = server.settings(**{"llm_concurrency": 4, **changes})
    return translate(rows, language, config, kb_language="en", settings=settings, ledger=ledger)


def test_every_row_is_translated_and_paid_for_once(ledger):
    rows = kb(25).sample(fraction=1.0, shuffle=True, seed=1)
    with LLMServer() as server:
        bought = run(rows, server, ledger)
        assert len(server.requests) == 3
        again = run(rows.reverse(), server, ledger)
        assert len(server.requests) == 3
    assert bought.usage.requests == 3
    assert bought.usage.prompt_tokens > bought.usage.completion_tokens > 0
    assert (again.usage.requests, again.from_ledger) == (0, 25)
    assert again.rows.equals(bought.rows)
    Queries.validate(bought.rows)
    expected = kb(25)
    assert bought.rows["source_row_id"].to_list() == expected["row_id"].to_list()
    assert bought.rows["english"].to_list() == expected["query"].to_list()
    assert bought.rows["label"].to_list() == expected["label"].to_list()
    assert bought.rows["text"].to_list() == [
        translation_of(text, "hi-Latn") for text in expected["query"]
    ]
    assert set(bought.rows["language"]) == {"hi-Latn"}
    assert set(bought.rows["origin"]) == {"translated"}
    assert bought.rejects.height == 0


def test_what_the_ledger_holds_needs_no_endpoint(ledger):
    with LLMServer() as server:
        bought = run(kb(5), server, ledger)
        settings = server.settings()
    nowhere = settings.model_copy(update={"llm_base_url": ""})
    again = translate(kb(5), HINGLISH, CONFIG, kb_language="en", settings=nowhere, ledger=ledger)
    assert again.rows.equals(bought.rows)


@pytest.mark.parametrize("rows_per_request", [1, 3, 7, 100])
def test_exactly_the_changed_rows_are_sent_however_they_are_packed(ledger, rows_per_request):
    rows = kb(20)
    with LLMServer() as first:
        run(rows, first, ledger)
    edited = pl.concat(
        [
            rows[1:].with_columns(
                query=pl.when(pl.col("row_id").is_in(["row-0003", "row-0009", "row-0015"]))
                .then(pl.col("query") + " please")
                .otherwise("query")
            ),
            kb(1, start=900),
        ]
    )
    with LLMServer() as second:  # another address, key, packing and concurrency
        run(
            edited,
            second,
            ledger,
            llm_rows_per_request=rows_per_request,
            llm_concurrency=2,
            llm_api_key=SecretStr("k"),
            llm_structured="prompt",
        )
    changed = set(edited["query"]) - set(rows["query"])
    assert len(changed) == 4
    assert second.rows == dict.fromkeys(changed, 1)


def test_what_bears_identity_buys_anew(ledger):
    rows = kb(4)
    with LLMServer() as server:
        run(rows, server, ledger)
        for language, config in [
            (HINGLISH, CONFIG.model_copy(update={"model": "other"})),
            (HINGLISH, CONFIG.model_copy(update={"temperature": 0.7})),
            (HINGLISH.model_copy(update={"style": "formal"}), CONFIG),
            (HINGLISH.model_copy(update={"name": "Hindi-English"}), CONFIG),
            (HINGLISH.model_copy(update={"code": "hi"}), CONFIG),
        ]:
            assert plan(rows, server, ledger, language, config).rows == 4
        others = CONFIG.model_copy(update={"synthetic_per_label": 9})
        assert plan(rows, server, ledger, config=others).rows == 0


def test_a_glossary_term_buys_anew_only_the_rows_that_contain_it(ledger):
    rows = kb(3).vstack(
        pl.DataFrame({"row_id": ["x"], "query": ["is a sim swap free"], "label": ["sim"]})
    )
    with LLMServer() as server:
        run(rows, server, ledger)
        assert {row["text"]: row.get("keep") for row in server.requests[0].rows}[
            "is a sim swap free"
        ] == ["SIM swap"]
        more = CONFIG.model_copy(update={"glossary": ("SIM swap", "number 2", "absent")})
        assert plan(rows, server, ledger, config=more).rows == 1
        run(rows, server, ledger, config=more)
        assert server.requests[-1].texts == ["where is my parcel number 2 from the shop"]


def test_a_text_under_two_labels_is_bought_once(ledger):
    rows = pl.DataFrame(
        {"row_id": ["a", "b"], "query": ["where is it"] * 2, "label": ["parcel", "shop"]}
    )
    with LLMServer() as server:
        bought = run(rows, server, ledger)
        assert server.rows == {"where is it": 1}
    assert bought.rows["label"].to_list() == ["parcel", "shop"]
    assert bought.rows["query_id"].n_unique() == 2


def test_a_plan_counts_and_calls_nothing(ledger):
    with LLMServer() as server:
        run(kb(10), server, ledger)
        before = len(server.requests)
        work = plan(kb(35), server, ledger)
        assert (work.rows, work.from_ledger, work.refused, work.requests) == (25, 10, 0, 3)
        fresh = plan(kb(35), server, None)
        assert (fresh.rows, fresh.requests) == (35, 4)
        assert len(server.requests) == before
        bought = run(kb(35), server, ledger)
    assert work.prompt_tokens == pytest.approx(bought.usage.prompt_tokens, rel=0.2)
    assert work.completion_tokens == pytest.approx(bought.usage.completion_tokens, rel=0.2)


def test_adding_a_language_costs_that_language_alone(ledger):
    arabic = LanguageConfig(code="ar", name="Arabic")
    with LLMServer() as server:
        run(kb(12), server, ledger)
        bought = run(kb(12), server, ledger, language=arabic)
        assert [request.language for request in server.requests] == ["hi-Latn"] * 2 + ["ar"] * 2
        run(kb(12), server, ledger)
        assert len(server.requests) == 4
    assert keep_good(bought.rows, arabic, QualityConfig())[0].height == 12


# Fault, requests in all for 10 rows at 10 a request, rows asked for in all.
ROW_FAULTS = [
    (Fault.lose(2), 2, 11),
    (Fault.lose(0, 3, 5, 9), 3, 14),
    (Fault.reorder(), 1, 10),
    (Fault.invent(), 1, 10),
    (Fault.repeat(), 1, 10),
    (Fault.repeat(differently=True), 2, 11),
    (Fault.blank(), 2, 11),
    (Fault.chatty(), 1, 10),
    (Fault.says("I like trains."), 5, 20),
    (Fault.refused(), 5, 20),
    (Fault.filtered(), 5, 20),
    (Fault.filtered_400(), 5, 20),
    (Fault.status(400, error="context_length_exceeded"), 5, 20),
    (Fault.body("<html>"), 2, 20),
    (Fault.status(429, retry_after="0.02"), 2, 20),
    (Fault.status(500), 2, 20),
    (Fault.dropped(), 2, 20),
    (Fault.cut_stream(), 2, 20),
]


@pytest.mark.parametrize(
    ("fault", "requests", "asked"), ROW_FAULTS, ids=[row[0].name for row in ROW_FAULTS]
)
def test_after_any_fault_every_row_is_right_and_only_what_was_lost_is_asked_again(
    ledger, fault, requests, asked
):
    with LLMServer(faults=[fault]) as server:
        bought = run(kb(10), server, ledger)
        assert len(server.requests) == requests
        assert server.rows.total() == asked
    assert bought.rejects.height == 0
    assert bought.rows["text"].to_list() == [
        translation_of(text, "hi-Latn") for text in kb(10)["query"]
    ]


@pytest.mark.parametrize("finish_reason", ["stop", "length"])
def test_rows_in_front_of_the_cut_are_kept(ledger, finish_reason):
    with LLMServer(faults=[Fault.cut_json(0.55, finish_reason)]) as server:
        bought = run(kb(10), server, ledger)
        asked_again = server.rows.total() - 10
    assert bought.rows.height == 10
    assert asked_again == 5


def test_a_reply_is_kept_before_it_is_read(ledger, monkeypatch):
    with LLMServer() as server:
        with monkeypatch.context() as patch:
            patch.setattr(translation, "clean_text", lambda _: 1 / 0)  # a bug in the parser
            with pytest.raises(ZeroDivisionError):
                run(kb(10), server, ledger)
        assert len(server.requests) == 1
        assert run(kb(10), server, ledger).rows.height == 10
        assert len(server.requests) == 1


def test_a_row_that_is_never_answered_is_refused_with_its_reason_and_for_good(ledger):
    bad = "where is my parcel number 7 from the shop"

    def fault_of(request):
        return Fault.refused("that is private") if bad in request.texts else None

    with LLMServer(faults=fault_of) as server:
        first = run(kb(30), server, ledger)
        assert server.rows[bad] == asking.MAX_TRIES
        packs = [len(request.rows) for request in server.requests if bad in request.texts]
        assert packs == [10, 3, 1]
        before = len(server.requests)
        second = run(kb(30), server, ledger)
        work = plan(kb(30), server, ledger)
        assert len(server.requests) == before
    assert (first.rows.height, second.rows.height) == (29, 29)
    assert first.rejects.equals(second.rejects)
    Rejects.validate(first.rejects)
    assert first.rejects.select("file", "column", "value", "rule").rows() == [
        ("translation to hi-Latn", "text", bad, "content_refused")
    ]
    assert "that is private" in first.rejects["reason"][0]
    assert (work.rows, work.refused, work.from_ledger, work.requests) == (0, 1, 29, 0)


def test_a_row_that_brings_the_endpoint_down_does_not_take_the_others_along(ledger):
    bad = "where is my parcel number 7 from the shop"

    def fault_of(request):
        return Fault.status(500) if bad in request.texts else None

    with LLMServer(faults=fault_of) as server:
        for run_number in range(1, asking.MAX_TRIES + 2):
            bought = run(kb(30 + run_number), server, ledger, llm_attempts=2)
            assert bought.rows.height == 29 + run_number
            assert bought.rejects["value"].to_list() == [bad]
        before = server.rows[bad]
        run(kb(40), server, ledger, llm_attempts=2)
        assert server.rows[bad] == before  # on record as refused by now


def test_an_endpoint_that_is_down_stops_the_run_and_what_was_bought_is_kept(ledger):
    with LLMServer(faults=lambda request: Fault.dropped() if request.number >= 5 else None) as bad:
        with pytest.raises(EndpointError, match="run again"):
            run(kb(100), bad, ledger, llm_attempts=2)
        assert len(bad.requests) <= 5 + 2 * 16  # it gave up long before it tried every row
    with LLMServer() as good:
        run(kb(100), good, ledger)
        assert good.rows.total() == 50


def test_an_error_that_stops_the_run_loses_nothing_in_flight(ledger):
    def fault_of(request):
        return Fault.status(401) if request.number == 0 else Fault("slow", delay_s=0.2)

    with LLMServer(faults=fault_of) as server:
        with pytest.raises(EndpointError, match="MONOGLOT_LLM_API_KEY"):
            run(kb(100), server, ledger)
        in_flight = len(server.requests) - 1
        assert 0 < in_flight <= 4
        work = plan(kb(100), server, ledger)
    assert work.from_ledger == 10 * in_flight


def test_a_mixture_of_faults_gives_the_same_table_for_the_same_seed(tmp_path):
    tables = []
    for attempt in range(2):
        with LLMServer(faults=mixture(0.2, seed=3)) as server:
            with Ledger(tmp_path / f"{attempt}.sqlite") as ledger:
                bought = run(kb(300), server, ledger, llm_concurrency=8)
            assert bought.rows.height + bought.rejects.height == 300
            tables.append(bought.rows)
    assert tables[0].equals(tables[1])


def test_requests_in_flight_stay_within_the_limit(ledger):
    with LLMServer(latency_s=0.03) as server:
        run(kb(60), server, ledger, llm_rows_per_request=2, llm_concurrency=3)
        assert server.most_at_once == 3


def test_progress_counts_every_row_and_ends_at_the_total(ledger):
    seen = []
    with LLMServer(faults=[Fault.lose(0)]) as server:
        for _ in range(2):
            translate(
                kb(30),
                HINGLISH,
                CONFIG,
                kb_language="en",
                settings=server.settings(),
                ledger=ledger,
                on_progress=lambda done, total: seen.append((done, total)),
            )
    first, again = seen[:-1], seen[-1:]
    assert first == sorted(first)
    assert (first[0], first[-1], again) == ((0, 30), (30, 30), [(30, 30)])


def test_it_runs_in_a_thread_and_beside_a_running_loop(tmp_path):
    def work(name):
        with Ledger(tmp_path / name) as ledger:
            return run(kb(3), server, ledger).rows.height

    async def notebook():
        return work("loop.sqlite")

    with LLMServer() as server:
        heights = []
        thread = threading.Thread(target=lambda: heights.append(work("thread.sqlite")))
        thread.start()
        thread.join()
        assert [*heights, asyncio.run(notebook())] == [3, 3]


def test_no_rows_are_no_work(ledger):
    with LLMServer() as server:
        nothing = run(kb(0), server, ledger)
        assert server.requests == []
    assert nothing.rows.equals(empty(Queries))
    assert nothing.rejects.equals(empty(Rejects))
