"""What a file's reading gives: the good rows, and the others with place, rule and reason."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl

from monoglot.contracts import Rejects, empty
from monoglot.errors import DataError
from monoglot.identity import frame_digest

ROW = "_row"
_VALUE_CHARS = 200
# Of a file whose limit no setting names: the default of knowledge_base.max_reject_share.
_MAX_SHARE = 0.2
# Rules of rows that say again what another row says: nothing is lost with them.
_REPEATS = ("duplicate", "near_duplicate")
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
        return f"The first: {_told(self.table().row(0, named=True))}."

    def table(self) -> pl.DataFrame:
        """The rejects as `contracts.Rejects`, in the order of the file."""
        return pl.DataFrame(self.entries, schema=empty(Rejects).schema).sort(
            "row", nulls_last=False, maintain_order=True
        )


def refuse_many(
    rejects: RejectList,
    total: int,
    *,
    share: float = _MAX_SHARE,
    setting: str = "",
    spared: Collection[str] = (),
) -> None:
    """Refuse a file of whose rows too many are rejected.

    A quotation mark that nobody closed takes all lines behind it: what is left of such a file must
    not pass for the whole.

    Args:
        rejects: of the file.
        total: its records, those that cannot be read among them.
        share: of the records that may be rejected.
        setting: the name of the share in the config; empty: it is fixed.
        spared: rules that do not count.

    Raises:
        DataError: names the counts, and the first row with the commonest reason.
    """
    lost = rejects.table().filter(~pl.col("rule").is_in(list(spared)))
    if lost.height <= share * total:
        return
    counts, example = _commonest(lost)
    limit = f"{setting} ({share:.0%})" if setting else f"{share:.0%}"
    remedy = "Mend the file, or raise the share." if setting else "Mend that row and its like."
    raise DataError(
        f"{rejects.file}: {lost.height} of {total} rows are rejected ({counts}), more than "
        f"{limit}. Such as {example}. {remedy}"
    )


def checked(
    rows: pl.DataFrame, total: int, rejects: RejectList, *, aside: Collection[str] = ()
) -> tuple[str, ...]:
    """Refuse a file that gives no row, or far fewer than it has; warn of many set aside.

    Args:
        rows: what can be used of it.
        total: its records, those that cannot be read among them.
        rejects: the others.
        aside: rules of rows that are whole and of no use here. They make no file a broken one.

    Returns:
        Warnings.

    Raises:
        DataError: see `refuse_many`; repeats and what is set aside do not count.
    """
    if rows.is_empty():
        raise DataError(f"{rejects.file}: no row can be used. {rejects.first()} Mend the file.")
    refuse_many(rejects, total, spared=(*_REPEATS, *aside))
    lost = rejects.table().filter(pl.col("rule").is_in(list(aside)))
    if lost.height / total <= _MAX_SHARE:
        return ()
    counts, example = _commonest(lost)
    return (
        f"{rejects.file}: {lost.height} of {total} rows ({lost.height / total:.0%}) are left out "
        f"({counts}), such as {example}",
    )


def _commonest(rejects: pl.DataFrame) -> tuple[str, str]:
    """The rules with their counts, the commonest first, and its first row with the reason."""
    rules = rejects["rule"].value_counts().sort("count", "rule", descending=[True, False])
    counts = ", ".join(f"{rule} {count}" for rule, count in rules.iter_rows())
    return counts, _told(rejects.filter(pl.col("rule") == rules["rule"][0]).row(0, named=True))


def _told(entry: dict[str, Any]) -> str:
    where = "" if entry["column"] is None else f", column {entry['column']}"
    return f"row {entry['row']}{where}: {entry['reason']}"


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
