"""`Ledger`: every paid reply, durable before it is used, and found again by row.

    replies   one line per answered request: the body as it came, its model, tokens and price, the
              kind of question, and how many tokens had been expected
    rows      which rows a reply was bought for, and under which id each was sent
    claims    which process is buying a row just now, and until when that holds

What is out in batches lies in this file, too: see `batch_records`.

A row's key says what was asked (prompt version, model, sampling, text, language, sample), never
how it was packed or where it was sent: rows may be packed differently next time, at another
address, and still cost nothing. Answers are not stored but read out of the replies, so a better
parser costs nothing either. A row with several replies was asked again: their count is its tries.

Durability is SQLite's: WAL with `synchronous=FULL`, so that a committed reply survives a power
cut. Requests in flight when a process dies cannot be known without the endpoint's help and are
bought again; their number is bounded by the concurrency. Replies that arrive together share one
transaction and so one flush. A claim that is lost costs at most a duplicate, so claims are written
without a flush of their own. The file must lie on a local disk: WAL does not work on network file
systems.
"""

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from monoglot.generation.ledger_file import LedgerFile
from monoglot.generation.owner import is_dead
from monoglot.generation.replies import Reply, Usage

LEASE_S = 60.0
_CHUNK = 20_000
_ENOUGH = 3  # replies of a kind, below which they tell less than the general rates
_RECENT = 500
_COUNTS = ("prompt_tokens", "completion_tokens", "cached_tokens")
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


@dataclass(frozen=True)
class Calibration:
    """What tokens were counted as, for each one that had been expected."""

    prompt: float = 1.0
    completion: float = 1.0
    replies: int = 0

    def corrected(self, expected: Usage) -> Usage:
        """An estimate as the endpoint is likely to count it."""
        return replace(
            expected,
            prompt_tokens=round(expected.prompt_tokens * self.prompt),
            completion_tokens=round(expected.completion_tokens * self.completion),
        )


class Bought(NamedTuple):
    """A reply to keep.

    Attributes:
        reply: the reply, read or not; its usage with the price where that is known.
        sent: the id each row was sent under, by the row's key.
        kind: what kind of question it answers; see `Ledger.calibration`.
        expected: the tokens that had been expected; None: there was no estimate.
    """

    reply: Reply
    sent: Mapping[str, str]
    kind: str = ""
    expected: Usage | None = None


class Ledger(LedgerFile):
    """An open ledger. Threads may share one; processes each open their own."""

    @classmethod
    def existing(cls, path: Path) -> "Ledger | None":
        """The ledger at `path`, or None where nothing was ever bought; creates nothing."""
        return cls(path) if path.exists() else None

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
        """Keep one reply; see `record_all`.

        Raises:
            StoreError: the disk is full or the file cannot be written.
        """
        [error] = self.record_all([Bought(reply, sent)])
        if error is not None:
            raise error

    def record_all(self, bought: Sequence[Bought]) -> list[BaseException | None]:
        """Keep replies and the rows they were bought for; on the disk when this returns.

        Ends the rows' claims in the same transaction. All are written in one, which costs little
        more than a single reply does; where that fails, each is written by itself.

        Returns:
            What went wrong with each reply; None: it is kept.
        """
        together = self._write(bought)
        if together is None:
            return [None] * len(bought)
        return [together] if len(bought) == 1 else [self._write([each]) for each in bought]

    def _write(self, bought: Sequence[Bought]) -> BaseException | None:
        """Write these replies or none; what went wrong."""
        try:
            with self._writing(durably=True) as database:
                for each in bought:
                    insert_reply(database, *each)
        except BaseException as failure:  # whoever waits for a reply must hear of it
            return failure
        return None

    def calibration(self, kind: str) -> Calibration:
        """How the endpoint's count compares with the estimates, over the latest replies of a kind.

        Replies without tokens (refusals, endpoints that do not count) tell nothing.
        """
        with self._lock, self._explained():
            found = self._database.execute(
                "SELECT count(*), sum(prompt_tokens) / sum(expected_prompt), "
                "sum(completion_tokens) / sum(expected_completion) FROM (SELECT * FROM replies "
                "WHERE kind = ? AND completion_tokens > 0 AND expected_completion > 0 "
                "ORDER BY id DESC LIMIT ?)",
                (kind, _RECENT),
            ).fetchone()
        replies, prompt, completion = found
        return Calibration(prompt, completion, replies) if replies >= _ENOUGH else Calibration()

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


def insert_reply(
    database: sqlite3.Connection,
    reply: Reply,
    sent: Mapping[str, str],
    kind: str = "",
    expected: Usage | None = None,
) -> int | None:
    """Add a reply and its rows within a transaction, and end the rows' claims; its number."""
    line: dict[str, Any] = {
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "model": reply.model,
        "body": reply.body,
        "usd": reply.usage.usd,
        "kind": kind,
    }
    if reply.usage.uncounted == 0:
        line |= {name: getattr(reply.usage, name) for name in _COUNTS}
    if expected is not None:
        line["expected_prompt"] = expected.prompt_tokens
        line["expected_completion"] = expected.completion_tokens
    names, marks = ", ".join(line), ", ".join("?" * len(line))
    number = database.execute(
        f"INSERT INTO replies ({names}) VALUES ({marks})",  # noqa: S608
        list(line.values()),
    ).lastrowid
    database.executemany(
        "INSERT INTO rows VALUES (?, ?, ?)",
        [(key, number, sent_as) for key, sent_as in sent.items()],
    )
    database.execute(f"DELETE FROM claims WHERE key IN {_KEYS}", (json.dumps([*sent]),))  # noqa: S608
    return number
