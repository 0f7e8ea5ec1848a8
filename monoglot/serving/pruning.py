"""Removing versions of an index table that no release names.

LanceDB removes versions by age alone, the newest excepted, so only what is older than the oldest
version that is named can go; what lies between two named versions stays, and costs its changed
rows. The age is reckoned by LanceDB's clock at that moment: were the clock to jump, it would take
named versions as well. So each of these carries a tag while versions are removed, since LanceDB
removes nothing at all where a tagged version is among what is to go. The tags are no pointers, and
are gone afterwards; those of a killed process are cleared by the next one.
"""

import time
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from monoglot.serving import tables
from monoglot.store import Store

if TYPE_CHECKING:
    from lancedb.table import LanceTable

_TAG = "kept-"
# Seconds between the oldest version that is needed and what goes: LanceDB compacts the table before
# it reckons the age, and the tags would have it refuse.
_MARGIN = 3600.0
# Removing versions compacts the table as well, which rewrites rows: not for a handful of versions.
WORTH_PRUNING = 20


def old_versions(store: Store, name: str, named: Collection[int], before: float) -> list[int]:
    """The versions that `prune` would remove; empty where they are not worth it.

    Args:
        store: whose index it is.
        name: of the table.
        named: versions that are needed.
        before: seconds since the epoch; a version made later stays.
    """
    versions = _versions(_open(store, name))
    cut = _cut(versions, named, before)
    old = [version for version, when in versions.items() if when < cut]
    return old if len(old) >= WORTH_PRUNING else []


def prune(store: Store, name: str, named: Collection[int], before: float) -> int:
    """Remove the versions older than all that are named; how many went.

    Hold the store's writer lock. See `old_versions`.

    Raises:
        StoreError: LanceDB refused, since the clock jumped for instance; nothing was removed then.
    """
    table = _open(store, name)
    with tables.explained("cleaned up"):
        for tag in table.tags.list():
            if tag.startswith(_TAG):
                table.tags.delete(tag)
        versions = _versions(table)
        cut, there = _cut(versions, named, before), sorted(versions.keys() & set(named))
        for version in there:
            table.tags.create(f"{_TAG}{version}", version)
        try:
            table.optimize(cleanup_older_than=timedelta(seconds=time.time() - cut))
        finally:
            for version in there:
                table.tags.delete(f"{_TAG}{version}")
        return len(versions.keys() - _versions(table).keys())


def _open(store: Store, name: str) -> "LanceTable":
    with tables.explained("opened"):
        return tables.connect(store.index_uri).open_table(name)


def _versions(table: "LanceTable") -> dict[int, float]:
    """Each version and when it was made, in seconds since the epoch."""
    with tables.explained("read"):
        return {it["version"]: it["timestamp"].timestamp() for it in table.list_versions()}


def _cut(versions: Mapping[int, float], named: Collection[int], before: float) -> float:
    """The time before which every version may go: 0 where none is named, and nothing is known."""
    first = min(versions.keys() & set(named), default=0)
    # The clock may have gone back since the first of them was made.
    kept = min(when for version, when in versions.items() if version >= first)
    return min(before, kept - _MARGIN) if first else 0.0
