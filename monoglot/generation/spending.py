"""`Budget`: what one run may spend, over all its stages, and what it has spent.

A request is let through only if what is spent, what is reserved for the requests in flight and its
own estimate stay within the limits, so that a run stops before a limit and not after. An estimate
may be too low: it is raised by the worst that this purchase has seen. While others are in flight a
request that finds no room waits, as they may cost less than was reserved for them.

A request whose answer is lost on the way (a time-out, a dropped connection) may be charged for; it
counts with its estimate.
"""

import asyncio
import threading
from dataclasses import dataclass, replace

from monoglot.errors import BudgetError, ConfigError
from monoglot.generation.ledger import Calibration
from monoglot.generation.replies import Usage
from monoglot.generation_config import SpendingConfig

_POLL_S = 0.05
_FIRST_MARGIN = 2.0  # an estimate may be this many times too low, as long as no reply has come
_MARGIN = 1.1  # over the worst that was seen


def price_of(config: SpendingConfig, model: str, usage: Usage) -> float | None:
    """Price of some tokens in US dollars; None: unknown."""
    price = config.prices.get(model)
    if price is None:
        return None
    cached = price.input if price.cached_input is None else price.cached_input
    sent = (usage.prompt_tokens - usage.cached_tokens) * price.input + usage.cached_tokens * cached
    return (sent + usage.completion_tokens * price.output) / 1_000_000


def batch_price_of(config: SpendingConfig, model: str, usage: Usage) -> float | None:
    """The same where they are bought by batch: half of it, as OpenAI has it."""
    usd = price_of(config, model, usage)
    return None if usd is None else usd / 2


def most_of_batched(
    config: SpendingConfig, model: str, expected: Usage, learnt: Calibration
) -> float:
    """The most that a request of a batch is likely to cost, by the replies of its kind so far."""
    margin = _MARGIN if learnt.replies else _FIRST_MARGIN
    return (batch_price_of(config, model, learnt.corrected(expected)) or 0.0) * margin


def refuse_unpriced(config: SpendingConfig, model: str) -> None:
    """Refuse a limit in dollars where the price is unknown: it could not be kept.

    Raises:
        ConfigError: says what to set.
    """
    if config.max_usd is not None and model not in config.prices:
        raise ConfigError(
            f"spending.max_usd is set, but the price of model {model!r} is unknown, so the limit "
            f"could not be kept. Set spending.prices: {{{model}: {{input: ..., output: ...}}}}, in "
            "USD per million tokens (0 for a model of your own), or limit spending.max_requests."
        )


@dataclass
class _Sum:
    """Requests and dollars."""

    requests: int = 0
    usd: float = 0.0


class Budget:
    """The limits of one run; stages share it, threads may."""

    def __init__(self, config: SpendingConfig | None = None) -> None:
        self.config = config or SpendingConfig()
        self.usage = Usage()
        self._spent, self._reserved = _Sum(), _Sum()
        self._lock = threading.Lock()

    def account(self, model: str) -> "Account":
        """An account for one purchase from one model.

        Raises:
            ConfigError: there is a limit in dollars and no price.
        """
        refuse_unpriced(self.config, model)
        return Account(self, model)

    def told(self) -> str:
        """What was spent so far, for a progress bar; empty: nothing."""
        usage = self.usage
        if not usage.requests:
            return ""
        tokens = usage.prompt_tokens + usage.completion_tokens
        return f"{tokens:,} tokens" if usage.usd is None else f"${usage.usd:,.4f}"

    def reserve(self, usd: float) -> str | None:
        """Set a request aside. None: done; else the setting whose limit it would pass."""
        with self._lock:
            requests = self._spent.requests + self._reserved.requests + 1
            if requests > (self.config.max_requests or requests):
                return "max_requests"
            if self.config.max_usd is not None:
                total = self._spent.usd + self._reserved.usd + usd
                if total > self.config.max_usd:
                    return "max_usd"
            self._reserved.requests += 1
            self._reserved.usd += usd
            return None

    def settle(self, reserved_usd: float, usage: Usage, usd: float) -> None:
        """Replace a reservation by what came of it."""
        with self._lock:
            self._reserved.requests -= 1
            self._reserved.usd -= reserved_usd
            self._spent.requests += 1
            self._spent.usd += usd
            self.usage += usage

    def book_batched(self, usd: float) -> str | None:
        """Book a request of a batch at what it may cost: its price is known only days later.

        Returns:
            None: done; else the setting whose limit it would pass.
        """
        limit = self.reserve(usd)
        if limit is None:
            self.settle(usd, Usage(), usd)
        return limit

    def take_back(self, requests: int, usd: float) -> None:
        """Undo bookings of requests that were not submitted after all."""
        with self._lock:
            self._spent.requests -= requests
            self._spent.usd -= usd

    @property
    def in_flight(self) -> int:
        """Requests that something is reserved for."""
        return self._reserved.requests

    def exhausted(self, limit: str) -> BudgetError:
        """The error of a run that stops at a limit."""
        spent, usage = self._spent, self.usage
        price = "" if usage.price is None else f" for ${usage.price:.4f}"
        done = (
            f"submitted {spent.requests:,} requests, whose answers a later run takes in"
            if self.config.batch
            else f"sent {spent.requests:,} requests and bought {usage.requests:,} replies{price}, "
            "which are kept"
        )
        return BudgetError(
            f"spending.{limit} = {getattr(self.config, limit):g} would be passed. This run {done}"
        )


@dataclass(frozen=True)
class Reservation:
    """What one attempt at a request is expected to cost, and what is set aside for it."""

    expected_usd: float
    reserved_usd: float


class Account:
    """One purchase's part of a budget: reserves for each attempt, and sums up what was bought."""

    def __init__(self, budget: Budget, model: str) -> None:
        self.usage = Usage()
        self._budget = budget
        self._model = model
        self._worst = 0.0

    async def reserve(self, expected: Usage) -> Reservation:
        """Set an attempt aside, waiting for room while others are in flight.

        Raises:
            BudgetError: there is no room, and none will come.
        """
        usd = price_of(self._budget.config, self._model, expected) or 0.0
        while True:
            held = usd * (self._worst * _MARGIN or _FIRST_MARGIN)
            limit = self._budget.reserve(held)
            if limit is None:
                return Reservation(usd, held)
            if not self._budget.in_flight:
                raise self._budget.exhausted(limit)
            await asyncio.sleep(_POLL_S)

    def paid(self, reservation: Reservation, usage: Usage) -> Usage:
        """Book an answered attempt; the usage with its price."""
        usd = None if usage.uncounted else price_of(self._budget.config, self._model, usage)
        if usd and reservation.expected_usd:
            self._worst = max(self._worst, usd / reservation.expected_usd)
        priced = replace(usage, usd=usd)
        self._settle(reservation, priced, reservation.expected_usd if usd is None else usd)
        return priced

    def unpaid(self, reservation: Reservation) -> None:
        """Book an attempt that the endpoint turned down, which costs nothing."""
        self._settle(reservation, Usage(), 0.0)

    def lost(self, reservation: Reservation) -> None:
        """Book an attempt whose answer never came, at what it may have cost."""
        self._settle(reservation, Usage(lost=1), reservation.expected_usd)

    def _settle(self, reservation: Reservation, usage: Usage, usd: float) -> None:
        self.usage += usage
        self._budget.settle(reservation.reserved_usd, usage, usd)
