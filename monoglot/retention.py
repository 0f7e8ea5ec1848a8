"""What the store need not keep, and its removal: `monoglot clean`, and the end of every run.

Kept is what a kept release names (model, index version, knowledge base, questions, evaluation),
and what the last run, the last training and the run of the present config made, so that the next
run reuses it. A release that is not kept any more is retired first: nobody can go back to it, and
its files go when a service that still answers from it has had the grace period to notice. What
nothing names goes when its files are older than that, however lately it was named. The ledger is
never touched, nor is the workshop of experiments.
"""

import json
import re
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any, Literal

from monoglot.config import RetentionConfig
from monoglot.errors import StoreError
from monoglot.files import Entry
from monoglot.runs import RunRecord, Runs
from monoglot.serving import pruning
from monoglot.serving.history import CURRENT
from monoglot.serving.manifest import Release
from monoglot.serving.releases import Releases
from monoglot.store import Store

Kind = Literal["artifact", "model", "index table", "index versions", "run", "report", "unfinished"]
MODEL_STAGES = frozenset(("training", "merging", "distillation", "classifier_training"))
_RUN = re.compile(r"\d{8}T\d{6}-([0-9a-f]{8})")  # see `runs.new_run_name`


@dataclass
class Needs:
    """What is named: locations of artifacts, and versions of index tables."""

    locations: set[str] = field(default_factory=set)
    tables: dict[str, set[int]] = field(default_factory=dict)

    def take(self, node: Any) -> None:
        """Add what a manifest or a run record names, at any depth."""
        if isinstance(node, list):
            for item in node:
                self.take(item)
        if not isinstance(node, dict):
            return
        if isinstance(node.get("location"), str):
            self.locations.add(node["location"])
        for table, version in (("index_table", "index_version"), ("table", "version")):
            if isinstance(node.get(table), str) and isinstance(node.get(version), int):
                self.tables.setdefault(node[table], set()).add(node[version])
        for item in node.values():
            self.take(item)


@dataclass(frozen=True)
class Thing:
    """Something in the store that nothing kept needs.

    Attributes:
        kind: what it is.
        name: where, in the store.
        size: bytes; of index versions 0, since they share files with those that stay.
        is_due: whether it goes now, or is still within the grace period.
        versions: of an index table, those which stay.
    """

    kind: Kind
    name: str
    size: int
    is_due: bool
    versions: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Leavings:
    """What a clean-up would do.

    Attributes:
        releases: to be retired.
        things: to be removed, now or after the grace period.
    """

    releases: list[Release]
    things: list[Thing]

    @property
    def due(self) -> list[Thing]:
        """What goes now."""
        return [thing for thing in self.things if thing.is_due]

    @property
    def waiting(self) -> list[Thing]:
        """What goes after the grace period."""
        return [thing for thing in self.things if not thing.is_due]


def find_leavings(store: Store, config: RetentionConfig, key: str) -> Leavings:
    """Look for what is not needed; writes nothing.

    Args:
        store: where.
        config: how much is kept, and for how long.
        key: of the run that the present config asks for (`Inputs.key`).

    Raises:
        StoreError: a manifest cannot be read, so that it is not known what is needed.
    """
    releases = Releases(store)
    going = releases.expendable(config.releases)
    before = time.time() - config.grace_hours * 3600
    return Leavings(going, list(_things(store, {it.id for it in going}, key, before)))


def clean(store: Store, config: RetentionConfig, key: str) -> Leavings:
    """Retire releases and remove what is due. Hold the store's writer lock.

    Killed at any moment it leaves every release whole, and goes on when it is started again.

    Returns:
        What was done.

    Raises:
        StoreError: the store cannot be written, or a manifest cannot be read.
    """
    retired = Releases(store).retire(config.releases)
    before = time.time() - config.grace_hours * 3600
    things = list(_things(store, set(), key, before))
    with store.explained():
        for thing in things:
            if thing.is_due:
                _remove(store, thing, before)
        for manifest in _manifests(store, "retired"):
            if manifest.changed < before:
                # Last: until here it kept what is young from being taken for refuse.
                store.files.remove(manifest.name)
        store.forget_mirrored()
    return Leavings(retired, things)


def _things(store: Store, retiring: Collection[str], key: str, before: float) -> Iterator[Thing]:
    live, held = _needs(store, retiring, key, before)
    yield from _artifacts(store, live, held, before)
    yield from _runs(store, retiring, key, before)
    for folder in sorted((store.root / "tmp").glob("resume-*")):  # of this machine alone
        files = [path.stat() for path in folder.rglob("*") if path.is_file()]
        due = all(it.st_mtime < before for it in files)
        size = sum(it.st_size for it in files)
        yield Thing("unfinished", f"tmp/{folder.name}", size, due)
    yield from _index(store, live, held, before)  # last, since LanceDB may refuse


