"""How the rows of a table lie in files, so that edits neither scatter nor double them.

A table is some eight files, so that a worn one can be rewritten by itself, and the small ones, of
less than a 16th of its rows, that each sync adds. LanceDB's own `optimize` would copy all of a
table that has less than a million rows, and the release before keeps the files that it has: twice
as much would be there.
"""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from monoglot.serving import tables

if TYPE_CHECKING:
    from lance import LanceFragment
    from lancedb.table import LanceTable

_FILES = 8
_LEAST_ROWS = 1_000  # of a file: fewer are not worth one
_SMALL = 1 / 16
_MOST_SMALL_FILES = 20
_WORN = 0.1  # of a file's rows are gone
_MOST_GONE = 0.25  # of all rows
_REWRITTEN = 0.25  # of all rows, at most, at a time


def compact(table: "LanceTable") -> None:
    """Merge the small files that edits leave, and rewrite worn ones, once it is worth it.

    Worn ones are rewritten one at a time, or more up to a quarter of all rows.
    """
    with tables.explained("compacted"):
        data = tables.by_lance(table)
        files = data.get_fragments()
        rows = table.count_rows()
        small = {it.fragment_id for it in files if it.physical_rows < _SMALL * rows}
        # Lance merges neighbours alone.
        grouped = itertools.groupby(files, lambda it: it.fragment_id in small)
        runs = [list(run) for is_small, run in grouped if is_small]
        beside = [it for run in runs for it in run if len(run) > 1]
        gone = sum(it.num_deletions for it in files)
        if (
            len(beside) < _MOST_SMALL_FILES
            and sum(map(_rows_of, beside)) < rows_per_file(rows)
            and gone < _MOST_GONE * rows
        ):
            return
        merged = small | _most_worn([it for it in files if it.fragment_id not in small], rows)
        data.optimize.compact_files(
            target_rows_per_fragment=rows_per_file(rows),
            excluded_fragment_ids=[it.fragment_id for it in files if it.fragment_id not in merged],
        )
        table.checkout_latest()


def rows_per_file(rows: int) -> int:
    """Rows of one file, at most, where a table has so many."""
    return max(_LEAST_ROWS, -(-rows // _FILES))


def _rows_of(file: "LanceFragment") -> int:
    return int(file.physical_rows - file.num_deletions)


def _most_worn(files: Sequence["LanceFragment"], rows: int) -> set[int]:
    """Ids of worn files to rewrite now: one, and more up to a quarter of all rows.

    Args:
        files: in their order, without small ones. No two that are beside each other are chosen,
            which Lance would make into one.
        rows: of the table.
    """
    worn = [n for n, it in enumerate(files) if it.num_deletions > _WORN * it.physical_rows]
    worn.sort(key=lambda n: files[n].num_deletions / files[n].physical_rows, reverse=True)
    chosen: set[int] = set()
    copied = 0
    for number in worn:
        if chosen & {number - 1, number + 1}:
            continue
        copied += _rows_of(files[number])
        if chosen and copied > _REWRITTEN * rows:
            break
        chosen.add(number)
    return {files[number].fragment_id for number in chosen}
