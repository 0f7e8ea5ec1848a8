"""The decision about a changed knowledge base, told where people look: log, run name, artifact."""

from collections.abc import Iterator

import polars as pl
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from monoglot.due import Due
from monoglot.store import Store
from monoglot.wording import markdown
from tasks.artifacts import show

_NAMED = 20


def explain(due: Due, title: str, store: Store | None) -> None:
    """Tell what is done and why, in a run of Prefect.

    A run with nothing to do leaves a line and its name; an artifact for each, every few minutes,
    would hide those that say something.

    Args:
        due: the decision.
        title: what the run is named after.
        store: what it is about; None where nothing is done.
    """
    reasons = "; ".join(due.work.reasons)
    get_run_logger().info(f"{due.work.kind}: {reasons}", extra={"shown": True})
    name = f"{due.work.kind} {title}"
    if store is not None:
        name += f": {due.changes.line}"
        show(store, "decision", _page(due), f"Why {title} is refreshed or retrained")
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, name=name)


def _page(due: Due) -> str:
    """The decision with its reasons and the changed rows, the first of each kind by name."""
    lines = [f"# {due.work.kind.capitalize()}", ""]
    lines += [f"- {markdown(reason)}" for reason in due.work.reasons]
    lines += ["", "| change since the release | count |", "|---|---:|"]
    lines += [f"| {kind.replace('_', ' ')} | {n:,} |" for kind, n in due.changes.counts.items()]
    for kind in ("added", "removed", "edited", "relabelled", "answered"):
        rows = getattr(due.changes, kind)
        if due.has_release and not rows.is_empty():
            lines += ["", f"## {kind}", "", *_named(rows)]
    return "\n".join(lines)


def _named(rows: pl.DataFrame) -> Iterator[str]:
    """The first rows of a kind of change."""
    for query, label, before in rows.select("query", "label", "query_before")[:_NAMED].iter_rows():
        yield f"- {markdown(query or before)}" + (f" ({markdown(label)})" if label else "")
    if rows.height > _NAMED:
        yield f"- and {rows.height - _NAMED:,} more"
