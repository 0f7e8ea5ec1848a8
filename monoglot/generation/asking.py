"""Rows asked of an LLM by way of the ledger: what is known, what is missing, what that takes.

Each module that asks (`translation`, `synthesis`, `labelling` and others) says what a row is and
how its answer reads; this module finds the answers that are already paid for and plans the rest,
which `buying` fetches.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any

import polars as pl

from monoglot.contracts import Rejects, empty
from monoglot.generation.batch_records import BatchRecords
from monoglot.generation.ledger import Calibration, Entry, Ledger
from monoglot.generation.replies import Problem, Reply, Usage, read_rows
from monoglot.generation.tokens import ROW_ID_TOKENS, ROW_TOKENS, answer_tokens, tokens_in

# How often a row is asked before it counts as refused. The first time it travels in a full
# request, then with a few others, at last alone: one bad row cannot spoil its neighbours.
MAX_TRIES = 3

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Task:
    """One kind of question, which all its rows share.

    Attributes:
        messages: builds a request's messages from its rows, each with its id.
        schema: JSON schema of the reply.
        answer_of: reads the answer from a row of the reply; None where it is unusable.
        rows_per_request: rows packed in a request at most.
        answer_chars: how much a row's answer will have to say, in characters of English, for the
            estimate of tokens.
        may_repeat: whether most rows of a reply may rightly have one answer (a label, a verdict);
            else that is taken for an order that one of them gave.
        language: BCP 47 code of the answers' language, for the estimate.
        kind: names all that tasks with alike replies share (prompt, model, language), so that
            replies of the past correct the estimate; empty: they do not.
    """

    messages: Callable[[Sequence[Mapping[str, Any]]], list[dict[str, str]]]
    schema: Mapping[str, Any]
    answer_of: Callable[[Mapping[str, Any]], Any | None]
    rows_per_request: int
    answer_chars: Callable[[Mapping[str, Any]], int]
    may_repeat: bool = False
    language: str = "en"
    kind: str = ""

    def pack_size(self, tries: int) -> int:
        """Rows that may share a request, given how often they were asked before."""
        sizes = (self.rows_per_request, math.isqrt(self.rows_per_request), 1)
        return sizes[min(tries, len(sizes) - 1)]

    def expected(self, rows: Sequence[Mapping[str, Any]], requests: int = 1) -> Usage:
        """First estimate of the tokens that asking rows without ids will take."""
        told = json.dumps(rows, ensure_ascii=False)
        answers = sum(answer_tokens(self.answer_chars(row), self.language) for row in rows)
        return Usage(
            requests=requests,
            prompt_tokens=round(
                requests * self._framing + tokens_in(told) + ROW_ID_TOKENS * len(rows)
            ),
            completion_tokens=round(answers + ROW_TOKENS * len(rows)),
        )

    @cached_property
    def _framing(self) -> float:
        """Tokens of a request without rows."""
        return sum(tokens_in(message["content"]) for message in self.messages([]))


@dataclass
class Known:
    """What the ledger holds on some rows, by key."""

    answers: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, Problem] = field(default_factory=dict)
    tries: Counter[str] = field(default_factory=Counter)

    def read(self, entries: Iterable[Entry], task: Task) -> None:
        """Take in replies, the earlier of a row before the later; its first answer stands."""
        for _, group in groupby(entries, key=lambda entry: entry.reply):
            rows = list(group)
            reading = read_rows(
                Reply.of(rows[0].body),
                (row.sent_as for row in rows),
                task.answer_of,
                may_repeat=task.may_repeat,
            )
            for row in rows:
                self.tries[row.key] += 1
                if row.sent_as in reading.answers:
                    self.answers.setdefault(row.key, reading.answers[row.sent_as])
                else:
                    self.problems[row.key] = reading.problems[row.sent_as]

    def renew(self, newer: "Known") -> None:
        """Take over what was looked up anew."""
        self.tries |= newer.tries
        self.problems |= newer.problems
        self.answers |= newer.answers

    def is_settled(self, key: str) -> bool:
        """Whether a row needs no further request: answered, or refused for good."""
        return key in self.answers or self.tries[key] >= MAX_TRIES


@dataclass(frozen=True)
class PlannedWork:
    """What a run would ask; no call is made for it.

    Attributes:
        rows: distinct rows without an answer.
        from_ledger: distinct rows whose answer is already paid for.
        refused: distinct rows that were asked often enough and are not asked again.
        out: distinct rows that are in a batch, whose answer is awaited.
        requests: requests if each is answered in full.
        prompt_tokens: estimate of the tokens sent; see `tokens` for how far it can be trusted.
        completion_tokens: estimate of the tokens received.
        calibrated_by: replies of the past by which the estimate was corrected; 0: it was not.
    """

    rows: int
    from_ledger: int
    refused: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    calibrated_by: int = 0
    out: int = 0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What asking took.

    Attributes:
        usage: what was bought: in this run, and by batch as far as no stage reported it before.
        from_ledger: rows answered by neither of the two.
        asked: distinct rows in all; from_ledger is a part of them.
        unanswered: rows whose requests got no reply this time, and which a later run asks again.
    """

    usage: Usage
    from_ledger: int
    asked: int
    unanswered: int = 0

    @property
    def facts(self) -> dict[str, Any]:
        """What a stage keeps of it beside its tables, as JSON."""
        return {
            "from_ledger": self.from_ledger,
            "asked": self.asked,
            "unanswered": self.unanswered,
            "usage": asdict(self.usage),
        }


