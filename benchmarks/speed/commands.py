"""`monoglot` in a process of its own, and what its run recorded."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.provenance import ROOT

_RUN = "from flows.cli import main; main()"


@dataclasses.dataclass(frozen=True)
class Ran:
    """How long a process took, and the memory that it held at most."""

    seconds: float
    peak_gib: float


def monoglot(command: str, config: Path) -> Ran:
    """One command in a process of its own, with the memory of the largest process of its tree."""
    return _ran([command, "-c", str(config), "--json"])


def demo(store: Path) -> Ran:
    """`monoglot demo`, into a store."""
    return _ran(["demo", "--store", str(store)])


def _ran(arguments: Sequence[str]) -> Ran:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MONOGLOT_"))}
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", _RUN, *arguments],
            cwd=ROOT,
            env=kept,
            stdout=subprocess.DEVNULL,
            stderr=told,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            told.seek(0)
            raise SystemExit(f"monoglot {arguments[0]} failed: {told.read()[-2000:]}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return Ran(seconds, usage.ru_maxrss * unit / 2**30)


def stages_of(store: Path) -> list[dict[str, Any]]:
    """The stages in the record of a store's only run."""
    records: list[dict[str, Any]] = [
        json.loads(path.read_text()) for path in (store / "runs").glob("*.json")
    ]
    [stages] = [record["stages"] for record in records if "stages" in record]
    return list(stages)
