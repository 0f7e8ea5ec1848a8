"""The commands of whoever operates a store: its releases, what it keeps, its health and changes.

They are of the same command line as those that train and answer (`flows.cli`).
"""

from pathlib import Path
from typing import Annotated

import typer

from flows.console import make_console, print_json, show_line
from flows.options import HERE, ConfigFile, Json
from monoglot.runs import Runs
from monoglot.serving.approval import Approval
from monoglot.serving.manifest import Release
from monoglot.serving.releases import Releases
from monoglot.standing import Inputs
from monoglot.store import Store
from tasks.request import RunRequest
from tasks.versions import versions


def releases(config: ConfigFile = HERE, as_json: Json = False) -> None:
    """List the releases, the newest first; the one in production is marked."""
    from flows import listing

    wanted, _ = RunRequest(config_file=config).read()
    store = Store.existing(wanted.store)
    kept, approval = Releases(store), Approval(store)
    found, pinned, candidate = kept.listing(), kept.pinned(), approval.waiting()
    now = next((it for it in found.releases if it.id == found.current), None)
    overtaken = approval.overtaken_by(now)
    unpromoted = listing.of_candidates(found.releases, Runs(store).records())
    if as_json:
        print_json(listing.as_json(found, pinned, candidate, overtaken, unpromoted=unpromoted))
    else:
        listing.show_releases(
            make_console(), found, pinned, candidate, overtaken, unpromoted=unpromoted
        )


def rollback(
    release: Annotated[
        str | None, typer.Argument(help="Its id. Left out: the one before the current.")
    ] = None,
    config: ConfigFile = HERE,
    as_json: Json = False,
) -> None:
    """Put an older release back into production; it stays until something changes."""
    wanted, _ = RunRequest(config_file=config).read()
    now = Releases(Store.existing(wanted.store)).rollback(release)
    _tell_current(now, as_json=as_json)


def promote(
    release: Annotated[
        str | None,
        typer.Argument(help="Of the candidate, or of a kept release. Left out: the candidate."),
    ] = None,
    config: ConfigFile = HERE,
    as_json: Json = False,
) -> None:
    """Put the candidate that awaits approval, or a kept release, into production."""
    wanted, _ = RunRequest(config_file=config).read()
    now = Approval(Store.existing(wanted.store)).promote(release)
    _tell_current(now, as_json=as_json)


def pin(release: Annotated[str, typer.Argument(help="Its id.")], config: ConfigFile = HERE) -> None:
    """Keep a release whatever comes after it: no clean-up removes it."""
    wanted, _ = RunRequest(config_file=config).read()
    kept = Releases(Store.existing(wanted.store)).pin(release)
    show_line(f"release {kept.id} is pinned")


def unpin(
    release: Annotated[str, typer.Argument(help="Its id.")], config: ConfigFile = HERE
) -> None:
    """Let a pinned release go in its turn."""
    wanted, _ = RunRequest(config_file=config).read()
    freed = Releases(Store.existing(wanted.store)).unpin(release)
    show_line(f"release {freed.id} is not pinned")


