"""`ClusterEndpoint`: an endpoint whose requests the workers of a Dask cluster send.

Only the request travels. Ledger, claims, budget and pace stay in the process of the run, as they
are without a cluster: the ledger's file bears no network file system, and one budget over several
machines would have to be asked for every request in any case. A worker that dies takes its
requests in flight with it, no more: each counts as lost, is booked as such, and is sent again by
another worker, as after a dropped connection.

A worker holds a `Sender` (a Dask actor), which keeps its connections and takes the key from the
worker's own environment: no key goes through the scheduler.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import SecretStr

from monoglot.cluster import PATIENCE_S, explained
from monoglot.errors import EndpointError
from monoglot.generation.llm import Attempt, Endpoint, Message
from monoglot.settings import Settings, read_settings

_log = logging.getLogger(__name__)
_LOOK_S = 2.0  # between two looks at which workers there are
_START_S = 60.0  # for a worker to make its sender: it may be busy encoding
_WORKER_S = 60.0  # without any worker, until the run gives up
_GRACE_S = 30.0  # beyond an attempt's own time-out, until its worker counts as lost


def endpoint_of(settings: Settings, model: str, temperature: float) -> Endpoint:
    """The endpoint that the settings name: asked from here, or from the workers of a cluster.

    Raises:
        EndpointError: base URL or model are not set, or the URL is none.
    """
    kind = ClusterEndpoint if settings.cluster else Endpoint
    return kind(settings, model, temperature)


class Sender:
    """On a worker: sends requests, as many at a time as it is asked to."""

    def __init__(self, settings: Settings, model: str, temperature: float) -> None:
        own = settings.model_copy(update={"llm_api_key": read_settings().llm_api_key})
        self._endpoint = Endpoint(own, model, temperature)

    async def attempt(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Attempt:
        """Send a request once."""
        return await self._endpoint.attempt(messages, schema)


class _Held:
    """A sender as the run sees it."""

    def __init__(self, future: Any, send: Any) -> None:
        self.future = future  # the cluster lets go of the sender when this is dropped
        self.send = send
        self.flying = 0


class ClusterEndpoint(Endpoint):
    """One model at one endpoint, asked by all workers that the cluster has at the time."""

    def __init__(self, settings: Settings, model: str, temperature: float) -> None:
        super().__init__(settings, model, temperature)
        self._address = settings.cluster
        self._asked = (_without_secrets(settings), model, temperature)
        self._each = settings.llm_concurrency
        self._held: dict[str, _Held] = {}
        self._changed = asyncio.Condition()
        self._dask: Any = None  # the client: Dask has no types for what is asked of it here
        self._trouble = ""
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "ClusterEndpoint":
        with explained(self._address):
            from distributed import Client

            self._dask = await Client(
                self._address, asynchronous=True, timeout=PATIENCE_S, set_as_default=False
            )
            await self._look()
        self._looking = asyncio.create_task(self._look_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        self._held.clear()
        if self._dask is not None:
            await self._dask.close()
        await super().__aexit__()

    @property
    def senders(self) -> int:
        """Workers that send; 1 before the first is there, so that somebody waits for it."""
        return max(1, len(self._held))

    async def attempt(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Attempt:
        """One attempt by the worker that has the fewest requests in flight.

        Raises:
            EndpointError: the endpoint refuses the request as such, or there is no worker.
        """
        name = await self._take_place()
        held = self._held[name]
        limit_s = self._settings.llm_timeout_s + _GRACE_S
        try:
            async with asyncio.timeout(limit_s):
                attempt: Attempt = await held.send(messages, schema)
        except EndpointError as error:
            raise EndpointError(f"worker {name}: {error}") from None
        except (OSError, RuntimeError) as error:  # also: no answer in time
            self._held.pop(name, None)
            told = str(error) or f"no answer within {limit_s:g} s"
            return Attempt(trouble=f"worker {name} was lost ({told})", may_cost=True)
        finally:
            held.flying -= 1
            async with self._changed:
                self._changed.notify_all()
        # What the endpoint asked one worker for holds for all.
        self._resume_at = max(self._resume_at, time.monotonic() + attempt.wait_s)
        return attempt

    async def _take_place(self) -> str:
        """The name of a worker with room for one more request, which is counted there."""
        seen = time.monotonic()  # when there was a worker last
        async with self._changed:
            while True:
                free = [name for name, held in self._held.items() if held.flying < self._each]
                if free:
                    chosen = min(free, key=lambda name: self._held[name].flying)
                    self._held[chosen].flying += 1
                    return chosen
                seen = time.monotonic() if self._held else seen
                if time.monotonic() - seen > _WORKER_S:
                    raise EndpointError(
                        f"MONOGLOT_CLUSTER={self._address}: no worker for {_WORKER_S:.0f} s"
                        f"{self._trouble}. Everything bought so far is kept. Start workers "
                        f"(`dask worker {self._address}`) and run again."
                    )
                await self._changed.wait()

    async def _look_on(self) -> None:
        """Keep a sender on every worker that there is: they come and go while it runs."""
        while True:
            await asyncio.sleep(_LOOK_S)
            with contextlib.suppress(OSError):  # the scheduler is away; the client comes back
                await self._look()
            async with self._changed:
                self._changed.notify_all()

    async def _look(self) -> None:
        workers = set(await self._dask.nthreads())
        for gone in self._held.keys() - workers:
            self._held.pop(gone, None)
        await asyncio.gather(*map(self._add, workers - self._held.keys()))

    async def _add(self, worker: str) -> None:
        """Make a sender on a worker; one that fails to is tried again at the next look."""
        future = self._dask.submit(
            Sender,
            *self._asked,
            workers=[worker],
            allow_other_workers=False,
            actor=True,
            pure=False,
        )
        try:
            actor = await asyncio.wait_for(future, _START_S)
        except Exception as error:  # whatever a worker has, the others can go on
            self._trouble = f" (worker {worker}: {str(error) or type(error).__name__})"
            _log.warning("no requests are sent by%s", self._trouble)
        else:
            with self._dask.as_current():  # an actor asks whose it is when it is used first
                self._held[worker] = _Held(future, actor.attempt)


def _without_secrets(settings: Settings) -> Settings:
    secret = [name for name, value in settings if isinstance(value, SecretStr)]
    return settings.model_copy(update=dict.fromkeys(secret, SecretStr("")))
