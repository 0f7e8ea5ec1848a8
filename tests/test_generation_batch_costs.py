"""What batches cost, who tells it, and how they stay within a budget."""

import pytest
from batched_translation import run, submit
from llm_batches import BatchServer
from parcels import CONFIG, HINGLISH, kb

from monoglot.errors import BudgetError, ConfigError
from monoglot.generation import batches
from monoglot.generation.translation import pending
from monoglot.generation_config import SpendingConfig

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
