"""A real HTTP server on loopback that speaks OpenAI's chat completions, with faults to order.

    with LLMServer(faults=[Fault.status(429, retry_after="0.05"), Fault.lose(1)]) as server:
        translate(..., settings=server.settings(), ...)
    assert len(server.requests) == 3

Faults are consumed one per completion request, in order of arrival; a function of the request
serves where order is not known. `server.rows` counts how often each text was asked for,
`server.completions` the replies worked out (what a provider would charge for), delivered or not.

The translator behind it is a toy, but no echo: each row becomes another text, always the same one,
in the language's script, with numbers, addresses, placeholders and kept terms in place, so that
the quality gates pass it. Its Hinglish keeps the English content words, as real Hinglish does.
"""

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import SecretStr

from monoglot.generation.prompts import VOICES
from monoglot.settings import Settings

MODEL = "toy-translator"


@dataclass(frozen=True)
class Request:
    """One completion request as the server saw it."""

    body: dict[str, Any]
    authorization: str
    number: int

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows asked for, each with its id."""
        return json.loads(self.body["messages"][-1]["content"])["rows"]

    @property
    def texts(self) -> list[str]:
        """The texts (or labels) asked for."""
        return [row.get("text") or row["label"] for row in self.rows]

    @property
    def instructions(self) -> str:
        return self.body["messages"][0]["content"]

    @property
    def language(self) -> str:
        """The target's BCP 47 code, as the instructions name it."""
        return re.search(r"\(BCP 47: ([\w-]+)\)", self.instructions)[1]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong; the class methods make the kinds there are."""

    name: str
    http_status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    error: dict[str, Any] | None = None
    delay_s: float = 0.0
    arrives: float = 1.0  # share of the response that is sent before the line drops
    rows: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda rows: rows
    text: Callable[[str], str] = lambda text: text
    finish_reason: str = "stop"
    refusal: str | None = None
    raw_body: str | None = None

    @property
    def is_paid(self) -> bool:
        """Whether the model did its work, so that a provider would charge."""
        return self.error is None

    @classmethod
    def status(cls, code: int, *, retry_after: str = "", error: str = "", why: str = "") -> "Fault":
        """An HTTP error, with OpenAI's error object."""
        headers = (("Retry-After", retry_after),) if retry_after else ()
        told = {"message": why or f"status {code}", "type": "error", "code": error or None}
        return cls(f"status {code}", http_status=code, headers=headers, error=told)

    @classmethod
    def late(cls, seconds: float) -> "Fault":
        """A reply that comes too late for an impatient client."""
        return cls("late", delay_s=seconds)

    @classmethod
    def dropped(cls) -> "Fault":
        """The line drops before the first byte."""
        return cls("dropped", arrives=0.0)

    @classmethod
    def cut_stream(cls) -> "Fault":
        """The line drops in the middle of the response."""
        return cls("cut stream", arrives=0.6)

    @classmethod
    def cut_json(cls, share: float = 0.6, finish_reason: str = "stop") -> "Fault":
        """The model stops in the middle of its JSON, by whim or (length) at the limit."""
        return cls(
            "cut json",
            text=lambda text: text[: int(len(text) * share)],
            finish_reason=finish_reason,
        )

    @classmethod
    def refused(cls, why: str = "I cannot help with that.") -> "Fault":
        """The model declines, by the field the format has for it."""
        return cls("refused", text=lambda _: "", refusal=why)

    @classmethod
    def filtered(cls) -> "Fault":
        """A content filter takes the text away."""
        return cls("filtered", text=lambda _: "", finish_reason="content_filter")

    @classmethod
    def filtered_400(cls) -> "Fault":
        """A content filter answers HTTP 400, as Azure's does."""
        return cls.status(400, error="content_filter", why="The prompt was filtered.")

    @classmethod
    def lose(cls, *positions: int) -> "Fault":
        """The reply leaves rows out."""
        return cls(
            "lose",
            rows=lambda rows: [row for place, row in enumerate(rows) if place not in positions],
        )

    @classmethod
    def repeat(cls, *, differently: bool = False) -> "Fault":
        """The reply answers its first row twice."""
        tail = " phir se" if differently else ""
        return cls("repeat", rows=lambda rows: [*rows, {**rows[0], "text": rows[0]["text"] + tail}])

    @classmethod
    def reorder(cls) -> "Fault":
        """The reply comes in another order."""
        return cls("reorder", rows=lambda rows: rows[::-1])

    @classmethod
    def invent(cls) -> "Fault":
        """The reply holds a row that nobody asked for."""
        return cls("invent", rows=lambda rows: [{"id": "rzzzz", "text": "kuch bhi"}, *rows])

    @classmethod
    def blank(cls) -> "Fault":
        """The first row's answer is empty."""
        return cls("blank", rows=lambda rows: [{**rows[0], "text": "  "}, *rows[1:]])

    @classmethod
    def chatty(cls) -> "Fault":
        """Prose and a code fence around the JSON."""
        return cls(
            "chatty", text=lambda text: f"Sure! Here {{you}} go:\n```json\n{text}\n```\nBye."
        )

    @classmethod
    def says(cls, text: str) -> "Fault":
        """The model says something else."""
        return cls("says", text=lambda _: text)

    @classmethod
    def body(cls, raw: str) -> "Fault":
        """The body is something else."""
        return cls("body", raw_body=raw)


