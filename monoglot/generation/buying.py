"""Buying the answers that the ledger lacks: packed, in parallel, each reply kept before it is read.

Rows are claimed just before they are sent, so that several processes share the work instead of
doubling it: what another is buying is left to it, and looked up when it is done. An error that no
retry mends, and the end of the budget, stop new requests; those in flight are awaited and kept
before it is raised.
"""

import asyncio
import contextlib
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from monoglot.errors import BatchPendingError, BudgetError, MonoglotError, StoreError
from monoglot.generation.apart import run_apart
from monoglot.generation.asking import Answers, Known, Progress, Task, known_of
from monoglot.generation.batch_records import BatchRecords
from monoglot.generation.batches import exchange
from monoglot.generation.ledger import LEASE_S, Bought, Entry, Ledger
from monoglot.generation.llm import Endpoint, NoReplyError
from monoglot.generation.owner import new_owner
from monoglot.generation.prompts import sent_ids
from monoglot.generation.replies import Problem, Reply, Usage
from monoglot.generation.spending import Account, Budget

_FEWEST_CLAIMED = 4  # packs looked at at a time, where other processes hold some of the rows
_POLL_S = 0.2
_FEWEST_FAILURES = 3  # requests without reply in a row, and at least as many as are in flight


def answer_all(
    asks: Mapping[str, Mapping[str, Any]],
    task: Task,
    connect: Callable[[], Endpoint],
    ledger: Ledger,
    *,
    in_flight: int,
    on_progress: Progress | None = None,
    budget: Budget | None = None,
) -> Answers:
    """Answer every row, from the ledger where it can, else by asking the endpoint.

    May be called from any thread, with a running event loop (a notebook) or without.

    Args:
        asks: the rows to ask, without ids, by key.
        task: what kind of question they are.
        connect: makes the endpoint; called only if a row must be bought.
        ledger: where replies are found and kept.
        in_flight: requests under way at a time, for each machine that sends them.
        on_progress: called with rows settled and rows in all, as replies come in.
        budget: the run's, with its prices, and whether to ask by batch; None: nothing limits it,
            and no price is known.

    Raises:
        BudgetError: the budget is used up; what was bought so far is kept.
        ConfigError: the budget is in dollars and the model's price is unknown.
        BatchPendingError: rows are out in a batch, from this call or an earlier one; those that
            are in none, and are not to be, were bought before this is raised.
        EndpointError: the endpoint fails or refuses; what was bought so far is kept.
        StoreError: the ledger cannot be written.
    """
    records = BatchRecords(ledger)
    known = known_of(asks, task, ledger)
    missing = any(not known.is_settled(key) for key in asks)
    budget = budget or Budget()
    if missing and (budget.config.batch or records.holding(asks)):
        run_apart(exchange(asks, task, connect, ledger, budget))
        known = known_of(asks, task, ledger)
    had = set(known.answers)
    purchase = _Purchase(asks, known, task, ledger, in_flight=in_flight, on_progress=on_progress)
    if purchase.is_needed:
        run_apart(purchase.run(connect, budget))
    if out := records.outstanding(asks):
        raise BatchPendingError(out)
    batched, by_batch = records.report(asks)
    refused = [key for key in asks if key not in known.answers]
    return Answers(
        answers={key: known.answers[key] for key in asks if key in known.answers},
        problems={key: purchase.failed.get(key) or _for_good(known, key) for key in refused},
        usage=purchase.usage + batched,
        from_ledger=len(had - by_batch),
        asked=len(asks),
        unanswered=sum(not known.is_settled(key) for key in refused),
    )


