"""`Store`: the artifacts of every stage, found again by key; and the store's one-writer lock.

    store/
      store.json                       format version, written once
      artifacts/<stage>/<key>/         data files and, written last, record.json
      index/                           LanceDB tables, one per model
      releases/                        manifests and the current pointer
      redaction.json                   what a query log hides; see `feedback.redacting`
      runs/                            what each run did, and its report
      health/                          when a check ended well last; what people were told
      queries/                         what services were asked, where they log it (feedback/)
      sources/                         knowledge bases that were fetched, for three days
      ledger.sqlite                    every paid LLM reply
      tmp/                             unfinished writes; swept by the next writer
      running.json                     which flow run holds the writer lock (`flows.claim`)
      workshop/                        a store of its own: cells of ablations and tunings

An artifact is written under a temporary name, gets its record last, and is then renamed: if the
record exists the artifact is whole. One that is gone or damaged is recomputed, never trusted.

A store may as well be in a bucket, `s3://bucket/prefix`: see `monoglot.remote.store`.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from monoglot.errors import MonoglotError, StoreBusyError, StoreError
from monoglot.files import Files, LocalFiles, sync_folder, write_atomically
from monoglot.identity import digest, file_digest, files_digest

if TYPE_CHECKING:
    from monoglot.remote.bucket import Bucket

FORMAT = 1
_TABLE = "table.parquet"
RECORD = "record.json"
MARKER = "store.json"
_DISK_ERRORS = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG)
)


class Key(BaseModel):
    """Identity of a stage's result: stage, version of its code, digest of inputs and config."""

    model_config = ConfigDict(frozen=True)

    stage: str
    version: int
    digest: str

    @classmethod
    def of(cls, stage: str, version: int, inputs: dict[str, str], config: Any) -> "Key":
        """The key of `stage` for these input digests and this slice of the config."""
        return cls(
            stage=stage, version=version, digest=digest({"inputs": inputs, "config": config})
        )

    def __str__(self) -> str:
        return f"{self.stage}/v{self.version}-{self.digest[:20]}"


class Artifact(BaseModel):
    """A reference to a stage's stored result: what tasks hand to one another.

    `digest` is that of the content, so that a stage which ran again and gave the same rows leaves
    the stages after it valid. `location` is relative to the store, which may be moved.
    """

    model_config = ConfigDict(frozen=True)

    stage: str
    digest: str
    location: str
    rows: int
    facts: dict[str, Any] = {}

    @property
    def unanswered(self) -> int:
        """Rows that the LLM gave no reply to this time: the stage is to ask them again."""
        return int(self.facts.get("unanswered", 0))


