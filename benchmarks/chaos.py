"""The whole line, again and again, while everything that can go wrong does.

    python -m benchmarks.chaos [--runs 50] [--seed 0]

Before each run the knowledge base is edited. The run is disturbed in one of these ways, in turn,
and then started again undisturbed, until the edit answers:

- **flow killed**: `kill -9` of the flow's process at a random moment;
- **server killed**: `kill -9` of its temporary Prefect server at a random moment;
- **disk full**: no file of the process may grow beyond 100 kB (RLIMIT_FSIZE, which gives EFBIG
  where a full disk gives ENOSPC; the store treats both alike);
- **read-only**: the run is started by a user who may not write the store (only where this
  benchmark runs as root);
- **endpoint dead**: the LLM endpoint drops every connection before the first byte;
- **clock jump**: in the process the clock is 400 days ahead, or behind;
- **two triggers**: a second run is started at a random moment of the first.

All the while a reader searches with `Retriever`, and looks at each release that becomes visible.
Writes `results/chaos.json` and `.md`. The worker and a server of the user's own are not part of it.
"""

import argparse
import contextlib
import importlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.llm_throughput import RESULTS
from benchmarks.provenance import ROOT, provenance
from benchmarks.tables import provenance_line
from monoglot import Retriever
from monoglot.errors import MonoglotError
from monoglot.serving.releases import Releases
from monoglot.store import Store

FAULTS = (
    "flow killed",
    "server killed",
    "endpoint dead",
    "flow killed",
    "disk full",
    "two triggers",
    "clock jump",
    "read-only",
)
_FILE_LIMIT = 100_000
_TRIES = 5  # undisturbed runs until the edit must answer
_RUN = "from flows.cli import main; main()"
# Root's Python may be out of this user's reach: what a run needs is loaded before.
_UNPRIVILEGED = """
import os
import flows.cli, flows.show, monoglot.planning
from flows import running
running._load()
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
"""
_JUMP = """
import datetime, time
import monoglot.serving.manifest as manifest
DAYS = {days}
real = time.time
time.time = lambda: real() + DAYS * 86400
class Jumped(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.now(tz) + datetime.timedelta(days=DAYS)
manifest.datetime = Jumped
"""


@dataclass
class Reader:
    """Searches without a pause, in a thread, for a row that is in every version."""

    store: Path
    text: str
    searches: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    half_built: list[str] = field(default_factory=list)
    releases: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        retriever = Retriever(self.store, "cpu")
        releases = Releases(Store.existing(str(self.store)))
        while not self._stop.wait(0.02):
            try:
                retriever.refresh()
                found = retriever.search(self.text)
            except Exception as error:  # whatever a service would have seen
                self.failed.append(repr(error))
                continue
            self.searches += 1
            if self.text not in [answer.query for answer in found]:
                self.wrong.append(f"{retriever.release.id}: {found[:1]}")
            if retriever.release.id not in self.releases:
                self.releases.add(retriever.release.id)
                try:
                    releases.verify(retriever.release)
                except MonoglotError as error:
                    self.half_built.append(str(error))


