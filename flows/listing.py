"""What `monoglot releases` prints."""

from collections.abc import Collection
from typing import Any

from rich.console import Console

from flows.show import say, warn
from monoglot.serving.history import Listing
from monoglot.serving.manifest import Release


def show_releases(
    console: Console,
    listing: Listing,
    pinned: Collection[str],
    candidate: Release | None = None,
    overtaken: str | None = None,
) -> None:
    """The candidate that awaits approval, if there is one, and all releases, the newest first.

    Args:
        console: where.
        listing: the releases.
        pinned: ids of those that are never retired.
        candidate: that awaits approval; None: none does.
        overtaken: why it can be approved no more; None: it can.
    """
    warn(console, listing.warnings)
    if candidate is not None:
        _release(console, "?", candidate)
        waits = f"awaits approval: `monoglot promote {candidate.id}`"
        say(console, f"    {overtaken or waits}", "yellow")
    for release in listing.releases:
        mark = "*" if release.id == listing.current else " "
        _release(console, mark, release, ", pinned" if release.id in pinned else "")


def as_json(
    listing: Listing,
    pinned: Collection[str],
    candidate: Release | None,
    overtaken: str | None,
) -> dict[str, Any]:
    """The same for a program."""
    return {
        "current": listing.current,
        "releases": [
            release.model_dump(mode="json") | {"pinned": release.id in pinned}
            for release in listing.releases
        ],
        "candidate": candidate and candidate.model_dump(mode="json"),
        "overtaken": overtaken,
        "warnings": listing.warnings,
    }


def _release(console: Console, mark: str, release: Release, note: str = "") -> None:
    mrr = release.metrics.get("mrr")
    measured = "" if mrr is None else f", MRR {mrr:.3f}"
    say(
        console,
        f"{mark} {release.id}  {release.model_name} over {release.rows:,} rows{measured}{note}",
        "bold" if mark == "*" else "",
    )
    say(console, f"    {release.reason.partition('. ')[0]}", "dim")
