"""Run the measurements, each alone in a process, and write `results/speed/`."""

import argparse
import dataclasses
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, ROOT, gpu_model, provenance
from benchmarks.speed.figures import page
from benchmarks.tables import provenance_line

NAMES = (
    *("orchestration", "searching", "encoding", "training", "gpu"),
    *("mining", "indexing", "million", "cluster"),
)


def main(given: Sequence[str] | None = None) -> None:
    """Measure what is asked for, and make the page of all that has been measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed")
    parser.add_argument("--quick", action="store_true", help="small sizes: under ten minutes")
    parser.add_argument("--only", nargs="+", choices=NAMES, help="else all that can be had")
    parser.add_argument("--data", type=Path, help="folder of the public sets; else the sample")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    parser.add_argument("--figures-to", type=Path, help=argparse.SUPPRESS)  # of one measurement
    chosen = parser.parse_args(given)
    if chosen.figures_to is not None:
        [name] = chosen.only
        measure = importlib.import_module(f"benchmarks.speed.{name}").measure
        figures = [dataclasses.asdict(it) for it in measure(quick=chosen.quick, data=chosen.data)]
        chosen.figures_to.write_text(json.dumps(figures), encoding="utf-8")
        return
    only = chosen.only or [name for name in NAMES if name != "gpu" or gpu_model()]
    chosen.results.mkdir(parents=True, exist_ok=True)
    path = chosen.results / "speed.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for name in only:
        figures = _alone(name, chosen)
        known[name] = {"provenance": provenance(), "quick": chosen.quick, "figures": figures}
        path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        (chosen.results / "speed.md").write_text(report(known), encoding="utf-8")
        print("\n".join(page(name, figures)), flush=True)


def report(known: dict[str, Any]) -> str:
    """The page of all measurements, in their order."""
    lines = ["# Speed", "", "`x`: ratio of two things measured in one run."]
    for name in NAMES:
        if name in known:
            title = importlib.import_module(f"benchmarks.speed.{name}").TITLE
            sizes = " (small sizes)" if known[name]["quick"] else ""
            lines += page(title + sizes, known[name]["figures"])
            lines += ["", provenance_line(known[name]["provenance"])]
    return "\n".join([*lines, "", "Made by `python -m benchmarks.speed`."]) + "\n"


def _alone(name: str, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures of one measurement, which has memory and caches to itself."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        options = ["--quick"] * chosen.quick
        options += ["--data", str(chosen.data.resolve())] if chosen.data else []
        command = [sys.executable, "-m", "benchmarks.speed", "--only", name, *options]
        subprocess.run([*command, "--figures-to", str(out)], cwd=ROOT, check=True)  # noqa: S603
        found: list[dict[str, Any]] = json.loads(out.read_text())
        return found


if __name__ == "__main__":
    main()
