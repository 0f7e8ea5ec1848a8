"""What `monoglot review` prints, and the files that it takes."""

import dataclasses
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from flows.show import say, table, warn
from monoglot.errors import InputError
from monoglot.feedback.appending import Into, Target
from monoglot.feedback.reviewing import Review
from monoglot.feedback.taking import NOTHING_FITS, Taken, take
from monoglot.knowledge.knowledge_base import load_knowledge_base
from tasks.request import StoreRequest

_SHOWN = 20
_INTO = tuple(each for each in get_args(Into) if each != "out_of_scope")
_FIELDS = {
    "training": "training: {path: %s}",
    "evaluation": "evaluation: {path: %s}",
    "out_of_scope": "abstention: {out_of_scope: {path: %s}}",
}


def take_file(request: StoreRequest, file: Path, into: str, *, new_labels: bool) -> Taken:
    """Append what people filled in to the files that a config names, or to new ones beside it.

    Raises:
        InputError: `into` is none of the files, or the table or a file cannot be used.
    """
    chosen: Into | None = next((each for each in _INTO if each == into), None)
    if chosen is None:
        raise InputError(f"--into {into}: give one of {', '.join(_INTO)}.")
    config, _ = request.read()  # not fetched: a knowledge base elsewhere cannot be appended to
    rows = load_knowledge_base(request.read_fetched()[0].knowledge_base).rows
    languages = {language.code for language in config.languages}
    return take(
        file,
        chosen,
        lambda kind: Target.of(config, kind, request.config_file),
        rows,
        language=next(iter(languages)) if len(languages) == 1 else None,
        new_labels=new_labels,
    )


def show_review(console: Console, found: Review, out: Path | None) -> None:
    """The most frequent questions, or where all of them are; and how many there are."""
    say(
        console,
        f"{found.asked:,} queries logged, {found.confident:,} answered confidently; of the "
        f"others {found.known:,} are in your files already.",
    )
    if out is None:
        shown = found.questions[:_SHOWN]
        rows = [
            (it.text, it.language, ", ".join(answer.label for answer in it.last.answers), it.times)
            for it in shown
        ]
        console.print(table(("query", "language", "suggestions", "times"), rows, numbers=1))
        say(console, "`monoglot review --out FILE.csv` writes them as a table to fill in.")
    else:
        say(console, f"{out}: {len(found.questions):,} distinct queries, the most frequent first.")
        say(
            console,
            f"Fill in the column label ({NOTHING_FITS} where no row should answer; empty: later), "
            f"and take it back: `monoglot review --take {out}`.",
        )
    warn(console, _warnings(found))


def _warnings(found: Review) -> list[str]:
    told = {
        "distinct queries are left out; `--top` takes more": found.left_out,
        "lines of the log cannot be read": found.unreadable,
        "queries could not be logged; see the service's own log": found.lost,
    }
    return [f"{count:,} {what}." for what, count in told.items() if count]


def show_taken(console: Console, taken: Taken) -> None:
    """What went where, and what is left to do."""
    for each in taken.files:
        known = f"; {each.known:,} were there already" if each.known else ""
        say(console, f"{each.target.path}: {each.added:,} rows added{known}.")
    warn(console, _to_do(taken))
    if any(each.added for each in taken.files):
        say(console, "Next: `monoglot plan`.")


def _to_do(taken: Taken) -> list[str]:
    told = []
    for each in taken.files:
        if each.target.is_named:
            continue
        name = each.target.path.name
        if each.into == "knowledge_base":
            told.append(
                f"{name}: your knowledge base is no file that rows can be appended to: add these "
                "to it where it lives."
            )
        else:
            told.append(f"{name}: add `{_FIELDS[each.into] % name}` to monoglot.yaml.")
    if taken.unlabelled:
        told.append(f"{taken.unlabelled:,} lines have no label yet.")
    if taken.new_labels:
        told.append(f"new labels: {', '.join(taken.new_labels)}.")
    return told


def review_as_json(found: Review, out: Path | None) -> dict[str, Any]:
    """The same for a program."""
    return {**dataclasses.asdict(found), "file": None if out is None else str(out)}


def taken_as_json(taken: Taken) -> dict[str, Any]:
    """The same for a program."""
    return {
        "files": [
            {
                "into": each.into,
                "path": str(each.target.path),
                "is_named_in_config": each.target.is_named,
                "added": each.added,
                "known": each.known,
            }
            for each in taken.files
        ],
        "unlabelled": taken.unlabelled,
        "new_labels": list(taken.new_labels),
    }
