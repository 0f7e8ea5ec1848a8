"""A table's approximate index: built, extended, and measured; and the version that is searched."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from monoglot.learning.votes import DEPTH
from monoglot.serving import neighbours, tables
from monoglot.serving.drift import has_drifted
from monoglot.serving.neighbours import Effort, Floats
from monoglot.serving.table_search import TableSearch

if TYPE_CHECKING:
    from lance import LanceDataset
    from lancedb.table import LanceTable

# Rows that may have changed since an index's recall was measured, of however many.
_MOST_UNMEASURED = 5_000
_ALL_PARTS = 1_000  # more than an index has


class Measured(NamedTuple):
    """How an index is to be searched, and how far that is to be relied on.

    Attributes:
        effort: that was measured.
        changed: rows that changed since.
        undeleted: the version to search, of `undeleted_version`.
    """

    effort: Effort
    changed: int
    undeleted: int | None = None


def extend(table: "LanceTable") -> None:
    """Add new rows to the table's approximate index, if it has one.

    They would be found all the same, one by one: a thousand of a million make a search more than
    half as long again. It takes a second in a million rows, where the index as it was built has
    place for them.
    """
    with tables.explained("indexed"):
        if table.list_indices() and table.index_stats("vector_idx").num_unindexed_rows:
            # Into one, since each part of an index is searched by itself.
            tables.by_lance(table).optimize.optimize_indices(num_indices_to_merge=_ALL_PARTS)
            table.checkout_latest()
            _leave_out_emptied(tables.by_lance(table))
            table.checkout_latest()


def _leave_out_emptied(data: "LanceDataset") -> None:
    """Have the index that was just written not name files of which no row is left.

    Lance goes on naming them, and while it does, asks of each code whether its row is deleted.
    """
    import lance

    made = data.read_transaction(data.version).operation
    if not isinstance(made, lance.LanceOperation.CreateIndex):
        return
    there = {it.fragment_id for it in data.get_fragments()}
    if all(there.issuperset(it.fragment_ids) for it in made.new_indices):
        return
    named = [
        dataclasses.replace(it, fragment_ids=there & set(it.fragment_ids))
        for it in made.new_indices
    ]
    lance.LanceDataset.commit(
        data,
        lance.LanceOperation.CreateIndex(new_indices=named, removed_indices=made.new_indices),
        read_version=data.version,
    )


def undeleted_version(table: "LanceTable") -> int | None:
    """Commit a version that has the deleted rows, too, beside the versions that follow one another.

    Where any row is deleted, LanceDB asks of each code whether its row is, and compares the codes
    one by one: a search among a million rows takes three times as long. So this version, of the
    same files but without their lists of deleted rows, is searched, and `TableSearch` drops those
    of what it finds.

    Returns:
        None: no row is deleted, or most are, which are better left out from the start.
    """
    import lance

    data = tables.by_lance(table)
    files = data.get_fragments()
    bare = [
        dataclasses.replace(it.metadata, deletion_file=None) for it in files if it.num_deletions
    ]
    if not bare or sum(it.num_deletions for it in files) > table.count_rows():
        return None
    # Detached: at no moment is it the newest version, which the next sync would go on from.
    made = lance.LanceDataset.commit(
        data,
        lance.LanceOperation.Update(updated_fragments=bare),
        read_version=data.version,
        detached=True,
    )
    return int(made.version)


def make_searchable(
    uri: str,
    table: "LanceTable",
    measured: Measured | None,
    known: Callable[[], tuple[Floats, Floats]],
) -> Measured:
    """See that the table has an approximate index, and that it is known what that finds.

    Once one row in a hundred has changed, or a few thousand have, recall is measured again. Where
    it has fallen below what is needed, the index is built anew, since the rows may have moved away
    from what it was built on.

    Args:
        uri: where the tables are.
        table: open for writing.
        measured: how it was searched before; None: that does not hold any more, or is not known.
        known: gives queries of the knowledge base itself (q, d), and the score of the tenth nearest
            row of each (q,).
    """
    from lancedb.index import IvfRq

    with tables.explained("indexed"):
        if table.list_indices():
            undeleted = undeleted_version(table)
            if measured is not None and not _is_outdated(measured.changed, table.count_rows()):
                return measured._replace(undeleted=undeleted)
            effort = _effort_for(uri, table, undeleted, *known())
            if effort.recall >= neighbours.ENOUGH_RECALL:
                return Measured(effort, 0, undeleted)
        table.create_index("vector", config=IvfRq(distance_type="cosine"), replace=True)
        undeleted = undeleted_version(table)
        return Measured(_effort_for(uri, table, undeleted, *known()), 0, undeleted)


def _is_outdated(changed: int, rows: int) -> bool:
    return changed > _MOST_UNMEASURED or has_drifted(changed, rows)


def _effort_for(
    uri: str, table: "LanceTable", undeleted: int | None, queries: Floats, reached: Floats
) -> Effort:
    """The least effort that finds enough, by the search that will answer."""
    search = TableSearch(uri, table.name, table.version, undeleted)
    return neighbours.least_effort(lambda effort: search.nearest(queries, DEPTH, effort), reached)
