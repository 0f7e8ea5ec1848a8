"""What `monoglot releases` prints."""

from collections.abc import Collection, Iterable
from typing import Any

from rich.console import Console

from flows.show import say, warn
from monoglot.runs import RunRecord
from monoglot.serving.approval import Awaiting
from monoglot.serving.history import Listing
from monoglot.serving.manifest import Release


def show_releases(
    console: Console,
    listing: Listing,
    pinned: Collection[str],
    candidate: Release | None = None,
    overtaken: str | None = None,
    *,
    unpromoted: Collection[str] = (),
) -> None:
    """The candidate that awaits approval, if there is one, and all releases, the newest first.

    Args:
        console: where.
        listing: the releases.
        pinned: ids of those that are never retired.
        candidate: that awaits approval; None: none does.
        overtaken: why it can be approved no more; None: it can.
        unpromoted: ids of those whose reason is that of a candidate; see `of_candidates`.
    """
    warn(console, listing.warnings)
    if candidate is not None:
        _release(console, "?", candidate)
        say(console, f"    {Awaiting(candidate.id, overtaken).line}", "yellow")
    for release in listing.releases:
        mark = "*" if release.id == listing.current else " "
        pin = ", pinned" if release.id in pinned else ""
        whose = "candidate not promoted: " if release.id in unpromoted else ""
        _release(console, mark, release, pin, whose)


def as_json(
    listing: Listing,
    pinned: Collection[str],
    candidate: Release | None,
    overtaken: str | None,
    *,
    unpromoted: Collection[str] = (),
) -> dict[str, Any]:
    """The same for a program."""
    return {
        "current": listing.current,
        "releases": [
            release.model_dump(mode="json")
            | {"pinned": release.id in pinned, "candidate_not_promoted": release.id in unpromoted}
            for release in listing.releases
        ],
        "candidate": candidate and candidate.model_dump(mode="json"),
        "overtaken": overtaken,
        "warnings": listing.warnings,
    }


def of_candidates(releases: Iterable[Release], records: Iterable[RunRecord]) -> set[str]:
    """Ids of the releases whose reason is what the gate said of another model.

    A run whose candidate is not promoted still puts the new rows into production, with the model
    that was there: its release has the gate's reasons, whose figures are the candidate's.

    Args:
        releases: those that are listed.
        records: the store's run records, of which one has the reasons and the verdict.
    """
    said = {
        " ".join(record.reasons)
        for record in records
        if record.flow == "retrain" and record.verdict in {"rejected", "awaits approval"}
    }
    return {release.id for release in releases if release.reason in said}


def _release(
    console: Console, mark: str, release: Release, note: str = "", whose: str = ""
) -> None:
    mrr = release.metrics.get("mrr")
    measured = "" if mrr is None else f", MRR {mrr:.3f}"
    say(
        console,
        f"{mark} {release.id}  {release.model_name} over {release.rows:,} rows{measured}{note}",
        "bold" if mark == "*" else "",
    )
    say(console, f"    {whose}{release.reason.partition('. ')[0]}", "dim")
