"""When a file that people edit is worth reading: changed, and then left alone for a moment.

By looking at its size and time of change at an interval, which costs nothing and also works where
the kernel announces no changes: network file systems, mounted buckets, containers' bind mounts.
"""

from pathlib import Path

Signature = tuple[int, int, int]


def signature(path: Path) -> Signature | None:
    """Time of change, size and inode of a file; None: it is not there."""
    try:
        now = path.stat()
    except OSError:
        return None
    return now.st_mtime_ns, now.st_size, now.st_ino


class Settling:
    """Turns a burst of changes into one reading.

    The file counts as changed when it is first seen: what was edited before is not missed.
    """

    def __init__(self, quiet: float, at_most: float) -> None:
        """Wait for `quiet` seconds without a change, but `at_most` seconds in all."""
        self._quiet, self._at_most = quiet, at_most
        self._seen: Signature | str | None = "never"
        self._first: float | None = None
        self._last = 0.0

    def is_ready(self, seen: Signature | None, now: float) -> bool:
        """Whether to read the file now.

        Args:
            seen: its signature.
            now: seconds of a clock that never goes back.
        """
        if seen != self._seen:
            self._seen, self._last = seen, now
            self._first = now if self._first is None else self._first
        if self._first is None:
            return False
        if now - self._last < self._quiet and now - self._first < self._at_most:
            return False
        self._first = None
        return True

    def again(self, now: float) -> None:
        """Read it once more after a quiet moment, although it may not change."""
        self._first = self._last = now
