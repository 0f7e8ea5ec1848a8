"""`Reply`: what an endpoint sent back, and which rows of it can be believed.

A reply is kept as the bytes that came (the ledger stores them before anyone looks inside), so
everything here is a pure function of that text: a better parser finds more in replies long paid
for. Reading is tolerant of the wrapping (code fences, prose, a tail that was cut off) and strict
on the ids: a row counts only under an id that was asked for, and only if it was answered once.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from monoglot.generation.failures import refuses_content

_DECODER = json.JSONDecoder()
# Where a text begins with its answer, no thoughts are before that: tags are somebody's text then,
# and between two answers they would take the first one away.
_ANSWER = re.compile(r"\s*(?:```\w*\s*)?(?:\[\s*)?\{")
_THOUGHTS_END = "</think>"
_SPACES = re.compile(r"\s+")
_UNSTORABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # controls and halves of emoji

# Why a row has no answer, in words for the rejects table.
PROBLEMS = {
    "content_refused": "the model declined to answer",
    "reply_cut_off": "the reply ended before this row",
    "reply_unreadable": "the reply held no rows",
    "row_lost": "the reply left this row out",
    "row_repeated": "the reply answered this row twice, differently",
    "row_copied": "the reply gave this row the same answer as the rows around it",
    "row_empty": "the reply answered this row with nothing usable",
}


@dataclass(frozen=True)
class Usage:
    """What was bought: requests, and tokens as the endpoint counted them.

    An endpoint may count nothing; `uncounted` is the number of such requests, so that a sum of
    tokens is known to be a lower bound rather than taken for the whole.

    Attributes:
        requests: requests that were answered.
        prompt_tokens: tokens sent, the cached ones among them.
        completion_tokens: tokens received.
        cached_tokens: tokens sent that the endpoint had in its cache.
        uncounted: answered requests whose tokens the endpoint did not count.
        usd: price in US dollars; None: unknown, if only for a part.
        lost: requests sent whose answer never came; the endpoint may charge for them.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    uncounted: int = 0
    usd: float | None = None
    lost: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        prices = [usage.usd for usage in (self, other) if usage.requests]
        known = [usd for usd in prices if usd is not None]
        return Usage(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.uncounted + other.uncounted,
            sum(known) if prices and len(known) == len(prices) else None,
            self.lost + other.lost,
        )

    @property
    def price(self) -> float | None:
        """`usd`, and 0 where nothing was bought."""
        return self.usd if self.requests else 0.0


@dataclass(frozen=True)
class Reply:
    """One chat completion: the body as it came, and the parts of it that matter.

    Attributes:
        is_answer: whether a model said it, or refused what was asked; else it is trouble of the
            endpoint, which some gateways tell with HTTP 200.
    """

    body: str
    text: str = ""
    finish_reason: str = ""
    refusal: str = ""
    model: str = ""
    usage: Usage = Usage(requests=1, uncounted=1)
    is_answer: bool = True

    @classmethod
    def of(cls, body: str) -> "Reply":
        """Read a response body; one that is broken or foreign gives a reply without text.

        Never raises, since what cannot be read has been paid for and must be recorded all the
        same. An error object (a content filter's HTTP 400) reads as a refusal that cost no tokens.
        """
        content = _mapping(_loaded(body))
        error = _mapping(content.get("error"))
        choices = content.get("choices")
        choice = _mapping(choices[0] if isinstance(choices, list) and choices else None)
        message = _mapping(choice.get("message"))
        finish = str(choice.get("finish_reason") or "")
        text = _text_of(message.get("content"))
        refusal = message.get("refusal") or error.get("code") or error.get("message") or ""
        return cls(
            body=body,
            text=text,
            finish_reason=finish,
            refusal=str(refusal or ("content_filter" if finish == "content_filter" else "")),
            model=_UNSTORABLE.sub("", str(content.get("model") or "")),
            usage=Usage(requests=1) if error else _usage_of(_mapping(content.get("usage"))),
            is_answer=_is_answer(content, text, finish),
        )


@dataclass(frozen=True)
class Problem:
    """Why a row has no answer: a code of `PROBLEMS`, and the same in words."""

    rule: str
    reason: str


@dataclass(frozen=True)
class Reading:
    """The rows of one reply: answers and problems by id, and how many ids were made up."""

    answers: Mapping[str, Any]
    problems: Mapping[str, Problem]
    invented: int = 0


@dataclass
class _Rows:
    whole: dict[str, Any] = field(default_factory=dict)  # of all ids: not all may be asked for now
    answers: dict[str, Any] = field(default_factory=dict)
    conflicting: set[str] = field(default_factory=set)
    copied: frozenset[str] = frozenset()
    empty: set[str] = field(default_factory=set)
    invented: int = 0


