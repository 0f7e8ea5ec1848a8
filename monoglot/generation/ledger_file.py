"""The file of a ledger: its tables, the way to them from older formats, and its transactions."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from monoglot.errors import StoreError

FORMAT = 2
_PATIENCE_S = 60.0
TABLES = """
CREATE TABLE IF NOT EXISTS replies (
    id INTEGER PRIMARY KEY, created TEXT NOT NULL, model TEXT NOT NULL, body TEXT NOT NULL,
    prompt_tokens INTEGER, completion_tokens INTEGER, cached_tokens INTEGER,
    usd REAL, kind TEXT, expected_prompt REAL, expected_completion REAL
);
CREATE TABLE IF NOT EXISTS rows (
    key TEXT NOT NULL, reply INTEGER NOT NULL REFERENCES replies(id), sent_as TEXT NOT NULL,
    PRIMARY KEY (key, reply)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (
    key TEXT PRIMARY KEY, owner TEXT NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS claims_of_owner ON claims (owner);
CREATE INDEX IF NOT EXISTS replies_of_kind ON replies (kind);
"""
# See `batch_records`.
BATCH_TABLES = """
CREATE TABLE IF NOT EXISTS batches (
    name TEXT PRIMARY KEY, id TEXT, address TEXT NOT NULL, model TEXT NOT NULL,
    created REAL NOT NULL, owner TEXT NOT NULL, kind TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch_rows (
    key TEXT PRIMARY KEY, batch TEXT NOT NULL REFERENCES batches(name), request TEXT NOT NULL,
    sent_as TEXT NOT NULL, expected_prompt REAL, expected_completion REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rows_of_batch ON batch_rows (batch, request);
CREATE TABLE IF NOT EXISTS batched_replies (
    reply INTEGER PRIMARY KEY REFERENCES replies(id), batch TEXT NOT NULL,
    reported INTEGER NOT NULL DEFAULT 0
);
"""
# From each older format to the next: a paid reply is never left behind.
MIGRATIONS = {
    1: """
ALTER TABLE replies ADD COLUMN usd REAL;
ALTER TABLE replies ADD COLUMN kind TEXT;
ALTER TABLE replies ADD COLUMN expected_prompt REAL;
ALTER TABLE replies ADD COLUMN expected_completion REAL;
CREATE INDEX IF NOT EXISTS replies_of_kind ON replies (kind);
"""
    + BATCH_TABLES
}


class LedgerFile:
    """An open SQLite file with a ledger's tables."""

    def __init__(self, path: Path) -> None:
        """Open the file, and create it where there is none.

        Raises:
            StoreError: the file cannot be written, is damaged or has another format.
        """
        self.path = path
        self._lock = threading.RLock()
        with self._explained():
            self._database = sqlite3.connect(
                path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False
            )
        try:
            self._prepare()
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._database.close()

    def _prepare(self) -> None:
        """Set the file up: journal, tables and format number."""
        with self._explained():
            self._switch_to_wal()
            self._database.execute("PRAGMA fullfsync = ON")  # macOS: flush the drive's cache, too
            found = self._database.execute("PRAGMA user_version").fetchone()[0]
        if found > FORMAT:
            raise StoreError(
                f"{self.path}: ledger format {found}; this version of Monoglot reads format "
                f"{FORMAT}. Upgrade Monoglot: the file holds paid replies, so keep it."
            )
        if found < FORMAT:
            self._upgrade()

    def _upgrade(self) -> None:
        """Make the tables, or bring those of an older format up to date, in one transaction."""
        with self._writing(durably=True) as database:
            found = database.execute("PRAGMA user_version").fetchone()[0]  # now under the lock
            for statement in statements_from(found):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {FORMAT}")

    def _switch_to_wal(self) -> None:
        """Turn the write-ahead log on; SQLite does not wait here when another process does it."""
        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.05)
            else:
                return

    @contextlib.contextmanager
    def _writing(self, *, durably: bool) -> Iterator[sqlite3.Connection]:
        """One write transaction, flushed to the disk at its end or not."""
        with self._lock, self._explained():
            self._database.execute(f"PRAGMA synchronous = {'FULL' if durably else 'NORMAL'}")
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """SQLite's errors as ours, with the remedy."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"{self.path}: the ledger of LLM replies cannot be used ({error}). Check the free "
                "space and the owner of the folder; it must lie on a local disk."
            ) from error
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{self.path}: the ledger of LLM replies is damaged ({error}). It holds paid "
                "replies: restore it from a backup or repair it with `sqlite3 FILE .recover`; "
                "only moving it away makes the next run buy everything again."
            ) from error


def statements_from(found: int) -> list[str]:
    """The SQL that leads from a format to the present one; 0: a file without tables."""
    steps = [MIGRATIONS[n] for n in range(found, FORMAT)] if found else [TABLES, BATCH_TABLES]
    return [statement for step in steps for statement in step.split(";")]
