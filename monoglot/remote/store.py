"""`S3Store`: a store in a bucket, and the folder of this machine that mirrors it.

    s3://bucket/prefix/                            the truth
      store.json  redaction.json                   as in a local store, read and written in place
      releases/  runs/  health/                    the same
      index/                                       LanceDB's, read and written in place
      artifacts/<stage>/<key>/<attempt>/           data files of one upload
      artifacts/<stage>/<key>/record.json          written last; names the attempt
      ledger/                                      see `monoglot.generation.shared_ledger`
      locks/                                       who writes; see `lease`

The mirror has a local store's layout, so that stages read Parquet and models as files: artifacts
that were made or needed here, the ledger, unfinished work, and what is this machine's own
(`sources/`, `queries/`, `workshop/`, Prefect's database). It may be removed whenever no run was
killed since the last one ended well; then it may hold paid replies that are nowhere else yet.

An artifact's record names the upload it belongs to and is written on the condition that there is
none: two machines that make the same artifact, one of them no longer holding the lock for instance,
never mix their files, and the first one stays.
"""

import contextlib
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from monoglot.files import write_atomically
from monoglot.identity import digest, file_digest
from monoglot.remote.bucket import Bucket
from monoglot.remote.files import RemoteFiles
from monoglot.remote.lease import TERM_S, Lease
from monoglot.remote.place import Place, mirror_of, place_of
from monoglot.store import FORMAT, MARKER, RECORD, Artifact, Key, Store, checked_format

_AT_ONCE = 8  # files that are moved side by side
_STALE_S = 24 * 3600.0  # after which a download that a killed process left is swept


