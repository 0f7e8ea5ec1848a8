"""`KeptRows`: the vectors and texts of a table's version in temporary files of this machine.

An approximate search finds rows by codes, scores those that it found by their vectors, and answers
with the texts of a few. LanceDB reads both row by row out of its files, which among a million rows
takes as long as to find them, and in a bucket is a request each. Out of files that are mapped into
memory, of which the system keeps there what it has room for, an answer takes two thirds of the time
in all. (Where the temporary folder itself is in memory, TMPDIR should name one on a disk.)
"""

import logging
import mmap
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.errors import MonoglotError, StoreError
from monoglot.serving import tables
from monoglot.serving.neighbours import Floats, Hits
from monoglot.serving.row_labels import RowPlaces

if TYPE_CHECKING:
    import pyarrow as pa

# A process that asks one question is not to read a million rows first.
WORTH_KEEPING = 100
_PAIRS_PER_BLOCK = 8_192
_GOING_ON = "searches go on as before, since the rows cannot be kept at hand: %s"
_LOGGER = logging.getLogger(__name__)


class KeptRows:
    """Rows of one version of a table by LanceDB's id.

    Args:
        rows: (n,) ids.
        matrix: (n, d) their vectors.
        texts: their texts, in parts.
    """

    def __init__(
        self, rows: NDArray[np.uint64], matrix: Floats, texts: "Sequence[pa.RecordBatch]"
    ) -> None:
        self._order = np.argsort(rows)
        self._places = RowPlaces(rows[self._order])
        self._matrix = matrix
        self._texts = texts
        self._first = np.cumsum([0, *(len(part) for part in texts)])

    @classmethod
    def read(
        cls,
        uri: str,
        name: str,
        version: int,
        columns: Sequence[str],
        is_wanted: Callable[[], bool],
    ) -> "KeptRows | None":
        """Read all of a version into files without names, so that none outlives the process.

        Args:
            uri: where the tables are.
            name: of the table.
            version: of it.
            columns: the texts to keep.
            is_wanted: asked before each part is written.

        Returns:
            None: it was not wanted any more.

        Raises:
            StoreError: the version cannot be read, or the temporary folder has no room.
        """
        import pyarrow as pa

        table = tables.open_at(uri, name, version)
        count, dimensions = int(table.count_rows()), tables.dimensions_of(table.schema)
        _check_room(count * dimensions * np.dtype(np.float32).itemsize)
        kind = pa.schema([(column, pa.large_string()) for column in columns])
        rows = []
        with tempfile.TemporaryFile() as vectors, tempfile.TemporaryFile() as texts:
            # Written, not mapped: a full disk is an error then, and kills no process.
            with pa.ipc.new_file(texts, kind) as writer:
                for part, block in tables.blocks_of(table, columns, with_row=True):
                    if not is_wanted():
                        return None
                    vectors.write(np.ascontiguousarray(block).data)
                    writer.write_table(part.select(columns).to_arrow().cast(kind))
                    rows.append(part["_rowid"].to_numpy())
            matrix = np.frombuffer(_mapped(vectors), np.float32).reshape(count, dimensions)
            kept = pa.ipc.open_file(pa.py_buffer(_mapped(texts)))
            parts = [kept.get_batch(number) for number in range(kept.num_record_batches)]
        return cls(np.concatenate(rows), matrix, parts)

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

    def texts_of(self, rows: NDArray[np.uint64]) -> pl.DataFrame:
        """`row` and the kept texts of rows, in their order."""
        import pyarrow as pa

        places = self._order[self._places.of(rows)]
        part = np.searchsorted(self._first, places, side="right") - 1
        # Row by row, since Arrow's `take` copies all parts of a table into one.
        found = [
            self._texts[number].slice(at, 1)
            for number, at in zip(part, places - self._first[part], strict=True)
        ]
        texts = pa.Table.from_batches(found, self._texts[0].schema)
        return pl.DataFrame(texts).with_columns(row=pl.Series(rows))


class Keeping:
    """The rows of one version, read in the background once enough was asked of it.

    Where Python ends meanwhile, it waits until the part that is being read is there.

    Args:
        read: gives them; is given what to ask whether they are still wanted.

    Attributes:
        kept: the rows, once they are there.
    """

    def __init__(self, read: Callable[[Callable[[], bool]], KeptRows | None]) -> None:
        self._read = read
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._asked = 0
        self._reader: threading.Thread | None = None
        self.kept: KeptRows | None = None

    def after(self, queries: int) -> KeptRows | None:
        """The rows, if they are there; told how many queries are being asked."""
        with self._lock:
            self._asked += queries
            enough = self._asked >= WORTH_KEEPING and not self._stopped.is_set()
            if self._reader is None and enough:
                # No daemon: one that is within LanceDB when Python ends may keep it from ending.
                self._reader = threading.Thread(target=self._keep)
                try:
                    self._reader.start()
                except RuntimeError as error:  # the process is ending, or has too many threads
                    _LOGGER.warning(_GOING_ON, error)
        return self.kept

    def finish(self) -> None:
        """Wait for the rows, if they are being read."""
        if self._reader is not None and self._reader.is_alive():
            self._reader.join()

    def stop(self) -> None:
        """Read no further: the version is not searched any more."""
        self._stopped.set()

    def _is_wanted(self) -> bool:
        return threading.main_thread().is_alive() and not self._stopped.is_set()

    def _keep(self) -> None:
        try:
            self.kept = self._read(self._is_wanted)
        except Exception as error:
            _LOGGER.warning(_GOING_ON, error, exc_info=not isinstance(error, MonoglotError))


def _mapped(file: IO[bytes]) -> mmap.mmap:
    file.flush()
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _check_room(size: int) -> None:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < 2 * size:
        raise StoreError(
            f"{folder} has {free / 1e9:.1f} GB free, and the vectors of the index take "
            f"{size / 1e9:.1f}: twice as much is asked for, for the texts and since others write "
            "there. Name another folder by TMPDIR."
        )
