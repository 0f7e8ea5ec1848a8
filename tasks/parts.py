"""What a cluster's worker does with one part of a stage: read it, compute, write the result.

Parts and results are files in the stage's scratch folder, which all machines see: tables and
vectors do not pass through the scheduler. A result that is there is not computed again, so that a
part whose worker was killed costs that part, and a run that was killed goes on where it was.
"""

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from monoglot.errors import ModelError, StoreError
from monoglot.learning.distributions import Pool
from monoglot.learning.encoder import Vectors
from monoglot.learning.mining import Mined, Rank, Space, search_here
from monoglot.settings import read_settings
from tasks.models import encoder_at
from tasks.versions import versions

_ROWS, _LABELS = "rows.npy", "labels.npy"
_PATIENCE_S = 60.0  # a network file system may show a new file so much later
# A model takes all cores of a machine: a worker with several threads takes part after part.
_ALONE = threading.Lock()


def look_around(probe: Path) -> tuple[bool, dict[str, int]]:
    """Whether this machine sees a file of the store, and the versions of its stages."""
    return probe.exists(), versions()


def write_texts(folder: Path, name: str, texts: list[str]) -> None:
    """Write the texts of a part."""
    _whole(folder / f"{name}.json", lambda path: path.write_text(json.dumps(texts)))


def encode_texts(folder: Path, name: str, *, place: str, digest: str, batch: int) -> None:
    """Encode the texts of a part.

    Raises:
        ModelError: this machine has another model at that place, or none.
    """
    target = folder / f"{name}.npy"
    if target.exists():
        return
    texts = _waited_for(folder / f"{name}.json", lambda path: json.loads(path.read_text()))
    with _ALONE:
        try:
            encoder = encoder_at(place, digest, read_settings().device)
        except (ModelError, OSError) as error:
            raise ModelError(f"worker {os.uname().nodename}: {error}") from error
        vectors = encoder.encode(texts, batch_size=batch)
    _whole(target, lambda path: np.save(path, vectors))


def read_vectors(folder: Path, name: str) -> Vectors:
    """The vectors of a part."""
    vectors: Vectors = _waited_for(folder / f"{name}.npy", np.load)
    return vectors


def write_space(folder: Path, space: Space) -> None:
    """Write what is alike for all anchors: the rows and their labels."""
    _whole(folder / _ROWS, lambda path: np.save(path, space.rows))
    _whole(folder / _LABELS, lambda path: np.save(path, space.pool.labels))


def write_anchors(folder: Path, name: str, space: Space, part: slice) -> None:
    """Write some of the anchors."""
    vectors, labels = space.anchors[part], space.labels[part]
    _whole(folder / f"{name}.npz", lambda path: np.savez(path, vectors=vectors, labels=labels))


def search_rows(folder: Path, name: str, *, keep: int, rank: Rank) -> None:
    """Search the rows for the anchors of a part."""
    target = folder / f"{name}-found.npz"
    if target.exists():
        return
    rows = _waited_for(folder / _ROWS, lambda path: np.load(path, mmap_mode="r"))
    labels = _waited_for(folder / _LABELS, np.load)
    anchors = _waited_for(folder / f"{name}.npz", _arrays)
    space = Space(
        anchors=anchors["vectors"],
        rows=rows,
        labels=anchors["labels"],
        sources=np.full(len(anchors["labels"]), -1, dtype=np.int64),  # ranks know them already
        pool=Pool.of(labels, int(labels.max(initial=0)) + 1),
    )
    with _ALONE:
        found = search_here(space, keep, rank)
    _whole(target, lambda path: np.savez(path, rows=found.rows, scores=found.scores))


def read_found(folder: Path, name: str) -> Mined:
    """What was found for the anchors of a part."""
    found = _waited_for(folder / f"{name}-found.npz", _arrays)
    return Mined(found["rows"], found["scores"])


def _arrays(path: Path) -> Mapping[str, Any]:
    with np.load(path) as arrays:
        return dict(arrays)


def _whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that it is whole as soon as it has its name; twice at a time does no harm."""
    temporary = path.with_name(f"{uuid.uuid4().hex}{path.suffix}")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _waited_for(path: Path, read: Callable[[Path], Any]) -> Any:
    """Read a file that another machine has written, as soon as this one sees it.

    Raises:
        StoreError: it does not.
    """
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return read(path)
        except FileNotFoundError as error:
            if time.monotonic() > end:
                raise StoreError(
                    f"{path}: not seen by {os.uname().nodename}. All machines of a cluster must "
                    "see the store under the same path."
                ) from error
            if path.parent.exists():
                os.listdir(path.parent)  # noqa: PTH208  makes a network file system look anew
            time.sleep(0.2)
