"""What `monoglot forget` prints: what would go, what went, and what only the user can do."""

from typing import Any

from rich.console import Console

from flows.show import say, warn
from monoglot.forgetting import Found
from monoglot.serving.manifest import Release

_LINES_SHOWN = 20


def show_found(console: Console, found: Found) -> None:
    """What would be removed, in numbers, with a few masked examples."""
    if not found.is_in_store:
        say(console, "The store does not hold it.", "bold")
    for place, count in found.counts.items():
        if count:
            say(console, f"{count:>8,}  {place}")
    for example in found.examples:
        say(console, f"          {example}", "dim")
    warn(console, by_hand(found))


def show_done(console: Console, found: Found, release: Release | None) -> None:
    """What is to be done now."""
    say(console, "Removed from the store." if found.is_in_store else "Nothing to remove.", "bold")
    if release is not None:
        say(console, f"Release {release.id} is in production: the same model, without these rows.")
    for line in to_do(found):
        say(console, f"  - {line}")


def by_hand(found: Found) -> list[str]:
    """What cannot be removed here: the user's own files, and what a model has learned."""
    told = []
    for path, lines in found.own.items():
        kind = "row" if path.suffix.lower() == ".parquet" else "line"
        told.append(
            f"{path}: holds it in {kind} {_numbers(lines)}. The file is yours: remove it there, or "
            "the next run reads it again."
        )
    told += [
        f"{place}: held it in row {_numbers(rows)} when it was fetched last. Remove it there, or "
        "the next run reads it again."
        for place, rows in found.elsewhere.items()
    ]
    told += [
        f"{path}: names it, in a path or a reason; a release needs its manifest."
        for path in found.manifests
    ]
    if found.models:
        models = ", ".join(digest[:16] for digest in found.models)
        served = ", ".join(found.releases) or "none"
        told.append(
            f"model {models}: trained on it; weights cannot unlearn. Releases that answer with "
            f"it: {served}. Retrain when your files are clean."
        )
    return told


def _numbers(lines: list[int]) -> str:
    shown = ", ".join(map(str, lines[:_LINES_SHOWN]))
    more = f" and {len(lines) - _LINES_SHOWN:,} more" if len(lines) > _LINES_SHOWN else ""
    return shown + more


def to_do(found: Found) -> list[str]:
    """What must be rebuilt, and how."""
    steps = []
    if found.own or found.elsewhere:
        steps.append("Remove the lines and rows named above from where they are.")
    if found.models or found.artifacts:
        steps.append(
            "`monoglot run`: computes again what was removed, and trains a model that never saw it."
        )
    if found.tables:
        steps.append(
            "Services keep the old rows in memory until `Retriever.refresh()` or a restart."
        )
    if found.releases:
        steps.append(
            "After that, the folders of the old models may go: they are the artifacts of the "
            "stages training and merging."
        )
    steps.append(
        "Backups of the store, a Prefect server of your own, and what the LLM's provider keeps "
        "are not touched."
    )
    return steps


def as_json(found: Found, release: Release | None, *, removed: bool) -> dict[str, Any]:
    """The same for a program."""
    return {
        "removed": removed,
        "found": found.counts,
        "examples": found.examples,
        "artifacts": list(found.artifacts),
        "files": [str(path) for path in found.files],
        "your_files": {str(path): lines for path, lines in found.own.items()},
        "elsewhere": found.elsewhere,
        "models_trained_on_it": list(found.models),
        "releases_with_these_models": found.releases,
        "release": None if release is None else release.id,
        "to_do": to_do(found),
    }
