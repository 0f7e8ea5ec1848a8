"""`Intake`: what has come back of the batches that are out, recorded once, and the rest freed.

    answered         recorded like any reply, in the same transaction that ends its rows being out
    content refused  an answer, too
    failed or lost   counts as one of the rows' tries, and they are free to be asked in smaller
                     company, so that a bad row ends as refused; but where no request of the batch
                     was answered it is the endpoint that failed, and nothing is held against rows
                     that are asked for the first time
    not worked on    (the batch expired or was cancelled) free to be asked again
    no such batch    likewise: the endpoint does not know it

Nothing here waits: what is under way is left as it is.
"""

import itertools
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from monoglot.errors import EndpointError
from monoglot.generation.access import plain
from monoglot.generation.batch_api import BatchApi, RemoteBatch
from monoglot.generation.batch_records import Batch, BatchRecords
from monoglot.generation.batch_results import LOST, Outcome, Result, results_in
from monoglot.generation.llm import Endpoint
from monoglot.generation.replies import Reply, Usage
from monoglot.generation.spending import batch_price_of
from monoglot.generation_config import SpendingConfig

_AT_ONCE = 200  # results recorded in one transaction
_KEPT_S = 30 * 86_400.0  # how long endpoints keep a batch's files
_FULL = "token_limit_exceeded"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TakenIn:
    """What came of looking at batches: what an operator should know, and what was recorded."""

    notes: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)


class Intake:
    """Takes in batches from one endpoint.

    Attributes:
        usage: of the replies recorded.
        notes: what an operator should know, in sentences.
        trouble: what has to be mended before more is submitted; None: nothing.
    """

    def __init__(self, endpoint: Endpoint, records: BatchRecords, spending: SpendingConfig) -> None:
        self.usage = Usage()
        self.notes: list[str] = []
        self.trouble: EndpointError | None = None
        self._endpoint = endpoint
        self._api = BatchApi(endpoint)
        self._records = records
        self._spending = spending

    async def take_in(self, batches: Iterable[Batch]) -> None:
        """Look at some batches, and take in those that have ended.

        Raises:
            EndpointError: the endpoint does not say how they stand, or hands out no results.
        """
        full: list[EndpointError] = []
        under_way = False
        for batch in batches:
            if plain(batch.address) != self._api.address:
                self._leave(batch)
            elif batch_id := batch.id or await self._recovered(batch):
                remote = await self._api.look(batch_id)
                where = f"{self._api.address}: batch {batch_id}"
                if remote is None:
                    self._records.end(batch.name)
                    self._note(f"{where}: the endpoint does not know it. Its rows are free again.")
                elif remote.is_under_way:
                    under_way = True
                elif remote.status == "failed":
                    self._records.end(batch.name)
                    if _FULL in remote.reason:
                        full.append(_failure(where, remote))
                    else:
                        self.trouble = self.trouble or _failure(where, remote)
                else:
                    await self._collect(batch, remote, where)
        for error in full:
            self._note(str(error))
            if not under_way:  # else there is room when those are done
                self.trouble = self.trouble or error

    def _note(self, text: str) -> None:
        _log.warning("%s", text)
        self.notes.append(text)

    def _leave(self, batch: Batch) -> None:
        """A batch at another endpoint than the one that is set: nothing can be known of it here."""
        if time.time() > batch.created + _KEPT_S:
            self._records.end(batch.name)
            self._note(f"batch {batch.id} at {batch.address} is too old to be kept there: freed.")
        else:
            self._note(
                f"batch {batch.id} is out at {batch.address}, which is not the endpoint that is "
                "set: set MONOGLOT_LLM_BASE_URL to it to take in the answers, or give them up by "
                "`monoglot batches --cancel`."
            )

    async def _recovered(self, batch: Batch) -> str | None:
        """The id of a batch whose submitter ended before it knew; None: there is none, or not yet.

        Raises:
            EndpointError: the endpoint does not say.
        """
        if not batch.is_abandoned:
            return None
        found = await self._api.find(batch.name)
        if found is None:
            self._records.end(batch.name)
        else:
            self._records.created(batch.name, found)
        return found

    async def _collect(self, batch: Batch, remote: RemoteBatch, where: str) -> None:
        """Record the results of a batch that has ended, and free what has none.

        Ends the same when it is killed on the way and starts again: it goes by what is in the
        files, and what is recorded already is not recorded again.
        """
        answered = 0
        others: dict[str, Result] = {}
        for file_id in filter(None, (remote.output, remote.errors)):
            async with self._api.downloaded(file_id) as file:
                results = results_in(file)
                while some := list(itertools.islice(results, _AT_ONCE)):
                    answers = [it for it in some if it.outcome == "answered"]
                    answered += len(answers)
                    others |= {it.request: it for it in some if it.outcome != "answered"}
                    self._record(batch, answers)
        lost: Outcome = "failed" if remote.status == "completed" else "untouched"
        left = [
            others.get(request) or Result(request, lost, LOST, "no result")
            for request in self._records.requests(batch.name)
        ]
        failed = {it.request: it for it in left if it.outcome == "failed"}
        blamed = failed.keys() if answered else failed.keys() & self._records.retried(batch.name)
        self._record(batch, (failed[request] for request in blamed))
        self._records.end(batch.name)
        if left:
            self._note(f"{where}: {remote.status}, {len(left):,} of its requests have no answer.")
        refused = [it for it in left if it.outcome == "refused"]
        refused += [failed[request] for request in failed.keys() - blamed]
        if refused and self.trouble is None:
            self.trouble = EndpointError(
                f"{where}: {len(refused):,} requests failed with {refused[0].said}. Their rows are "
                f"free again. {self._endpoint.remedy(refused[0].status)}"
            )

    def _record(self, batch: Batch, results: Iterable[Result]) -> None:
        replies = ((it.request, self._priced(Reply.of(it.body), batch.model)) for it in results)
        self.usage += self._records.take_in(batch.name, replies)

    def _priced(self, reply: Reply, model: str) -> Reply:
        known = reply.usage.uncounted == 0
        usd = batch_price_of(self._spending, model, reply.usage) if known else None
        return replace(reply, usage=replace(reply.usage, usd=usd))


def _failure(where: str, remote: RemoteBatch) -> EndpointError:
    """Why a batch was not begun, and what to do."""
    remedy = (
        "Wait until other batches of this account are done, or lower MONOGLOT_LLM_BATCH_REQUESTS."
        if _FULL in remote.reason
        else "Check the model, and that batches of /v1/chat/completions are taken; or set "
        "`batch: false` under `spending:`."
    )
    return EndpointError(
        f"{where}: failed before any request was worked on ({remote.reason or 'no reason given'}). "
        f"Its rows are free again. {remedy}"
    )
