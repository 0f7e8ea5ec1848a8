"""`exchange`: rows out to the endpoint's Batch API, and answers in, with nobody waiting between.

Rows that the ledger lacks are packed as for a live request, noted in the ledger's file as out, and
submitted. Whoever needs them then ends, and a later run takes in what has come back; how, says
`batch_intake`.

Between noting a batch and knowing its id this process can die. The next run then searches the
endpoint's batches for our name, so that no row is bought twice and no answer is lost.
"""

import contextlib
import json
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import IO, Any, NamedTuple

from monoglot.errors import EndpointError
from monoglot.generation.access import address, plain
from monoglot.generation.apart import run_apart
from monoglot.generation.asking import Task, known_of
from monoglot.generation.batch_api import BatchApi
from monoglot.generation.batch_intake import Intake, TakenIn
from monoglot.generation.batch_records import Batch, BatchRecords
from monoglot.generation.ledger import Ledger
from monoglot.generation.llm import Endpoint, NoReplyError
from monoglot.generation.prompts import sent_ids
from monoglot.generation.replies import Usage
from monoglot.generation.spending import Budget, most_of_batched, refuse_unpriced
from monoglot.generation_config import SpendingConfig
from monoglot.settings import Settings

MOST_BYTES = 190_000_000  # of a file; the API takes 200 MB
_LOOKS = 3


async def exchange(
    asks: Mapping[str, Mapping[str, Any]],
    task: Task,
    connect: Callable[[], Endpoint],
    ledger: Ledger,
    budget: Budget,
) -> None:
    """Take in what has come back of some rows, and submit those that lack an answer.

    Where the budget does not ask by batch any more, rows are only taken in.

    Args:
        asks: the rows to ask, without ids, by key.
        task: what kind of question they are.
        connect: makes the endpoint.
        ledger: where replies are found and kept.
        budget: the run's.

    Raises:
        BudgetError: a limit was reached; what is within it was submitted.
        ConfigError: there is a limit in dollars and no price.
        EndpointError: the endpoint fails or refuses; what was taken in is kept, what is out stays.
    """
    records = BatchRecords(ledger)
    async with connect() as endpoint:
        intake = Intake(endpoint, records, budget.config)
        await intake.take_in(records.holding(asks))
        if intake.trouble is not None:
            raise intake.trouble
        if budget.config.batch:
            await _Submission(asks, task, endpoint, ledger, budget).run()


def take_in(settings: Settings, ledger: Ledger, spending: SpendingConfig) -> TakenIn:
    """Take in what has come back of every batch, also of rows that no run asks for any more.

    Args:
        settings: name the endpoint.
        ledger: where replies are kept.
        spending: what they cost.

    Returns:
        What an operator should know, and what the replies that were recorded cost.

    Raises:
        EndpointError: the endpoint fails, or has refused a batch.
    """
    records = BatchRecords(ledger)
    batches = records.living()

    async def work() -> Intake:
        async with _endpoint(settings, batches) as endpoint:
            intake = Intake(endpoint, records, spending)
            await intake.take_in(batches)
            return intake

    if not batches:
        return TakenIn()
    intake = run_apart(work())
    if intake.trouble is not None:
        raise intake.trouble
    return TakenIn(tuple(intake.notes), intake.usage)


class Cancelled(NamedTuple):
    """What became of the batches that were out.

    Attributes:
        stopping: were asked to stop.
        given_up: addresses of those at other endpoints than the one that is set, one for each.
    """

    stopping: int
    given_up: tuple[str, ...]


def cancel(settings: Settings, ledger: Ledger) -> Cancelled:
    """Ask the endpoint to stop every batch that is out there, and give up those out elsewhere.

    The next run takes in what was answered by then, and frees the other rows. Of a batch at another
    endpoint nothing can be known or stopped here: its rows are free at once, and it is lost.

    Args:
        settings: name the endpoint.
        ledger: says what is out.

    Raises:
        EndpointError: the endpoint fails.
        StoreError: the ledger cannot be written.
    """
    records = BatchRecords(ledger)
    here: list[Batch] = []
    elsewhere: list[Batch] = []
    for batch in records.living():
        (here if plain(batch.address) == address(settings) else elsewhere).append(batch)

    async def work() -> int:
        stopped = 0
        async with _endpoint(settings, here) as endpoint:
            api = BatchApi(endpoint)
            for batch in here:
                if batch.id is not None:
                    remote = await api.look(batch.id)
                    if remote is not None and remote.is_under_way:
                        await api.cancel(batch.id)
                        stopped += 1
        return stopped

    stopping = run_apart(work()) if here else 0
    for batch in elsewhere:
        records.end(batch.name)
    return Cancelled(stopping, tuple(batch.address for batch in elsewhere))


