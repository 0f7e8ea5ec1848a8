"""`BatchRecords`: which rows are out in which batch, on the disk before the endpoint knows of it.

    batches          one line per batch that is out: our name for it, the endpoint's id, and the
                     kind of its questions
    batch_rows       the rows in it, by request, under which id each was sent, and the tokens that
                     are expected of the request
    batched_replies  replies that were bought by batch, at its price, and whether a stage has
                     reported them

The tables lie in the ledger's file, so that a reply is recorded and its rows end being out in one
transaction: a result that is taken in twice is recorded once. A row is in one batch at most, and
nobody else buys it meanwhile. A batch without an id was being submitted when its process ended:
whether the endpoint has it must be asked there, by our name, which its metadata carries.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from monoglot.generation.ledger import Ledger, insert_reply
from monoglot.generation.owner import is_dead, new_owner
from monoglot.generation.replies import Reply, Usage
from monoglot.outstanding import Outstanding

_CHUNK = 20_000
_SUBMITTING_S = 3600.0  # longer than any upload takes; see `Batch.is_abandoned`
_KEYS = "(SELECT value FROM json_each(?))"


@dataclass(frozen=True)
class Batch:
    """A batch that is out.

    Attributes:
        name: our name for it, in the metadata of the endpoint's batch.
        id: the endpoint's; None: not known whether it was created.
        address: of the endpoint.
        model: that it asks.
        created: seconds since the epoch.
        owner: who submits it; empty: nobody any more.
        rows: whose answers are awaited.
    """

    name: str
    id: str | None
    address: str
    model: str
    created: float
    owner: str
    rows: int

    @property
    def since(self) -> str:
        """When it was submitted, in UTC."""
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.created))

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody is submitting it any more, though its id is not known.

        A submitter on another machine cannot be seen: it is given an hour.
        """
        old = time.time() > self.created + _SUBMITTING_S
        return self.id is None and (old or not self.owner or is_dead(self.owner))


