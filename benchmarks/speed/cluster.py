"""Translation on a Dask cluster: what a second worker brings, and what a killed one costs.

An endpoint on loopback takes a second for each reply and each worker has four requests in flight,
so that latency is all there is to gain by: two cores cannot show what a second machine computes.
"""

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import polars as pl

from benchmarks.dask_cluster import DaskCluster
from benchmarks.llm_throughput import CONFIG, HINGLISH, queries
from benchmarks.loopback_llm import LoopbackLLM
from benchmarks.speed.figures import Figure
from monoglot.generation.asking import Generated
from monoglot.generation.ledger import Ledger
from monoglot.generation.translation import translate
from monoglot.settings import Settings

TITLE = "Translation on a Dask cluster"
LATENCY_S, ROWS_PER_REQUEST, EACH = 1.0, 10, 4


class _Run(NamedTuple):
    """One purchase: wall and processor seconds, requests lost, requests seen, table's digest."""

    seconds: float
    cpu_s: float
    lost: int
    requests: int
    texts: list[str]


def measure(*, quick: bool, data: Path | None) -> list[Figure]:  # noqa: ARG001  its own rows
    """The same rows by one machine, one worker, two workers, and two of which one is killed."""
    import openai  # noqa: F401  loaded by a process's first purchase, and not measured here

    count = 800 if quick else 3_200
    here, one, two, killed = (
        _bought(count, workers, kill=kill)
        for workers, kill in ((0, False), (1, False), (2, False), (2, True))
    )
    ideal = count / ROWS_PER_REQUEST / EACH * LATENCY_S
    same = sum(run.texts == here.texts for run in (one, two, killed))
    left = killed.seconds / ideal
    return [
        Figure(f"{count:,} rows without a cluster, {EACH} requests in flight", here.seconds, "s"),
        Figure("one worker", one.seconds, "s"),
        Figure("two workers", two.seconds, "s"),
        Figure("speed-up by the second worker", one.seconds / two.seconds, "x", least=1.8),
        Figure("latencies of one worker alone, of its time", ideal / one.seconds, "x"),
        Figure("two workers, one killed at a quarter of the rows", killed.seconds, "s"),
        Figure("the same, of the latencies of one worker alone", left, "x", most=1.0),
        Figure("requests lost by the kill", killed.lost, "", most=EACH),
        Figure("requests sent beyond one for each ten rows", _beyond(killed, count), "", most=EACH),
        Figure("tables that equal the one without a cluster", same, "of 3", least=3),
        Figure("the run's own processor time a request, without a cluster", _ms(here), "ms"),
        Figure("the same with two workers", _ms(two), "ms"),
    ]


def _bought(count: int, workers: int, *, kill: bool) -> _Run:
    """Translate so many rows by so many workers; 0: without a cluster."""
    with (
        LoopbackLLM(LATENCY_S) as llm,
        DaskCluster(workers, os.environ) as cluster,
        tempfile.TemporaryDirectory() as folder,
        Ledger(Path(folder) / "ledger.sqlite") as ledger,
    ):
        settings = llm.settings(
            cluster=cluster.address if workers else "",
            llm_concurrency=EACH,
            llm_rows_per_request=ROWS_PER_REQUEST,
            llm_timeout_s=60.0,
        )
        if workers:  # a worker's first purchase loads its libraries
            _translate(EACH * workers * ROWS_PER_REQUEST, "warm-up ", settings, ledger)
        before = llm.counts()["completions"]

        def kill_one() -> None:
            while llm.counts()["completions"] - before < count / ROWS_PER_REQUEST / 4:
                time.sleep(0.1)
            cluster.kill_worker()

        killer = threading.Thread(target=kill_one, daemon=True)
        before_requests = llm.counts()["requests"]
        if kill:
            killer.start()
        started, cpu = time.perf_counter(), time.process_time()
        done = _translate(count, "", settings, ledger)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        requests = llm.counts()["requests"] - before_requests
        return _Run(seconds, cpu, done.usage.lost, requests, done.rows["text"].to_list())


def _translate(count: int, prefix: str, settings: Settings, ledger: Ledger) -> Generated:
    rows = queries(count).with_columns(pl.concat_str(pl.lit(prefix), "query").alias("query"))
    return translate(rows, HINGLISH, CONFIG, kb_language="en", settings=settings, ledger=ledger)


def _beyond(run: _Run, count: int) -> int:
    return run.requests - count // ROWS_PER_REQUEST


def _ms(run: _Run) -> float:
    return 1000 * run.cpu_s / run.requests