class Line:
    """A small line on disk with its endpoint, and processes that run it."""

    def __init__(self, folder: Path, endpoint: Any) -> None:
        self.folder = folder
        self.store = folder / "store"
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"},
            **endpoint.environment,
            "PYTHONPATH": str(ROOT),
        }

    def edit(self, number: int) -> str:
        """Reword one row; the new text, which the LLM has not translated yet."""
        path, text = self.folder / "kb.csv", f"please send me invoice copy {number} of my order"
        rows = pl.read_csv(path)
        at = pl.int_range(pl.len()) == rows.height - 1
        rows.with_columns(query=pl.when(at).then(pl.lit(text)).otherwise("query")).write_csv(path)
        return text

    def start(self, before: str = "", **options: Any) -> "subprocess.Popen[str]":
        """`monoglot run` in a process of its own, after some code."""
        config = str(self.folder / "monoglot.yaml")
        command = [sys.executable, "-c", f"{before}\n{_RUN}", "run", "--force", "-c", config]
        return subprocess.Popen(  # noqa: S603
            [*command, "--json"],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def answers(self, text: str) -> bool:
        """Whether the release in production holds a row."""
        current = Releases(store := Store.existing(str(self.store))).current()
        if current is None:
            return False
        return text in store.table(current.knowledge_base)["query"]


def disturb(line: Line, fault: str, moment: float, endpoint_dead: threading.Event) -> str:
    """One disturbed run; what came of it: `exit 0`, `exit 1: <last line>`, `killed`."""
    from_the_start: dict[str, dict[str, Any]] = {
        "clock jump": {"before": _JUMP.format(days=400 if moment % 1 < 0.5 else -400)},
        "disk full": {"preexec_fn": _no_large_files},
        "read-only": {"before": _UNPRIVILEGED},
    }
    if fault in from_the_start:
        return _outcome(line.start(**from_the_start[fault]))
    if fault == "endpoint dead":
        endpoint_dead.set()
        try:
            return _outcome(line.start())
        finally:
            endpoint_dead.clear()
    process = line.start()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    if fault == "two triggers":
        second = _outcome(line.start())
        return f"{_outcome(process)}; the second: {second}"
    victim = process.pid if fault == "flow killed" else _server_of(process.pid)
    if victim and process.poll() is None:
        os.kill(victim, signal.SIGKILL)
        return f"killed after {moment:.1f} s; {_outcome(process)}"
    return f"too late to kill; {_outcome(process)}"


def _no_large_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_LIMIT, _FILE_LIMIT))


def _server_of(parent: int) -> int | None:
    """The temporary Prefect server among a process's children."""
    listed = Path(f"/proc/{parent}/task/{parent}/children")
    for child in listed.read_text().split() if listed.exists() else ():
        with contextlib.suppress(OSError):
            if b"flows.server" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    return None


def _outcome(process: "subprocess.Popen[str]") -> str:
    _, told = process.communicate()
    last = told.strip().splitlines()[-1:] or [""]
    return f"exit {process.returncode}" + (f": {last[0][:200]}" if process.returncode else "")


def recover(line: Line, text: str) -> tuple[float, int, list[str]]:
    """Run undisturbed until the edit answers: seconds, runs, and what failed meanwhile."""
    started, failures = time.monotonic(), []
    for tries in range(_TRIES):
        if tries or not line.answers(text):
            outcome = _outcome(line.start())
            if outcome != "exit 0":
                failures.append(outcome)
        if line.answers(text):
            return time.monotonic() - started, tries + 1, failures
    raise SystemExit(f"the edit {text!r} does not answer after {_TRIES} runs: {failures}")


def chaos(folder: Path, runs: int, seed: int) -> dict[str, Any]:
    """All runs on one store; the record."""
    sys.path.insert(0, str(ROOT / "tests"))  # the small line and the endpoint are the tests' own
    tiny_line, llm = (importlib.import_module(name) for name in ("tiny_line", "llm_server"))
    draw = random.Random(seed)  # noqa: S311  no secret
    dead, lost = threading.Event(), Counter[str]()

    def fault_of(request: Any) -> Any:
        if not dead.is_set():
            return None
        lost.update(request.texts)
        return llm.Fault.dropped()

    languages = [{"code": "hi-Latn", "name": "Hinglish"}]
    tiny_line.write_line(
        folder,
        languages=languages,
        fine_tuning={"epochs": 12, "batch_size": 32, "learning_rate": 0.02},
        retention={"releases": 2, "grace_hours": 0.01},
    )
    for path in folder.rglob("*"):  # for the user who may read alone
        path.chmod(0o755 if path.is_dir() else 0o644)
    with llm.LLMServer(faults=fault_of) as endpoint:
        line = Line(folder, endpoint)
        steady = pl.read_csv(folder / "kb.csv")["query"][0]
        began = time.monotonic()
        first = _outcome(line.start())
        if first != "exit 0":
            raise SystemExit(f"the first, undisturbed run failed: {first}")
        undisturbed = time.monotonic() - began
        with Reader(line.store, steady) as reader:
            disturbed = list(_runs(line, runs, draw, undisturbed, dead))
        asked = dict(endpoint.rows)
    twice = {text: n - 1 - lost[text] for text, n in asked.items() if n - 1 > lost[text]}
    return {
        "runs": disturbed,
        "undisturbed_s": round(undisturbed, 1),
        "rows_bought": len(asked),
        "bought_twice": twice,
        "answers_lost_by_the_endpoint": sum(lost.values()),
        "searches": reader.searches,
        "wrong": reader.wrong,
        "failed": reader.failed,
        "half_built": reader.half_built,
        "releases_seen": len(reader.releases),
    }


