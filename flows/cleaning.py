"""Clean-up at the end of a run, and what `monoglot clean` prints."""

from collections import Counter
from typing import Any

from rich.console import Console

from flows.show import say
from monoglot.config import RetentionConfig
from monoglot.retention import Leavings, clean
from monoglot.store import Store


def tidy(store: Store, config: RetentionConfig, key: str) -> None:
    """Clean up after a run, so that nightly runs fill no disk; never fails the run.

    What was put into production is whole and stays so, whatever goes wrong here; the next run
    tries again.

    Args:
        store: whose writer lock the run holds.
        config: what is kept.
        key: of the run.
    """
    from prefect.logging import get_run_logger  # the commands that show need no Prefect

    logger = get_run_logger()
    try:
        done = clean(store, config, key)
    except Exception as error:  # the run has done its work
        logger.warning(f"clean-up: not finished ({error})", extra={"shown": True})
        return
    if done.releases or done.due:
        logger.info(f"clean-up: removed {summary(done)}")


def summary(found: Leavings) -> str:
    """What goes now, in a line."""
    counts = Counter(thing.kind for thing in found.due)
    parts = [f"{count:,} x {kind}" for kind, count in counts.items()]
    if found.releases:
        parts.insert(0, f"{len(found.releases):,} x release")
    return f"{', '.join(parts) or 'nothing'}; {_bytes(sum(it.size for it in found.due))}"


def show_leavings(console: Console, found: Leavings, config: RetentionConfig) -> None:
    """What would go now, and what later."""
    if not found.releases and not found.things:
        say(console, "Nothing to remove: all that is there is needed.", "bold")
        return
    for release in found.releases:
        say(console, f"release {release.id}: {release.model_name} over {release.rows:,} rows")
    later = f"goes {config.grace_hours:g} hours after it was made, or its release dropped"
    for heading, things in (("goes now", found.due), (later, found.waiting)):
        totals = Counter[str]()
        for thing in things:
            totals[thing.kind] += thing.size
        counts = Counter(thing.kind for thing in things)
        for kind, count in counts.items():
            size = "told by the disk afterwards" if kind == "index versions" else totals[kind]
            shown = size if isinstance(size, str) else _bytes(size)
            say(console, f"{count:>8,}  {kind}: {shown}, {heading}")


def as_json(found: Leavings, *, removed: bool) -> dict[str, Any]:
    """The same for a program."""
    return {
        "removed": removed,
        "releases": [release.id for release in found.releases],
        "bytes": sum(thing.size for thing in found.due),
        "bytes_waiting": sum(thing.size for thing in found.waiting),
        "things": [
            {
                "kind": thing.kind,
                "path": thing.name,
                "bytes": thing.size,
                "due": thing.is_due,
            }
            for thing in found.things
        ],
    }


def _bytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
