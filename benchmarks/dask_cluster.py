"""A Dask cluster of real processes on loopback: a scheduler, and workers that can be killed."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from benchmarks.provenance import ROOT

_START_S = 60.0


class DaskCluster:
    """The cluster as its starter sees it; a context manager.

    Args:
        workers: how many processes work.
        environment: of all processes.

    Attributes:
        address: of the scheduler.
        workers: the processes.
    """

    def __init__(self, workers: int, environment: Mapping[str, str]) -> None:
        self.address = ""
        self.workers: list[subprocess.Popen[bytes]] = []
        self._count = workers
        self._environment = dict(environment)
        self._folder = tempfile.TemporaryDirectory(prefix="monoglot-dask-")

    def __enter__(self) -> Self:
        file = Path(self._folder.name) / "scheduler.json"
        own = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)]
        self._scheduler = self._start("scheduler", *own)
        end = time.monotonic() + _START_S
        while not file.exists() or not file.read_text():
            assert time.monotonic() < end, "no scheduler within a minute"
            time.sleep(0.05)
        self.address = str(json.loads(file.read_text())["address"])
        for _ in range(self._count):
            self.add_worker()
        if self._count:
            self.wait_for_workers(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.workers, self._scheduler):
            process.kill()
            process.wait()
        self._folder.cleanup()

    def add_worker(self) -> None:
        """Start one more worker."""
        folder = ["--local-directory", self._folder.name]
        self.workers.append(
            self._start("worker", self.address, "--nthreads", "1", "--no-nanny", *folder)
        )

    def wait_for_workers(self, count: int) -> None:
        """Return when so many have joined."""
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=_START_S)

    def kill_worker(self) -> None:
        """Kill one as `kill -9` does."""
        process = self.workers.pop()
        process.kill()
        process.wait()

    def _start(self, what: str, *options: str) -> Any:
        with (Path(self._folder.name) / f"{what}.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "dask", what, "--no-dashboard", *options],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