@dataclass(frozen=True, kw_only=True)
class Answers(Asked):
    """What asking brought: every row has an answer or a problem, by key."""

    answers: Mapping[str, Any]
    problems: Mapping[str, Problem]


@dataclass(frozen=True, kw_only=True)
class Generated(Asked):
    """Queries an LLM wrote.

    Attributes:
        rows: table `Queries`.
        rejects: table `Rejects`: rows refused, with the reason.
    """

    rows: pl.DataFrame
    rejects: pl.DataFrame


def known_of(keys: Iterable[str], task: Task, ledger: Ledger | None) -> Known:
    """What the ledger holds on these rows; None: there is no ledger yet."""
    known = Known()
    if ledger is not None:
        known.read(ledger.found(list(keys)), task)
    return known


def plan(asks: Mapping[str, Mapping[str, Any]], task: Task, ledger: Ledger | None) -> PlannedWork:
    """What answering these rows would take.

    Args:
        asks: the rows to ask, without ids, by key.
        task: what kind of question they are.
        ledger: replies already paid for; None: none yet.
    """
    known = known_of(asks, task, ledger)
    open_keys = [key for key in asks if not known.is_settled(key)]
    out = BatchRecords(ledger).out(open_keys) if ledger is not None else set()
    missing = [key for key in open_keys if key not in out]
    by_tries = Counter(known.tries[key] for key in missing)
    requests = sum(math.ceil(rows / task.pack_size(tries)) for tries, rows in by_tries.items())
    learnt = Calibration() if ledger is None else ledger.calibration(task.kind)
    expected = learnt.corrected(task.expected([asks[key] for key in missing], requests))
    return PlannedWork(
        rows=len(missing),
        from_ledger=len(known.answers),
        refused=len(asks) - len(open_keys) - len(known.answers),
        out=len(out),
        requests=requests,
        prompt_tokens=expected.prompt_tokens,
        completion_tokens=expected.completion_tokens,
        calibrated_by=learnt.replies,
    )


def rejects_of(problems: Iterable[tuple[str, str | None, Problem]]) -> pl.DataFrame:
    """Table `Rejects` of (source, text, problem): what the LLM was asked and did not answer."""
    return pl.DataFrame(
        [
            {
                "file": source,
                "row": None,
                "column": "text",
                "value": text,
                "rule": problem.rule,
                "reason": problem.reason,
            }
            for source, text, problem in problems
        ],
        schema=empty(Rejects).schema,
    )
