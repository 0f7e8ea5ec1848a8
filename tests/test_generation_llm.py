"""The endpoint: which failures are tried again, which stop the run, and what is never said."""

import asyncio
import logging
import subprocess
import sys
import time
import traceback

import pytest
from llm_server import MODEL, Fault, LLMServer
from pydantic import SecretStr

from monoglot.config import LanguageConfig
from monoglot.errors import EndpointError
from monoglot.generation.access import check_endpoint
from monoglot.generation.failures import retry_after
from monoglot.generation.llm import Endpoint, NoReplyError
from monoglot.generation.prompts import TRANSLATION_SCHEMA, build_translation_messages
from monoglot.settings import Settings

KEY = "sk-very-secret-1234567890"
HINGLISH = LanguageConfig(code="hi-Latn", name="Hinglish")
MESSAGES = build_translation_messages([{"id": "ra", "text": "where is it"}], HINGLISH, "en")


def ask(settings, model=MODEL, times=1):
    async def asking():
        async with Endpoint(settings, model, 0.3) as endpoint:
            return await asyncio.gather(
                *(endpoint.ask(MESSAGES, TRANSLATION_SCHEMA) for _ in range(times))
            )

    return asyncio.run(asking())


def test_a_reply_comes_back_whole():
    with LLMServer() as server:
        (reply,) = ask(server.settings())
    assert '"ra"' in reply.text
    assert (reply.finish_reason, reply.model, reply.usage.requests) == ("stop", MODEL, 1)
    assert reply.usage.prompt_tokens > 0
    assert reply.body.startswith('{"id": "chatcmpl-0"')


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(408),
        Fault.status(409),
        Fault.status(429),
        Fault.status(500),
        Fault.status(503),
        Fault.dropped(),
        Fault.cut_stream(),
        Fault.body('{"error": {"code": 502, "message": "the model behind us is down"}}'),
        Fault.body('{"error": {"code": "overloaded_error", "message": "try again"}}'),
        Fault.body('{"error": {"code": 400, "message": "Provider returned error"}}'),
        Fault.body('{"error": "no worker"}'),
        Fault.body('{"choices": null, "error": {"message": "no worker"}}'),
        Fault.body('{"choices": [{"message": {"content": ""}}], "error": {"code": 502}}'),
        Fault.body('{"choices": [{"message": {"content": ""}, "finish_reason": "error"}]}'),
        Fault.body("<html>Down for maintenance</html>"),
        Fault.body('{"status": "ok"}'),
        Fault.body("[]"),
        Fault.body(" "),
    ],
    ids=lambda fault: fault.raw_body or fault.name,
)
def test_trouble_that_may_pass_is_tried_again(fault):
    with LLMServer(faults=[fault, fault]) as server:
        assert ask(server.settings())[0].text
        assert len(server.requests) == 3


def test_a_late_reply_is_given_up_and_tried_again():
    with LLMServer(faults=[Fault.late(1.0)]) as server:
        assert ask(server.settings(llm_timeout_s=0.3))[0].text
        assert len(server.requests) == 2


def test_attempts_end():
    with LLMServer(faults=lambda _: Fault.status(500, why="tilt")) as server:
        with pytest.raises(NoReplyError) as caught:
            ask(server.settings(llm_attempts=3))
        assert len(server.requests) == 3
        assert server.base_url in str(caught.value)
    assert "HTTP 500 (tilt), 3 times in a row" in str(caught.value)
    assert "run again" in str(caught.value)


def test_waits_grow_with_jitter_up_to_a_limit():
    settings = Settings(llm_base_url="http://h/v1", llm_retry_wait_s=0.5)

    async def waits():
        async with Endpoint(settings, "m", 0.0) as endpoint:
            return [endpoint._backoff(attempt) for attempt in (1, 2, 3, 20)]

    for wait, longest in zip(asyncio.run(waits()), (0.5, 1.0, 2.0, 30.0), strict=True):
        assert longest / 2 <= wait <= longest


def test_the_wait_an_endpoint_asks_for_holds_for_all_requests(caplog):
    caplog.set_level(logging.INFO, "monoglot.generation.llm")
    times = []
    with LLMServer(faults=[Fault.status(429, retry_after="0.6")]) as server:
        received = server.received

        def noting(*args):
            times.append(time.monotonic())
            return received(*args)

        server.received = noting
        settings = server.settings()

        async def asking():
            async with Endpoint(settings, MODEL, 0.3) as endpoint:
                first = asyncio.create_task(endpoint.ask(MESSAGES, TRANSLATION_SCHEMA))
                while "waiting 0.6 s" not in caplog.text:
                    await asyncio.sleep(0.005)
                await asyncio.gather(first, endpoint.ask(MESSAGES, TRANSLATION_SCHEMA))

        asyncio.run(asking())
    assert len(times) == 3
    assert min(times[1:]) >= times[0] + 0.6


