"""Where a figure comes from: commit, date and hardware, written beside every table."""

import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_PACKAGES = ("torch", "sentence-transformers", "transformers", "lancedb", "polars", "prefect")


def provenance() -> dict[str, Any]:
    """What one needs to judge a figure, or to measure it again."""
    return {
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "gpu": gpu_model(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES if _is_installed(name)},
    }


def _is_installed(package: str) -> bool:
    """A training beside a GPU needs not all of them."""
    return any(metadata.distributions(name=package))


def commit() -> str:
    """The short commit of the checkout; `-dirty` where tracked files differ from it.

    Results do not count: a benchmark that writes them, file by file, changes no code by that.
    """
    head = _git("rev-parse", "--short=10", "HEAD")
    results = (":!benchmarks/results", ":!benchmarks/RESULTS.md")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *results)
    return (head or "unknown") + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    """What git says of the checkout; empty where there is none."""
    command = ["git", "-C", str(ROOT), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return ran.stdout.strip()


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        return ran.stdout.strip() or platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def gpu_model() -> str | None:
    """The first GPU's name, or None where torch sees none."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
