"""A fast OpenAI-compatible endpoint on loopback, in a process of its own, that fails to order.

    with LoopbackLLM(latency_s=0.05) as llm:
        translate(..., settings=llm.settings(), ...)
        print(llm.counts())

Faults strike a share of the requests, drawn by their order of arrival: each kind in `FAULTS` once,
in a random order, and then again. Beside them some rows are poisoned (by a draw on their text):
whatever request holds one is refused, as content filters do. No fault takes a row's third answer,
so that in the end exactly the poisoned rows have none, whichever requests the faults hit.

The endpoint keeps count of every row: how often its answer was worked out (which a provider would
charge for), lost on purpose, and asked for again although it had been delivered.
"""

import argparse
import asyncio
import contextlib
import json
import random
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import SecretStr

from monoglot.settings import Settings

MODEL = "loopback"
_MAX_LOSSES = 2  # of a row's answer: the third time it comes


class Fault(NamedTuple):
    """How a request fails.

    Attributes:
        status: HTTP status; but for 200 the model does no work.
        arrives: share of the response that is sent before the line drops; None: it never comes.
        loses: which rows' answers the reply lacks: none, the first, those behind a cut, or all.
        finish_reason: as the format has it.
    """

    status: int = 200
    arrives: float | None = 1.0
    loses: str = "none"
    finish_reason: str = "stop"


FAULTS = {
    "rate limit with Retry-After": Fault(status=429),
    "server error": Fault(status=500),
    "overloaded": Fault(status=503),
    "time-out": Fault(arrives=None),
    "dropped connection": Fault(arrives=0.0),
    "truncated stream": Fault(arrives=0.6),
    "JSON cut by whim": Fault(loses="cut"),
    "JSON cut at the length limit": Fault(loses="cut", finish_reason="length"),
    "refusal": Fault(loses="all"),
    "content filter": Fault(loses="all", finish_reason="content_filter"),
    "content filter as HTTP 400": Fault(status=400, loses="all"),
    "row lost": Fault(loses="first"),
    "row repeated differently": Fault(loses="first"),
    "row empty": Fault(loses="first"),
    "row repeated": Fault(),
    "rows reordered": Fault(),
    "row invented": Fault(),
    "prose around the JSON": Fault(),
}
POISONED = "a row that is never answered"
_ALL = {**FAULTS, POISONED: Fault(loses="all")}


def is_poisoned(text: str, share: float, seed: int) -> bool:
    """Whether the endpoint never answers a row."""
    return random.Random(f"{seed}-{text}").random() < share  # noqa: S311  no secret


def translation_of(text: str) -> str:
    """What the endpoint answers to a row."""
    return f"{text} kar dijiye"


