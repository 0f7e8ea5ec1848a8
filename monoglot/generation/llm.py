"""`Endpoint`: any OpenAI-compatible chat endpoint, and what to do when it does not answer.

The client's own retries are off: it would retry inside a call that we believe to be one, and pay
for each. Here a request is repeated only where that can help (408, 409, 429, 5xx, time-outs, lost
connections), after a growing wait with jitter or the wait the endpoint asks for, which then holds
for all requests. What repeating cannot mend (400, 401, 403, 404, an empty account) stops the run
at once with the setting to change. A refusal for content or length is an answer: it is returned
as a reply, to be recorded like any other. HTTP 200 alone is none: a page about maintenance, or an
error that a gateway wraps in it, says nothing about the rows and is tried again.

Time-outs are generous by default because a request that is given up may still be paid for. Each
attempt waits for its turn (`pacing`) and for room in the budget (`spending`), and is booked there.
"""

import asyncio
import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from monoglot.errors import EndpointError
from monoglot.generation.access import CONNECT_S, address, check_settings, key_of, scrubbed
from monoglot.generation.failures import (
    ACCOUNT_CODES,
    cause,
    error_of,
    is_repeatable,
    refuses_content,
    retry_after,
    was_sent,
    words,
)
from monoglot.generation.pacing import limits_of
from monoglot.generation.replies import Reply, Usage
from monoglot.generation.spending import Account, Budget
from monoglot.settings import Settings

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

Message = Mapping[str, str]

_log = logging.getLogger(__name__)
_LONGEST_WAIT_S = 30.0
_LONGEST_RETRY_AFTER_S = 120.0
_SHOWN = 120  # characters of a body that is no reply


class NoReplyError(EndpointError):
    """Every attempt at one request failed in a way that may pass."""


class Attempt(NamedTuple):
    """What came of sending a request once.

    Attributes:
        reply: the reply; None: there was none.
        trouble: what went wrong then.
        wait_s: seconds that the endpoint asks to wait.
        may_cost: whether the request may have been answered and charged for.
    """

    reply: Reply | None = None
    trouble: str = ""
    wait_s: float = 0.0
    may_cost: bool = False