class BatchRecords:
    """The batches in a ledger's file."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def put_out(
        self,
        name: str,
        address: str,
        model: str,
        requests: Mapping[str, Mapping[str, str]],
        tries: Mapping[str, int],
        *,
        kind: str,
        expected: Mapping[str, Usage],
    ) -> bool:
        """Note a batch and its rows, on the disk when this returns.

        Args:
            name: our name for it.
            address: of the endpoint.
            model: that it asks.
            requests: for each request, the id each row is sent under, by the row's key.
            tries: replies that each row had when it was packed.
            kind: what kind of question it asks; see `Ledger.calibration`.
            expected: for each request, the tokens that are expected.

        Returns:
            False, with nothing noted, where another process has taken one of the rows, is buying
            it or has got a reply to it meanwhile.
        """
        rows = [
            (
                key,
                name,
                request,
                sent_as,
                expected[request].prompt_tokens,
                expected[request].completion_tokens,
            )
            for request, sent in requests.items()
            for key, sent_as in sent.items()
        ]
        keys = [row[0] for row in rows]
        with self._ledger.transaction() as database:
            if _is_changed(database, keys, tries):
                return False
            database.execute(
                "INSERT INTO batches VALUES (?, NULL, ?, ?, ?, ?, ?)",
                (name, address, model, time.time(), new_owner(), kind),
            )
            database.executemany("INSERT INTO batch_rows VALUES (?, ?, ?, ?, ?, ?)", rows)
        return True

    def created(self, name: str, batch_id: str) -> None:
        """Note the endpoint's id of a batch."""
        with self._ledger.transaction() as database:
            database.execute("UPDATE batches SET id = ? WHERE name = ?", (batch_id, name))

    def abandon(self, name: str) -> None:
        """Leave a batch that may or may not have been created to the next run."""
        with self._ledger.transaction() as database:
            database.execute("UPDATE batches SET owner = '' WHERE name = ?", (name,))

    def end(self, name: str) -> None:
        """Forget a batch; rows still in it are free to be asked again."""
        with self._ledger.transaction() as database:
            database.execute("DELETE FROM batch_rows WHERE batch = ?", (name,))
            database.execute("DELETE FROM batches WHERE name = ?", (name,))

    def living(self) -> list[Batch]:
        """All batches that are out, the oldest first."""
        found = self._ledger.read(
            "SELECT name, id, address, model, created, owner, "
            "(SELECT count(*) FROM batch_rows WHERE batch = name) "
            "FROM batches ORDER BY created, name"
        )
        return [Batch(*row) for row in found]

    def holding(self, keys: Iterable[str]) -> list[Batch]:
        """The batches that some rows are in."""
        wanted = {
            name
            for chunk in self._chunks(keys)
            for (name,) in self._ledger.read(
                f"SELECT DISTINCT batch FROM batch_rows WHERE key IN {_KEYS}",  # noqa: S608
                chunk,
            )
        }
        return [batch for batch in self.living() if batch.name in wanted]

    def requests(self, name: str) -> dict[str, dict[str, str]]:
        """The requests of a batch that were not taken in: each row's id, by its key."""
        waiting: dict[str, dict[str, str]] = {}
        for request, key, sent_as in self._ledger.read(
            "SELECT request, key, sent_as FROM batch_rows WHERE batch = ?", name
        ):
            waiting.setdefault(request, {})[key] = sent_as
        return waiting

    def retried(self, name: str) -> set[str]:
        """The requests of a batch whose rows have been asked before."""
        found = self._ledger.read(
            "SELECT DISTINCT request FROM batch_rows WHERE batch = ? "
            "AND EXISTS (SELECT 1 FROM rows WHERE rows.key = batch_rows.key)",
            name,
        )
        return {request for (request,) in found}

    def out(self, keys: Iterable[str]) -> set[str]:
        """Which of some rows are in a batch."""
        return {
            key
            for chunk in self._chunks(keys)
            for (key,) in self._ledger.read(
                f"SELECT key FROM batch_rows WHERE key IN {_KEYS}",  # noqa: S608
                chunk,
            )
        }

    def claimed(self, keys: Iterable[str]) -> set[str]:
        """Which of some rows a living process is buying one by one."""
        return {
            key
            for chunk in _chunks(keys)
            for key, owner, expires in self._ledger.read(
                f"SELECT key, owner, expires FROM claims WHERE key IN {_KEYS}",  # noqa: S608
                chunk,
            )
            if _holds(owner, expires)
        }

    def outstanding(self, keys: Iterable[str] | None = None) -> Outstanding:
        """What is out of some rows; None: of all."""
        chunks = [None] if keys is None else self._chunks(keys)
        requests: set[tuple[str, str]] = set()
        rows = 0
        for chunk in chunks:
            where = "" if chunk is None else f" WHERE key IN {_KEYS}"
            found = self._ledger.read(
                f"SELECT batch, request FROM batch_rows{where}",  # noqa: S608
                *(() if chunk is None else (chunk,)),
            )
            rows += len(found)
            requests |= {(batch, request) for batch, request in found}
        names = {batch for batch, _ in requests}
        since = next((batch.since for batch in self.living() if batch.name in names), "")
        return Outstanding(len(names), len(requests), rows, since)

    def take_in(self, name: str, replies: Iterable[tuple[str, Reply]]) -> Usage:
        """Record the replies to some requests of a batch, each once, and end their rows being out.

        Returns:
            What was recorded; requests that were taken in before do not count.
        """
        usage = Usage()
        with self._ledger.transaction() as database:
            for request, reply in replies:
                place = (name, request)
                rows = database.execute(
                    "SELECT key, sent_as, kind, expected_prompt, expected_completion "
                    "FROM batch_rows JOIN batches ON name = batch WHERE batch = ? AND request = ?",
                    place,
                ).fetchall()
                if rows:
                    kind, prompt, completion = rows[0][2:]
                    number = insert_reply(
                        database,
                        reply,
                        {key: sent_as for key, sent_as, *_ in rows},
                        kind,
                        Usage(1, prompt, completion),
                    )
                    database.execute(
                        "INSERT INTO batched_replies (reply, batch) VALUES (?, ?)", (number, name)
                    )
                    database.execute(
                        "DELETE FROM batch_rows WHERE batch = ? AND request = ?", place
                    )
                    usage += reply.usage
        return usage

    def report(self, keys: Iterable[str]) -> tuple[Usage, set[str]]:
        """What was bought by batch for some rows and not reported yet; it counts as reported now.

        Whoever took a reply in, the stage that first uses it tells what it cost, and no other does.

        Returns:
            The usage of these replies, and which of the rows they were bought for.
        """
        replies: dict[int, Usage] = {}
        bought: set[str] = set()
        if not self._ledger.read("SELECT 1 FROM batched_replies WHERE NOT reported LIMIT 1"):
            return Usage(), bought
        with self._ledger.transaction() as database:
            for chunk in _chunks(keys):
                for key, reply, sent, received, cached, usd in database.execute(
                    "SELECT key, id, prompt_tokens, completion_tokens, cached_tokens, usd "  # noqa: S608
                    "FROM rows JOIN batched_replies USING (reply) JOIN replies ON id = reply "
                    f"WHERE NOT reported AND key IN {_KEYS}",
                    (chunk,),
                ):
                    bought.add(key)
                    replies[reply] = Usage(
                        1, sent or 0, received or 0, cached or 0, int(sent is None), usd
                    )
            database.execute(
                f"UPDATE batched_replies SET reported = 1 WHERE reply IN {_KEYS}",  # noqa: S608
                (json.dumps([*replies]),),
            )
        return sum(replies.values(), Usage()), bought

    def _chunks(self, keys: Iterable[str]) -> Iterator[str]:
        """Keys in lists for a query; none where nothing is out, as in most ledgers."""
        if self._ledger.read("SELECT 1 FROM batch_rows LIMIT 1"):
            yield from _chunks(keys)