_NONE = Fault("none")


def mixture(share: float, seed: int) -> Callable[[Request], Fault | None]:
    """Faults of every kind on a share of the requests, the same ones for the same seed."""
    kinds = (
        Fault.status(429, retry_after="0.02"),
        Fault.status(500),
        Fault.dropped(),
        Fault.cut_stream(),
        Fault.cut_json(),
        Fault.cut_json(finish_reason="length"),
        Fault.refused(),
        Fault.filtered(),
        Fault.filtered_400(),
        Fault.lose(0),
        Fault.repeat(),
        Fault.repeat(differently=True),
        Fault.reorder(),
        Fault.invent(),
        Fault.chatty(),
    )

    def fault_of(request: Request) -> Fault | None:
        draw = random.Random(f"{seed}-{request.number}")
        return draw.choice(kinds) if draw.random() < share else None

    return fault_of


@dataclass
class LLMServer:
    """The server. Enter it as a context manager; read its counters while it runs or after.

    Attributes:
        faults: one per request in order of arrival (None: none), or a function of the request.
        latency_s: how long every reply takes.
        api_key: the key that is asked for; None: any.
        models_status: HTTP status of the list of models.
        count: counts the tokens of a text.
    """

    faults: Iterable[Fault | None] | Callable[[Request], Fault | None] = ()
    latency_s: float = 0.0
    api_key: str | None = None
    models_status: int = 200
    count: Callable[[str], int] = lambda text: len(text) // 4
    requests: list[Request] = field(default_factory=list)
    completions: int = 0
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._at_once = 0
        if not callable(self.faults):
            script = iter(self.faults)
            self.faults = lambda _request: next(script, None)

    def __enter__(self) -> "LLMServer":
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def rows(self) -> Counter[str]:
        """How often each text (of a synthesis: each label) was asked for."""
        return Counter(text for request in self.requests for text in request.texts)

    def settings(self, **changes: Any) -> Settings:
        """Settings that lead here, with short waits."""
        known = {
            "llm_base_url": self.base_url,
            "llm_api_key": SecretStr(self.api_key or ""),
            "llm_model": MODEL,
            "llm_retry_wait_s": 0.01,
            "llm_timeout_s": 10.0,
        }
        return Settings(**{**known, **changes})

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that lead another process here."""
        return {
            "MONOGLOT_LLM_BASE_URL": self.base_url,
            "MONOGLOT_LLM_API_KEY": self.api_key or "",
            "MONOGLOT_LLM_MODEL": MODEL,
            "MONOGLOT_LLM_RETRY_WAIT_S": "0.01",
            "MONOGLOT_LLM_TIMEOUT_S": "10",
        }

    def received(self, body: dict[str, Any], authorization: str) -> tuple[Request, Fault | None]:
        """Note a request, and say what is to go wrong with it."""
        with self._lock:
            request = Request(body, authorization, len(self.requests))
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            return request, self.faults(request)

    def finished(self, *, paid: bool) -> None:
        with self._lock:
            self._at_once -= 1
            self.completions += paid


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up or was killed is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: LLMServer

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        status = self.owner.models_status if self._is_known() else 401
        listing = {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
        self._send(status, json.dumps(listing if status == 200 else _error(f"status {status}")))

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._is_known():
            shown = self.headers["Authorization"]
            self._send(401, json.dumps(_error(f"Incorrect API key provided: {shown}")))
            return
        if self.path != "/v1/chat/completions":
            self._send(404, json.dumps(_error("no such page")))
            return
        request, fault = self.owner.received(
            json.loads(content), self.headers.get("Authorization", "")
        )
        fault = fault or _NONE
        time.sleep(self.owner.latency_s + fault.delay_s)
        # Counted before it is sent: whoever reads the counters has the reply already.
        self.owner.finished(paid=fault.is_paid)
        if fault.error is not None:
            body = json.dumps({"error": fault.error})
        else:
            body = fault.raw_body or json.dumps(
                completion_of(request, fault, self.owner.count), ensure_ascii=False
            )
        self._send(fault.http_status, body, fault)

    def _is_known(self) -> bool:
        key = self.owner.api_key
        return key is None or self.headers.get("Authorization") == f"Bearer {key}"

    def _send(self, status: int, body: str, fault: Fault = _NONE) -> None:
        content = body.encode()
        self.close_connection = fault.arrives < 1.0
        if fault.arrives == 0.0:
            return
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in fault.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: int(len(content) * fault.arrives)])


def completion_of(request: Request, fault: Fault, count: Callable[[str], int]) -> dict[str, Any]:
    """The reply to a request, as the format has it."""
    answers = fault.rows([answer_to(row, request.language) for row in request.rows])
    text = fault.text(json.dumps({"rows": answers}, ensure_ascii=False))
    sent = sum(count(message["content"]) for message in request.body["messages"])
    return {
        "id": f"chatcmpl-{request.number}",
        "object": "chat.completion",
        "created": 0,
        "model": request.body["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": fault.refusal},
                "finish_reason": fault.finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": sent,
            "completion_tokens": count(text),
            "total_tokens": sent + count(text),
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }


def answer_to(row: dict[str, Any], language: str) -> dict[str, Any]:
    """What the toy model answers to one row."""
    if "labels" in row:
        return {"id": row["id"], "label": label_of(row)}
    if "candidates" in row:
        return {"id": row["id"], **verdict_on(row)}
    if "count" in row:
        return {"id": row["id"], "queries": queries_on(row, language)}
    keep = row.get("keep", ())
    if "level" in row:
        mix = (row["level"], row["switch"], row["spelling"])
        return {"id": row["id"], "text": rendering_of(row["text"], language, mix, keep)}
    return {"id": row["id"], "text": translation_of(row["text"], language, keep)}


def verdict_on(row: dict[str, Any]) -> dict[str, Any]:
    """Which candidate shares most words with a text: none fits under two shared content words.

    The confusable one is the next of another topic. The wording is the text without its filler
    words; a text of fillers alone asks nothing.
    """
    words = _content(row["text"])
    if not words:
        return {"fits": -1, "confusable": 0, "wording": row["text"]}
    shared = {each["number"]: len(words & _content(each["query"])) for each in row["candidates"]}
    topics = {each["number"]: each["topic"] for each in row["candidates"]}
    ranked = sorted(shared, key=lambda number: (-shared[number], number))
    best = ranked[0]
    others = [number for number in ranked if topics[number] != topics[best]]
    kept = [word for word in row["text"].split() if word.lower() in words]
    return {
        "fits": best if shared[best] >= 2 else 0,
        "confusable": others[0] if others else 0,
        "wording": " ".join(kept),
    }


def _content(text: str) -> set[str]:
    """The words of a text that are neither Hinglish fillers nor the English ones they stand for."""
    words = set(re.findall(r"[^\W\d_]+", text.lower()))
    return words - _FILLERS


def label_of(row: dict[str, Any]) -> str:
    """The label whose example shares the most words with the text; none where no word is shared."""
    words = set(row["text"].lower().split())
    examples = {label["label"]: label["example"].lower().split() for label in row["labels"]}
    shared = {label: len(words.intersection(example)) for label, example in examples.items()}
    return max(shared, key=shared.__getitem__) if any(shared.values()) else "none"


def queries_on(row: dict[str, Any], language: str) -> list[str]:
    """Native queries on a label: its examples in the language, each with its own opening."""
    opening = _OPENINGS[[voice.manner for voice in VOICES].index(row["manner"]) % len(_OPENINGS)]
    sources = row["examples"] or [row["label"]]
    return [
        translation_of(f"{opening} {number + 1} {sources[number % len(sources)]}", language)
        for number in range(row["count"])
    ]


def translation_of(text: str, language: str, keep: Iterable[str] = ()) -> str:
    """A text in the toy's version of a language; deterministic, and never the text itself."""
    kept = "|".join([re.escape(term) for term in keep] + [_PROTECTED])
    pieces = re.split(f"({kept})", text, flags=re.IGNORECASE)
    turn = _turner(language)
    turned = "".join(piece if n % 2 else turn(piece) for n, piece in enumerate(pieces))
    return f"{turned} {turn(_TAILS[len(text) % len(_TAILS)])}".strip()


