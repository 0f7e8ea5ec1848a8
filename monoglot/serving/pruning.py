"""Removing versions of an index table that no release names.

By Lance's own library, which removes just the versions that it is told: LanceDB's `optimize` goes
by age alone, so that it keeps whatever is younger than the oldest version that is named, trusts its
clock, and copies the whole table first.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

from monoglot.serving import tables
from monoglot.store import Store

if TYPE_CHECKING:
    from lancedb.table import LanceTable

# Fewer are not worth a clean-up.
WORTH_PRUNING = 20


def old_versions(store: Store, name: str, named: Collection[int], before: float) -> list[int]:
    """The versions that `prune` would remove; empty where they are not worth it.

    Args:
        store: whose index it is.
        name: of the table.
        named: versions that are needed.
        before: seconds since the epoch; a version made later stays.
    """
    old = _old(_open(store, name), named, before)
    return old if len(old) >= WORTH_PRUNING else []


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