def outstanding_in(path: Path) -> Outstanding:
    """What is out by the ledger at `path`; nothing where there is none."""
    ledger = Ledger.existing(path)
    if ledger is None:
        return Outstanding()
    with ledger:
        return BatchRecords(ledger).outstanding()


def batches_in(path: Path) -> list[Batch]:
    """The batches that are out by the ledger at `path`; none where there is none."""
    ledger = Ledger.existing(path)
    if ledger is None:
        return []
    with ledger:
        return BatchRecords(ledger).living()


def _is_changed(database: sqlite3.Connection, keys: list[str], tries: Mapping[str, int]) -> bool:
    """Whether one of some rows is out, is being bought, or has other replies than `tries`."""
    wanted = (json.dumps(keys),)
    out = database.execute(f"SELECT 1 FROM batch_rows WHERE key IN {_KEYS} LIMIT 1", wanted)  # noqa: S608
    claims = database.execute(f"SELECT owner, expires FROM claims WHERE key IN {_KEYS}", wanted)  # noqa: S608
    replies = database.execute(
        f"SELECT key, count(*) FROM rows WHERE key IN {_KEYS} GROUP BY key",  # noqa: S608
        wanted,
    )
    return (
        out.fetchone() is not None
        or any(_holds(owner, expires) for owner, expires in claims)
        or dict(replies.fetchall()) != {key: tries[key] for key in keys if tries[key]}
    )


def _holds(owner: str, expires: float) -> bool:
    return expires > time.time() and not is_dead(owner)


def _chunks(keys: Iterable[str]) -> Iterator[str]:
    """Keys as JSON lists of a size that a query takes."""
    listed = list(keys)
    for start in range(0, len(listed), _CHUNK):
        yield json.dumps(listed[start : start + _CHUNK])
