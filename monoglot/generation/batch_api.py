"""`BatchApi`: an endpoint's files and batches, as OpenAI has them, and what to do when they fail.

Everything here may be repeated at no cost but one call: creating a batch buys it. So it is never
repeated blindly. Where a creation was not answered, the endpoint's batches are searched for ours,
whose metadata carries our name for it, before another one is created.
"""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import IO, Any, TypeVar

from monoglot.errors import EndpointError
from monoglot.generation.access import address, scrubbed
from monoglot.generation.failures import (
    ACCOUNT_CODES,
    cause,
    error_of,
    is_repeatable,
    retry_after,
    words,
)
from monoglot.generation.llm import Endpoint, NoReplyError

T = TypeVar("T")

_NAME = "monoglot"  # the key of our name in a batch's metadata
_PAGE = 100
_LONGEST_WAIT_S = 120.0


@dataclass(frozen=True)
class RemoteBatch:
    """What the endpoint says of a batch.

    Attributes:
        status: such as in_progress, completed, expired.
        output: id of the file with the answers; None: there are none.
        errors: id of the file with the requests that failed; None: there are none.
        reason: why it failed as a whole, as code and words; empty: it did not.
    """

    status: str
    output: str | None
    errors: str | None
    reason: str

    @property
    def is_under_way(self) -> bool:
        """Whether answers may still come."""
        return self.status in ("validating", "in_progress", "finalizing", "cancelling")


class BatchApi:
    """The batches of one endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._settings = endpoint.settings
        self._client = endpoint.client
        self.address = address(endpoint.settings)

    async def upload(self, name: str, file: IO[bytes]) -> str:
        """Upload a file of requests; its id.

        Raises:
            EndpointError: it was not taken.
        """

        async def work() -> str:
            file.seek(0)
            content = (f"{name}.jsonl", file, "application/jsonl")
            return (await self._client.files.create(file=content, purpose="batch")).id

        return await self._tried(work)

    async def create(self, name: str, file: str) -> str:
        """Create a batch of a file's requests, once; its id.

        Raises:
            NoReplyError: it is not known whether there is one now.
            EndpointError: the endpoint refuses it: there is none.
        """
        asked = False

        async def work() -> str:
            nonlocal asked
            if asked and (found := await self._search(name, file)):
                return found
            asked = True
            made = await self._client.batches.create(
                input_file_id=file,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={_NAME: name},
            )
            return made.id

        return await self._tried(work, not_yet=file)

    async def find(self, name: str) -> str | None:
        """The id of the batch of that name, or None where there is none.

        Raises:
            EndpointError: the batches cannot be listed.
        """
        return await self._tried(lambda: self._search(name))

    async def look(self, batch_id: str) -> RemoteBatch | None:
        """How a batch stands; None: the endpoint does not know it.

        Raises:
            EndpointError: it does not say.
        """
        import openai

        async def work() -> RemoteBatch | None:
            try:
                batch = await self._client.batches.retrieve(batch_id)
            except openai.NotFoundError:
                return None
            errors = (batch.errors and batch.errors.data) or []
            said = "; ".join(f"{error.code}: {error.message}" for error in errors[:3])
            return RemoteBatch(
                batch.status,
                batch.output_file_id,
                batch.error_file_id,
                scrubbed(said, self._settings),
            )

        return await self._tried(work)

    async def cancel(self, batch_id: str) -> None:
        """Ask the endpoint to stop a batch; what it has answered by then is still paid for.

        Raises:
            EndpointError: it does not.
        """
        await self._tried(lambda: self._client.batches.cancel(batch_id))

    @contextlib.asynccontextmanager
    async def downloaded(self, file_id: str) -> AsyncIterator[IO[bytes]]:
        """A file of results on the local disk; an empty one where the endpoint has it no more.

        Not split by the client, which takes more than a line feed for the end of a line.

        Raises:
            EndpointError: it did not come whole.
        """
        import httpx2
        import openai

        with tempfile.TemporaryFile() as file:
            before = -1

            async def work() -> None:
                nonlocal before
                file.seek(0)
                file.truncate()
                try:
                    streaming = self._client.files.with_streaming_response
                    async with streaming.content(file_id) as response:
                        async for part in response.iter_bytes():
                            file.write(part)
                except openai.NotFoundError:
                    return
                size = file.tell()
                if size != before and not _ends_whole(file):  # the same again: it has no more
                    before = size
                    raise httpx2.ReadError("a file of results was cut off")

            await self._tried(work)
            file.seek(0)
            yield file

    async def _search(self, name: str, file: str = "") -> str | None:
        """The batch of that name, or of that file: some servers forget the metadata."""
        async for batch in self._client.batches.list(limit=_PAGE):
            if (batch.metadata or {}).get(_NAME) == name or file == batch.input_file_id:
                return batch.id
        return None

    async def _tried(self, work: Callable[[], Awaitable[T]], *, not_yet: str = "") -> T:
        """Do something, and again while that can help.

        Args:
            work: what to do.
            not_yet: id of a file just uploaded, which some endpoints do not find at once.

        Raises:
            NoReplyError: no attempt was answered.
            EndpointError: the endpoint refuses; says what to set.
        """
        import httpx2
        import openai

        attempts = self._settings.llm_attempts
        for attempt in range(1, attempts + 1):
            wait_s = self._settings.llm_retry_wait_s * 2.0 ** (attempt - 1)
            try:
                return await work()
            except openai.APIStatusError as error:
                body: str = error.response.text
                trouble = self._refused(error.status_code, body, not_yet)
                wait_s = max(wait_s, retry_after(error.response.headers))
            except (openai.APIConnectionError, httpx2.HTTPError) as error:
                trouble = f"the connection failed ({scrubbed(cause(error), self._settings)})"
            if attempt < attempts:
                await asyncio.sleep(min(wait_s, _LONGEST_WAIT_S))
        raise NoReplyError(
            f"{self.address}: batches: {trouble}, {attempts} times in a row. Nothing is lost: run "
            "again when the endpoint is well."
        )

    def _refused(self, status: int, body: str, not_yet: str) -> str:
        """What an HTTP error says, where trying again may help; else it is raised."""
        said: Any = error_of(body)
        trouble = f"HTTP {status} ({scrubbed(words(said), self._settings)})"
        if not_yet and status == 400 and not_yet in words(said):
            return trouble
        if is_repeatable(status) and status != 501 and str(said.get("code")) not in ACCOUNT_CODES:
            return trouble
        raise EndpointError(f"{self.address}: batches: {trouble}. {_remedy(status)}") from None


def _ends_whole(file: IO[bytes]) -> bool:
    """Whether the last line of a JSONL file is one: a cut that dropped no byte cannot be seen."""
    file.seek(0)
    last = b"{}"
    for line in file:
        last = line if line.strip() else last
    try:
        json.loads(last)
    except ValueError:
        return False
    return True


def _remedy(status: int) -> str:
    if status in (401, 403):
        return "Set MONOGLOT_LLM_API_KEY to a key that may use files and batches."
    if status in (404, 405, 501):
        return (
            "Where this endpoint has no Batch API (/files and /batches), set `batch: false` under "
            "`spending:`; else check MONOGLOT_LLM_BASE_URL."
        )
    return (
        "Check the account behind MONOGLOT_LLM_API_KEY and the endpoint's own log, or set "
        "`batch: false` under `spending:`."
    )
