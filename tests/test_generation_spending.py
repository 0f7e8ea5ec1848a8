"""Prices and budgets: unknown is not nothing, and a run stops before its limit, not after."""

import asyncio
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_server import Fault, LLMServer
from parcels import CONFIG, HINGLISH, kb, plan

from monoglot.config import LanguageConfig
from monoglot.errors import BudgetError, ConfigError
from monoglot.generation.ledger import Ledger
from monoglot.generation.replies import Usage
from monoglot.generation.spending import Budget, price_of, refuse_unpriced
from monoglot.generation.translation import translate
from monoglot.generation_config import PriceConfig, SpendingConfig

PRICES = {"toy": PriceConfig(input=2.0, output=8.0, cached_input=0.5)}
ARABIC = LanguageConfig(code="ar", name="Arabic")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path):
    with Ledger(path) as opened:
        yield opened


def spending(**limits):
    return SpendingConfig(prices=PRICES, **limits)


def run(rows, server, ledger, budget, language=HINGLISH, **changes):
    settings = server.settings(**{"llm_concurrency": 4, **changes})
    return translate(
        rows, language, CONFIG, kb_language="en", settings=settings, ledger=ledger, budget=budget
    )


def planned_usd(server, ledger, rows=None):
    work = plan(kb(100) if rows is None else rows, server, ledger)
    return price_of(spending(), "toy", Usage(1, work.prompt_tokens, work.completion_tokens))


def test_a_price_counts_what_was_cached_at_its_own_rate():
    usage = Usage(1, 1_000_000, 500_000, cached_tokens=200_000)
    assert price_of(spending(), "toy", usage) == pytest.approx(0.8 * 2 + 0.2 * 0.5 + 0.5 * 8)
    plain = SpendingConfig(prices={"toy": PriceConfig(input=2.0, output=8.0)})
    assert price_of(plain, "toy", usage) == pytest.approx(2 + 4)
    assert price_of(spending(), "another", usage) is None


def test_a_sum_with_an_unknown_price_is_unknown_and_nothing_costs_nothing():
    known, unknown = Usage(1, 10, 5, usd=0.25), Usage(1, 10, 5)
    assert (known + known).usd == 0.5
    assert (known + unknown).usd is None
    assert (Usage() + known).price == 0.25
    assert (known + Usage(lost=1)).price == 0.25
    assert (Usage().price, unknown.price) == (0.0, None)


def test_a_limit_in_dollars_needs_a_price():
    limited = SpendingConfig(max_usd=1.0)
    with pytest.raises(ConfigError, match=r"spending.prices: \{toy: .*max_requests"):
        refuse_unpriced(limited, "toy")
    with pytest.raises(ConfigError, match="unknown"):
        Budget(limited).account("toy")
    refuse_unpriced(spending(max_usd=1.0), "toy")
    refuse_unpriced(SpendingConfig(max_requests=5), "toy")


def test_what_is_bought_is_priced_and_kept_so(ledger, path):
    budget = Budget(spending())
    with LLMServer() as server:
        bought = run(kb(20), server, ledger, budget)
        run(kb(10, start=50), server, ledger, Budget())
    assert bought.usage.requests == 2
    assert bought.usage.usd == price_of(spending(), "toy", bought.usage) > 0
    assert budget.usage == bought.usage
    assert budget.told() == f"${bought.usage.usd:.4f}"
    with sqlite3.connect(path) as database:
        kept = [usd for (usd,) in database.execute("SELECT usd FROM replies ORDER BY id")]
    database.close()
    assert sum(kept[:2]) == pytest.approx(bought.usage.usd)
    assert kept[2] is None


def test_an_endpoint_that_counts_nothing_has_an_unknown_price(ledger):
    with LLMServer(faults=[Fault.body('{"choices": [{"message": {"content": "no"}}]}')]) as server:
        bought = run(kb(10), server, ledger, Budget(spending()))
    assert (bought.usage.uncounted, bought.usage.usd) == (1, None)


def test_a_refusal_by_filter_costs_nothing(ledger):
    with LLMServer(faults=lambda _: Fault.filtered_400()) as server:
        bought = run(kb(1), server, ledger, Budget(spending()))
    assert (bought.usage.requests, bought.usage.usd) == (3, 0.0)


