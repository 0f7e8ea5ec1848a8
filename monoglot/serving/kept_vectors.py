"""`KeptVectors`: the vectors of a table's version in a temporary file of this machine.

An approximate search finds rows by codes, and then scores those that it found by their vectors.
LanceDB reads these row by row out of its files, which among a million rows takes about as long as
to find them, and in a bucket is a request each. Out of a file that is mapped into memory, where the
system keeps of it what it has room for, it takes some tenths of a millisecond.
"""

import logging
import shutil
import tempfile
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from monoglot.errors import MonoglotError, StoreError
from monoglot.serving import tables
from monoglot.serving.neighbours import Floats, Hits
from monoglot.serving.row_labels import RowPlaces

# A process that asks one question is not to read a million vectors first.
WORTH_KEEPING = 100
_PAIRS_PER_BLOCK = 8_192
_GOING_ON = "searches go on without vectors in memory: %s"
_LOGGER = logging.getLogger(__name__)


class KeptVectors:
    """Vectors by LanceDB's id of their row, in one version of a table.

    Args:
        rows: (n,) ids.
        matrix: (n, d) their vectors.
    """

    def __init__(self, rows: NDArray[np.uint64], matrix: Floats) -> None:
        self._order = np.argsort(rows)
        self._places = RowPlaces(rows[self._order])
        self._matrix = matrix

    @classmethod
    def read(cls, uri: str, name: str, version: int) -> "KeptVectors | None":
        """Read all of a version. The file has no name, so that nothing of it outlives the process.

        Returns:
            None: the main thread ended meanwhile, and with it the need.

        Raises:
            StoreError: the version cannot be read, or the temporary folder has no room.
        """
        table = tables.open_at(uri, name, version)
        count, dimensions = int(table.count_rows()), tables.dimensions_of(table.schema)
        _check_room(count * dimensions * np.dtype(np.float32).itemsize)
        rows = []
        with tempfile.TemporaryFile() as file:
            for part, block in tables.blocks_of(table, with_row=True):
                if not threading.main_thread().is_alive():
                    return None
                # Written, not mapped: a full disk is an error then, and kills no process.
                file.write(np.ascontiguousarray(block).data)
                rows.append(part["_rowid"].to_numpy())
            file.flush()
            matrix = np.memmap(file, np.float32, "r", shape=(count, dimensions)).view(np.ndarray)
        return cls(np.concatenate(rows), matrix)

    def scored(self, found: Hits, vectors: Floats) -> Hits:
        """Rows of this version that were found by scores of any kind, with their cosines.

        Args:
            found: of each vector.
            vectors: (q, d), of length 1.
        """
        places = self._order[self._places.of(found.row)]
        score = np.empty(len(places), np.float32)
        for start in range(0, len(places), _PAIRS_PER_BLOCK):
            part = slice(start, start + _PAIRS_PER_BLOCK)
            score[part] = np.einsum(
                "nd,nd->n", self._matrix[places[part]], vectors[found.question[part]]
            )
        return found._replace(score=score)


class Keeping:
    """The vectors of one version, read in the background once enough was asked of it.

    Args:
        read: gives them.
    """

    def __init__(self, read: Callable[[], KeptVectors | None]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._asked = 0
        self._reader: threading.Thread | None = None
        self._kept: KeptVectors | None = None

    def after(self, queries: int) -> KeptVectors | None:
        """The vectors, if they are there; told how many queries are being asked."""
        with self._lock:
            self._asked += queries
            if self._reader is None and self._asked >= WORTH_KEEPING:
                # No daemon: one that is within LanceDB when Python ends may keep it from ending.
                self._reader = threading.Thread(target=self._keep)
                try:
                    self._reader.start()
                except RuntimeError as error:  # the process is ending, or has too many threads
                    _LOGGER.warning(_GOING_ON, error)
        return self._kept

    def finish(self) -> None:
        """Wait for the vectors, if they are being read."""
        if self._reader is not None and self._reader.is_alive():
            self._reader.join()

    def _keep(self) -> None:
        try:
            self._kept = self._read()
        except Exception as error:
            _LOGGER.warning(_GOING_ON, error, exc_info=not isinstance(error, MonoglotError))


def _check_room(size: int) -> None:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < 2 * size:
        raise StoreError(
            f"{folder} has {free / 1e9:.1f} GB free, and the vectors of the index take "
            f"{size / 1e9:.1f}: twice as much is asked for, since others write there. Name "
            "another folder by TMPDIR."
        )
