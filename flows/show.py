"""What the command line prints: plans, results and answers, for people.

Texts of users and files are never read as markup.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.operation import Finding
from monoglot.generation.batch_records import Batch
from monoglot.knowledge.changes import Changes
from monoglot.learning.thresholds import Abstention
from monoglot.learning_config import Verdict
from monoglot.outstanding import Outstanding
from monoglot.planning import Plan, Request
from monoglot.runs import RunRecord
from monoglot.serving.approval import Awaiting
from monoglot.serving.manifest import Release
from monoglot.store import Artifact, Store
from monoglot.wording import dollars, percent, rate

if TYPE_CHECKING:
    from monoglot.generation.batches import Cancelled
    from monoglot.measuring import Measurement
    from monoglot.serving.retriever import Answer

_NAMED = 20
_NEXT = {
    "nothing": "Nothing to do.",
    "refresh": "Next: `monoglot refresh` (the model stays), or `monoglot run` (retrains).",
    "retrain": "Next: `monoglot run`.",
}
_SHOWN_METRICS = ("hit@1", "hit@3", "hit@5", "mrr")
_STATES = {"ok": "green", "warning": "yellow", "problem": "red"}


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], numbers: int = 0) -> Table:
    """A plain table; the last `numbers` columns are numbers."""
    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for place, head in enumerate(heads):
        right = place >= len(heads) - numbers
        made.add_column(head, justify="right" if right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(_plain(value)) for value in row))
    return made


def _plain(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def say(console: Console, text: str, style: str = "") -> None:
    """A line as it is."""
    console.print(Text(text, style=style))


def warn(console: Console, warnings: Iterable[str]) -> None:
    """Warnings, a line each."""
    for warning in warnings:
        say(console, f"warning: {warning}", "yellow")


def plan(console: Console, made: Plan, waits: Awaiting | None = None) -> None:
    """What a run would do, and why; and the candidate that awaits approval, if one does."""
    rejected = f", {made.rejected:,} rejected" if made.rejected else ""
    say(console, f"Knowledge base: {made.rows:,} rows, {made.labels:,} labels{rejected}")
    _changes(console, made.changes)
    say(console, f"Decision: {made.work.kind}", "bold")
    for reason in made.work.reasons:
        say(console, f"  - {reason}")
    if made.requests:
        _purchase(console, made)
    if made.out:
        say(console, f"{made.out.line}: the next run takes in the answers.")
    warn(console, made.warnings)
    if waits is not None:
        say(console, waits.line, "yellow")
    has_else = waits is not None and made.work.kind == "nothing"
    say(console, "Nothing else to do." if has_else else _NEXT[made.work.kind])


def _purchase(console: Console, made: Plan) -> None:
    """What a retrain would buy from the LLM."""
    say(console, "A retrain would ask the LLM:")
    heads = ("language", "to", "rows", "calls", "tokens in", "tokens out", "price", "from ledger")
    console.print(table(heads, (_purchase_row(it) for it in made.requests), numbers=6))
    if len(made.requests) > 1:
        say(console, f"Price in all: {dollars(made.usd)}")
    if made.usd is None:
        say(console, "Set spending.prices to see the price.", "dim")
    counted = sum(request.work.calibrated_by for request in made.requests)
    basis = f"corrected by {counted:,} replies in the ledger" if counted else "a first guess"
    say(console, f"Tokens are estimates: {basis}.", "dim")


def _purchase_row(request: Request) -> tuple[object, ...]:
    work = request.work
    asked = work.rows + work.from_ledger + work.refused
    return (
        request.language,
        request.purpose,
        work.rows,
        work.requests,
        work.prompt_tokens,
        work.completion_tokens,
        dollars(request.usd),
        percent(work.from_ledger / asked) if asked else None,
    )


def _changes(console: Console, changes: Changes) -> None:
    """The changed rows since the release, by kind; the first of each by name."""
    if changes.before == 0:
        say(console, "There is no release to compare it with yet.")
        return
    for kind, rows in changed_rows(changes).items():
        if rows:
            say(console, f"{kind}: {len(rows):,}")
        for row in rows[:_NAMED]:
            say(console, f"  {row}")
        if len(rows) > _NAMED:
            say(console, f"  ... and {len(rows) - _NAMED:,} more")


def plan_as_json(made: Plan, waits: Awaiting | None = None) -> dict[str, Any]:
    """The same for a program: with all changed rows."""
    return {
        "decision": made.work.kind,
        "reasons": list(made.work.reasons),
        "rows": made.rows,
        "labels": made.labels,
        "rejected": made.rejected,
        "changes": {
            kind: getattr(made.changes, kind).to_dicts()
            for kind in ("added", "removed", "edited", "relabelled", "answered")
        }
        if made.changes.before
        else None,
        "requests": [dataclasses.asdict(request) for request in made.requests],
        "usd": made.usd,
        "batches": dataclasses.asdict(made.out) if made.out else None,
        "candidate": waits and waits._asdict(),
        "warnings": list(made.warnings),
    }


def batches(console: Console, out: Sequence[Batch], cancelled: "Cancelled | None") -> None:
    """The batches that are out, the oldest first."""
    for batch in out:
        say(console, f"{batch.id or '(being submitted)'}  {batch.rows:,} rows since {batch.since}")
        say(console, f"    {batch.model} at {batch.address}", "dim")
    if not out:
        say(console, "No batch is out.")
    if cancelled is not None and cancelled.stopping:
        say(
            console,
            f"Asked to stop: {cancelled.stopping:,}. Once they have, `monoglot run` takes in what "
            "was answered and asks the rest again.",
        )
    for address in cancelled.given_up if cancelled else ():
        say(
            console,
            f"Given up: a batch at {address}, which is not the endpoint that is set. It may go on "
            "there, and be charged; its rows are asked again.",
        )


def waiting(console: Console, out: Outstanding) -> None:
    """A run that ended before its answers have come."""
    say(console, f"{out.line}; run again to take in the answers.", "bold")


def run_as_json(
    store: Store,
    record: RunRecord | None,
    nothing: str | None,
    out: Outstanding | None = None,
) -> dict[str, Any]:
    """A run for a program: what it did, why it did nothing, or what it waits for."""
    told: dict[str, Any] = {
        "nothing_to_do": nothing,
        "waiting": dataclasses.asdict(out) if out else None,
    }
    if record is not None:
        told |= record.model_dump(mode="json", include={"run", "release", "verdict", "reasons"})
        told["promoted"] = record.promoted
        told["report"] = str(store.local_copy(record.report)) if record.report else None
        told["stages"] = [
            {
                **stage.model_dump(mode="json", exclude={"artifact"}),
                "key": str(stage.key),
                "facts": stage.artifact.facts,
            }
            for stage in record.stages
        ]
    return told


def changed_rows(changes: Changes) -> dict[str, list[str]]:
    """Kind of change -> the rows, each in a line."""
    now, before = ("query", "label"), ("query_before", "label_before")
    lines = {
        "added": (changes.added, "+ {} [{}]", now),
        "removed": (changes.removed, "- {} [{}]", before),
        "edited": (changes.edited, "~ {} -> {} [{}]", ("query_before", "query", "label")),
        "relabelled": (changes.relabelled, "~ {} [{} -> {}]", ("query", "label_before", "label")),
        "answered": (changes.answered, "~ {} [{}]: another answer or description", now),
    }
    return {
        kind: [text.format(*row) for row in rows.select(columns).iter_rows()]
        for kind, (rows, text, columns) in lines.items()
    }


_VERDICTS: Mapping[Verdict, str] = {
    "promoted": "The tuned model is in production",
    "awaits approval": "The tuned model awaits approval, the one before answers",
}


def run(console: Console, store: Store, record: RunRecord) -> None:
    """What a finished run left: the table of systems, and the report."""
    results(console, store, record.systems)
    verdict = _VERDICTS.get(record.verdict, "No new model")
    say(console, f"{verdict}: release {record.release}", "bold")
    for reason in record.reasons:
        say(console, f"  {reason}")
    say(console, f"Report: {store.local_copy(record.report)}")


def results(console: Console, store: Store, systems: Mapping[str, Artifact]) -> None:
    """Before and after: every system on the same questions, and in English."""
    from monoglot.learning.metrics import ALL, by_system

    rows = [
        (title, *(scores.micro[metric] for metric in _SHOWN_METRICS))
        for title, language, scores in by_system(
            {name: store.table(each) for name, each in systems.items()}
        )
        if language == ALL
    ]
    console.print(table(("system", *_SHOWN_METRICS), rows, numbers=4))


def measurement(console: Console, measured: "Measurement") -> None:
    """Release and untuned model on a file's questions."""
    from monoglot.learning.metrics import by_system

    warn(console, measured.warnings)
    say(console, f"Release {measured.release.id}")
    console.print(
        table(
            ("system", "language", "n", *_SHOWN_METRICS, "macro mrr"),
            (
                (
                    title,
                    language,
                    scores.questions,
                    *(scores.micro[metric] for metric in _SHOWN_METRICS),
                    scores.macro.get("mrr"),
                )
                for title, language, scores in by_system(measured.systems)
            ),
            numbers=6,
        )
    )


