"""The index of a large knowledge base: built, refreshed after edits, and how its disk grows."""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.speed.figures import Figure, seconds_of
from benchmarks.speed.rows import edited, made_rows, with_all_columns
from benchmarks.speed.static import static_model
from monoglot.learning.encoder import Encoder
from monoglot.learning.models import OFFLINE_MINILM
from monoglot.serving import pruning
from monoglot.serving.index import Index
from monoglot.store import Store

TITLE = "The index, built and refreshed"


def measure(*, quick: bool, data: Path | None) -> list[Figure]:
    """Build, edits of three sizes, and many small refreshes."""
    size = 50_000 if quick else 1_000_000
    rows = with_all_columns(made_rows(size, max(20, size // 100), data))
    with tempfile.TemporaryDirectory() as folder:
        uri = str(Path(folder) / "index")
        encoder = Encoder.load(str(static_model()), device="cpu")
        index = Index.of_model(uri, encoder.digest, encoder.dimensions)
        build = seconds_of(lambda: index.sync(rows, encoder.encode))
        figures = [Figure(f"build, {size:,} rows", build, "s")]
        for count in (size // 10_000, size // 1_000, size // 100):
            rows = edited(rows, count, f"edit {count}")
            seconds = seconds_of(lambda rows=rows: index.sync(rows, encoder.encode))
            figures.append(Figure(f"refresh after {count:,} edits", seconds, "s"))
            if count == size // 1_000:
                share = seconds / build
                figures.append(Figure("the same as a share of the build", share, "x"))
        recall = 1.0 if index.effort is None else index.effort.recall
        figures.append(Figure("recall@10 afterwards, as measured", recall, "", least=0.99))
    return [
        *figures,
        _by_transformer(quick=quick, data=data),
        *_growth(40 if quick else 200, 20, data),
        *_growth(20 if quick else 60, 2_000, data),
    ]


def _by_transformer(*, quick: bool, data: Path | None) -> Figure:
    """A refresh after an edit in a thousand rows against a build, where a transformer encodes both.

    The median of three. A million rows would take it most of an hour, in which nothing but the
    encoding grows.
    """
    size = 3_000 if quick else 20_000
    rows = with_all_columns(made_rows(size, size // 100, data))
    encoder = Encoder.load(OFFLINE_MINILM, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        index = Index.of_model(str(Path(folder) / "index"), encoder.digest, encoder.dimensions)
        build = seconds_of(lambda: index.sync(rows, encoder.encode))
        refreshes = []
        for number in range(3):
            rows = edited(rows, size // 1_000, f"edited {number}", first=number)
            refreshes.append(seconds_of(lambda rows=rows: index.sync(rows, encoder.encode)))
        refresh = statistics.median(refreshes)
    named = f"refresh after {size // 1_000} edits of {size:,} rows, MiniLM, as a share of the build"
    return Figure(named, refresh / build, "x", most=0.01)


def _growth(refreshes: int, edits: int, data: Path | None) -> list[Figure]:
    """Disk over refreshes of so many edits each, with clean-up, against a fresh index.

    The last two releases are kept, so that one can be rolled back to.
    """
    rows = with_all_columns(made_rows(20_000, 200, data))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        encoder = Encoder.load(str(static_model()), device="cpu")
        store = Store.open(str(root / "store"))
        index = Index.of_model(store.index_uri, encoder.digest, encoder.dimensions)
        named = [index.sync(rows, encoder.encode).version]
        sizes = []
        for number in range(refreshes):
            rows = edited(rows, edits, f"round {number}", first=number)
            done = index.sync(rows, encoder.encode)
            named.append(done.version)
            pruning.prune(store, done.table, named[-2:], time.time())
            sizes.append(_bytes(Path(store.index_uri)))
        fresh_uri = str(root / "fresh")
        Index.of_model(fresh_uri, encoder.digest, encoder.dimensions).sync(rows, encoder.encode)
        fresh = _bytes(Path(fresh_uri))
    named_so = f"disk after {refreshes} refreshes of {edits:,} edits, against a fresh index"
    return [
        Figure(named_so, sizes[-1] / fresh, "x", most=2.0),
        Figure("the same, mean over the refreshes", float(np.mean(sizes)) / fresh, "x", most=2.0),
        Figure("the same, at the worst of them", max(sizes) / fresh, "x", most=2.0),
    ]


def _bytes(folder: Path) -> int:
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {total:,} bytes", file=sys.stderr)
    return total
