"""`Ledger`: every paid reply, durable before it is used, and found again by row.

    replies   one line per answered request: the body as it came, its model and tokens
    rows      which rows a reply was bought for, and under which id each was sent
    claims    which process is buying a row just now, and until when that holds

What is out in batches lies in this file, too: see `batch_records`.

A row's key says what was asked (prompt version, model, sampling, text, language, sample), never
how it was packed or where it was sent: rows may be packed differently next time, at another
address, and still cost nothing. Answers are not stored but read out of the replies, so a better
parser costs nothing either. A row with several replies was asked again: their count is its tries.

Durability is SQLite's: WAL with `synchronous=FULL`, so that a committed reply survives a power
cut. Requests in flight when a process dies cannot be known without the endpoint's help and are
bought again; their number is bounded by the concurrency. A claim that is lost costs at most a
duplicate, so claims are written without a flush of their own. The file must lie on a local disk:
WAL does not work on network file systems.
"""

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monoglot.errors import StoreError
from monoglot.generation.owner import is_dead
from monoglot.generation.replies import Reply

FORMAT = 1
LEASE_S = 60.0
_CHUNK = 20_000
_PATIENCE_S = 60.0
_TABLES = """
CREATE TABLE IF NOT EXISTS replies (
    id INTEGER PRIMARY KEY, created TEXT NOT NULL, model TEXT NOT NULL, body TEXT NOT NULL,
    prompt_tokens INTEGER, completion_tokens INTEGER, cached_tokens INTEGER
);
CREATE TABLE IF NOT EXISTS rows (
    key TEXT NOT NULL, reply INTEGER NOT NULL REFERENCES replies(id), sent_as TEXT NOT NULL,
    PRIMARY KEY (key, reply)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (
    key TEXT PRIMARY KEY, owner TEXT NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS claims_of_owner ON claims (owner);
"""
# See `batch_records`. Made when a file is opened, whatever its age.
_BATCH_TABLES = """
CREATE TABLE IF NOT EXISTS batches (
    name TEXT PRIMARY KEY, id TEXT, address TEXT NOT NULL, model TEXT NOT NULL,
    created REAL NOT NULL, owner TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch_rows (
    key TEXT PRIMARY KEY, batch TEXT NOT NULL REFERENCES batches(name), request TEXT NOT NULL,
    sent_as TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rows_of_batch ON batch_rows (batch, request);
CREATE TABLE IF NOT EXISTS batched_replies (
    reply INTEGER PRIMARY KEY REFERENCES replies(id), batch TEXT NOT NULL
);
"""
_KEYS = "(SELECT value FROM json_each(?))"


@dataclass(frozen=True)
class Entry:
    """One row's place in one reply. Entries of the same reply share its `reply` number."""

    key: str
    sent_as: str
    reply: int
    body: str


@dataclass(frozen=True)
class Claim:
    """The outcome of a claim: keys won, with the replies each already has, and keys others hold.

    A key in a batch counts as held.
    """

    won: Mapping[str, int]
    held: frozenset[str]


