"""A search: its parts, at 3,000 to a million rows, by one caller and by eight; and the first one.

Rows and queries are encoded with a static-embedding model of 384 dimensions, so that a million
vectors are made in a minute; what a transformer needs for one query is measured beside it.
"""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.provenance import ROOT
from benchmarks.speed.figures import Figure
from benchmarks.speed.rows import edited, made_rows, with_all_columns
from benchmarks.speed.static import static_model
from monoglot import Retriever
from monoglot.learning.encoder import Encoder
from monoglot.learning.models import OFFLINE_MINILM, model_folder
from monoglot.serving.index import Index
from monoglot.serving.manifest import Release
from monoglot.serving.neighbours import Floats, Hits, nearest, recall
from monoglot.serving.releases import Releases
from monoglot.store import Artifact, Store

TITLE = "A search"
_QUERIES, _THREADS = 300, 8
_FIRST = """
import sys, time
started = time.perf_counter()
from monoglot import Retriever
Retriever(sys.argv[1], "cpu").search("where is my order")
print(time.perf_counter() - started)
"""
_FIRST_BY_HAND = """
import sys, time
started = time.perf_counter()
from sentence_transformers import SentenceTransformer
SentenceTransformer(sys.argv[1], device="cpu").encode(["where is my order"])
print(time.perf_counter() - started)
"""


def measure(*, quick: bool, data: Path | None) -> list[Figure]:
    """Stores of several sizes, made and searched."""
    figures = _transformer()
    for size in (3_000, 20_000) if quick else (3_000, 50_000, 100_000, 1_000_000):
        with tempfile.TemporaryDirectory() as folder:
            figures += _measured(Path(folder), size, data)
    return figures


def _transformer() -> list[Figure]:
    """One query by MiniLM, and a process from nothing to its first answer."""
    encoder = Encoder.load(OFFLINE_MINILM, device="cpu")
    times = _times(lambda n: encoder.encode([f"where is my order {n}"]), 100)
    rows = made_rows(1_000, 20, None)
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "store", OFFLINE_MINILM, encoder, rows)
        first = _first(_FIRST, str(store))
    by_hand = _first(_FIRST_BY_HAND, str(model_folder(OFFLINE_MINILM)))
    return [
        Figure("one query encoded by MiniLM, p50", _percentile(times, 50), "ms"),
        Figure("import to first answer, MiniLM, warm", first, "s", most=4.0),
        Figure("the same against sentence-transformers alone", first / by_hand, "x"),
    ]


def _measured(folder: Path, size: int, data: Path | None) -> list[Figure]:
    rows = made_rows(size + _QUERIES, max(20, size // 100), data)
    asked, rows = rows.tail(_QUERIES)["query"].to_list(), rows.head(size)
    encoder = Encoder.load(str(static_model()), device="cpu")
    store = make_store(folder / "store", str(static_model()), encoder, rows)
    retriever = Retriever(store, "cpu")
    retriever.search_many(asked)
    retriever._held.index.finish_loading()
    release = retriever.release
    index = Index.at(
        Store.existing(str(store)).index_uri, release.index_table, release.index_version
    )
    vectors = encoder.encode(asked)
    index.load()
    index.nearest(vectors, 10)
    index.finish_loading()
    nearest = _times(lambda n: index.nearest(vectors[n : n + 1], 10), _QUERIES)
    whole = _times(lambda n: retriever.search(asked[n]), _QUERIES)
    batch = _times(lambda n: retriever.search_many(asked[n * 32 : n * 32 + 32]), 9)
    named = f"{size:,} rows"
    return [
        Figure(f"index search alone, {named}, p50", _percentile(nearest, 50), "ms", most=10.0),
        Figure(f"index search alone, {named}, p99", _percentile(nearest, 99), "ms"),
        Figure(f"`Retriever.search`, {named}, p50", _percentile(whole, 50), "ms"),
        Figure(f"`Retriever.search`, {named}, p99", _percentile(whole, 99), "ms"),
        Figure(f"32 queries at once, {named}, p50 a query", _percentile(batch, 50) / 32, "ms"),
        Figure(f"{_THREADS} threads, {named}", _throughput(retriever, asked), "queries/s"),
        Figure(f"recall@10 against exact, {named}", _recall(index, vectors), "", least=0.99),
    ]


def make_store(folder: Path, name: str, encoder: Encoder, rows: pl.DataFrame) -> Path:
    """A store whose release answers with these rows by this model, without a run.

    A row in a thousand was edited since it was built, as in any store but a new one.
    """
    store = Store.open(str(folder))
    index = Index.of_model(store.index_uri, encoder.digest, encoder.dimensions)
    rows = with_all_columns(rows)
    index.sync(edited(rows, max(1, rows.height // 1_000), "once"), encoder.encode)
    done = index.sync(rows, encoder.encode)
    with store.writer():
        Releases(store).promote(
            Release(
                model=None,
                model_name=name,
                model_digest=encoder.digest,
                index_table=done.table,
                index_version=done.version,
                index_content=done.content,
                rows=done.rows,
                knowledge_base=Artifact(stage="none", digest="", location="none", rows=rows.height),
                config_digest="",
            ),
            seq=0,
        )
    return folder


def _first(code: str, argument: str) -> float:
    """The least of three processes, of which the first warms the disk's cache."""
    return min(
        float(
            subprocess.run(  # noqa: S603
                [sys.executable, "-c", code, argument],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()[-1]
        )
        for _ in range(3)
    )


def _times(run: Callable[[int], object], count: int) -> Sequence[float]:
    """Milliseconds of each call."""
    taken = []
    for number in range(count):
        started = time.perf_counter()
        run(number)
        taken.append((time.perf_counter() - started) * 1000)
    return taken


def _percentile(times: Sequence[float], share: float) -> float:
    return float(np.percentile(times, share))


def _throughput(retriever: Retriever, asked: Sequence[str]) -> float:
    """Queries a second by callers that ask one at a time, all the while."""

    def caller(first: int) -> None:
        for text in asked[first::_THREADS]:
            retriever.search(text)

    callers = [threading.Thread(target=caller, args=(first,)) for first in range(_THREADS)]
    started = time.perf_counter()
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    return len(asked) / (time.perf_counter() - started)


def _recall(index: Index, vectors: Floats) -> float:
    """Of queries that are no rows of the index."""
    found = index.nearest(vectors, 10)
    everything = index.vectors().matrix
    exact = nearest(everything, vectors, 10)
    reached = exact.group_by("question", maintain_order=True).agg(pl.col("score").min())
    hits = Hits(*(found[it].to_numpy() for it in ("question", "row", "score")))
    return recall(hits, reached["score"].to_numpy())