@pytest.mark.parametrize("in_flight", [1, 4, 16])
def test_a_run_sends_no_request_beyond_its_limit_and_the_next_buys_the_rest(ledger, in_flight):
    rows = kb(100)
    with LLMServer(latency_s=0.01) as server:
        with pytest.raises(BudgetError) as caught:
            run(rows, server, ledger, Budget(spending(max_requests=3)), llm_concurrency=in_flight)
        assert len(server.requests) == 3
        assert plan(rows, server, ledger).from_ledger == 30
        run(rows, server, ledger, Budget(spending(max_requests=7)), llm_concurrency=in_flight)
        assert server.rows == dict.fromkeys(rows["query"], 1)
    told = str(caught.value)
    for part in ("spending.max_requests = 3", "bought 3 replies for $0.", "70 of 100 rows", "plan"):
        assert part in told
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("in_flight", [1, 8])
@pytest.mark.parametrize("counted", [1, 4])
def test_a_run_stops_below_its_limit_in_dollars_even_if_the_estimate_is_low(
    ledger, in_flight, counted
):
    rows = kb(400)
    with LLMServer(count=lambda text: len(text) * counted // 4) as server:
        limit = planned_usd(server, None, rows) / 2 * counted
        budget = Budget(spending(max_usd=limit))
        with pytest.raises(BudgetError, match=r"spending\.max_usd = "):
            run(rows, server, ledger, budget, llm_concurrency=in_flight)
        assert limit * 0.6 < budget.usage.usd <= limit
        left = plan(rows, server, ledger).rows
        assert left == 400 - 10 * len(server.requests)
        run(rows, server, ledger, Budget(spending(max_usd=limit * 2)))
        assert server.rows == dict.fromkeys(rows["query"], 1)


def test_stages_share_one_budget(ledger):
    budget = Budget(spending(max_requests=15))
    with LLMServer() as server:
        run(kb(100), server, ledger, budget)
        with pytest.raises(BudgetError, match="sent 15 requests"):
            run(kb(100), server, ledger, budget, language=ARABIC)
        assert len(server.requests) == 15
        assert run(kb(100), server, ledger, budget).from_ledger == 100  # nothing to buy: no limit


def test_what_is_lost_on_the_way_counts_as_it_may_be_charged_and_what_is_turned_down_does_not(
    ledger,
):
    faults = [Fault.dropped(), Fault.cut_stream(), Fault.status(500), Fault.status(429)]
    budget = Budget(spending())
    with LLMServer(faults=faults) as server:
        bought = run(kb(10), server, ledger, budget)
    assert (bought.usage.requests, bought.usage.lost) == (1, 2)
    assert budget._spent.requests == 5
    expected = planned_usd(server, None, kb(10))
    assert budget._spent.usd == pytest.approx(bought.usage.usd + 2 * expected)


def test_a_connection_that_was_never_made_costs_nothing(ledger):
    with LLMServer() as server:
        gone = server.settings(llm_attempts=2)
    budget = Budget(spending())
    with pytest.raises(Exception, match="the connection failed"):
        translate(
            kb(5), HINGLISH, CONFIG, kb_language="en", settings=gone, ledger=ledger, budget=budget
        )
    assert (budget.usage, budget._spent.usd) == (Usage(), 0.0)


def test_repeated_attempts_are_within_the_limit(ledger):
    with LLMServer(faults=lambda _: Fault.status(500)) as server:
        with pytest.raises(BudgetError, match="sent 4 requests and bought 0 replies"):
            run(kb(10), server, ledger, Budget(spending(max_requests=4)), llm_attempts=20)
        assert len(server.requests) == 4


def test_a_request_waits_for_room_while_others_are_in_flight():
    async def two():
        budget = Budget(spending(max_usd=1.0))
        account = budget.account("toy")
        expected = Usage(1, 0, 50_000)  # $0.40, reserved at twice that
        first = await account.reserve(expected)
        second = asyncio.create_task(account.reserve(expected))
        await asyncio.sleep(0)
        assert not second.done()
        account.paid(first, Usage(1, 0, 50_000))
        await second  # the estimate was right: a tenth on top is enough from now on
        return budget

    budget = asyncio.run(two())
    assert budget._spent.usd == pytest.approx(0.4)
    assert budget._reserved.usd == pytest.approx(0.44)


@given(
    st.lists(st.tuples(st.integers(1, 400), st.sampled_from(["paid", "unpaid", "lost"]))),
    st.integers(1, 30),
    st.floats(0.001, 0.01),
)
def test_a_budget_is_never_passed_and_its_books_close(attempts, max_requests, max_usd):
    async def spend():
        budget = Budget(spending(max_requests=max_requests, max_usd=max_usd))
        account = budget.account("toy")
        for tokens, outcome in attempts:
            usage = Usage(1, tokens, tokens)
            try:
                reservation = await account.reserve(usage)
            except BudgetError:
                continue
            if outcome == "paid":
                account.paid(reservation, usage)
            else:
                getattr(account, outcome)(reservation)
        return budget, account

    budget, account = asyncio.run(spend())
    assert budget._spent.requests <= max_requests
    assert budget._spent.usd <= max_usd
    assert (budget.in_flight, account.usage) == (0, budget.usage)
    assert budget._reserved.usd == pytest.approx(0.0, abs=1e-12)