def test_retry_after_is_read_in_all_its_forms(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_000_000_000.0)
    assert retry_after({"retry-after": "7"}) == 7.0
    assert retry_after({"retry-after-ms": "250", "retry-after": "7"}) == 0.25
    assert retry_after({"retry-after": "Sun, 09 Sep 2001 01:46:50 GMT"}) == 10.0
    assert retry_after({"retry-after": "Sun, 09 Sep 2001 01:46:30 GMT"}) == 0.0
    assert retry_after({"retry-after": "soon"}) == 0.0
    assert retry_after({}) == 0.0


def test_a_wait_of_hours_is_not_sat_out():
    with LLMServer(faults=[Fault.status(429, retry_after="7200")]) as server:
        with pytest.raises(EndpointError, match="wait 7200 s"):
            ask(server.settings())
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        (Fault.status(400), "MONOGLOT_LLM_STRUCTURED"),
        (Fault.status(401), "MONOGLOT_LLM_API_KEY"),
        (Fault.status(403), "MONOGLOT_LLM_API_KEY"),
        (Fault.status(404), "MONOGLOT_LLM_MODEL"),
        (Fault.status(422), "MONOGLOT_LLM_STRUCTURED"),
        (Fault.status(429, error="insufficient_quota"), "account"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_what_repeating_cannot_mend_stops_at_once_and_says_what_to_set(fault, remedy):
    with LLMServer(faults=lambda _: fault) as server:
        with pytest.raises(EndpointError, match=remedy) as caught:
            ask(server.settings())
        assert len(server.requests) == 1
        assert server.base_url in str(caught.value)
    assert not isinstance(caught.value, NoReplyError)


@pytest.mark.parametrize(
    "fault",
    [
        Fault.refused(),
        Fault.filtered(),
        Fault.filtered_400(),
        Fault.status(400, error="context_length_exceeded"),
        Fault.status(400, why="This model's maximum context length is 512 tokens."),
    ],
    ids=lambda fault: fault.name,
)
def test_a_refusal_is_a_reply_and_is_not_tried_again(fault):
    with LLMServer(faults=[fault]) as server:
        (reply,) = ask(server.settings())
        assert len(server.requests) == 1
    assert (reply.text, bool(reply.refusal)) == ("", True)


@pytest.mark.parametrize(
    "body",
    [
        '{"choices": []}',
        '{"choices": [{"message": {"content": null}}]}',
        '{"error": {"code": "content_filter"}}',
        '{"error": {"message": "longer than the context length"}}',
        '{"choices": [{"finish_reason": "content_filter"}], "error": {"message": "filtered"}}',
    ],
)
def test_a_success_that_is_about_the_rows_is_returned_to_be_recorded(body):
    with LLMServer(faults=[Fault.body(body)]) as server:
        (reply,) = ask(server.settings())
        assert len(server.requests) == 1
    assert (reply.text, reply.body) == ("", body)


def test_a_reply_that_has_text_counts_whatever_error_comes_with_it():
    body = '{"choices": [{"message": {"content": "half"}}], "error": {"code": 502}}'
    with LLMServer(faults=[Fault.body(body)]) as server:
        assert ask(server.settings())[0].text == "half"
        assert len(server.requests) == 1


def test_a_page_instead_of_replies_ends_as_trouble_and_shows_what_came():
    page = f"<html>\n  Down for maintenance, {KEY}{' .' * 999}</html>"
    with LLMServer(faults=lambda _: Fault.body(page)) as server:
        with pytest.raises(NoReplyError) as caught:
            ask(server.settings(llm_api_key=SecretStr(KEY), llm_attempts=2))
        assert len(server.requests) == 2
    told = str(caught.value)
    assert "HTTP 200 without a reply (<html> Down for maintenance, ***" in told
    assert "MONOGLOT_LLM_BASE_URL" in told
    assert len(told) < 500


def test_an_empty_account_told_with_a_success_stops_at_once():
    body = '{"error": {"code": "insufficient_quota", "message": "top up"}}'
    with LLMServer(faults=lambda _: Fault.body(body)) as server:
        with pytest.raises(EndpointError, match=r"\(top up\)\. Check the account") as caught:
            ask(server.settings())
        assert len(server.requests) == 1
    assert not isinstance(caught.value, NoReplyError)


@pytest.mark.parametrize(
    ("structured", "shape"),
    [("json_schema", "json_schema"), ("json_object", "json_object"), ("prompt", None)],
)
def test_json_is_asked_for_as_the_setting_says(structured, shape):
    with LLMServer() as server:
        ask(server.settings(llm_structured=structured))
        body = server.requests[0].body
    assert body.get("response_format", {}).get("type") == shape
    if shape == "json_schema":
        assert body["response_format"]["json_schema"]["schema"] == TRANSLATION_SCHEMA
    known = {"model", "messages", "temperature", "response_format"}
    assert body.keys() <= known


def test_a_key_is_sent_and_a_server_without_one_is_content():
    with LLMServer(api_key=KEY) as server:
        ask(server.settings())
        assert server.requests[0].authorization == f"Bearer {KEY}"
    with LLMServer() as server:
        assert ask(server.settings())[0].text


def test_the_key_is_in_no_message_log_or_traceback(caplog, capfd):
    caplog.set_level(logging.DEBUG)
    told = []
    with LLMServer(api_key="another") as server:
        secret = server.settings(llm_api_key=SecretStr(KEY))
        for failing in (check_endpoint, ask):
            with pytest.raises(EndpointError) as caught:
                failing(secret)
            told.append("".join(traceback.format_exception(caught.value)) + repr(caught.value))
    with LLMServer(faults=lambda _: Fault.status(500, why=f"bad key {KEY}")) as server:
        with pytest.raises(NoReplyError) as caught:
            ask(server.settings(llm_api_key=SecretStr(KEY), llm_attempts=2))
        told.append(str(caught.value))
    out, err = capfd.readouterr()
    assert "***" in told[-1]
    assert KEY not in "".join(told) + caplog.text + out + err + repr(secret)


def test_no_endpoint_is_reached_says_which_settings_to_look_at():
    with LLMServer() as server:
        gone = server.settings(llm_api_key=SecretStr(KEY))
    with pytest.raises(EndpointError) as caught:
        check_endpoint(gone)
    told = str(caught.value)
    for part in (gone.llm_base_url, "MONOGLOT_LLM_BASE_URL", "_API_KEY", "_MODEL", "refused"):
        assert part in told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"llm_base_url": ""}, "No LLM endpoint is set"),
        ({"llm_base_url": "localhost:8000/v1"}, "is no http"),
        ({"llm_base_url": "ftp://host/v1"}, "is no http"),
        ({"llm_base_url": "http://host:port/v1"}, "is no http"),
        ({"llm_base_url": "http://[half/v1"}, "is no http"),
        ({"llm_api_key": SecretStr("two\nlines")}, "line break"),
        ({"llm_api_key": SecretStr("schl\u00fcssel")}, "no key has"),
    ],
)
def test_settings_that_cannot_be_right_are_found_before_anything_is_sent(changes, words):
    with LLMServer() as server:
        settings = server.settings(**changes)
        for failing in (check_endpoint, ask):
            with pytest.raises(EndpointError, match=words):
                failing(settings)
        assert server.requests == []


