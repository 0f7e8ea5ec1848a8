"""Measured figures as a markdown table: mean over seeds, and the range where seeds differ."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Sequence[float | None]]  # column -> one value per seed
_MISSING = "-"


def cell(values: Sequence[float | None], digits: int = 3) -> str:
    """`.884 (.881-.887)`: mean and range; without a range where all values agree."""
    known = [value for value in values if value is not None]
    if not known:
        return _MISSING
    shown = _number(sum(known) / len(known), digits)
    low, high = _number(min(known), digits), _number(max(known), digits)
    return shown if low == high else f"{shown} ({low}-{high})"


def _number(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text[1:] if text.startswith("0.") else text


def table(rows: Mapping[str, Row], columns: Mapping[str, str], first: str) -> list[str]:
    """Lines of a markdown table.

    Args:
        rows: title of the row -> its values.
        columns: key of the values -> heading.
        first: heading of the rows' titles.
    """
    lines = [
        f"| {' | '.join([first, *columns.values()])} |",
        f"|{'---|' * (1 + len(columns))}",
    ]
    for title, row in rows.items():
        cells = [cell(row.get(key, ())) for key in columns]
        lines.append(f"| {' | '.join([title, *cells])} |")
    return lines


def provenance_line(record: Mapping[str, Any]) -> str:
    """Commit, date, hardware and package versions in a sentence."""
    packages = ", ".join(f"{name} {version}" for name, version in record["packages"].items())
    return (
        f"Commit {record['commit']}, {record['date']}; {record['cpu']}, {record['cores']} cores, "
        f"{record['gpu'] or 'no GPU'}; {record['system']}, Python {record['python']}, {packages}."
    )
