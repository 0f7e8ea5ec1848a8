"""How fast rows are bought, against what the network and the disk allow; and in how much memory.

    python -m benchmarks.llm_throughput

A loopback endpoint takes 50 ms for each reply; 10 rows travel in a request, 16 requests at a time.
Each size runs in a process of its own. The ledger's own cost is measured by itself in the same
process: as many claims and durable records of the same replies, one after the other. Writes
`results/llm_throughput.json` and `.md`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.loopback_llm import MODEL, LoopbackLLM
from benchmarks.provenance import RESULTS, provenance
from benchmarks.tables import provenance_line, table
from monoglot.config import LanguageConfig
from monoglot.generation.ledger import Ledger
from monoglot.generation.owner import new_owner
from monoglot.generation.replies import Reply
from monoglot.generation.translation import translate
from monoglot.generation_config import GenerationConfig

HINGLISH = LanguageConfig(code="hi-Latn", name="Hinglish")
CONFIG = GenerationConfig(model=MODEL)
LATENCY_S, ROWS_PER_REQUEST, IN_FLIGHT = 0.05, 10, 16
SIZES = (5_000, 10_000, 20_000)


def queries(count: int) -> pl.DataFrame:
    """A knowledge base of different queries."""
    numbers = range(count)
    return pl.DataFrame(
        {
            "row_id": [f"row-{number:06}" for number in numbers],
            "query": [f"where is my parcel number {number} from the shop" for number in numbers],
            "label": ["parcel" if number % 2 else "shop" for number in numbers],
        }
    )


def measure(count: int) -> dict[str, float]:
    """Translate so many rows in this process, and write its replies once more by themselves."""
    import openai  # noqa: F401  loaded by the first purchase of a process, and not measured here

    rows = queries(count)
    with LoopbackLLM(LATENCY_S) as llm, tempfile.TemporaryDirectory() as folder:
        settings = llm.settings(
            llm_concurrency=IN_FLIGHT, llm_rows_per_request=ROWS_PER_REQUEST, llm_timeout_s=60.0
        )
        with Ledger(Path(folder) / "ledger.sqlite") as ledger:
            before_mb, cpu, started = peak_mb(), time.process_time(), time.perf_counter()
            done = translate(
                rows, HINGLISH, CONFIG, kb_language="en", settings=settings, ledger=ledger
            )
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
            grown_mb = peak_mb() - before_mb
            assert done.rows.height == count
            counts = llm.counts()
        ledger_s = write_again(Path(folder), count)
    return {
        "rows": count,
        "requests": counts["requests"],
        "most_at_once": counts["most_at_once"],
        "ideal_s": count / ROWS_PER_REQUEST / IN_FLIGHT * LATENCY_S,
        "ledger_s": ledger_s,
        "seconds": seconds,
        "cpu_s": cpu,
        "grown_mb": grown_mb,
    }


def write_again(folder: Path, count: int) -> float:
    """Seconds to claim and record the same replies durably, one after the other."""
    with Ledger(folder / "ledger.sqlite") as full:
        bodies = [body for (body,) in full._database.execute("SELECT body FROM replies")]
    replies = [Reply.of(body) for body in bodies]
    keys = [f"{number:064x}" for number in range(count)]
    packs = [keys[at : at + ROWS_PER_REQUEST] for at in range(0, count, ROWS_PER_REQUEST)]
    owner = new_owner()
    with Ledger(folder / "again.sqlite") as ledger:
        started = time.perf_counter()
        for pack, reply in zip(packs, replies, strict=True):
            ledger.claim(owner, pack, ROWS_PER_REQUEST)
            ledger.record(reply, dict.fromkeys(pack, "r0000"))
        return time.perf_counter() - started


def peak_mb() -> float:
    """The most memory that this process ever held, in MB.

    On Linux `getrusage` gives a started process its starter's peak, so the kernel is asked itself.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


def apart(count: int) -> dict[str, float]:
    """`measure` in a process of its own, whose memory nothing else has filled."""
    command = [sys.executable, "-m", "benchmarks.llm_throughput", "--only", str(count)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    figures: dict[str, float] = json.loads(ran.stdout)
    return figures


COLUMNS = {
    "ideal_s": "ideal, s",
    "ledger_s": "ledger alone, s",
    "seconds": "measured, s",
    "ratio": "measured / (ideal + ledger)",
    "cpu_s": "processor time, s",
    "grown_mb": "memory grown by, MB",
}


def report(record: dict[str, Any]) -> str:
    """The markdown beside the JSON."""
    rows = {
        f"{size['rows']:,}": {
            **{name: [size[name]] for name in COLUMNS if name != "ratio"},
            "ratio": [size["seconds"] / (size["ideal_s"] + size["ledger_s"])],
        }
        for size in record["sizes"]
    }
    lines = [
        "# Buying translations over loopback",
        "",
        *table(rows, COLUMNS, "rows"),
        "",
        f"A reply takes {LATENCY_S * 1000:.0f} ms; {ROWS_PER_REQUEST} rows a request, {IN_FLIGHT} "
        "in flight. Ideal: the latencies alone. Ledger alone: the same claims and durable records, "
        "one after the other. Memory: growth of the process's peak while it buys, input and result "
        "included.",
        "",
        f"Load average at the start {record['load']:.1f}: other work ran beside it. "
        f"{provenance_line(record['provenance'])}",
        "",
        "Made by `python -m benchmarks.llm_throughput`.",
    ]
    return "\n".join(lines) + "\n"


def main(given: Sequence[str] | None = None) -> None:
    """Measure every size, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llm_throughput")
    parser.add_argument("--only", type=int, help="print the figures of so many rows, write nothing")
    chosen = parser.parse_args(given)
    if chosen.only:
        print(json.dumps(measure(chosen.only)))
        return
    record = {
        "benchmark": "llm_throughput",
        "load": os.getloadavg()[0],
        "provenance": provenance(),
        "sizes": [apart(count) for count in SIZES],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "llm_throughput.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    (RESULTS / "llm_throughput.md").write_text(report(record), "utf-8")
    print(report(record))


if __name__ == "__main__":
    main()
