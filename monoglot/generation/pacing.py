"""`Limits`: the pace at which an endpoint lets itself be asked, shared by all of a process.

Requests are spread evenly instead of being let through by the minute, since providers enforce a
limit per minute by the second, and a burst is answered with 429. A pace is a point in time from
which the next may start, so that it serves threads and event loops alike.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from functools import cache

from monoglot.settings import Settings

_MINUTE_S = 60.0


class Pace:
    """So many a minute, evenly; 0: as many as there are."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._cost_s = _MINUTE_S / per_minute if per_minute else 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = clock()

    def take(self, amount: float = 1.0) -> float:
        """Take a place in the line; seconds until it is one's turn."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._free_at)
            self._free_at = turn + amount * self._cost_s
            return turn - now

    def correct(self, more: float) -> None:
        """Book what was taken beyond the amount said before; negative: less than that."""
        with self._lock:
            self._free_at += more * self._cost_s


class Limits:
    """Requests and tokens a minute of one model at one endpoint."""

    def __init__(
        self, requests: int, tokens: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._requests = Pace(requests, clock)
        self._tokens = Pace(tokens, clock)

    async def turn(self, tokens: float) -> None:
        """Wait until a request of about so many tokens, in and out, may start."""
        wait_s = max(self._requests.take(), self._tokens.take(tokens))
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    def correct(self, expected: float, counted: float) -> None:
        """Replace the tokens that `turn` was told by those the endpoint counted."""
        self._tokens.correct(counted - expected)


def limits_of(settings: Settings, model: str) -> Limits:
    """The limits that all requests of this process to a model share."""
    return _limits(
        settings.llm_base_url,
        model,
        settings.llm_requests_per_minute,
        settings.llm_tokens_per_minute,
    )


@cache
def _limits(_url: str, _model: str, requests: int, tokens: int) -> Limits:
    return Limits(requests, tokens)