def rendering_of(
    text: str, language: str, mix: tuple[str, str, str], keep: Iterable[str] = ()
) -> str:
    """A text mixed as asked: a run of its English words stays, and all others are turned.

    The switch says at which end the run is, the spelling what becomes of the matrix words.
    """
    level, switch, spelling = mix
    kept = "|".join([re.escape(term) for term in keep] + [_PROTECTED])
    pieces = re.split(f"({kept}|[A-Za-z']+)", text, flags=re.IGNORECASE)
    words = [
        place
        for place, piece in enumerate(pieces)
        if place % 2 and not re.fullmatch(kept, piece, flags=re.IGNORECASE)
    ]
    count = max(1, round((len(words) + 1) * _ENGLISH_SHARES[level]))
    stays = words[:count] if switch in ("words", "phrases", "inside") else words[-count:]
    for place in set(words) - set(stays):
        pieces[place] = _spelt(_matrix_word(pieces[place], language), spelling)
    tail = _TAILS[len(text) % len(_TAILS)]
    if language.startswith("hi-Latn"):
        return f"{''.join(pieces)} {_spelt(tail, spelling)}"
    return f"{''.join(pieces)} {_turner(language)(tail)}"


def _matrix_word(word: str, language: str) -> str:
    """A word in the language: in Hinglish a made-up one where the toy knows none."""
    if language.startswith("hi-Latn"):
        made_up = word.lower().translate(str.maketrans("aeiou", "oauie")) + "wala"
        return _HINGLISH.get(word.lower(), made_up)
    return _turner(language)(word)