def _needs(store: Store, retiring: Collection[str], key: str, before: float) -> tuple[Needs, Needs]:
    """What is kept, and what a release names that was retired within the grace period."""
    live, held = Needs(), Needs()
    for manifest in _manifests(store):
        path = PurePosixPath(manifest.name)
        if path.parent.name == "retired":
            if manifest.changed >= before:
                held.take(_read(store, manifest.name))
        elif path.stem in retiring:
            held.take(_read(store, manifest.name))
        else:
            live.take(_read(store, manifest.name))
    for record in _kept_runs(store, key):
        live.take(record.model_dump(mode="json"))
    return live, held


def _kept_runs(store: Store, key: str) -> list[RunRecord]:
    runs = Runs(store)
    found = (runs.last(), runs.last_retrain(), runs.find(key))
    return [record for record in found if record is not None]


def _artifacts(store: Store, live: Needs, held: Needs, before: float) -> Iterator[Thing]:
    for location, files in _folders(store, "artifacts", 3):
        if location in live.locations:
            continue
        due = location not in held.locations and _is_older(files, before)
        kind: Kind = "model" if location.split("/")[1] in MODEL_STAGES else "artifact"
        yield Thing(kind, location, _size(files), due)


def _index(store: Store, live: Needs, held: Needs, before: float) -> Iterator[Thing]:
    for folder, files in _folders(store, "index", 2):
        name = folder.removeprefix("index/").removesuffix(".lance")
        named = frozenset(live.tables.get(name, set()) | held.tables.get(name, set()))
        if name not in live.tables:
            due = name not in held.tables and _is_older(files, before)
            yield Thing("index table", folder, _size(files), due)
        elif pruning.old_versions(store, name, named, before):
            yield Thing("index versions", folder, 0, is_due=True, versions=named)


def _runs(store: Store, retiring: Collection[str], key: str, before: float) -> Iterator[Thing]:
    """Records and reports of runs whose release is gone; those of a kept release stay."""
    releases = {release.id for release in Releases(store).history()} - set(retiring)
    kept = {record.key for record in _kept_runs(store, key)}
    found = dict(_folders(store, "runs", 2))
    for record in Runs(store).records():
        name = f"runs/{record.key}.json"
        if record.release in releases:
            kept.add(record.key)
        elif record.key not in kept and name in found:
            yield Thing("run", name, _size(found[name]), _is_older(found[name], before))
    beginnings = {known[:8] for known in kept}
    for folder, files in found.items():
        named = _RUN.fullmatch(folder.removeprefix("runs/"))
        if named and named[1] not in beginnings:
            yield Thing("report", folder, _size(files), _is_older(files, before))


def _remove(store: Store, thing: Thing, before: float) -> None:
    if thing.kind == "index versions":
        name = PurePosixPath(thing.name).stem
        pruning.prune(store, name, thing.versions, before)
    elif thing.kind == "unfinished":
        shutil.rmtree(store.root / thing.name)
    elif thing.kind == "run":
        store.files.remove(thing.name)
    else:
        store.files.remove_folder(thing.name)


def _manifests(store: Store, folder: str = "") -> list[Entry]:
    """Whatever names parts of releases: manifests, retired ones, and the candidate that waits."""
    return [
        entry
        for entry in store.files.below("releases")
        if (path := PurePosixPath(entry.name)).suffix == ".json"
        and not path.name.startswith(".")
        and (path.parent.name == folder if folder else entry.name != CURRENT)
    ]


def _read(store: Store, name: str) -> Any:
    try:
        return json.loads(store.files.read(name) or "")
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{store.files.told(name)}: cannot be read ({error}), so that it is not known what it "
            "needs; nothing was removed. Restore it from a backup of the store."
        ) from error


def _folders(store: Store, folder: str, depth: int) -> Iterator[tuple[str, list[Entry]]]:
    """What lies in a folder at a depth, with all its files: artifacts, tables, reports."""

    def first(entry: Entry) -> str:
        return "/".join(entry.name.split("/")[:depth])

    by_name = sorted(store.files.below(folder), key=first)
    for name, files in groupby(by_name, first):
        yield name, list(files)


def _size(files: Iterable[Entry]) -> int:
    return sum(it.size for it in files)


def _is_older(files: Iterable[Entry], before: float) -> bool:
    """Whether nothing of it was written since."""
    return all(it.changed < before for it in files)