def _runs(
    line: Line, runs: int, draw: random.Random, undisturbed: float, dead: threading.Event
) -> Iterator[dict[str, Any]]:
    faults = [fault for fault in FAULTS if fault != "read-only" or os.geteuid() == 0]
    for number in range(runs):
        fault, moment = faults[number % len(faults)], draw.uniform(0, undisturbed)
        text = line.edit(number)
        came = disturb(line, fault, moment, dead)
        seconds, tries, failures = recover(line, text)
        result = {
            "fault": fault,
            "outcome": came,
            "recovered_s": round(seconds, 1),
            "tries": tries,
            "failures": failures,
        }
        print(json.dumps(result), file=sys.stderr, flush=True)
        yield result


def report(record: dict[str, Any]) -> str:
    """The markdown beside the JSON."""
    runs = record["runs"]
    killed = sum(run["outcome"].startswith("killed") for run in runs)
    lines = [
        "# The whole line under chaos",
        "",
        f"{len(runs)} disturbed runs on one store, {killed} of them killed with `kill -9`; an "
        f"undisturbed run takes {record['undisturbed_s']} s. A reader made {record['searches']:,} "
        f"searches over {record['releases_seen']} releases: **{len(record['wrong'])} wrong, "
        f"{len(record['failed'])} failed**. Half-built releases visible: "
        f"**{len(record['half_built'])}**. Of {record['rows_bought']} texts, "
        f"**{sum(record['bought_twice'].values())}** were bought twice (one may be in flight at "
        f"each kill); {record['answers_lost_by_the_endpoint']} answers were lost by the endpoint.",
        "",
        "| disturbed by | runs | s to recover, most | tries, most | what the run said, first |",
        "|---|---|---|---|---|",
    ]
    for fault in dict.fromkeys(run["fault"] for run in runs):
        these = [run for run in runs if run["fault"] == fault]
        said = these[0]["outcome"].replace("|", "/")
        lines.append(
            f"| {fault} | {len(these)} | {max(run['recovered_s'] for run in these)} | "
            f"{max(run['tries'] for run in these)} | {said} |"
        )
    lines += [
        "",
        "Seconds to recover are those of undisturbed runs until the edit answered. What each "
        "disturbance is: `benchmarks/chaos.py`. Worker and server of one's own were not killed.",
        "",
        provenance_line(record["provenance"]),
        "",
        f"Made by `python -m benchmarks.chaos --runs {len(runs)} --seed {record['seed']}`.",
    ]
    return "\n".join(lines) + "\n"


def main(given: Sequence[str] | None = None) -> None:
    """Run it, write the results, and fail where a reader was let down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    chosen = parser.parse_args(given)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        made = chaos(Path(folder), chosen.runs, chosen.seed)
    record = {"benchmark": "chaos", "seed": chosen.seed, "provenance": provenance(), **made}
    chosen.results.mkdir(parents=True, exist_ok=True)
    (chosen.results / "chaos.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    (chosen.results / "chaos.md").write_text(report(record), "utf-8")
    print(report(record))
    kills = sum(run["fault"] == "flow killed" for run in made["runs"])
    if (
        made["wrong"]
        or made["failed"]
        or made["half_built"]
        or sum(made["bought_twice"].values()) > kills
    ):
        raise SystemExit("a reader was let down, or a translation was bought twice: see above")


if __name__ == "__main__":
    main()