class Ledger:
    """An open ledger file. Threads may share one; processes each open their own."""

    def __init__(self, path: Path) -> None:
        """Open the ledger, and create it where there is none.

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

    @classmethod
    def existing(cls, path: Path) -> "Ledger | None":
        """The ledger at `path`, or None where nothing was ever bought; creates nothing."""
        return cls(path) if path.exists() else None

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._database.close()

    def found(self, keys: Sequence[str]) -> Iterator[Entry]:
        """All entries of some rows, in bounded memory; those of one reply mostly come together.

        Of one row, earlier replies come before later ones.
        """
        for start in range(0, len(keys), _CHUNK):
            wanted = json.dumps(keys[start : start + _CHUNK])
            with self._lock, self._explained():
                entries = self._database.execute(
                    f"SELECT key, sent_as, reply FROM rows WHERE key IN {_KEYS} ORDER BY reply",  # noqa: S608
                    (wanted,),
                ).fetchall()
                bodies = self._bodies(sorted({reply for _, _, reply in entries}))
            for key, sent_as, reply in entries:
                yield Entry(key, sent_as, reply, bodies[reply])

    def record(self, reply: Reply, sent: Mapping[str, str]) -> None:
        """Keep a reply and the rows it was bought for; on the disk when this returns.

        Ends the rows' claims in the same transaction.

        Args:
            reply: the reply, read or not.
            sent: the id each row was sent under, by the row's key.

        Raises:
            StoreError: the disk is full or the file cannot be written.
        """
        with self._writing(durably=True) as database:
            insert_reply(database, reply, sent)
            database.execute(f"DELETE FROM claims WHERE key IN {_KEYS}", (json.dumps([*sent]),))  # noqa: S608

    def read(self, query: str, *values: object) -> list[Any]:
        """The rows of a query on tables that another module keeps in this file."""
        with self._lock, self._explained():
            return self._database.execute(query, values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction for tables that another module keeps in this file; durable."""
        with self._writing(durably=True) as database:
            yield database

    def claim(self, owner: str, keys: Sequence[str], limit: int) -> Claim:
        """Claim the first `limit` of some rows that no living process is buying.

        Whoever wins must see whether a row got a reply since it was last looked up: the count is
        in the result.
        """
        now = time.time()
        wanted = json.dumps(list(keys))
        with self._writing(durably=False) as database:
            held = frozenset(
                key
                for key, other, expires in database.execute(
                    f"SELECT key, owner, expires FROM claims WHERE key IN {_KEYS}",  # noqa: S608
                    (wanted,),
                )
                if other != owner and expires > now and not is_dead(other)
            )
            held |= {
                key
                for (key,) in database.execute(
                    f"SELECT key FROM batch_rows WHERE key IN {_KEYS}",  # noqa: S608
                    (wanted,),
                )
            }
            won = [key for key in keys if key not in held][:limit]
            database.executemany(
                "INSERT OR REPLACE INTO claims VALUES (?, ?, ?)",
                [(key, owner, now + LEASE_S) for key in won],
            )
            replies = dict(
                database.execute(
                    f"SELECT key, count(*) FROM rows WHERE key IN {_KEYS} GROUP BY key",  # noqa: S608
                    (json.dumps(won),),
                ).fetchall()
            )
        return Claim({key: replies.get(key, 0) for key in won}, held)

    def renew(self, owner: str) -> None:
        """Make an owner's claims hold for another lease."""
        with self._writing(durably=False) as database:
            database.execute(
                "UPDATE claims SET expires = ? WHERE owner = ?", (time.time() + LEASE_S, owner)
            )

    def release(self, owner: str, keys: Sequence[str] | None = None) -> None:
        """Give up an owner's claims on some rows; None: on all of them."""
        with self._writing(durably=False) as database:
            if keys is None:
                database.execute("DELETE FROM claims WHERE owner = ?", (owner,))
            else:
                database.execute(
                    f"DELETE FROM claims WHERE owner = ? AND key IN {_KEYS}",  # noqa: S608
                    (owner, json.dumps(list(keys))),
                )

    def _bodies(self, replies: Sequence[int]) -> dict[int, str]:
        return dict(
            self._database.execute(
                f"SELECT id, body FROM replies WHERE id IN {_KEYS}",  # noqa: S608
                (json.dumps(replies),),
            ).fetchall()
        )

    def _prepare(self) -> None:
        """Set the file up: journal, tables and format number."""
        with self._explained():
            self._switch_to_wal()
            self._database.execute("PRAGMA fullfsync = ON")  # macOS: flush the drive's cache, too
            found = self._database.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, FORMAT):
            raise StoreError(
                f"{self.path}: ledger format {found}; this version of Monoglot reads format "
                f"{FORMAT}. Upgrade Monoglot: the file holds paid replies, so keep it."
            )
        if found == 0:
            with self._writing(durably=True) as database:
                for statement in _TABLES.split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {FORMAT}")
        with self._lock, self._explained():
            for statement in _BATCH_TABLES.split(";"):
                self._database.execute(statement)

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


def insert_reply(database: sqlite3.Connection, reply: Reply, sent: Mapping[str, str]) -> int | None:
    """Add a reply and the rows it was bought for within a transaction; the reply's number."""
    usage = reply.usage
    counted = usage.uncounted == 0
    tokens = (
        (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
        if counted
        else (None, None, None)
    )
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    number = database.execute(
        "INSERT INTO replies VALUES (NULL, ?, ?, ?, ?, ?, ?)",
        (created, reply.model, reply.body, *tokens),
    ).lastrowid
    database.executemany(
        "INSERT INTO rows VALUES (?, ?, ?)",
        [(key, number, sent_as) for key, sent_as in sent.items()],
    )
    return number
