"""`QueryLog`: what users asked a service, and what it answered, for people to look at.

    log = QueryLog("store")
    retriever = Retriever("store", log=log)

    store/queries/
      queries.jsonl              one query a line; the newest
      queries-<when>.jsonl       full ones; the oldest goes when there are more than ten
      lock                       held while a process writes

A search hands over its query and goes on: a thread redacts and writes. Nothing that happens here
reaches a search: what cannot be written is counted, told to `logging`, and noted in the log when
it can be written again. Any number of threads, processes and forks may log to one folder of a
local disk.
"""

import atexit
import contextlib
import fcntl
import importlib.util
import json
import logging
import os
import queue
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monoglot.config import Config
from monoglot.errors import ConfigError
from monoglot.feedback.redacting import kept_redaction
from monoglot.generation.redaction import Redactor
from monoglot.generation_config import RedactionConfig
from monoglot.matching import Pattern
from monoglot.remote.place import local_part
from monoglot.store import Store

if TYPE_CHECKING:
    from monoglot.serving.retriever import Answer

FOLDER = "queries"  # in the store
_CURRENT, _FULL = "queries.jsonl", 10
_WAITING, _AT_ONCE = 10_000, 500
_TELL_EVERY_S = 60.0
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Suggestion:
    """A label that a release answered with, and its nearest row."""

    label: str
    row_id: str
    confidence: float


@dataclass(frozen=True)
class LoggedQuery:
    """One query as it was answered.

    Attributes:
        time: when, in UTC, as ISO 8601.
        release: id of the release that answered.
        text: the query, redacted.
        language: BCP 47 code, where the service gave one.
        confident: whether the first answer was to be given; None: the release has no threshold.
        answers: the labels, best first.
    """

    time: str
    release: str
    text: str
    language: str | None
    confident: bool | None
    answers: tuple[Suggestion, ...]


@dataclass(frozen=True)
class Noted:
    """What a log holds.

    Attributes:
        queries: the oldest first.
        unreadable: lines that are none, as a full disk or a power cut leaves them.
        lost: queries that could not be written.
    """

    queries: list[LoggedQuery]
    unreadable: int
    lost: int