class Endpoint:
    """One model at one endpoint. Use as an async context manager; `ask` may run concurrently."""

    def __init__(self, settings: Settings, model: str, temperature: float) -> None:
        """Prepare a client; nothing is sent yet.

        Raises:
            EndpointError: base URL or model are not set, or the URL is none.
        """
        check_settings(settings, model)
        from openai import AsyncOpenAI, Timeout  # a second to import: not for `plan`

        self.model = model
        self._settings = settings
        self._limits = limits_of(settings, model)
        self._temperature = temperature
        self._resume_at = 0.0
        self._client = AsyncOpenAI(
            base_url=settings.llm_base_url,
            api_key=key_of(settings),
            max_retries=0,
            timeout=Timeout(settings.llm_timeout_s, connect=CONNECT_S),
        )

    async def __aenter__(self) -> "Endpoint":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    @property
    def settings(self) -> Settings:
        """Where it is, and how it is asked."""
        return self._settings

    @property
    def senders(self) -> int:
        """How many machines send its requests, each as many at a time as the settings say."""
        return 1

    @property
    def client(self) -> "AsyncOpenAI":
        """The client; closed with the endpoint."""
        return self._client

    async def ask(
        self,
        messages: Sequence[Message],
        schema: Mapping[str, Any],
        account: Account | None = None,
        expected: Usage | None = None,
    ) -> Reply:
        """Send one request, and again while that can help.

        Args:
            messages: the conversation, as role and content.
            schema: JSON schema of the reply; how it is used says the setting `llm_structured`.
            account: what each attempt is reserved in and booked to; None: nothing limits it.
            expected: estimate of the tokens, for budget and pace; None: there is none.

        Returns:
            The reply, its usage with the price where that is known.

        Raises:
            NoReplyError: no attempt was answered.
            BudgetError: the budget has no room for the next attempt.
            EndpointError: the endpoint refuses the request as such; says what to set.
        """
        account = account or Budget().account(self.model)
        for number in range(1, self._settings.llm_attempts + 1):
            attempt = await self._booked(messages, schema, account, expected or Usage())
            if attempt.reply is not None:
                return attempt.reply
            if number < self._settings.llm_attempts:
                wait_s = max(attempt.wait_s, self._backoff(number))
                _log.info("%s; waiting %.1f s (attempt %d)", attempt.trouble, wait_s, number)
                await asyncio.sleep(wait_s)
        raise NoReplyError(
            f"{attempt.trouble}, {self._settings.llm_attempts} times in a row. Everything bought "
            "so far is kept: run again when the endpoint is well, or lower "
            "MONOGLOT_LLM_CONCURRENCY."
        )

    async def _booked(
        self,
        messages: Sequence[Message],
        schema: Mapping[str, Any],
        account: Account,
        expected: Usage,
    ) -> Attempt:
        """One attempt in its turn, reserved before it is sent and booked after."""
        tokens = expected.prompt_tokens + expected.completion_tokens
        reservation = await account.reserve(expected)
        try:
            await self._limits.turn(tokens)
            await self._pause()
            attempt = await self.attempt(messages, schema)
        except EndpointError:
            account.unpaid(reservation)
            raise
        except BaseException:  # cancelled: it may be under way
            account.lost(reservation)
            raise
        if attempt.reply is None:
            (account.lost if attempt.may_cost else account.unpaid)(reservation)
            return attempt
        usage = account.paid(reservation, attempt.reply.usage)
        if not usage.uncounted:
            self._limits.correct(tokens, usage.prompt_tokens + usage.completion_tokens)
        return attempt._replace(reply=replace(attempt.reply, usage=usage))

    async def attempt(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Attempt:
        """One attempt, neither paced nor booked.

        It is sent as it is: `create` would walk through every part of the schema.

        Raises:
            EndpointError: the endpoint refuses the request as such.
        """
        import httpx2
        import openai

        where = address(self._settings)
        try:
            async with asyncio.timeout(self._settings.llm_timeout_s):
                response = await self._client.post(
                    "/chat/completions",
                    body=self.request(messages, schema),
                    cast_to=httpx2.Response,
                )
            body = response.content.decode("utf-8", "replace")
            return self._received(response.status_code, body)
        except openai.APIStatusError as error:
            return self._refused(error)
        except (TimeoutError, openai.APITimeoutError) as error:
            limit_s = self._settings.llm_timeout_s
            told = f"{where}: no answer within {limit_s:g} s (MONOGLOT_LLM_TIMEOUT_S)"
            return Attempt(trouble=told, may_cost=was_sent(error))
        except openai.APIConnectionError as error:
            told = f"{where}: the connection failed ({scrubbed(cause(error), self._settings)})"
            return Attempt(trouble=told, may_cost=was_sent(error))

    def _received(self, status: int, body: str) -> Attempt:
        """A success: a reply, or trouble of the endpoint that comes as one.

        Raises:
            EndpointError: the account is empty.
        """
        reply = Reply.of(body)
        if reply.is_answer:
            return Attempt(reply)
        said = error_of(body)
        shown = scrubbed(words(said) if said else " ".join(body.split()), self._settings)[:_SHOWN]
        hint = "" if said else "; MONOGLOT_LLM_BASE_URL usually ends in /v1"
        trouble = f"{address(self._settings)}: HTTP {status} without a reply ({shown}{hint})"
        if str(said.get("code")) in ACCOUNT_CODES:
            raise EndpointError(f"{trouble}. {self.remedy(status)}")
        return Attempt(trouble=trouble)

    def _refused(self, error: "APIStatusError") -> Attempt:
        """What an HTTP error means: a refusal on record, trouble that may pass, or the end."""
        body, status = error.response.text, error.status_code
        said = error_of(body)
        if refuses_content(status, said):
            return Attempt(Reply.of(body))
        trouble = f"{address(self._settings)}: HTTP {status}" + scrubbed(
            f" ({words(said)})", self._settings
        )
        if not is_repeatable(status) or str(said.get("code")) in ACCOUNT_CODES:
            raise EndpointError(f"{trouble}. {self.remedy(status)}") from None
        wait_s = retry_after(error.response.headers)
        if wait_s > _LONGEST_RETRY_AFTER_S:
            raise EndpointError(
                f"{trouble}: asks to wait {wait_s:.0f} s. Everything bought so far is kept: "
                "run again then."
            ) from None
        self._resume_at = max(self._resume_at, time.monotonic() + wait_s)
        return Attempt(trouble=trouble, wait_s=wait_s)

    def remedy(self, status: int) -> str:
        """What to set where the endpoint refuses a request with this HTTP status."""
        if status in (401, 403):
            return "Set MONOGLOT_LLM_API_KEY to a key that may use this model."
        if status == 404:
            return (
                f"Check MONOGLOT_LLM_BASE_URL (it usually ends in /v1) and MONOGLOT_LLM_MODEL or "
                f"generation.model, now {self.model!r}."
            )
        if status in (400, 422):
            return (
                "Where the endpoint knows no JSON schema, set MONOGLOT_LLM_STRUCTURED to "
                "json_object or prompt; else check generation.model and generation.temperature."
            )
        return "Check the account behind MONOGLOT_LLM_API_KEY and the endpoint's own log."

    def request(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> dict[str, Any]:
        """The request's parameters: few, since each is one an endpoint may not know."""
        request: dict[str, Any] = {
            "model": self.model,
            "messages": list(messages),
            "temperature": self._temperature,
        }
        if self._settings.llm_structured == "json_object":
            request["response_format"] = {"type": "json_object"}
        elif self._settings.llm_structured == "json_schema":
            shape = {"name": "rows", "schema": schema, "strict": True}
            request["response_format"] = {"type": "json_schema", "json_schema": shape}
        return request

    async def _pause(self) -> None:
        """Wait while the endpoint has asked all of us to."""
        while (wait_s := self._resume_at - time.monotonic()) > 0:
            await asyncio.sleep(wait_s)

    def _backoff(self, attempt: int) -> float:
        longest_s = self._settings.llm_retry_wait_s * 2.0 ** (attempt - 1)
        return min(_LONGEST_WAIT_S, longest_s) * random.uniform(0.5, 1.0)  # noqa: S311  no secret
