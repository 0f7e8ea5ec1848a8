"""What Prefect's UI shows of a run: views of the run record, each under one key per store.

A key that stays is what makes the UI show an artifact's history. The record in the store is the
truth: an artifact that cannot be sent is warned of, and fails no run that has done its work.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl
from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from monoglot.generation.replies import Usage
from monoglot.identity import digest
from monoglot.learning.metrics import by_system
from monoglot.planning import Plan
from monoglot.report import Spend
from monoglot.runs import RunRecord, StageRecord
from monoglot.serving.approval import Approval
from monoglot.serving.manifest import Release
from monoglot.serving.releases import Releases
from monoglot.store import Store
from monoglot.wording import dollars, markdown, number, plain
from tasks.workplace import REJECTS

_SHOWN = ("mrr", "hit@1", "hit@3", "hit@5")


def artifact_key(store: Store, what: str) -> str:
    """`<what>-<folders of the store>-<six digits of its path>`: two stores never share a key."""
    folders = re.sub(r"[^a-z0-9]+", "-", "-".join(Path(store.location).parts[-2:]).lower()).strip(
        "-"
    )
    return "-".join(part for part in (what, folders, digest(store.location)[:6]) if part)


def show(store: Store, what: str, text: str, description: str = "") -> None:
    """Make a Markdown artifact of the flow run under the store's key for it."""
    key = artifact_key(store, what)
    try:
        create_markdown_artifact(text, key=key, description=description or None)
    except Exception as error:  # whatever the server or the network has: the work is done and kept
        get_run_logger().warning(f"artifact {key}: not shown in Prefect's UI ({error})")


def show_plan(store: Store, plan: Plan) -> None:
    """What a run is about to do and buy, and why."""
    work = [
        (
            it.language,
            it.purpose,
            it.work.rows,
            it.work.from_ledger,
            it.work.requests,
            it.work.prompt_tokens + it.work.completion_tokens,
            dollars(it.usd),
        )
        for it in plan.requests
    ]
    heads = ("Language", "To", "Rows", "From the ledger", "Calls", "Tokens", "Price")
    lines = [
        "# Plan",
        f"The policy asks for: {plan.work.kind}",
        _bullets(plan.work.reasons),
        f"{plan.rows:,} rows, {plan.labels:,} labels, {plan.rejected:,} rejected.",
        _table(heads, work) if work else "The LLM is asked nothing.",
        f"About {dollars(plan.usd)} in all." if work else "",
        _bullets(f"Warning: {warning}" for warning in plan.warnings),
    ]
    show(store, "plan", _paragraphs(lines), f"{plan.work.kind}, about {dollars(plan.usd)}")


def show_nothing(store: Store, reason: str) -> None:
    """Why a check ended without doing anything, as its plan."""
    show(store, "plan", f"# nothing to do\n\n{markdown(reason)}", "nothing to do")


def show_record(store: Store, record: RunRecord) -> None:
    """What a finished run measured, decided, left in production and bought."""
    title = (
        f"Gate: {record.verdict}" if record.flow == "retrain" else "Refreshed: the model is kept"
    )
    show(store, "gate", f"# {title}\n\n{_bullets(record.reasons)}", f"run {record.run}: {title}")
    if record.systems:
        outcomes = {name: store.table(each) for name, each in record.systems.items()}
        show_evaluation(store, outcomes, f"Run {record.run}")
    show_release(store, Releases(store).get(record.release))
    show(store, "spend", _spending(record.stages), f"run {record.run}")
    show(store, "data", _data(store, record.stages), f"run {record.run}")


def show_evaluation(store: Store, systems: Mapping[str, pl.DataFrame], heading: str) -> None:
    """Every system by language on the same questions, and each again asked in English."""
    rows = [
        (title, language, scores.questions, *(number(scores.micro[it]) for it in _SHOWN))
        for title, language, scores in by_system(systems)
    ]
    heads = ("System", "Language", "Questions", "MRR", "hit@1", "hit@3", "hit@5")
    text = _table(heads, rows) if rows else "No questions were asked."
    show(store, "evaluation", f"# {markdown(heading)}\n\n{text}", heading)


def show_release(store: Store, release: Release) -> None:
    """The release in production, and the candidate that awaits approval, if one does."""
    facts = [
        ("model", markdown(release.model_name)),
        ("rows", release.rows),
        ("made", release.created),
        ("took over from", release.previous),
        *(
            (metric, number(release.metrics[metric]))
            for metric in _SHOWN
            if metric in release.metrics
        ),
        ("reason", markdown(release.reason)),
    ]
    lines = [f"# In production: {release.id}", _table(("", ""), facts)]
    waiting = Approval(store).waiting()
    if waiting is not None:
        lines += [f"## Awaits approval: {waiting.id}", markdown(waiting.reason)]
    show(store, "release", _paragraphs(lines), f"{release.id}, {release.rows:,} rows")


def picture(svg: bytes, alt: str) -> str:
    """An SVG within a Markdown text: both of Prefect's UIs show it, and load nothing for it."""
    return f"![{markdown(alt)}](data:image/svg+xml;base64,{base64.b64encode(svg).decode()})"


def spend_of(stages: Iterable[StageRecord]) -> list[Spend]:
    """What the LLM was asked, by each stage whose result a run uses."""
    return [
        Spend(
            stage=record.title,
            reused=record.outcome == "reused",
            asked=record.artifact.facts.get("asked", 0),
            from_ledger=record.artifact.facts["from_ledger"],
            usage=Usage(**record.artifact.facts["usage"]),
        )
        for record in stages
        if record.artifact.facts.get("usage")
    ]


def _spending(stages: Iterable[StageRecord]) -> str:
    spend = spend_of(stages)
    bought = sum((line.usage for line in spend if not line.reused), Usage())
    rows = [
        (
            markdown(line.stage),
            "reused" if line.reused else "done",
            line.asked,
            line.from_ledger,
            line.usage.requests,
            line.usage.prompt_tokens,
            line.usage.completion_tokens,
            dollars(line.usage.price),
        )
        for line in spend
    ]
    heads = ("Stage", "", "Rows", "From the ledger", "Calls", "Tokens in", "Tokens out", "Price")
    told = f"# This run bought {bought.requests:,} replies for {dollars(bought.price)}"
    return _paragraphs([told, _table(heads, rows) if rows else "The LLM was asked nothing."])


def _data(store: Store, stages: Iterable[StageRecord]) -> str:
    """What came in by each stage that checks rows, and what was kept out, and why."""
    checked = [it for it in stages if "rejected" in it.artifact.facts]
    counts = [(markdown(it.title), it.rows, it.artifact.facts["rejected"]) for it in checked]
    lines = ["# Data", _table(("", "Rows", "Rejected"), counts)]
    for it in checked:
        if it.artifact.facts["rejected"]:
            rejects = store.table(it.artifact, REJECTS)
            first = rejects.group_by("rule", maintain_order=True).agg(
                pl.len(), pl.col("row", "column", "reason").first()
            )
            rows = [
                (rule, count, row, column, markdown(reason))
                for rule, count, row, column, reason in first.sort(
                    "len", "rule", descending=[True, False]
                ).iter_rows()
            ]
            heads = ("Rule", "Rows", "The first: row", "Column", "Reason")
            lines += [f"## {markdown(it.title)}", _table(heads, rows)]
    lines.append(
        _bullets(dict.fromkeys(w for it in stages for w in it.artifact.facts.get("warnings", ())))
    )
    return _paragraphs(lines)


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *([plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {markdown(sentence)}" for sentence in sentences)


def _paragraphs(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part)
