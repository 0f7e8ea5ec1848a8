"""OpenAI's Batch API on loopback, on top of `llm_server`: files, batches, results, and faults.

    with BatchServer() as server:
        ...                     # a run submits
        server.finish()         # every batch that is under way ends, its requests answered
        ...                     # the next run takes in

A batch does nothing until a test has it `finish`: nobody waits for a clock. Its requests are
answered by the same toy model, and are seen in `server.requests` then, so that `server.rows` and
`server.completions` count what was bought, live or by batch. Faults of single requests are
`BatchFault`s, by the text of one of their rows or by the place of their line; those of HTTP are
`server.http`, by method and path: consumed one per call.
"""

import email
import email.policy
import json
import random
import re
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from llm_server import Fault, LLMServer, Request, _Handler, completion_of

Kind = Literal["lost", "error", "expired", "garbled", "twice", "refused"]


@dataclass(frozen=True)
class BatchFault:
    """What comes of one request of a batch.

    Attributes:
        kind: lost: no line at all; error: an HTTP status in the error file; expired: not worked
            on; garbled: a line that is no JSON; twice: its line comes twice; refused: a live
            fault's reply.
        status: of an error.
        code: of an error.
        fault: what the model does wrong, where it does answer.
    """

    kind: Kind
    status: int = 500
    code: str | None = None
    fault: Fault = field(default_factory=lambda: Fault("none"))


@dataclass
class HttpFault:
    """What goes wrong with one HTTP call.

    Attributes:
        status: an HTTP error instead of the answer; 0: none.
        after: the work is done all the same.
        arrives: share of the response that is sent before the line drops.
        message: of the error.
        code: of the error.
        then: called when the work is done, or not, and before anything is answered.
    """

    status: int = 0
    after: bool = False
    arrives: float = 1.0
    message: str = "out of order"
    code: str | None = None
    then: Callable[[], None] = lambda: None


@dataclass
class BatchServer(LLMServer):
    """A server that has files and batches beside chat completions.

    Attributes:
        line_faults: gives the fault of a request by its rows' texts; None: it is answered.
        page: batches in a page of the list.
    """

    line_faults: Callable[[list[str]], BatchFault | None] = lambda _texts: None
    page: int = 2
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    http: dict[str, deque[HttpFault]] = field(default_factory=lambda: defaultdict(deque))
    calls: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> "BatchServer":
        super().__enter__()
        self._server.RequestHandlerClass = type("Handler", (_BatchHandler,), {"owner": self})
        return self

    def keep(self, content: bytes) -> str:
        """Keep a file; its id."""
        name = f"file-{len(self.files) + 1}"
        self.files[name] = content
        return name

    def create(self, told: dict[str, Any]) -> dict[str, Any]:
        """A new batch, under way."""
        name = f"batch_{len(self.batches) + 1}"
        lines = self.files[told["input_file_id"]].splitlines()
        self.batches[name] = {
            "id": name,
            "object": "batch",
            "endpoint": told["endpoint"],
            "completion_window": told["completion_window"],
            "input_file_id": told["input_file_id"],
            "metadata": told.get("metadata"),
            "created_at": int(time.time()),
            "status": "in_progress",
            "output_file_id": None,
            "error_file_id": None,
            "errors": None,
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
        }
        return self.batches[name]

    def lines_of(self, name: str) -> list[dict[str, Any]]:
        """The requests of a batch, as they were uploaded."""
        content = self.files[self.batches[name]["input_file_id"]]
        return [json.loads(line) for line in content.splitlines()]

    def finish(self, status: str = "completed", *names: str, seed: int = 0) -> None:
        """End some batches, or all that are under way, in a status; lines come out of order."""
        untouched = f"batch_{'expired' if status == 'completed' else status}"
        for name in names or [it for it in self.batches if self._is_under_way(it)]:
            batch, outputs, errors = self.batches[name], [], []
            for line in self.lines_of(name):
                self._answer(line, outputs, errors, untouched)
            for lines, which in ((outputs, "output_file_id"), (errors, "error_file_id")):
                random.Random(seed).shuffle(lines)
                if lines:
                    batch[which] = self.keep("".join(f"{it}\n" for it in lines).encode())
            batch["status"] = status
            batch["request_counts"] |= {"completed": len(outputs), "failed": len(errors)}

    def fail(self, code: str, message: str) -> None:
        """Every batch that is under way fails as a whole, before its requests are looked at."""
        for name in [it for it in self.batches if self._is_under_way(it)]:
            error = {"code": code, "message": message, "line": None, "param": None}
            self.batches[name] |= {
                "status": "failed",
                "errors": {"object": "list", "data": [error]},
            }

    def _is_under_way(self, name: str) -> bool:
        return self.batches[name]["status"] in ("in_progress", "cancelling")

    def _answer(
        self, line: dict[str, Any], outputs: list[str], errors: list[str], untouched: str
    ) -> None:
        asked = Request(line["body"], "", len(self.requests))
        fault = self.line_faults(asked.texts)
        kind = fault.kind if fault else None
        if kind == "expired":
            error = {"code": untouched, "message": "This request was not worked on."}
            told = {"custom_id": line["custom_id"], "response": None, "error": error}
            errors.append(json.dumps(told))
            return
        self.requests.append(asked)
        if kind == "lost":
            return
        if kind == "garbled":
            outputs.append('{"custom_id": "' + line["custom_id"])
            return
        if fault and kind == "error":
            error = {"message": f"status {fault.status}", "type": "error", "code": fault.code}
            errors.append(_line(line, fault.status, {"error": error}))
            return
        self.completions += 1
        body = completion_of(asked, fault.fault if fault else Fault("none"), self.count)
        outputs += [_line(line, 200, body)] * (2 if kind == "twice" else 1)


