"""Forgetting in the ledger: matching rows leave the replies, the others stay paid for.

A reply holds several rows. Those that match are taken out of its body and lose their entry, as if
they had never been bought; the other rows read as before. What matches outside of any row (prose,
a refusal that quotes) is replaced. A reply's line stays, with its tokens: money spent is a fact
that names nobody.

SQLite keeps deleted text in free pages and in its log. Both are rewritten at the end, which needs
the file for itself.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monoglot.errors import StoreError
from monoglot.generation.ledger import Ledger
from monoglot.generation.replies import Reply, row_objects
from monoglot.matching import Pattern

FORGOTTEN = "[forgotten]"
_PATIENCE_S = 10.0


@dataclass
class LedgerMatches:
    """What the ledger holds of a pattern.

    Attributes:
        bodies: id of a reply -> its new body.
        rows: (reply, id sent) of every row that goes.
        cells: texts elsewhere: table, column, rowid -> new text.
        examples: some of the matching texts, masked.
        pages: whether the bytes of the file hold it, be it in pages that SQLite has given up.
    """

    bodies: dict[int, str] = field(default_factory=dict)
    rows: list[tuple[int, str]] = field(default_factory=list)
    cells: dict[tuple[str, str, int], str] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    pages: bool = False

    def __bool__(self) -> bool:
        return bool(self.bodies or self.cells or self.pages)


def find_in_ledger(path: Path, pattern: Pattern) -> LedgerMatches:
    """What would change; nothing is written."""
    found = LedgerMatches()
    if not path.exists():
        return found
    Ledger(path).close()  # refuses a file of another format, or a damaged one
    with _opened(path) as database:
        for reply, body in database.execute("SELECT id, body FROM replies"):
            if _is_in_body(body, pattern):
                found.bodies[reply], gone, examples = _without(body, pattern)
                found.rows += [(reply, name) for name in gone]
                found.examples += examples
        for table, column in _text_columns(database):
            for row, text in database.execute(
                f'SELECT rowid, "{column}" FROM "{table}"'  # noqa: S608  names of our own file
            ):
                if isinstance(text, str) and _is_in_body(text, pattern):
                    found.cells[table, column, row] = _replaced(text, pattern)
                    found.examples.append(pattern.example(text))
    files = (path.with_name(path.name + tail) for tail in ("", "-wal"))
    found.pages = any(pattern.in_file(file) is not None for file in files if file.exists())
    return found


def forget_in_ledger(path: Path, found: LedgerMatches) -> None:
    """Write what `find_in_ledger` planned, and leave no copy in the file.

    Raises:
        StoreError: the file cannot be written, or another process has it open.
    """
    if not found:
        return
    with _opened(path) as database:
        database.execute("PRAGMA secure_delete = ON")
        database.execute("BEGIN IMMEDIATE")
        database.executemany(
            "UPDATE replies SET body = ? WHERE id = ?",
            [(body, reply) for reply, body in found.bodies.items()],
        )
        database.executemany("DELETE FROM rows WHERE reply = ? AND sent_as = ?", found.rows)
        for (table, column, row), text in found.cells.items():
            database.execute(
                f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?',  # noqa: S608
                (text, row),
            )
        database.execute("COMMIT")
        database.execute("VACUUM")
        busy = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise StoreError(
            f"{path}: another process has the ledger open, so that its log still holds what was "
            "to be forgotten. Stop that process and give the command again."
        )


def _without(body: str, pattern: Pattern) -> tuple[str, list[str], list[str]]:
    """A reply's body without the matching rows; the ids of these, and examples, masked."""
    reply = Reply.of(body)
    kept, gone, examples = [], [], []
    for row in row_objects(reply.text):
        told = json.dumps({name: row[name] for name in row if name != "id"}, ensure_ascii=False)
        if _is_in_body(told, pattern) or pattern.is_in(str(row["id"])):
            gone.append(str(row["id"]).strip())
            examples.append(pattern.example(told))
        else:
            kept.append(row)
    content = _loaded(body)
    if not isinstance(content, dict):
        return _replaced(body, pattern), gone, examples or [pattern.example(body)]
    if gone or _is_in_body(reply.text, pattern):
        _set_text(content, json.dumps({"rows": kept}, ensure_ascii=False))
    # A row that is answered twice, once without a match, was asked for once: it goes as a whole.
    rest = _scrubbed(content, pattern)
    return json.dumps(rest, ensure_ascii=False), gone, examples or [pattern.example(body)]


def _set_text(content: dict[str, Any], text: str) -> None:
    for choice in content.get("choices") or ():
        if isinstance(choice, dict) and isinstance(choice.get("message"), dict):
            choice["message"]["content"] = text
            return


def _replaced(text: str, pattern: Pattern) -> str:
    """A text without the pattern; JSON stays JSON, however its characters are escaped."""
    value = _loaded(text)
    if isinstance(value, dict | list):
        return json.dumps(_scrubbed(value, pattern), ensure_ascii=False)
    return pattern.replaced(text, FORGOTTEN)


def _scrubbed(value: Any, pattern: Pattern) -> Any:
    if isinstance(value, dict):
        return {_scrubbed(name, pattern): _scrubbed(item, pattern) for name, item in value.items()}
    if isinstance(value, list):
        return [_scrubbed(item, pattern) for item in value]
    if isinstance(value, str) and _is_in_body(value, pattern):
        return _replaced(value, pattern)
    return value


def _is_in_body(text: str, pattern: Pattern) -> bool:
    """Whether a text holds the pattern as it stands or under JSON's escapes, at any depth."""
    if pattern.is_in(text):
        return True
    value = _loaded(text) if "\\" in text else None
    return any(_is_in_body(part, pattern) for part in _strings(value))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield name
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _text_columns(database: sqlite3.Connection) -> list[tuple[str, str]]:
    """Columns that may hold texts beside the bodies: of tables that others add to the file."""
    tables = database.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    return [
        (table, column)
        for table, sql in tables
        if "WITHOUT ROWID" not in sql.upper()
        for _, column, kind, *_ in database.execute(f'PRAGMA table_info("{table}")')
        if kind.upper() == "TEXT" and (table, column) != ("replies", "body")
    ]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with contextlib.closing(
            sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)
        ) as database:
            yield database
    except sqlite3.Error as error:
        raise StoreError(
            f"{path}: the ledger cannot be rewritten ({error}). Stop what else uses it, check the "
            "free space, and give the command again."
        ) from error
