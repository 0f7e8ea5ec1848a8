"""`open_ledger`: a store's ledger; of a store in a bucket, one that machines share.

    ledger/replies/<shipment>.jsonl   replies as they were bought, some at a time; only ever added
    ledger/batches.json               what is out in batches, replaced whole

SQLite stays where it must, on a local disk: each machine has the whole ledger in its mirror, takes
in the shipments that it lacks when it opens it, and ships what it bought while it buys: replies
within moments of being on the disk, what is out in batches before the endpoint knows of it. What a
killed process did not ship is in its mirror, and is shipped when the ledger is opened there again.

A reply is known everywhere by its first shipment and its place in that one, so that no shipment can
bring one twice. A shipment is named and noted before it is sent, and sent again under that name.
"""

import contextlib
import json
import logging
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monoglot.errors import MonoglotError, StoreBusyError
from monoglot.generation.ledger import Bought, Ledger
from monoglot.identity import digest

if TYPE_CHECKING:
    from monoglot.remote.bucket import Bucket
    from monoglot.store import Store

_REPLIES, _BATCHES = "ledger/replies", "ledger/batches.json"
_TABLES = """
CREATE TABLE IF NOT EXISTS shipments (
    name TEXT PRIMARY KEY, is_sent INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS origins (
    reply INTEGER PRIMARY KEY REFERENCES replies(id),
    shipment TEXT NOT NULL, place INTEGER NOT NULL,
    UNIQUE (shipment, place)
);
CREATE TABLE IF NOT EXISTS shared (
    what TEXT PRIMARY KEY, base TEXT NOT NULL, is_ahead INTEGER NOT NULL
) WITHOUT ROWID;
INSERT OR IGNORE INTO shared VALUES ('batches', '', 0);
"""
_MOST = 1000  # replies in a shipment
_MANY = 50  # shipments, from which on they are packed into one
_EVERY_S = 1.0
_COLUMNS = (
    *("created", "model", "body", "prompt_tokens", "completion_tokens", "cached_tokens"),
    *("usd", "kind", "expected_prompt", "expected_completion"),
)
_LOGGER = logging.getLogger(__name__)


def open_ledger(store: "Store") -> Ledger:
    """A store's ledger for buying. Threads may share it; hold the store's writer lock."""
    if store.bucket is None:
        return Ledger(store.ledger_path)
    return SharedLedger(store.ledger_path, store.bucket)


def ledger_file(store: "Store") -> Path:
    """The ledger's file for reading, with all that other machines have bought."""
    bucket, path = store.bucket, store.ledger_path
    if bucket is not None and (path.exists() or bucket.below("ledger")):
        with SharedLedger(path, bucket, is_buying=False):
            pass
    return path


