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
    table = _open(store, name)
    return _old(table, _staying(table, named), before)


def prune(store: Store, name: str, named: Collection[int], before: float) -> int:
    """Remove the versions that are not named, and what only they hold; how many went.

    Hold the store's writer lock: the newest version stays, but an unfinished sync's others would
    go. See `old_versions`.

    Raises:
        StoreError: they cannot be removed.
    """
    table = _open(store, name)
    staying = _staying(table, named)
    old = _old(table, staying, before)
    with tables.explained("cleaned up"):
        if old:
            tables.by_lance(table).cleanup_old_versions(versions=old)
    _remove_detached(store, table, staying, before)
    return len(old)


def _open(store: Store, name: str) -> "LanceTable":
    with tables.explained("opened"):
        return tables.connect(store.index_uri).open_table(name)


def _staying(table: "LanceTable", named: Collection[int]) -> set[int]:
    """What is named, tagged or newest; empty where none of the named ones is there.

    Then it is not known what is needed.
    """
    made = _versions(table).keys()
    with tables.explained("read"):
        # What somebody tagged by hand stays: that is what a tag is for.
        tagged = {tag["version"] for tag in table.tags.list().values()}
    return made & {*named, *tagged, max(made)} if made & set(named) else set()


def _old(table: "LanceTable", staying: Collection[int], before: float) -> list[int]:
    made = _versions(table) if staying else {}
    return [version for version, when in made.items() if when < before and version not in staying]


def _remove_detached(
    store: Store, table: "LanceTable", staying: Collection[int], before: float
) -> None:
    """Remove manifests of `syncing.undeleted_version` that no version names, as Lance never does.

    Whatever else they need belongs to the version that named them. The table is left at one of its
    versions.
    """
    if not staying:
        return
    needed = set()
    for version in _versions(table):
        with tables.explained("read"):
            table.checkout(version)
            needed.add(f"d{tables.facts_of(table.schema).get('undeleted')}.manifest")
    for entry in store.files.below(f"index/{table.name}.lance/_versions"):
        name = PurePosixPath(entry.name).name
        is_detached = name.startswith("d") and name.endswith(".manifest")
        if is_detached and name not in needed and entry.changed < before:
            store.files.remove(entry.name)


def _versions(table: "LanceTable") -> dict[int, float]:
    """All versions of a table, and when each was made: seconds since the epoch."""
    with tables.explained("read"):
        return {it["version"]: it["timestamp"].timestamp() for it in table.list_versions()}
