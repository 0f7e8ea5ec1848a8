"""What a file's reading gives: the good rows, and the others with place, rule and reason."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl

from monoglot.contracts import Rejects, empty
from monoglot.identity import frame_digest

ROW = "_row"
_VALUE_CHARS = 200
# Control characters other than tab and line ends, which count as spaces.
_CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
# Spaces that are not a single one; a pattern that finds those as well takes six times as long.
_SPACES = r"\s{2,}|[^\S ]"
# Something to be seen: no space, and no mark without a shape (byte order, joiner, direction).
_VISIBLE = r"[^\s\p{Cf}]"


@dataclass(frozen=True)
class Loaded:
    """A table that was read and checked.

    Attributes:
        rows: the good rows.
        rejects: the others, as `contracts.Rejects`.
        warnings: what is allowed but worth a look, one sentence each.
    """

    rows: pl.DataFrame
    rejects: pl.DataFrame
    warnings: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Of the good rows."""
        return frame_digest(self.rows)


@dataclass
class RejectList:
    """Collects rejects of one file, under the name that people know it by."""

    file: str
    entries: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self, row: int | None, column: str | None, value: str | None, rule: str, reason: str
    ) -> None:
        """Note one rejected record."""
        shown = None if value is None else value[:_VALUE_CHARS]
        self.entries.append(
            {
                "file": self.file,
                "row": row,
                "column": column,
                "value": shown,
                "rule": rule,
                "reason": reason,
            }
        )

    def add_rows(self, rows: pl.DataFrame, column: str, rule: str, reason: pl.Expr | str) -> None:
        """Note all of `rows` (with `_row` and `column`) as breaking one rule."""
        said = pl.lit(reason) if isinstance(reason, str) else reason
        chosen = rows.select(row=pl.col(ROW), value=pl.col(column), reason=said)
        for row, value, why in chosen.iter_rows():
            self.add(row, column, value, rule, why)

    def first(self) -> str:
        """The first reject in the order of the file as a sentence; empty where there is none."""
        if not self.entries:
            return ""
        entry = self.table().row(0, named=True)
        where = "" if entry["column"] is None else f", column {entry['column']}"
        return f"The first: row {entry['row']}{where}: {entry['reason']}."

    def table(self) -> pl.DataFrame:
        """The rejects as `contracts.Rejects`, in the order of the file."""
        return pl.DataFrame(self.entries, schema=empty(Rejects).schema).sort(
            "row", nulls_last=False, maintain_order=True
        )


def cleaned(*names: str) -> list[pl.Expr]:
    """The columns NFC-normalised, without outer spaces, inner white space single, empty as null.

    A text in which there is nothing to see is empty, too.
    """
    return [_or_null(pl.col(n).str.normalize("NFC").str.replace_all(_SPACES, " ")) for n in names]


def trimmed(*names: str) -> list[pl.Expr]:
    """The columns NFC-normalised, without outer spaces, empty as null; inner lines are kept."""
    return [_or_null(pl.col(name).str.normalize("NFC")) for name in names]


def _or_null(text: pl.Expr) -> pl.Expr:
    return pl.when(text.str.contains(_VISIBLE)).then(text.str.strip_chars()).name.keep()


def without_empty(rows: pl.DataFrame, columns: Iterable[str], rejects: RejectList) -> pl.DataFrame:
    """Rows that have all of the columns; the others are rejected."""
    for column in columns:
        bad = rows.filter(pl.col(column).is_null())
        rejects.add_rows(bad, column, "empty", f"the {column} is empty")
        rows = rows.filter(pl.col(column).is_not_null())
    return rows


def without_control(
    rows: pl.DataFrame, columns: Iterable[str], rejects: RejectList
) -> pl.DataFrame:
    """Rows without control characters in the columns; the others are rejected."""
    for column in columns:
        broken = pl.col(column).str.contains(_CONTROL).fill_null(value=False)
        rejects.add_rows(
            rows.filter(broken), column, "control_character", "holds a control character"
        )
        rows = rows.filter(~broken)
    return rows