def _endpoint(settings: Settings, batches: list[Batch]) -> Endpoint:
    """The endpoint, which is not asked anything, so that any of the models will do."""
    return Endpoint(settings, batches[0].model, 0.0)


class _Submission:
    """Rows of one kind on their way out."""

    def __init__(
        self,
        asks: Mapping[str, Mapping[str, Any]],
        task: Task,
        endpoint: Endpoint,
        ledger: Ledger,
        budget: Budget,
    ) -> None:
        refuse_unpriced(budget.config, endpoint.model)
        self._asks = asks
        self._task = task
        self._endpoint = endpoint
        self._ledger = ledger
        self._records = BatchRecords(ledger)
        self._api = BatchApi(endpoint)
        self._budget = budget
        self._limit: str | None = None

    async def run(self) -> None:
        """Submit what lacks an answer; looked at anew where another process was quicker.

        Raises:
            BudgetError: a limit was reached; what is within it was submitted.
        """
        for _ in range(_LOOKS):
            if await self._submit():
                break
        if self._limit is not None:
            raise self._budget.exhausted(self._limit)

    async def _submit(self) -> bool:
        """Submit rows in batches; False where another process has taken some meanwhile."""
        self._limit = None
        known = known_of(self._asks, self._task, self._ledger)
        taken = self._records.out(self._asks) | self._records.claimed(self._asks)
        waiting: dict[int, list[str]] = {}
        for key in self._asks:
            if not known.is_settled(key) and key not in taken:
                waiting.setdefault(known.tries[key], []).append(key)
        with contextlib.closing(self._drafts(waiting)) as drafts:
            for draft in drafts:
                with draft.file:
                    if not self._records.put_out(
                        draft.name,
                        self._api.address,
                        self._endpoint.model,
                        requests=draft.requests,
                        tries=known.tries,
                        kind=self._task.kind,
                        expected=draft.expected,
                    ):
                        self._budget.take_back(len(draft.requests), draft.usd)
                        return False
                    await self._send(draft)
        return True

    def _drafts(self, waiting: Mapping[int, list[str]]) -> Generator["_Draft"]:
        """Rows by their tries, as batches of a size that the endpoint takes."""
        learnt = self._ledger.calibration(self._task.kind)
        draft = _Draft()
        for pack in _packs_of(waiting, self._task):
            sent = sent_ids(pack)
            rows = [{"id": sent[key], **self._asks[key]} for key in pack]
            expected = self._task.expected([self._asks[key] for key in pack])
            usd = most_of_batched(self._budget.config, self._endpoint.model, expected, learnt)
            self._limit = self._budget.book_batched(usd)
            if self._limit is not None:
                break
            draft.usd += usd
            body = self._endpoint.request(self._task.messages(rows), self._task.schema)
            draft.add(sent, body, expected)
            full = len(draft.requests) == self._endpoint.settings.llm_batch_requests
            if full or draft.bytes > MOST_BYTES:
                yield draft
                draft = _Draft()
        if draft.requests:
            yield draft
        draft.file.close()

    async def _send(self, draft: "_Draft") -> None:
        """Have the endpoint create a batch that is noted already."""
        try:
            file = await self._api.upload(draft.name, draft.file)
            batch_id = await self._api.create(draft.name, file)
        except BaseException as error:
            if isinstance(error, EndpointError) and not isinstance(error, NoReplyError):
                self._records.end(draft.name)
            else:  # whether it was created only the endpoint knows
                self._records.abandon(draft.name)
            raise
        self._records.created(draft.name, batch_id)


class _Draft:
    """A batch being written: its file, and rows and expected tokens of each of its requests."""

    def __init__(self) -> None:
        self.name = f"monoglot-{uuid.uuid4().hex}"
        self.requests: dict[str, dict[str, str]] = {}
        self.expected: dict[str, Usage] = {}
        self.usd = 0.0  # booked for them
        self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by who sends it
        self.bytes = 0

    def add(self, sent: dict[str, str], body: Mapping[str, Any], expected: Usage) -> None:
        """Write a request.

        Args:
            sent: the id each of its rows is sent under, by the row's key.
            body: what a live request would send.
            expected: the tokens that it will take.
        """
        request = f"{self.name}-{len(self.requests)}"
        line = {"custom_id": request, "method": "POST", "url": "/v1/chat/completions", "body": body}
        self.requests[request] = sent
        self.expected[request] = expected
        self.bytes += self.file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")


def _packs_of(waiting: Mapping[int, list[str]], task: Task) -> Iterator[list[str]]:
    """The rows of each request, packed as they are for a live one."""
    for tries, keys in sorted(waiting.items()):
        size = task.pack_size(tries)
        yield from (keys[start : start + size] for start in range(0, len(keys), size))