class SharedLedger(Ledger):
    """A ledger in a mirror. Other machines have what it holds soon after it is on the disk here.

    Args:
        path: of the file in the mirror.
        bucket: of the store.
        is_buying: whether it ships; else it only takes in.
    """

    def __init__(self, path: Path, bucket: "Bucket", *, is_buying: bool = True) -> None:
        super().__init__(path)
        self._bucket = bucket
        self._session = uuid.uuid4().hex
        self._shipments = 0
        self._shipping = threading.Lock()
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._ship_on, name="ledger shipping", daemon=True)
        try:
            with self._writing(durably=True) as database:
                for statement in _TABLES.split(";"):
                    database.execute(statement)
            self._take_in()
            if is_buying:
                self._ship()
                self._pack()
            self._agree_on_batches(may_push=is_buying)
        except BaseException:
            self._database.close()
            raise
        if is_buying:
            self._thread.start()

    def close(self) -> None:
        """Ship the rest, and close the file; safe to call twice.

        What cannot be shipped now is told, and shipped the next time: it is on this disk.
        """
        if not self._closing.is_set() and self._thread.is_alive():
            self._closing.set()
            self._wake.set()
            self._thread.join()
            with self._told():
                self._ship()
        super().close()

    def record_all(self, bought: Sequence[Bought]) -> list[BaseException | None]:
        """See `Ledger.record_all`; shipping follows at once, and nobody waits for it."""
        outcome = super().record_all(bought)
        self._wake.set()
        return outcome

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """See `Ledger.transaction`; other machines know of it when the block has ended."""
        with super().transaction() as database:
            yield database
            database.execute("UPDATE shared SET is_ahead = 1 WHERE what = 'batches'")
        self._ship()
        self._push_batches()

    # Replies

    def _ship_on(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            with self._told():
                self._ship()
            self._closing.wait(_EVERY_S)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except MonoglotError as error:
            _LOGGER.warning("replies could not be shipped, and wait on this disk: %s", error)

    def _ship(self) -> None:
        """Name what was not shipped yet, then send all that was named and not sent."""
        with self._shipping:
            while self._name_some():
                pass
            for (name,) in self.read("SELECT name FROM shipments WHERE NOT is_sent"):
                # The name is this session's alone: what is there under it is this shipment.
                self._bucket.create(f"{_REPLIES}/{name}.jsonl", self._lines(name).encode())
                with self._writing(durably=False) as database:
                    database.execute("UPDATE shipments SET is_sent = 1 WHERE name = ?", (name,))

    def _name_some(self) -> bool:
        name = f"{self._session}-{self._shipments:06d}"
        with self._writing(durably=True) as database:
            new = database.execute(
                "SELECT id FROM replies WHERE id NOT IN (SELECT reply FROM origins) "
                "ORDER BY id LIMIT ?",
                (_MOST,),
            ).fetchall()
            if new:
                database.execute("INSERT INTO shipments VALUES (?, 0)", (name,))
                database.executemany(
                    "INSERT INTO origins VALUES (?, ?, ?)",
                    [(reply, name, place) for place, (reply,) in enumerate(new)],
                )
                self._shipments += 1
        return bool(new)

    def _lines(self, shipment: str | None) -> str:
        """Some or all replies with their rows, a JSON object a line."""
        where = "" if shipment is None else " WHERE shipment = ?"
        given = () if shipment is None else (shipment,)
        rows: dict[int, list[list[str]]] = {}
        with self._lock:  # both as they are at one moment
            for reply, key, sent_as in self.read(
                f"SELECT reply, key, sent_as FROM rows JOIN origins USING (reply){where}",  # noqa: S608
                *given,
            ):
                rows.setdefault(reply, []).append([key, sent_as])
            replies = self.read(
                f"SELECT reply, shipment, place, {', '.join(_COLUMNS)} FROM origins "  # noqa: S608
                f"JOIN replies ON id = reply{where} ORDER BY shipment, place",
                *given,
            )
        return "".join(
            json.dumps(
                {
                    "from": [name, place],
                    "reply": dict(zip(_COLUMNS, values, strict=True)),
                    "rows": rows.get(reply, []),
                }
            )
            + "\n"
            for reply, name, place, *values in replies
        )

    def _take_in(self) -> None:
        """Bring in the shipments that are not here; again where one was packed meanwhile."""
        while missing := self._missing():
            with ThreadPoolExecutor(8) as pool:
                texts = pool.map(
                    lambda name: self._bucket.read(f"{_REPLIES}/{name}.jsonl"), missing
                )
                for name, found in zip(missing, texts, strict=True):
                    if found is not None:
                        self._insert(name, found.text)

    def _missing(self) -> list[str]:
        known = {name for (name,) in self.read("SELECT name FROM shipments WHERE is_sent")}
        return [name for name in self._listed() if name not in known]

    def _listed(self) -> list[str]:
        entries = self._bucket.below(_REPLIES)
        return [it.name.rpartition("/")[2].removesuffix(".jsonl") for it in entries]

    def _insert(self, name: str, text: str) -> None:
        marks = ", ".join("?" * len(_COLUMNS))
        with self._writing(durably=True) as database:
            for line in text.splitlines():
                told = json.loads(line)
                if database.execute(
                    "SELECT 1 FROM origins WHERE shipment = ? AND place = ?", told["from"]
                ).fetchone():
                    continue
                number = database.execute(
                    f"INSERT INTO replies ({', '.join(_COLUMNS)}) VALUES ({marks})",  # noqa: S608
                    [told["reply"][column] for column in _COLUMNS],
                ).lastrowid
                database.execute("INSERT INTO origins VALUES (?, ?, ?)", (number, *told["from"]))
                database.executemany(
                    "INSERT INTO rows VALUES (?, ?, ?)",
                    [(key, number, sent_as) for key, sent_as in told["rows"]],
                )
            database.execute("INSERT OR REPLACE INTO shipments VALUES (?, 1)", (name,))

    def _pack(self) -> None:
        """Put many small shipments into one: it is there before the first of them goes.

        Those alone that were taken in go, and are in the pack: others may have come since.
        """
        taken = {name for (name,) in self.read("SELECT name FROM shipments WHERE is_sent")}
        small = [name for name in self._listed() if name in taken]
        if len(small) < _MANY:
            return
        name = f"packed-{uuid.uuid4().hex}"
        self._bucket.create(f"{_REPLIES}/{name}.jsonl", self._lines(None).encode())
        with self._writing(durably=True) as database:
            database.execute("INSERT INTO shipments VALUES (?, 1)", (name,))
        self._bucket.remove(*(f"{_REPLIES}/{it}.jsonl" for it in small))

    # Batches

    def _agree_on_batches(self, *, may_push: bool) -> None:
        """Take what the bucket says, unless this machine went on from just that and was killed."""
        [(base, is_ahead)] = self._state()
        found = self._bucket.read(_BATCHES)
        if digest(found.text if found else "") == (base or digest("")):
            if is_ahead and may_push:
                self._push_batches()
        elif found is not None:
            self._replace_batches(found.text)

    def _state(self) -> list[Any]:
        return self.read("SELECT base, is_ahead FROM shared WHERE what = 'batches'")

    def _push_batches(self) -> None:
        """Tell the bucket what is out.

        Raises:
            StoreBusyError: another machine told it something else meanwhile.
        """
        with self._shipping:
            [(base, _)] = self._state()
            text = self._batches()
            found = self._bucket.read(_BATCHES)
            seen = found.text if found else ""
            if seen != text and (
                digest(seen) != (base or digest(""))
                or not (
                    self._bucket.swap(_BATCHES, text, found.tag)
                    if found
                    else self._bucket.create(_BATCHES, text.encode())
                )
            ):
                raise StoreBusyError(
                    f"{self._bucket.told(_BATCHES)}: another machine submits batches to the LLM "
                    "for this store. Nothing more is submitted here; run again."
                )
            self._agreed(text)

    def _batches(self) -> str:
        with self._lock:
            return json.dumps(
                {
                    "batches": self.read("SELECT * FROM batches ORDER BY name"),
                    "batch_rows": self.read("SELECT * FROM batch_rows ORDER BY key"),
                    "batched_replies": self.read(
                        "SELECT shipment, place, batch, reported FROM batched_replies "
                        "JOIN origins USING (reply) ORDER BY shipment, place"
                    ),
                }
            )

    def _replace_batches(self, text: str) -> None:
        told = json.loads(text)
        with self._writing(durably=True) as database:
            for table in ("batched_replies", "batch_rows", "batches"):
                database.execute(f"DELETE FROM {table}")  # noqa: S608
            for table in ("batches", "batch_rows"):
                for row in told[table]:
                    marks = ", ".join("?" * len(row))
                    database.execute(f"INSERT INTO {table} VALUES ({marks})", row)  # noqa: S608
            database.executemany(
                "INSERT INTO batched_replies SELECT reply, ?3, ?4 FROM origins "
                "WHERE shipment = ?1 AND place = ?2",
                told["batched_replies"],
            )
        self._agreed(text)

    def _agreed(self, text: str) -> None:
        with self._writing(durably=True) as database:
            database.execute(
                "UPDATE shared SET base = ?, is_ahead = 0 WHERE what = 'batches'", (digest(text),)
            )