class LoopbackLLM:
    """The endpoint as its starter sees it. A context manager; may be reached by other processes."""

    def __init__(
        self, latency_s: float = 0.0, *, faults: float = 0.0, poisoned: float = 0.0, seed: int = 0
    ) -> None:
        options = {"latency": latency_s, "faults": faults, "poisoned": poisoned, "seed": seed}
        self._options = [part for name, value in options.items() for part in (f"--{name}", value)]
        self.base_url = ""

    def __enter__(self) -> "LoopbackLLM":
        command = [sys.executable, "-m", "benchmarks.loopback_llm", *map(str, self._options)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
        assert self._process.stdout is not None
        self.base_url = f"http://127.0.0.1:{int(self._process.stdout.readline())}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def settings(self, **changes: Any) -> Settings:
        """Settings that lead here, with short waits."""
        known = {
            "llm_base_url": self.base_url,
            "llm_api_key": SecretStr(""),
            "llm_model": MODEL,
            "llm_retry_wait_s": 0.01,
            "llm_timeout_s": 5.0,
        }
        return Settings(**{**known, **changes})

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that lead another process here."""
        return {
            "MONOGLOT_LLM_BASE_URL": self.base_url,
            "MONOGLOT_LLM_API_KEY": "",
            "MONOGLOT_LLM_MODEL": MODEL,
            "MONOGLOT_LLM_RETRY_WAIT_S": "0.01",
            "MONOGLOT_LLM_TIMEOUT_S": "5",
        }

    def counts(self) -> dict[str, Any]:
        """What the endpoint has counted so far; see `_Endpoint.counts`."""
        with urllib.request.urlopen(f"{self.base_url}/counts") as response:  # noqa: S310
            counts: dict[str, Any] = json.load(response)
        return counts


class _Endpoint:
    """The server's own process."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._counts: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()
        self._delivered: set[str] = set()
        self._struck = 0
        self._kinds = list(FAULTS)
        random.Random(options.seed).shuffle(self._kinds)  # noqa: S311  no secret

    async def run(self) -> None:
        """Serve until killed; says the port first."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    def counts(self) -> dict[str, Any]:
        """What happened: requests, completions, and row by row.

        completions: replies worked out; row_answers: rows in them; lost_answers: rows of these
        that were lost on purpose; asked_again: rows asked for after their answer had been
        delivered; most_at_once: requests in flight at a time; faults: requests struck, by kind.
        """
        names = ("requests", "completions", "row_answers", "lost_answers", "asked_again")
        return {
            **{name: self._counts[name] for name in (*names, "most_at_once")},
            "rows": len(self._asked),
            "faults": dict(self._faults),
        }

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = head.lower().partition("content-length:")[2].partition("\r\n")[0]
                body = await reader.readexactly(int(length or 0))
                if "/counts " in head.partition("\r\n")[0]:
                    _send(writer, 200, json.dumps(self.counts()))
                elif not await self._complete(json.loads(body), reader, writer):
                    break
                await writer.drain()
        writer.close()

    async def _complete(
        self, request: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """One completion; whether the connection goes on."""
        rows = json.loads(request["messages"][-1]["content"])["rows"]
        name = self._received(rows)
        fault = _ALL.get(name, Fault())
        if self._options.latency:
            await asyncio.sleep(self._options.latency)
        self._counts["at_once"] -= 1
        if fault.status != 200:
            self._losses.update(row["text"] for row in rows if fault.loses == "all")
            _send(writer, fault.status, json.dumps(_error(name)), "Retry-After: 0.02\r\n")
            return True
        answers = [{"id": row["id"], "text": translation_of(row["text"])} for row in rows]
        text = _spoilt(answers, name)
        delivered = _delivered(rows, fault)
        whole = fault.arrives == 1.0
        self._counts["completions"] += 1
        self._counts["row_answers"] += len(rows)
        self._counts["lost_answers"] += len(rows) - len(delivered if whole else ())
        content = json.dumps(_completion(request, text, name, fault), ensure_ascii=False)
        if fault.arrives is None:
            await reader.read()  # until the client has gone
            return False
        _send(writer, 200, content, arrives=fault.arrives)
        if whole:
            self._delivered |= delivered
            self._losses.update({row["text"] for row in rows} - delivered)
        return whole

    def _received(self, rows: Sequence[dict[str, str]]) -> str:
        """Count a request; the name of its fault, or an empty one."""
        texts = [row["text"] for row in rows]
        number = self._counts["requests"]
        self._counts["requests"] += 1
        self._counts["at_once"] += 1
        self._counts["most_at_once"] = max(self._counts["most_at_once"], self._counts["at_once"])
        self._counts["asked_again"] += len(self._delivered.intersection(texts))
        self._asked.update(texts)
        name = self._fault_of(texts, number)
        if name:
            self._faults[name] += 1
        return name

    def _fault_of(self, texts: Sequence[str], number: int) -> str:
        seed, poisoned = self._options.seed, self._options.poisoned
        if poisoned and any(is_poisoned(text, poisoned, seed) for text in texts):
            return POISONED
        draw = random.Random(f"{seed}-{number}")  # noqa: S311  no secret
        if draw.random() >= self._options.faults:
            return ""
        name = self._kinds[self._struck % len(FAULTS)]
        strikes = FAULTS[name].loses != "none"
        if strikes and any(self._losses[text] >= _MAX_LOSSES for text in texts):
            return ""
        self._struck += 1
        return name


def _spoilt(answers: list[dict[str, str]], name: str) -> str:
    """The reply's text, as the fault leaves it."""
    first = answers[0]
    told = {
        "row lost": answers[1:],
        "row repeated differently": [*answers, {**first, "text": first["text"] + " phir se"}],
        "row empty": [{**first, "text": " "}, *answers[1:]],
        "row repeated": [*answers, first],
        "rows reordered": answers[::-1],
        "row invented": [{"id": "rzzzz", "text": "kuch bhi"}, *answers],
    }.get(name, answers)
    text = json.dumps({"rows": told}, ensure_ascii=False)
    if name.startswith("JSON cut"):
        return text[: text.index(answers[_cut_at(len(answers))]["id"]) + 2]
    if name in ("refusal", "content filter", POISONED):
        return ""
    return f"Sure! Here you go:\n```json\n{text}\n```" if name.startswith("prose") else text


def _cut_at(rows: int) -> int:
    """The first row that a cut takes away."""
    return rows * 6 // 10


def _delivered(rows: Sequence[dict[str, str]], fault: Fault) -> set[str]:
    """The rows whose answers are in the reply."""
    texts = [row["text"] for row in rows]
    lost = {"none": 0, "first": 1, "all": len(texts)}
    if fault.loses == "cut":
        return set(texts[: _cut_at(len(texts))])
    return set(texts[lost[fault.loses] :])


def _completion(request: dict[str, Any], text: str, name: str, fault: Fault) -> dict[str, Any]:
    sent = sum(len(message["content"]) for message in request["messages"])
    refusal = "I cannot help with that." if name in ("refusal", POISONED) else None
    return {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": refusal},
                "finish_reason": fault.finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": sent // 4,
            "completion_tokens": len(text) // 4,
            "total_tokens": sent // 4 + len(text) // 4,
        },
    }


def _error(name: str) -> dict[str, Any]:
    code = "content_filter" if name.startswith("content") else None
    return {"error": {"message": name, "type": "error", "code": code}}


def _send(
    writer: asyncio.StreamWriter, status: int, body: str, headers: str = "", arrives: float = 1.0
) -> None:
    content = body.encode()
    if arrives:
        writer.write(
            f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\n{headers}"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
            + content[: int(len(content) * arrives)]
        )


def main(given: Sequence[str] | None = None) -> None:
    """Serve on a free port, which is printed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loopback_llm")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds each reply takes")
    parser.add_argument("--faults", type=float, default=0.0, help="share of requests that fail")
    parser.add_argument("--poisoned", type=float, default=0.0, help="share of rows never answered")
    parser.add_argument("--seed", type=int, default=0)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_Endpoint(parser.parse_args(given)).run())


if __name__ == "__main__":
    main()