class Draft:
    """An artifact being written: a folder for its files, and what its record will say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = 0
        self.facts: dict[str, Any] = {}
        self.digest: str | None = None

    def write_table(self, frame: pl.DataFrame, name: str = _TABLE) -> None:
        """Write a table into the artifact; the unnamed one counts as its rows."""
        frame.write_parquet(self.folder / name)
        if name == _TABLE:
            self.rows = frame.height


class Store:
    """A local folder of artifacts. Open it with `Store.open`, which checks rights and format.

    Attributes:
        root: the folder; of a store in a bucket (`monoglot.remote`), the one that mirrors it.
        files: the small files that change or go: releases, records of runs.
        bucket: where a store in a bucket is; None: it is a folder.
    """

    files: Files
    bucket: "Bucket | None" = None

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = LocalFiles(root)

    @classmethod
    def open(cls, location: str) -> "Store":
        """Open a store for writing, and create it where there is none.

        Args:
            location: a folder, or `s3://bucket/prefix`.

        Raises:
            ConfigError: neither.
            StoreError: not writable, or of an unknown format.
        """
        if "://" in location:
            from monoglot.remote.store import S3Store

            return S3Store.opened(location)
        root = Path(location)
        if _is_store(root):
            cls._checked(root)  # a store of another format is left as it is
        try:
            (root / "tmp").mkdir(parents=True, exist_ok=True)
            if not _is_store(root):
                write_atomically(root / MARKER, json.dumps({"format": FORMAT}))
            _try_writing(root / "tmp")
        except OSError as error:
            raise unwritable(root, error) from error
        return cls._checked(root)

    @classmethod
    def existing(cls, location: str) -> "Store":
        """Open a store for reading only; nothing in it is created or written.

        Raises:
            StoreError: there is no store there, or it has an unknown format.
        """
        found = cls.if_any(location)
        if found is None:
            raise StoreError(f"{location}: no store here yet. `monoglot run` makes one.")
        return found

    @classmethod
    def if_any(cls, location: str) -> "Store | None":
        """`existing`, or None where there is no store yet."""
        if "://" in location:
            from monoglot.remote.store import S3Store

            return S3Store.found(location)
        root = Path(location)
        return cls._checked(root) if _is_store(root) else None

    @classmethod
    def _checked(cls, root: Path) -> "Store":
        try:
            text = (root / MARKER).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise _unreadable(str(root), error) from error
        checked_format(text, str(root))
        return cls(root)

    @property
    def location(self) -> str:
        """As `Store.open` takes it, on any machine that reaches it."""
        return str(self.root)

    @property
    def index_uri(self) -> str:
        """Where LanceDB keeps the index tables."""
        return str(self.root / "index")

    def index_tables(self) -> list[str]:
        """The names of all tables in the index, whether anything names them or not."""
        return sorted(folder.stem for folder in (self.root / "index").glob("*.lance"))

    @property
    def ledger_path(self) -> Path:
        """The SQLite file with every paid LLM reply."""
        return self.root / "ledger.sqlite"

    @property
    def releases(self) -> Path:
        """Folder of release manifests and the current pointer."""
        return self.root / "releases"

    @property
    def runs(self) -> Path:
        """Folder of run records and reports."""
        return self.root / "runs"

    @property
    def sources(self) -> Path:
        """Folder of knowledge bases that were fetched from where they live."""
        return self.root / "sources"

    @property
    def workshop(self) -> Path:
        """Folder of a store of its own, for experiments: nothing in it is in production."""
        return self.root / "workshop"

    def scratch(self, key: Key) -> Path:
        """A folder for a stage's unfinished work that a later attempt may resume from."""
        folder = self.root / "tmp" / f"resume-{key.stage}-{key.digest[:20]}"
        with self.explained():
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def discard_scratch(self, key: Key) -> None:
        """Remove what `scratch` gave, once the stage's result is written."""
        shutil.rmtree(
            self.root / "tmp" / f"resume-{key.stage}-{key.digest[:20]}", ignore_errors=True
        )

    def find(self, key: Key) -> Artifact | None:
        """The stored result of `key`, or None where there is none, or it is damaged."""
        folder = self.root / "artifacts" / str(key)
        try:
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            if record.pop("checksum") != digest(record) or record["key"] != key.model_dump():
                return None
            whole = all(
                file_digest(folder / name) == expected for name, expected in record["files"].items()
            )
            return Artifact.model_validate(record["artifact"]) if whole else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def newest(self, stage: str) -> list[Artifact]:
        """The results of a stage, the newest first: for estimates, which need no exact key."""
        folders = (self.root / "artifacts" / stage).glob(f"*/{RECORD}")
        found = []
        for path in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True):
            with contextlib.suppress(OSError, ValueError, KeyError):
                record = json.loads(path.read_text(encoding="utf-8"))
                found.append(Artifact.model_validate(record["artifact"]))
        return found

    @contextlib.contextmanager
    def writing(self, key: Key) -> Iterator[Draft]:
        """Write the result of `key`: fill the draft; leaving the block makes it findable.

        An exception inside the block leaves nothing behind.

        Raises:
            StoreError: the disk is full or the store cannot be written.
        """
        draft = Draft(self.root / "tmp" / f"write-{uuid.uuid4().hex}")
        try:
            with self.explained():
                draft.folder.mkdir(parents=True)
                yield draft
                self._finish(key, draft)
        finally:
            shutil.rmtree(draft.folder, ignore_errors=True)

    def _finish(self, key: Key, draft: Draft) -> None:
        location = f"artifacts/{key}"
        files = {
            str(path.relative_to(draft.folder)): file_digest(path)
            for path in sorted(draft.folder.rglob("*"))
            if path.is_file()
        }
        artifact = Artifact(
            stage=key.stage,
            digest=draft.digest or files_digest(draft.folder),
            location=location,
            rows=draft.rows,
            facts=draft.facts,
        )
        record = {
            "key": key.model_dump(),
            "artifact": artifact.model_dump(mode="json"),
            "files": files,
            "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        record["checksum"] = digest(record)
        write_atomically(draft.folder / RECORD, json.dumps(record, indent=1))
        self._publish(draft.folder, location, record)
        final = self.root / location
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():  # damaged, or finished by another process meanwhile
            final.rename(self.root / "tmp" / f"replaced-{uuid.uuid4().hex}")
        draft.folder.rename(final)
        sync_folder(final.parent)

    def _publish(self, folder: Path, location: str, record: dict[str, Any]) -> None:
        """Make an artifact known beyond this machine, before it comes to its place here."""

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn a full disk or missing rights in the block into a `StoreError` with the remedy."""
        try:
            yield
        except MonoglotError:
            raise
        except Exception as error:
            trouble = _disk_trouble(error)
            if trouble is None:
                raise
            raise unwritable(self.root, trouble) from error

    def folder(self, artifact: Artifact) -> Path:
        """The folder of an artifact's files."""
        return self.root / artifact.location

    def forget_mirrored(self, in_use: Collection[str] = ()) -> None:
        """Remove copies of artifacts that are gone, but for those in use; a folder has no copies.

        Args:
            in_use: locations of artifacts.
        """

    def local_copy(self, name: str) -> Path:
        """A small file as a file of this machine, to open it in a browser for instance."""
        return self.root / name

    def holds(self, artifact: Artifact) -> bool:
        """Whether the artifact is there: its record is written last."""
        return (self.folder(artifact) / RECORD).exists()

    def table(self, artifact: Artifact, name: str = _TABLE) -> pl.DataFrame:
        """A table of an artifact, its main one if no name is given.

        Raises:
            StoreError: the file is gone or cannot be read.
        """
        path = self.folder(artifact) / name
        try:
            return pl.read_parquet(path, glob=False)
        # A damaged page can make polars panic, which is no Exception.
        except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise StoreError(
                f"{path}: cannot be read ({error}). Run again: it will be recomputed."
            ) from error

    @contextlib.contextmanager
    def writer(self) -> Iterator[None]:
        """Hold the store's writer lock: one run at a time.

        A kernel lock, so that a killed holder never blocks the next run. Unfinished writes of
        killed runs are swept here, when no one else can be writing.

        Raises:
            StoreBusyError: another process holds it; names process, host and since when.
        """
        try:
            stream = (self.root / "lock").open("ab+", buffering=0)
        except OSError as error:
            raise unwritable(self.root, error) from error
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                stream.truncate(0)
                since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
                holder = f"process {os.getpid()} on {socket.gethostname()} since {since}"
                stream.write(holder.encode())
            except BlockingIOError:
                stream.seek(0)
                raise StoreBusyError(
                    f"{self.root}: another run is writing to this store "
                    f"({stream.read().decode().strip() or 'holder unknown'}). Wait for it, or "
                    "stop it."
                ) from None
            except OSError as error:
                raise unwritable(self.root, error) from error
            self._sweep()
            yield

    def _sweep(self) -> None:
        for leftover in (self.root / "tmp").glob("*"):
            if leftover.name.startswith("resume-"):
                continue
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def checked_format(text: str, location: str) -> None:
    """Refuse a store of another format by what its marker says.

    Raises:
        StoreError: it is, or the marker cannot be read.
    """
    try:
        found = json.loads(text)["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(location, error) from error
    if type(found) is not int or found != FORMAT:
        raise StoreError(
            f"{location}: store format {found}; this version of Monoglot reads format {FORMAT}. "
            + (
                "Upgrade Monoglot."
                if isinstance(found, int) and found > FORMAT
                else "Choose a new folder under `store:` and run again."
            )
        )


def _unreadable(location: str, error: Exception) -> StoreError:
    return StoreError(
        f"{location}/{MARKER}: unreadable ({error}). Restore it, or choose another store."
    )


def _is_store(root: Path) -> bool:
    """Whether a folder holds a store, of whatever format.

    Raises:
        StoreError: one may not look.
    """
    try:
        (root / MARKER).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StoreError(
            f"{root}: the store cannot be read ({error.strerror}). Check the path and the owner "
            "of the folder."
        ) from error
    return True


def _try_writing(folder: Path) -> None:
    """Find out now, not at the end of the first stage, that the disk is full."""
    probe = folder / f"probe-{uuid.uuid4().hex}"
    try:
        probe.write_bytes(b"\0" * 4096)
    finally:
        probe.unlink(missing_ok=True)  # another process may have swept it


def _disk_trouble(error: Exception) -> OSError | None:
    """The disk's error behind another, or None; a lost connection is an OSError, too.

    Libraries in Rust (polars, safetensors, lance) tell its number in their text alone.
    """
    told = re.search(r"\(os error (\d+)\)", str(error))
    number = (error.errno if isinstance(error, OSError) else None) or (told and int(told[1]))
    if number not in _DISK_ERRORS:
        return None
    return OSError(number, os.strerror(number), getattr(error, "filename", None))


def unwritable(root: Path, error: OSError) -> StoreError:
    """A store error with the remedy for a full disk or missing rights."""
    where = f": {error.filename}" if error.filename else ""
    return StoreError(
        f"{root}: the store cannot be written ({error.strerror or error}{where}). "
        "Check the free space and the owner of the folder, or set `store:` to another one."
    )