class S3Store(Store):
    """A store in a bucket. Open it with `Store.open`, `Store.existing` or `Store.if_any`."""

    bucket: Bucket

    def __init__(self, place: Place, bucket: Bucket, mirror: Path) -> None:
        super().__init__(mirror)
        self.bucket = bucket
        self._place = place
        self._lease: Lease | None = None
        self.files = RemoteFiles(bucket, mirror, self._lease_of, self._guard)

    def __reduce__(self) -> tuple[Any, ...]:
        return Store.existing, (self.location,)

    @classmethod
    def opened(cls, location: str) -> Self:
        """Open it for writing, and make it where there is none.

        Raises:
            ConfigError: the address is none of S3's.
            StoreError: it cannot be written, or the object store lacks conditional writes.
        """
        store = cls._at(location)
        marker = json.dumps({"format": FORMAT})
        if not store.bucket.create(MARKER, marker.encode()):
            store._check_format()
        store.bucket.refuse_unconditional(MARKER)
        return store

    @classmethod
    def found(cls, location: str) -> Self | None:
        """Open it for reading; None: there is none."""
        store = cls._at(location)
        return store if store._check_format() else None

    @classmethod
    def _at(cls, location: str) -> Self:
        place = place_of(location)
        mirror = mirror_of(place)
        store = cls(place, Bucket(place), mirror)
        with store.explained():
            (mirror / "tmp").mkdir(parents=True, exist_ok=True)
            (mirror / "fetching").mkdir(exist_ok=True)
            _sweep_fetched(mirror / "fetching")
        return store

    def _check_format(self) -> bool:
        text = self.files.read(MARKER)
        if text is not None:
            checked_format(text, self.location)
        return text is not None

    @property
    def location(self) -> str:
        """As in `monoglot.yaml`."""
        return self._place.location

    @property
    def index_uri(self) -> str:
        """Where LanceDB keeps the index tables."""
        return f"{self.location}/index"

    def index_tables(self) -> list[str]:
        """The names of all tables in the index."""
        return [name.removesuffix(".lance") for name in self.bucket.folders("index")]

    # Artifacts

    def find(self, key: Key) -> Artifact | None:
        """The stored result of `key`, fetched unless it is here; None: there is none, or damaged.

        A copy in the mirror alone counts for nothing: it may have been removed on purpose.
        """
        record, attempt = self._record(f"artifacts/{key}")
        if record is None or record["key"] != key.model_dump():
            return None
        artifact = Artifact.model_validate(record["artifact"])
        folder = self.root / artifact.location
        if not _is_whole(folder, record) and not self._fetch(artifact.location, record, attempt):
            return None
        return artifact

    def newest(self, stage: str) -> list[Artifact]:
        """The results of a stage, the newest first: for estimates, which need no exact key."""
        folder = f"artifacts/{stage}/"
        listed = [it for it in self.bucket.below(folder) if it.name.endswith(f"/{RECORD}")]
        listed.sort(key=lambda it: it.changed, reverse=True)
        records = (self._record(it.name.removesuffix(f"/{RECORD}"))[0] for it in listed)
        return [Artifact.model_validate(it["artifact"]) for it in records if it is not None]

    def folder(self, artifact: Artifact) -> Path:
        """The folder of an artifact's files on this machine, fetched unless they are here."""
        folder = self.root / artifact.location
        if _digest_of(folder) != artifact.digest:
            record, attempt = self._record(artifact.location)
            if record is not None:
                self._fetch(artifact.location, record, attempt)
        return folder

    def holds(self, artifact: Artifact) -> bool:
        """Whether the artifact is there: its record is written last."""
        return self.bucket.is_there(f"{artifact.location}/{RECORD}")

    @contextlib.contextmanager
    def writing(self, key: Key) -> Iterator[Any]:
        """See `Store.writing`; refused where another machine has taken the lock meanwhile."""
        self._guard()
        with super().writing(key) as draft:
            yield draft

    def _publish(self, folder: Path, location: str, record: dict[str, Any]) -> None:
        """Upload the files, then the record; only then do they come to the mirror."""
        attempt = uuid.uuid4().hex
        names = list(record["files"])
        _side_by_side(
            lambda name: self.bucket.put(f"{location}/{attempt}/{name}", folder / name), names
        )
        text = json.dumps({"record": record, "attempt": attempt}, indent=1)
        if self.bucket.create(f"{location}/{RECORD}", text.encode()):
            return
        key = Key.model_validate(record["key"])
        if self.find(key) is None:  # what is there is damaged
            self.bucket.write(f"{location}/{RECORD}", text)

    def _record(self, location: str) -> tuple[dict[str, Any] | None, str]:
        """An artifact's record and the upload that it names; None: there is none, or damaged."""
        found = self.bucket.read(f"{location}/{RECORD}")
        try:
            both = json.loads("null" if found is None else found.text)
            record = dict(both["record"])
            told = {name: value for name, value in record.items() if name != "checksum"}
            return (record, both["attempt"]) if record["checksum"] == digest(told) else (None, "")
        except (ValueError, KeyError, TypeError):
            return None, ""

    def _fetch(self, location: str, record: dict[str, Any], attempt: str) -> bool:
        """Bring an artifact's files here; False: one is gone or is not what the record says."""
        half = self.root / "fetching" / uuid.uuid4().hex

        def fetch(name: str) -> None:
            (half / name).parent.mkdir(parents=True, exist_ok=True)
            self.bucket.fetch(f"{location}/{attempt}/{name}", half / name)

        try:
            with self.explained():
                half.mkdir(parents=True)
                _side_by_side(fetch, list(record["files"]))
                write_atomically(half / RECORD, json.dumps(record, indent=1))
                if not _is_whole(half, record):
                    return False
                self._put_in_place(half, self.root / location)
        except FileNotFoundError:
            return False
        finally:
            shutil.rmtree(half, ignore_errors=True)
        return True

    def _put_in_place(self, half: Path, final: Path) -> None:
        final.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(10):
            try:
                half.rename(final)
            except OSError:
                if not final.exists():
                    raise
                with contextlib.suppress(FileNotFoundError):  # another process does the same
                    final.rename(self.root / "fetching" / f"replaced-{uuid.uuid4().hex}")
            else:
                return

    def forget_mirrored(self, in_use: Collection[str] = ()) -> None:
        """Remove what artifacts the mirror has beyond those in the bucket and those in use.

        The mirror is looked at first: what a stage of this machine makes meanwhile is in the bucket
        before it is here.
        """
        mirrored = sorted((self.root / "artifacts").glob("*/*"))
        kept = {"/".join(it.name.split("/")[:3]) for it in self.bucket.below("artifacts")}
        for folder in mirrored:
            if folder.relative_to(self.root).as_posix() not in kept.union(in_use):
                shutil.rmtree(folder, ignore_errors=True)

    def local_copy(self, name: str) -> Path:
        """A small file as a file of this machine, to open it in a browser for instance."""
        path = self.root / name
        text = self.files.read(name)
        if text is not None:
            with self.explained():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        return path

    # One writer

    @contextlib.contextmanager
    def writer(self) -> Iterator[None]:
        """Hold the store's writer lock: on this machine by the kernel, among machines by a lease.

        Whoever has the kernel's lock knows that no other process of this machine lives that held
        the lease: a killed run's is taken over at once. Another machine's is free when it was not
        renewed for a minute.

        Raises:
            StoreBusyError: another process or machine holds it; names it.
        """
        with super().writer(), self._lease_of("locks/writer.json", TERM_S).held() as lease:
            self._lease = lease
            try:
                yield
            finally:
                self._lease = None

    def _guard(self) -> None:
        if self._lease is not None:
            self._lease.check()

    def _lease_of(self, name: str, term: float) -> Lease:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        holder = f"process {os.getpid()} on {socket.gethostname()} since {since}"
        return Lease(self.bucket, name, machine=self._machine, holder=holder, term=term)

    @cached_property
    def _machine(self) -> str:
        """This machine's mirror: a folder copied to another machine has another host."""
        path = self.root / "mirror.json"
        if not path.exists():
            write_atomically(path, json.dumps({"mirror": uuid.uuid4().hex}))
        return f"{socket.gethostname()}:{json.loads(path.read_text(encoding='utf-8'))['mirror']}"


def _is_whole(folder: Path, record: dict[str, Any]) -> bool:
    try:
        return all(
            file_digest(folder / name) == expected for name, expected in record["files"].items()
        )
    except OSError:
        return False


def _digest_of(folder: Path) -> str | None:
    """The digest of a mirrored artifact; None: it is not here."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return str(record["artifact"]["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _side_by_side(work: Any, names: list[str]) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(work, names):
            pass


def _sweep_fetched(folder: Path) -> None:
    """Remove what killed downloads left, once nobody can be at it any more."""
    for leftover in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            if leftover.stat().st_mtime < time.time() - _STALE_S:
                shutil.rmtree(leftover, ignore_errors=True)