def clean(
    config: ConfigFile = HERE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Remove what no kept release, pinned release or present config needs; show it first."""
    from flows import cleaning as show
    from monoglot.retention import clean as remove
    from monoglot.retention import find_leavings

    wanted, settings = RunRequest(config_file=config).read_fetched()
    store = Store.existing(wanted.store)
    key = Inputs.of(wanted, settings, versions()).key
    console = make_console(stderr=as_json)
    found = find_leavings(store, wanted.retention, key)
    show.show_leavings(console, found, wanted.retention)
    going = bool(found.releases or found.due) and not dry_run
    going = going and (yes or (not as_json and typer.confirm("Remove it?")))
    if going:
        with Store.open(wanted.store).writer():
            found = remove(store, wanted.retention, key)  # as it is now that nobody else writes
        show_line(f"removed: {show.summary(found)}", stderr=as_json)
    if as_json:
        print_json(show.as_json(found, removed=going))


def forget(
    pattern: Annotated[str, typer.Argument(help="Regular expression, whatever its case.")],
    config: ConfigFile = HERE,
    literal: Annotated[bool, typer.Option("--literal", help="The text as it is.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Remove a text from ledger, artifacts, index, reports and logs; show first what would go."""
    from flows import forgetting as show
    from monoglot.forgetting import find
    from monoglot.forgetting import forget as remove
    from monoglot.matching import Pattern

    sought = Pattern(pattern, literal=literal)
    wanted, _ = RunRequest(config_file=config).read()
    store = Store.existing(wanted.store)
    console = make_console(stderr=as_json)
    found, release = find(wanted, store, sought), None
    show.show_found(console, found)
    going = found.is_in_store and (
        yes or (not as_json and typer.confirm("Remove it from the store?"))
    )
    if going:
        with Store.open(wanted.store).writer():
            found = find(wanted, store, sought)  # as it is now that nobody else writes
            release = remove(store, found, sought)
        show.show_done(console, found, release)
    if as_json:
        print_json(show.as_json(found, release, removed=going))


def doctor(
    config: ConfigFile = HERE,
    tell: Annotated[
        bool,
        typer.Option("--notify", help="Tell the webhook what is not well: for cron, say hourly."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check versions, files, endpoint, store, disk, model, device, Prefect, checks, candidate."""
    from flows import show
    from flows.doctor import examine
    from flows.operation import tell_findings

    wanted, settings = RunRequest(config_file=config).read()
    found = examine(wanted, settings)
    if tell:
        for line in tell_findings(wanted, settings, found):
            show_line(line, stderr=True)
    if as_json:
        print_json([finding._asdict() for finding in found])
    else:
        show.findings(make_console(), found)
    if any(finding.state == "problem" for finding in found):
        raise typer.Exit(1)


def notify(config: ConfigFile = HERE, as_json: Json = False) -> None:
    """Tell the Prefect server that the knowledge base changed, which starts on-kb-change."""
    from flows.announcing import announce, difference

    request = RunRequest(config_file=config)
    changes, _ = difference(request.read_fetched()[0])
    event = announce(request.title, changes) if changes.count else None
    if as_json:
        print_json({"event": event, "changes": changes.counts})
    else:
        show_line(f"{'told the server' if event else 'nothing to tell'}: {changes.line}")


def watch(
    config: ConfigFile = HERE,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    quiet: Annotated[
        float, typer.Option(min=0.0, help="Seconds without an edit before it is told.")
    ] = 3.0,
) -> None:
    """Watch the knowledge base's file, and tell the Prefect server of changes until interrupted."""
    from threading import Event

    from flows.announcing import watch as watch_file

    request = RunRequest(config_file=config)
    watch_file(request, show_line, every=every, quiet=quiet, stop=Event())


def review(
    *,
    out: Annotated[
        Path | None, typer.Option(help="Write them into this new .csv or .tsv file, to fill in.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many at most.")] = 200,
    days: Annotated[float | None, typer.Option(min=0, help="How far to look back.")] = None,
    take: Annotated[
        Path | None, typer.Option(help="Take a filled-in file: append its rows to a file of yours.")
    ] = None,
    into: Annotated[
        str, typer.Option(help="What they become: training, evaluation or knowledge_base.")
    ] = "training",
    new_labels: Annotated[
        bool, typer.Option("--new-labels", help="Labels may be new to the knowledge base.")
    ] = False,
    config: ConfigFile = HERE,
    as_json: Json = False,
) -> None:
    """List the logged queries that need a person, or take back what people made of them."""
    from flows import reviewing as show
    from monoglot.feedback.reviewing import to_review, write_review

    if take is not None:
        taken = show.take_file(RunRequest(config_file=config), take, into, new_labels=new_labels)
        if as_json:
            print_json(show.taken_as_json(taken))
        else:
            show.show_taken(make_console(), taken)
        return
    wanted, _ = RunRequest(config_file=config).read()
    found = to_review(wanted, Store.existing(wanted.store), top=top, days=days)
    if out is not None:
        write_review(found, out)
    if as_json:
        print_json(show.review_as_json(found, out))
    else:
        show.show_review(make_console(), found, out)


def _tell_current(now: Release, *, as_json: bool) -> None:
    if as_json:
        print_json({"current": now.id})
    else:
        show_line(f"release {now.id} is in production: {now.model_name}, {now.rows:,} rows")


COMMANDS = (
    releases,
    rollback,
    promote,
    pin,
    unpin,
    clean,
    forget,
    doctor,
    notify,
    watch,
    review,
)