def test_a_model_must_be_named_where_one_is_needed():
    with LLMServer() as server:
        check_endpoint(server.settings(llm_model=""))
        for failing in (check_endpoint, ask):
            with pytest.raises(EndpointError, match="MONOGLOT_LLM_MODEL"):
                failing(server.settings(), "")


def test_a_password_in_the_address_is_not_shown():
    settings = Settings(llm_base_url="http://me:hidden@127.0.0.1:9/v1?token=hidden")
    with pytest.raises(EndpointError, match=r"http://127\.0\.0\.1:9/v1: ") as caught:
        check_endpoint(settings)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("status", [200, 404, 405, 429, 501])
def test_an_endpoint_that_answers_at_all_is_well(status):
    with LLMServer(models_status=status) as server:
        check_endpoint(server.settings())


@pytest.mark.parametrize(("status", "words"), [(401, "refuses the key"), (503, "not well")])
def test_an_endpoint_that_refuses_or_fails_is_not_well(status, words, monkeypatch):
    monkeypatch.setattr("monoglot.generation.access.time.sleep", lambda _: None)
    with LLMServer(models_status=status) as server, pytest.raises(EndpointError, match=words):
        check_endpoint(server.settings())


def test_plans_do_not_load_the_client():
    modules = "translation, synthesis, quality, ledger, llm, access, buying"
    program = (
        f"import sys; from monoglot.generation import {modules}; "
        "sys.exit('openai' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