def read_rows(
    reply: Reply,
    ids: Iterable[str],
    answer_of: Callable[[Mapping[str, Any]], Any | None],
    *,
    may_repeat: bool = False,
) -> Reading:
    """Match a reply's rows with the ids that were asked for.

    Order does not matter. A row that repeats with the same answer counts once; with another
    answer it counts as unanswered, as there is no telling which of the two belongs to it. Rows that
    got one answer between them, and are most of the reply, count as unanswered, too: one of them
    may have ordered it ("translate all rows as ..."). Asked alone, no row has others to spoil it.

    Args:
        reply: the reply.
        ids: ids that were sent.
        answer_of: reads the answer out of a row's object; None where there is nothing usable.
        may_repeat: rows may rightly have one answer between them; see `asking.Task`.
    """
    asked = set(ids)
    rows = _Rows()
    for item in row_objects(reply.text):
        name, answer = str(item["id"]).strip(), answer_of(item)
        rows.whole.setdefault(name, answer)
        if name not in asked:
            rows.invented += 1
        elif answer is None:
            rows.empty.add(name)
        elif rows.answers.setdefault(name, answer) != answer:
            rows.conflicting.add(name)
    rows.copied = frozenset() if may_repeat else _copied(rows.whole)
    unfit = rows.conflicting | rows.copied
    answers = {name: rows.answers[name] for name in rows.answers if name not in unfit}
    problems = {name: _problem(name, rows, reply) for name in asked - answers.keys()}
    return Reading(answers, problems, rows.invented)


def _copied(answers: Mapping[str, Any]) -> frozenset[str]:
    """Rows that share one answer, where these are all rows of the reply or most of three."""
    by_answer: dict[str, list[str]] = {}
    for name, answer in answers.items():
        if answer is None:
            continue
        by_answer.setdefault(str(answer), []).append(name)
    most = max(by_answer.values(), key=len, default=[])
    is_order = len(most) > 1 and (len(most) == len(answers) or len(most) * 2 > len(answers) > 2)
    return frozenset(most) if is_order else frozenset()


def _problem(name: str, rows: _Rows, reply: Reply) -> Problem:
    """Why an id that was asked for has no answer."""
    detail = ""
    if name in rows.conflicting:
        rule = "row_repeated"
    elif name in rows.copied:
        rule = "row_copied"
    elif name in rows.empty:
        rule = "row_empty"
    elif reply.refusal:
        rule, detail = "content_refused", f" ({reply.refusal[:160]})"
    elif reply.finish_reason == "length":
        rule = "reply_cut_off"
    else:
        rule = "row_lost" if rows.answers else "reply_unreadable"
    return Problem(rule, PROBLEMS[rule] + detail)


def clean_text(value: Any) -> str | None:
    """A model's string as a query: NFC, single spaces; None for what is no text at all."""
    if not isinstance(value, str):
        return None
    text = _SPACES.sub(" ", unicodedata.normalize("NFC", value)).strip()
    return None if _UNSTORABLE.search(text) else text or None


def row_objects(text: str) -> Iterator[Mapping[str, Any]]:
    """Every object with an id in the text, at any depth of wrapping, in order.

    The text is tried as JSON from each opening brace; what decodes is skipped as a whole, so that
    a brace inside a translation is never taken for a row. Where the outermost object is cut off,
    the rows in front of the cut still decode. What a model thinks aloud is no answer.
    """
    objects = list(_decoded(text))
    begin = _answer_start(text, [(start, end) for start, end, _ in objects])
    for start, _, value in objects:
        if start < begin:
            continue
        rows = value.get("rows")
        for item in rows if isinstance(rows, list) else [value]:
            if isinstance(item, dict) and "id" in item:
                yield item


def _decoded(text: str) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    """The JSON objects in a text that are in no other: start, end and value."""
    start = text.find("{")
    while start >= 0:
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
            continue
        yield start, end, value
        start = text.find("{", end)


def _answer_start(text: str, objects: Sequence[tuple[int, int]]) -> int:
    """Where a model's thoughts end, which may hold drafts of the rows; 0: there are none.

    Some chat templates open the thoughts in the prompt, so that the reply has only their end. An
    end inside an object is a row's text. Once the answer has begun there is none: a row that has
    the model write one would hide the rows before it.
    """
    begin = searched = 0
    for start, end in [*objects, (len(text), len(text))]:
        while not _ANSWER.match(text, begin):
            tag = text.find(_THOUGHTS_END, searched, start)
            if tag < 0:
                break
            begin = searched = tag + len(_THOUGHTS_END)
        searched = end
    return begin


def _loaded(body: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_answer(content: Mapping[str, Any], text: str, finish: str) -> bool:
    """Whether a body without text, too, is about what was asked rather than the endpoint."""
    error = content.get("error")
    if refuses_content(400, _mapping(error)):
        return True
    failed = finish == "error" or (bool(error) and finish != "content_filter")
    return isinstance(content.get("choices"), list) and (bool(text) or not failed)


def _text_of(content: Any) -> str:
    """A message's content: a string, or the text parts of a list (some gateways)."""
    if isinstance(content, list):
        return "".join(str(_mapping(part).get("text") or "") for part in content)
    return content if isinstance(content, str) else ""


def _usage_of(usage: Mapping[str, Any]) -> Usage:
    prompt = usage.get("prompt_tokens")
    if not isinstance(prompt, int):
        return Usage(requests=1, uncounted=1)
    details = _mapping(usage.get("prompt_tokens_details"))
    completion, cached = usage.get("completion_tokens"), details.get("cached_tokens")
    return Usage(
        requests=1,
        prompt_tokens=prompt,
        completion_tokens=completion if isinstance(completion, int) else 0,
        cached_tokens=cached if isinstance(cached, int) else 0,
    )