class _Purchase:
    """One run's purchase: rows waiting, requests in flight, and what came of them."""

    def __init__(
        self,
        asks: Mapping[str, Mapping[str, Any]],
        known: Known,
        task: Task,
        ledger: Ledger,
        *,
        in_flight: int,
        on_progress: Progress | None,
    ) -> None:
        self.failed: dict[str, Problem] = {}
        self._asks = asks
        self._known = known
        self._task = task
        self._ledger = ledger
        self._each = self._in_flight = in_flight
        self._on_progress = on_progress or (lambda _done, _total: None)
        self._owner = new_owner()
        self._waiting: dict[int, deque[str]] = {}  # by how often their requests came to nothing
        self._setbacks: Counter[str] = Counter()
        self._elsewhere: list[str] = []
        self._out = BatchRecords(ledger).out(asks)
        self._flying: set[asyncio.Task[None]] = set()
        self._packs: deque[list[str]] = deque()  # claimed, and next to be sent
        self._keeper = _Keeper(ledger)
        self._failures_in_a_row = 0
        self._trouble: MonoglotError | None = None
        self._account: Account | None = None
        self._open: set[str] = set()
        self._settle(list(asks))

    @property
    def is_needed(self) -> bool:
        """Whether any row must be bought."""
        return bool(self._open)

    @property
    def usage(self) -> Usage:
        """What was bought."""
        return self._account.usage if self._account else Usage()

    async def run(self, connect: Callable[[], Endpoint], budget: Budget) -> None:
        """Buy until every row is settled."""
        async with connect() as endpoint, self._claims():
            self._account = budget.account(endpoint.model)
            while self._open:
                await self._start_requests(endpoint)
                if self._flying:
                    landed, self._flying = await asyncio.wait(
                        self._flying, return_when=asyncio.FIRST_COMPLETED
                    )
                    for request in landed:
                        request.result()
                elif self._trouble:
                    raise self._stopped(self._trouble)
                else:
                    await self._wait_for_others()

    async def _start_requests(self, endpoint: Endpoint) -> None:
        self._in_flight = self._each * endpoint.senders
        while self._trouble is None and len(self._flying) < self._in_flight:
            if not self._packs:
                await self._claim_packs()
            if not self._packs:
                return
            self._flying.add(asyncio.create_task(self._request(self._packs.popleft(), endpoint)))

    async def _claim_packs(self) -> None:
        """Claim the rows of the next requests, for as many as may be in flight, if any are free.

        Many at a time: a claim goes to another thread and back, which takes the processor as long
        as sending a request.
        """
        while setbacks := [count for count, queue in self._waiting.items() if queue]:
            queue = self._waiting[min(setbacks)]
            size = self._task.pack_size(min(setbacks))
            wanted = size * max(self._in_flight, _FEWEST_CLAIMED)
            window = [queue.popleft() for _ in range(min(len(queue), wanted))]
            claim = await asyncio.to_thread(self._ledger.claim, self._owner, window, wanted)
            self._elsewhere += [key for key in window if key in claim.held]
            answered = [key for key, n in claim.won.items() if n != self._known.tries[key]]
            if answered:
                await self._look_up(answered)
            settled = frozenset(answered)
            won = [key for key in claim.won if key not in settled]
            self._packs.extend(won[at : at + size] for at in range(0, len(won), size))
            if won:
                return

    async def _request(self, pack: Sequence[str], endpoint: Endpoint) -> None:
        """Send one pack, keep the reply, then read it."""
        sent = sent_ids(pack)
        rows = [self._asks[key] for key in pack]
        messages = self._task.messages([{"id": sent[key], **self._asks[key]} for key in pack])
        expected = self._task.expected(rows)
        try:
            reply = await endpoint.ask(messages, self._task.schema, self._account, expected)
            await self._keep(reply, sent, expected)
        except NoReplyError as error:
            await self._set_back(sent, error)
        except MonoglotError as error:
            self._trouble = self._trouble or error
        else:
            self._failures_in_a_row = 0
            self._settle(pack)

    async def _keep(
        self, reply: Reply, sent: Mapping[str, str], expected: Usage | None = None
    ) -> None:
        await self._keeper.keep(Bought(reply, sent, self._task.kind, expected))
        entries = [Entry(key, sent_as, 0, reply.body) for key, sent_as in sent.items()]
        self._known.read(entries, self._task)

    async def _set_back(self, sent: Mapping[str, str], error: NoReplyError) -> None:
        """A request that got no reply: the endpoint is down, or one of its rows brings it down.

        While others get replies, the rows are tried in smaller company. One that fails alone is
        left out of this run, and that is recorded as one of its tries, so that it cannot stop
        every run to come; while it has tries left, the next run asks it again.
        """
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= max(_FEWEST_FAILURES, self._in_flight):
            self._trouble = self._trouble or error
        elif len(sent) > 1:
            self._setbacks.update(sent.keys())
            await asyncio.to_thread(self._ledger.release, self._owner, list(sent))
            self._settle(sent)
        elif self.usage.requests == 0 and not any(self._known.tries[key] for key in sent):
            self._trouble = self._trouble or error  # nothing shows that the endpoint is well
        else:
            body = json.dumps({"error": {"code": "no_reply", "message": str(error)}})
            await self._keep(Reply.of(body), sent)
            self.failed |= {key: Problem("no_reply", str(error)) for key in sent}
            self._settle(sent)

    def _stopped(self, trouble: MonoglotError) -> MonoglotError:
        """The error that ends the purchase; of a budget with what is left and what to raise."""
        if not isinstance(trouble, BudgetError):
            return trouble
        left = f"{len(self._open):,} of {len(self._asks):,} rows"
        return BudgetError(
            f"{trouble}; {left} of this stage are left. To buy the rest, run again with a higher "
            "limit: what is kept is not bought again (`monoglot plan` shows what is left)."
        )

    async def _wait_for_others(self) -> None:
        """Wait for rows that other processes are buying, and take over what they leave."""
        await asyncio.sleep(_POLL_S)
        keys, self._elsewhere = self._elsewhere, []
        await self._look_up(keys)

    async def _look_up(self, keys: Sequence[str]) -> None:
        """Take in replies that others bought since these rows were last looked up."""
        self._known.renew(await asyncio.to_thread(known_of, keys, self._task, self._ledger))
        self._out |= await asyncio.to_thread(BatchRecords(self._ledger).out, keys)
        await asyncio.to_thread(self._ledger.release, self._owner, keys)
        self._settle(keys)

    def _settle(self, keys: Sequence[str] | Mapping[str, str]) -> None:
        """Close rows that are answered or refused, queue the others, and tell the progress."""
        for key in keys:
            if self._known.is_settled(key) or key in self.failed or key in self._out:
                self._open.discard(key)
            else:
                self._open.add(key)
                setbacks = self._known.tries[key] + self._setbacks[key]
                self._waiting.setdefault(setbacks, deque()).append(key)
        self._on_progress(len(self._asks) - len(self._open), len(self._asks))

    @contextlib.asynccontextmanager
    async def _claims(self) -> AsyncIterator[None]:
        """Renew this run's claims while it lasts, and give them up at its end."""
        renewing = asyncio.create_task(self._renew())
        try:
            yield
        finally:
            for background in (renewing, *self._flying):
                background.cancel()
            await asyncio.gather(renewing, *self._flying, return_exceptions=True)
            await self._keeper.finish()
            with contextlib.suppress(StoreError):  # the error under way says more
                self._ledger.release(self._owner)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            with contextlib.suppress(StoreError):  # it may pass before the claims end
                await asyncio.to_thread(self._ledger.renew, self._owner)


class _Keeper:
    """Writes replies to the ledger: those that come in while others are being written, together."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: list[tuple[Bought, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def keep(self, bought: Bought) -> None:
        """Return when the reply is on the disk.

        Raises:
            StoreError: it cannot be written.
        """
        kept = asyncio.get_running_loop().create_future()
        self._waiting.append((bought, kept))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        await kept

    async def finish(self) -> None:
        """Return when nothing waits any more: who waited for a reply may have been cancelled."""
        if self._writing is not None:
            await self._writing

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            errors = await asyncio.to_thread(
                self._ledger.record_all, [bought for bought, _ in batch]
            )
            for (_, kept), error in zip(batch, errors, strict=True):
                if not kept.done():
                    kept.set_result(None) if error is None else kept.set_exception(error)


def _for_good(known: Known, key: str) -> Problem:
    """The last problem of a row that is not asked again."""
    problem = known.problems[key]
    return Problem(
        problem.rule,
        f"{problem.reason}; asked {known.tries[key]} times and not asked again with this model "
        "and prompt",
    )