def answers(
    console: Console,
    text: str,
    found: "Sequence[Answer]",
    thresholds: Abstention | None,
    language: str | None = None,
) -> None:
    """What the knowledge base says to a question, and whether it knows.

    Args:
        console: where.
        text: the question.
        found: its answers, the best first.
        thresholds: of the release that answered; None: it has none.
        language: BCP 47 code that was given with the question; None: none was.
    """
    say(console, text, "bold")
    if not found[0].confident:
        say(console, f"  {_doubt(found[0], thresholds, language)}", "yellow")
    for answer in found:
        share = "" if answer.share is None else f"{answer.share:4.0%}  "
        say(console, f"  {share}{answer.label_path or answer.label}", "green")
        say(console, f"        {answer.query}  (cosine {answer.score:.2f})", "dim")
        if answer.answer:
            say(console, f"        {answer.answer}")


def _doubt(best: "Answer", thresholds: Abstention | None, language: str | None) -> str:
    """Why an answer is not to be trusted, with the figures that decide it."""
    if thresholds is None:
        return (
            f"confidence {best.confidence:.2f}: whether that is enough is not known, since this "
            "release has no threshold. `monoglot run` with evaluation questions calibrates one."
        )
    least = thresholds.score_of(language)
    known = {code.lower() for code in thresholds.languages}
    named = language is not None and language.lower() in known
    whose = str(language) if named else "the most careful of all languages"
    if least is None:
        return (
            f"not sure: confidence {best.confidence:.2f}, and none is enough ({whose}): at none "
            f"are at most {rate(thresholds.max_wrong)} of the answered wrong"
        )
    has, needs = _told_apart(best.confidence, least)
    return f"not sure: confidence {has}, needs {needs} ({whose})"


def _told_apart(one: float, other: float) -> tuple[str, str]:
    """Two numbers with two digits, or as many as show which one is less."""
    for digits in range(2, 7):
        told = f"{one:.{digits}f}", f"{other:.{digits}f}"
        if told[0] != told[1]:
            break
    return told


def answers_as_json(
    release: Release, text: str, found: "Sequence[Answer]", language: str | None
) -> dict[str, Any]:
    """The same for a program. No threshold: none was calibrated, or no confidence is enough."""
    thresholds = release.abstention
    return {
        "release": release.id,
        "query": text,
        "confident": found[0].confident,
        "threshold": thresholds and thresholds.score_of(language),
        "answers": [
            dataclasses.asdict(answer) | {"confidence": answer.confidence} for answer in found
        ],
    }


def findings(console: Console, found: Sequence[Finding]) -> None:
    """What `doctor` saw."""
    for finding in found:
        line = Text(f"{finding.state:<8}", style=_STATES[finding.state])
        console.print(line + Text(f" {finding.what}: {finding.said}"))