def _spelt(words: str, spelling: str) -> str:
    if spelling == "short":
        return re.sub(r"(?<=\w)[aeiou](?=\w)", "", words)
    return re.sub("aa|ai", "e", words) if spelling == "phone" else words


def _turner(language: str) -> Callable[[str], str]:
    code = language.split("-x-", maxsplit=1)[0]
    if code == "en":
        return lambda piece: re.sub(r"[A-Za-z']+", _in_english, piece)
    if code == "hi-Latn":
        return lambda piece: re.sub(r"[A-Za-z']+", _in_hinglish, piece)
    script = next((part for part in code.split("-")[1:] if len(part) == 4), "")
    start = _FIRST_LETTERS.get(script or _SCRIPTS.get(code.split("-")[0], "Latn"))
    if start is None:
        return lambda piece: piece.lower().translate(str.maketrans("aeiou", "eioua"))
    letters = {letter: chr(start + n) for n, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}
    return lambda piece: piece.lower().translate(str.maketrans(letters))


def _in_hinglish(match: re.Match[str]) -> str:
    word = match[0]
    return _HINGLISH.get(word.lower(), word)


def _in_english(match: re.Match[str]) -> str:
    word = match[0]
    return _ENGLISH.get(word.lower(), word)


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "error", "code": None}}


_PROTECTED = r"https?://\S+|\S+@\S+|\{\{?[^{}]*\}?\}|<\w+>|\[[A-Z_]+\]|%[sd]|\d+"
_ENGLISH_SHARES = {"light": 1 / 8, "balanced": 1 / 3, "heavy": 1 / 2}
_TAILS = ("karo", "kar dijiye", "chahiye mujhe", "batao", "kijiye")
_OPENINGS = ("bhai", "suno zara", "jaldi", "please", "ek baat")
_SCRIPTS = {"hi": "Deva", "mr": "Deva", "ar": "Arab", "ru": "Cyrl", "el": "Grek", "zh": "Hans"}
_FIRST_LETTERS = {"Deva": 0x0915, "Arab": 0x0627, "Cyrl": 0x0430, "Grek": 0x03B1, "Hans": 0x4E00}
_HINGLISH = {
    "a": "ek", "about": "ke baare mein", "all": "saare", "and": "aur", "are": "hain",
    "at": "par", "can": "kya", "cancel": "radd", "change": "badal", "do": "kya", "does": "kya",
    "for": "ke liye", "from": "se", "get": "paana", "has": "hai", "have": "hai", "how": "kaise",
    "i": "main", "i'm": "main hoon", "in": "mein", "is": "hai", "it": "yeh", "me": "mujhe",
    "money": "paise", "my": "mera", "new": "naya", "not": "nahi", "of": "ka", "on": "par",
    "or": "ya", "please": "kripya", "send": "bhejo", "set": "lagao", "should": "chahiye",
    "show": "dikhao", "tell": "batao", "that": "woh", "the": "woh", "there": "wahan",
    "this": "yeh", "to": "ko", "today": "aaj", "tomorrow": "kal", "want": "chahta", "was": "tha",
    "what": "kya", "when": "kab", "where": "kahan", "why": "kyun", "will": "hoga",
    "with": "ke saath", "you": "aap", "your": "aapka",
}  # fmt: skip
_FILLERS = {
    word
    for phrase in (*_HINGLISH, *_HINGLISH.values(), *_TAILS, *_OPENINGS, "hello", "namaste", "ji")
    for word in phrase.lower().split()
}
_ENGLISH = {word: english for english, word in reversed(_HINGLISH.items())}
