"""`Files`: a store's small files that change or go: manifests, pointers, records, reports.

Where they are is one of two things: a folder (`LocalFiles`, here) or a bucket
(`monoglot.remote.files`). Names are relative to the store, with forward slashes.
"""

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol


class Entry(NamedTuple):
    """A file of a store, whatever it holds.

    Attributes:
        name: relative to the store.
        size: bytes.
        changed: seconds since the epoch, by the clock of where it lies.
    """

    name: str
    size: int
    changed: float


class Files(Protocol):
    """The small files of one store. Whatever is written is there whole, or not at all."""

    def told(self, name: str) -> str:
        """Where a file is, for people."""

    def read(self, name: str) -> str | None:
        """Its text; None: there is none."""

    def write(self, name: str, text: str) -> None:
        """Write it, whatever is there."""

    def create(self, name: str, text: str) -> bool:
        """Write it where there is none; whether this did."""

    def replace(self, name: str, text: str, seen: str | None) -> bool:
        """Write it where its text is still `seen` (None: there is none); whether this did."""

    def remove(self, name: str) -> None:
        """Remove it; nothing happens where there is none."""

    def move(self, name: str, to: str) -> None:
        """Give it another name; its age begins anew."""

    def below(self, folder: str) -> list[Entry]:
        """All files in a folder and in those within it, by name."""

    def remove_folder(self, folder: str) -> None:
        """Remove all of a folder, so that no part of it is taken for the whole meanwhile."""

    def still(self, name: str) -> AbstractContextManager[None]:
        """Hold a lock for the moment that a few small files take; wait for whoever has it."""


class LocalFiles:
    """Files in a folder. Errors of the disk are raised as they come (`Store.explained`)."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def told(self, name: str) -> str:
        """Where a file is, for people."""
        return str(self._root / name)

    def read(self, name: str) -> str | None:
        """Its text; None: there is none."""
        try:
            return (self._root / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def write(self, name: str, text: str) -> None:
        """Write it, whatever is there."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)

    def create(self, name: str, text: str) -> bool:
        """Write it where there is none; the caller holds a lock."""
        if (self._root / name).exists():
            return False
        self.write(name, text)
        return True

    def replace(self, name: str, text: str, seen: str | None) -> bool:
        """Write it where its text is still `seen`; the caller holds a lock."""
        if self.read(name) != seen:
            return False
        self.write(name, text)
        return True

    def remove(self, name: str) -> None:
        """Remove it; nothing happens where there is none."""
        (self._root / name).unlink(missing_ok=True)

    def move(self, name: str, to: str) -> None:
        """Give it another name, by one rename; its age begins anew."""
        source, target = self._root / name, self._root / to
        target.parent.mkdir(parents=True, exist_ok=True)
        source.touch()
        source.rename(target)
        sync_folder(target.parent)

    def below(self, folder: str) -> list[Entry]:
        """All files in a folder and in those within it, by name."""
        found = []
        for path in sorted((self._root / folder).rglob("*")):
            with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                if path.is_file():
                    told = path.stat()
                    name = path.relative_to(self._root).as_posix()
                    found.append(Entry(name, told.st_size, told.st_mtime))
        return found

    def remove_folder(self, folder: str) -> None:
        """Out of sight by one rename, then file by file.

        Killed in between, the rest lies in tmp/, which the next writer sweeps.
        """
        aside = self._root / "tmp" / f"removed-{uuid.uuid4().hex}"
        (self._root / folder).rename(aside)
        shutil.rmtree(aside)

    @contextlib.contextmanager
    def still(self, name: str) -> Iterator[None]:
        """A kernel lock: that of a killed process is free at once."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def write_atomically(path: Path, text: str) -> None:
    """Replace a small file so that a reader sees the old or the new text, never a part.

    The bytes and the rename are flushed to the disk before this returns.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
