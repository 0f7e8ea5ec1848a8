"""An endpoint or a disk that fails for a while: no row is refused for it, and none bought twice."""

import asyncio

import pytest
from llm_server import MODEL, Fault, LLMServer
from parcels import CONFIG, HINGLISH, kb

from monoglot.errors import EndpointError, StoreError
from monoglot.generation import buying
from monoglot.generation import ledger as ledger_module
from monoglot.generation.asking import Known, Task
from monoglot.generation.ledger import Ledger
from monoglot.generation.owner import new_owner
from monoglot.generation.translation import translate

OUTAGES = {
    "page": Fault.body("<html>Down for maintenance</html>"),
    "error": Fault.body('{"error": {"code": "overloaded_error", "message": "try again"}}'),
    "status": Fault.status(503),
}


def run(rows, server, ledger):
    settings = server.settings(llm_attempts=2)
    return translate(rows, HINGLISH, CONFIG, kb_language="en", settings=settings, ledger=ledger)


@pytest.mark.parametrize("name", OUTAGES)
def test_an_outage_is_held_against_no_row(ledger, name):
    rows = kb(30)
    with LLMServer(faults=lambda _: OUTAGES[name]) as server:
        for _ in range(4):
            with pytest.raises(EndpointError, match="2 times in a row"):
                run(rows, server, ledger)
        assert ledger.read("SELECT * FROM rows") == []
        server.faults = lambda _: None
        made = run(rows, server, ledger)
    assert (made.rows.height, made.rejects.height) == (30, 0)


@pytest.mark.parametrize("name", OUTAGES)
def test_an_outage_between_two_replies_costs_no_row(ledger, name):
    outage = [OUTAGES[name]] * 2
    with LLMServer(faults=[None, *outage, None]) as server:
        settings = server.settings(llm_attempts=3, llm_concurrency=1, llm_model=MODEL)
        made = translate(
            kb(30), HINGLISH, CONFIG, kb_language="en", settings=settings, ledger=ledger
        )
    assert (made.rows.height, made.rejects.height, made.usage.requests) == (30, 0, 3)
    assert ledger.read("SELECT count(*) FROM rows") == [(30,)]


def test_claims_are_renewed_after_a_renewal_that_failed(ledger, monkeypatch):
    for module in (buying, ledger_module):
        monkeypatch.setattr(module, "LEASE_S", 3.0)
    calls = []

    def renew(owner):
        calls.append(owner)
        if len(calls) == 1:
            raise StoreError("the ledger is locked")
        Ledger.renew(ledger, owner)

    monkeypatch.setattr(ledger, "renew", renew)
    task = Task(
        messages=lambda _: [],
        schema={},
        answer_of=lambda _: None,
        rows_per_request=1,
        answer_chars=lambda _: 1,
    )
    purchase = buying._Purchase({"a": {}}, Known(), task, ledger, in_flight=1, on_progress=None)

    async def in_flight_beyond_the_lease():
        async with purchase._claims():
            ledger.claim(purchase._owner, ["a"], 1)
            await asyncio.sleep(4.0)
            return ledger.claim(new_owner(), ["a"], 1)

    claim = asyncio.run(in_flight_beyond_the_lease())
    assert (dict(claim.won), claim.held) == ({}, {"a"})
    assert len(calls) > 2
