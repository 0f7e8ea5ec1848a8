"""Removing versions of an index table that no release names.

By Lance's own library, which removes just the versions that it is told: LanceDB's `optimize` goes
by age alone, so that it keeps whatever is younger than the oldest version that is named, trusts its
clock, and copies the whole table first.
"""

from collections.abc import Collection
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from monoglot.serving import tables
from monoglot.store import Store

if TYPE_CHECKING:
    from lancedb.table import LanceTable


def old_versions(store: Store, name: str, named: Collection[int], before: float) -> list[int]:
    """The versions that `prune` would remove.

    Args:
        store: whose index it is.
        name: of the table.
        named: versions that are needed.
        before: seconds since the epoch; a version made later stays.
    """
    return _old(_open(store, name), named, before)


def prune(store: Store, name: str, named: Collection[int], before: float) -> int:
    """Remove the versions that are not named, and what only they hold; how many went.

    Hold the store's writer lock: the newest version stays, but an unfinished sync's others would
    go. See `old_versions`.

    Raises:
        StoreError: they cannot be removed.
    """
    table = _open(store, name)
    old = _old(table, named, before)
    with tables.explained("cleaned up"):
        if old:
            tables.by_lance(table).cleanup_old_versions(versions=old)
    _remove_detached(store, table, before)
    return len(old)


def _open(store: Store, name: str) -> "LanceTable":
    with tables.explained("opened"):
        return tables.connect(store.index_uri).open_table(name)


def _old(table: "LanceTable", named: Collection[int], before: float) -> list[int]:
    with tables.explained("read"):
        made = {it["version"]: it["timestamp"].timestamp() for it in table.list_versions()}
        tagged = {tag["version"] for tag in table.tags.list().values()}
    # What somebody tagged by hand stays: that is what a tag is for.
    staying = {*named, *tagged, max(made)}
    # Where none of the named ones is there, it is not known what is needed.
    if not made.keys() & set(named):
        return []
    return [version for version, when in made.items() if when < before and version not in staying]


def _remove_detached(store: Store, table: "LanceTable", before: float) -> None:
    """Remove manifests of `approximate.undeleted_version` that no version names: Lance never does.

    Whatever else they need belongs to the version that named them. The table is left at one of its
    versions.
    """
    needed = set()
    with tables.explained("read"):
        for listed in table.list_versions():
            table.checkout(listed["version"])
            needed.add(f"d{tables.facts_of(table.schema).get('undeleted')}.manifest")
    for entry in store.files.below(f"index/{table.name}.lance/_versions"):
        name = PurePosixPath(entry.name).name
        is_detached = name.startswith("d") and name.endswith(".manifest")
        if is_detached and name not in needed and entry.changed < before:
            store.files.remove(entry.name)
