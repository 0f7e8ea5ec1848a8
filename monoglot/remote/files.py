"""`RemoteFiles`: a store's small files as objects, with the machine's own locks where it can."""

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path

from monoglot.files import Entry
from monoglot.remote.bucket import Bucket
from monoglot.remote.lease import Lease

_TERM_S = 20.0  # of the lock for a moment: a few requests


class RemoteFiles:
    """See `monoglot.files.Files`.

    Args:
        bucket: where they are.
        mirror: folder of this machine, for kernel locks.
        lease_of: a lease on a name for so many seconds.
        guard: raises where this process wrote to the store and may do so no more.
    """

    def __init__(
        self,
        bucket: Bucket,
        mirror: Path,
        lease_of: Callable[[str, float], Lease],
        guard: Callable[[], None],
    ) -> None:
        self._bucket = bucket
        self._mirror = mirror
        self._lease_of = lease_of
        self._guard = guard

    def told(self, name: str) -> str:
        """Where a file is, for people."""
        return self._bucket.told(name)

    def read(self, name: str) -> str | None:
        """Its text; None: there is none."""
        found = self._bucket.read(name)
        return None if found is None else found.text

    def write(self, name: str, text: str) -> None:
        """Write it, whatever is there."""
        self._guard()
        self._bucket.put(name, text.encode())

    def create(self, name: str, text: str) -> bool:
        """Write it where there is none; whether this did."""
        self._guard()
        return self._bucket.create(name, text.encode())

    def replace(self, name: str, text: str, seen: str | None) -> bool:
        """Write it where its text is still `seen`: the object store itself compares."""
        self._guard()
        found = self._bucket.read(name)
        if found is None or seen is None:
            return found is None and seen is None and self._bucket.create(name, text.encode())
        return found.text == seen and self._bucket.swap(name, text, found.tag)

    def remove(self, name: str) -> None:
        """Remove it; nothing happens where there is none."""
        self._guard()
        self._bucket.remove(name)

    def move(self, name: str, to: str) -> None:
        """Write it under the other name, then remove it: killed in between, both are there."""
        text = self.read(name)
        if text is not None:
            self.write(to, text)
            self.remove(name)

    def below(self, folder: str) -> list[Entry]:
        """All files in a folder and in those within it, by name."""
        return self._bucket.below(folder)

    def remove_folder(self, folder: str) -> None:
        """Records first: an artifact without its record is not there."""
        self._guard()
        names = [entry.name for entry in self._bucket.below(folder)]
        records = [name for name in names if name.endswith("/record.json")]
        self._bucket.remove(*records)
        self._bucket.remove(*(name for name in names if name not in records))

    @contextlib.contextmanager
    def still(self, name: str) -> Iterator[None]:
        """A kernel lock for this machine's processes, and a short lease for other machines."""
        path = self._mirror / f"{name.replace('/', '-')}.flock"
        with path.open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            with self._lease_of(name, _TERM_S).held(patience=2 * _TERM_S):
                yield