class QueryLog:
    """Writes the queries of one process into a folder of log files.

    Args:
        store: the store's folder, in which the log is `queries/`.
        folder: where to write instead, for a service that may only read the store; name it to
            `monoglot review` as `review.log` in the config.
        redaction: what is not written. None: as the config's section `redaction` says, which each
            `retrain` leaves in the store and which is read now, once; before the first run, the
            section's defaults. Queries are redacted whatever its `user_queries` says.
        max_mb: size of all files together.

    Raises:
        ConfigError: what redaction needs is not installed, or the store's address is none.
        StoreError: the store, or the section that is in it, cannot be read.
    """

    def __init__(
        self,
        store: str | Path,
        *,
        folder: str | Path | None = None,
        redaction: RedactionConfig | None = None,
        max_mb: float = 100.0,
    ) -> None:
        self._folder = local_part(str(store)) / FOLDER if folder is None else Path(folder)
        self._redactor = Redactor(kept_redaction(str(store)) if redaction is None else redaction)
        self._file_bytes = int(max_mb * 1e6 / (_FULL + 1))
        self.lost = 0
        self._told = -_TELL_EVERY_S
        if importlib.util.find_spec("phonenumbers") is None:  # needed only when one comes
            raise ConfigError(
                "a query log needs phonenumbers, to redact: `pip install 'monoglot[log]'`."
            )
        self._start_anew()
        os.register_at_fork(after_in_child=self._start_anew)
        atexit.register(self.flush, 2.0)

    def _start_anew(self) -> None:
        """As after construction; in a forked child what waits is its parent's to write."""
        self._lock = threading.Lock()
        self._queue: queue.Queue[Any] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self._unwritten = 0

    def note(
        self,
        texts: Sequence[str],
        found: Sequence[Sequence["Answer"]],
        *,
        language: str | None,
        release: str,
    ) -> None:
        """Have queries and their answers written soon; never waits and never raises."""
        try:
            self._begin()
            now = datetime.now(UTC).isoformat(timespec="seconds")
            for text, answers in zip(texts, found, strict=True):
                self._queue.put_nowait((now, release, text, language, answers))
        except Exception as error:  # a full queue, or no thread to be had
            self._count_lost(len(texts), error)

    def flush(self, seconds: float = 10.0) -> bool:
        """Wait until all that was noted is written or lost, but not for ever; whether it is."""
        if self._thread is None:
            return True
        done = threading.Event()
        with contextlib.suppress(queue.Full):
            self._queue.put(done, timeout=seconds)
            return done.wait(seconds)
        return False

    def _begin(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    thread = threading.Thread(target=self._work, name="query log", daemon=True)
                    thread.start()
                    self._thread = thread

    def _work(self) -> None:
        waiting = self._queue
        while True:
            batch = [waiting.get()]
            with contextlib.suppress(queue.Empty):
                while len(batch) < _AT_ONCE:
                    batch.append(waiting.get_nowait())
            noted = [each for each in batch if not isinstance(each, threading.Event)]
            try:
                if noted:
                    self._write(noted)
            except Exception as error:  # full disk, rights, a folder that is gone
                self._count_lost(len(noted), error)
            for each in batch:
                if isinstance(each, threading.Event):
                    each.set()

    def _count_lost(self, count: int, error: Exception) -> None:
        with self._lock:
            self.lost += count
            self._unwritten += count
            due = time.monotonic() - self._told >= _TELL_EVERY_S
            if due:
                self._told = time.monotonic()
        if due:
            reason = "too many at once" if isinstance(error, queue.Full) else error
            _LOGGER.warning("%s: queries are not logged (%s); %s so far", self._folder, reason,
                            self.lost)  # fmt: skip

    def _write(self, noted: list[tuple[str, str, str, str | None, Sequence["Answer"]]]) -> None:
        with self._lock:
            unwritten, self._unwritten = self._unwritten, 0
        try:
            lines = [json.dumps({"time": noted[0][0], "lost": unwritten})] if unwritten else []
            lines += [self._line(*each) for each in noted]
            self._folder.mkdir(parents=True, exist_ok=True)
            with _locked(self._folder):
                _append(self._folder, "\n".join(lines).encode() + b"\n", self._file_bytes)
        except Exception:
            with self._lock:
                self._unwritten += unwritten
            raise

    def _line(
        self, when: str, release: str, text: str, language: str | None, found: Sequence["Answer"]
    ) -> str:
        answers = [[it.label, it.row_id, round(it.confidence, 4)] for it in found]
        entry = {
            "time": when,
            "release": release,
            "text": self._redactor.redact(text).text,
            "language": language,
            "confident": found[0].confident if found else False,
            "answers": answers,
        }
        return json.dumps(entry, ensure_ascii=False)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the kernel frees when its holder is killed."""
    with (folder / "lock").open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _append(folder: Path, lines: bytes, most: int) -> None:
    """Append whole lines, to a new file where they do not fit; the caller holds the lock.

    Nothing is flushed to the disk: a power cut may take the last seconds.
    """
    path = folder / _CURRENT
    if path.exists() and 0 < path.stat().st_size > most - len(lines):
        path.rename(folder / f"queries-{time.time_ns():020}-{uuid.uuid4().hex[:8]}.jsonl")
        for old in sorted(folder.glob("queries-*.jsonl"))[:-_FULL]:
            old.unlink()
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
    with os.fdopen(handle, "r+b", buffering=0) as stream:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":  # a line that was cut off stays one
            lines = b"\n" + lines
        rest = memoryview(lines)
        while rest:
            rest = rest[stream.write(rest) :]


def log_folder(config: Config, store: Store) -> Path:
    """Where the services of a config log their queries."""
    return config.review.log or store.root / FOLDER


def log_files(folder: Path) -> list[Path]:
    """The files of a log, the oldest first."""
    return [*sorted(folder.glob("queries-*.jsonl")), *folder.glob(_CURRENT)]


def read_log(folder: Path) -> Noted:
    """Everything that a log holds; a folder that is not there holds nothing."""
    queries, unreadable, lost = [], 0, 0
    for path in log_files(folder):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:  # rotated away
            for line in stream:
                try:
                    raw = json.loads(line)
                    if "lost" in raw:
                        lost += int(raw["lost"])
                    else:
                        answers = tuple(Suggestion(*answer) for answer in raw.pop("answers"))
                        queries.append(LoggedQuery(**raw, answers=answers))
                except (ValueError, TypeError, KeyError, AttributeError):
                    unreadable += 1
    return Noted(queries, unreadable, lost)


def lines_with(folder: Path, pattern: Pattern) -> dict[Path, list[str]]:
    """The lines of a log that hold a pattern, by file."""
    found = {path: [line for line in _lines(path) if _holds(line, pattern)]
             for path in log_files(folder)}  # fmt: skip
    return {path: [line.decode("utf-8", "replace") for line in lines]
            for path, lines in found.items() if lines}  # fmt: skip


def forget_in_log(folder: Path, pattern: Pattern) -> None:
    """Remove the lines that hold a pattern; services may go on writing meanwhile."""
    if not log_files(folder):
        return
    with _locked(folder):
        for path in log_files(folder):
            lines = _lines(path)
            kept = [line for line in lines if not _holds(line, pattern)]
            if len(kept) < len(lines):
                fresh = path.with_name(f".{path.name}.new")
                fresh.write_bytes(b"".join(kept))
                fresh.chmod(path.stat().st_mode)
                fresh.replace(path)


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def _holds(line: bytes, pattern: Pattern) -> bool:
    return pattern.in_bytes(line) is not None