def _line(line: dict[str, Any], status: int, body: dict[str, Any]) -> str:
    response = {"status_code": status, "request_id": "r", "body": body}
    told = {"id": "x", "custom_id": line["custom_id"], "response": response, "error": None}
    return json.dumps(told, ensure_ascii=False)


class _BatchHandler(_Handler):
    owner: BatchServer

    def do_GET(self) -> None:  # noqa: N802
        if not self.path.startswith(("/v1/files", "/v1/batches")):
            super().do_GET()
            return
        self._tried("GET", self._get)

    def do_POST(self) -> None:  # noqa: N802
        if not self.path.startswith(("/v1/files", "/v1/batches")):
            super().do_POST()
            return
        self._tried("POST", self._post)

    def _tried(self, method: str, work: Callable[[], tuple[int, str]]) -> None:
        """Answer a call, with the next fault that is ordered for its kind."""
        path = urlsplit(self.path).path.removeprefix("/v1")
        call = f"{method} {re.sub(r'(?<=/)(file-|batch_)[0-9]+', '*', path)}"
        self.owner.calls[call] += 1
        script = self.owner.http[call]
        fault = script.popleft() if script else HttpFault()
        if not self._is_known():
            self._send(401, json.dumps({"error": {"message": "no such key"}}))
            return
        content = int(self.headers.get("Content-Length") or 0)
        self.content = self.rfile.read(content) if content else self._chunks()
        if fault.status:
            if fault.after:
                work()
            fault.then()
            error = {"message": fault.message, "type": "error", "code": fault.code}
            self._send(fault.status, json.dumps({"error": error}))
        else:
            done = fault.after or fault.arrives > 0.0
            status, body = work() if done else (200, "{}")
            fault.then()
            self._send(status, body, Fault("cut", arrives=fault.arrives))

    def _chunks(self) -> bytes:
        """A body of unknown length."""
        content = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return content

    def _get(self) -> tuple[int, str]:
        url = urlsplit(self.path)
        parts = url.path.removeprefix("/v1/").split("/")
        if parts[0] == "files":
            content = self.owner.files.get(parts[1])
            return (404, _not_found) if content is None else (200, content.decode())
        if len(parts) == 2:
            batch = self.owner.batches.get(parts[1])
            return (404, _not_found) if batch is None else (200, json.dumps(batch))
        return 200, json.dumps(self._page(parse_qs(url.query).get("after", [None])[0]))

    def _page(self, after: str | None) -> dict[str, Any]:
        listed = list(self.owner.batches.values())[::-1]
        start = next((n + 1 for n, it in enumerate(listed) if it["id"] == after), 0)
        shown = listed[start : start + self.owner.page]
        more = start + len(shown) < len(listed)
        return {"object": "list", "data": shown, "has_more": more}

    def _post(self) -> tuple[int, str]:
        parts = self.path.removeprefix("/v1/").split("/")
        if parts[0] == "files":
            return self._upload()
        if len(parts) == 1:
            return 200, json.dumps(self.owner.create(json.loads(self.content)))
        batch = self.owner.batches[parts[1]]
        batch["status"] = "cancelling"
        return 200, json.dumps(batch)

    def _upload(self) -> tuple[int, str]:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        form = email.message_from_bytes(head + self.content, policy=email.policy.HTTP)
        parts = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in form.iter_parts()
        }
        assert parts["purpose"].strip() == b"batch"
        name = self.owner.keep(parts["file"])
        told = {
            "id": name,
            "object": "file",
            "bytes": len(parts["file"]),
            "created_at": 0,
            "filename": "requests.jsonl",
            "purpose": "batch",
            "status": "processed",
        }
        return 200, json.dumps(told)


_not_found = json.dumps({"error": {"message": "no such thing", "type": "error", "code": None}})
