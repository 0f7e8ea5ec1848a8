"""The whole line, again and again, while everything that can go wrong does.

    python -m benchmarks.chaos [--runs 50] [--seed 0]

Before each run the knowledge base is edited. The run is disturbed, at a random moment, in one of
the ways of `FAULTS`, in turn; then it is started again, undisturbed, until the edit answers. Some
runs are started by a worker of `make serve`, which a supervisor starts again when it has ended,
some by `monoglot run` with a temporary server of its own.

All the while a reader searches with `Retriever`, and looks at each release that becomes visible.
Writes `results/chaos.json` and `.md`. Linux; what only root can do (fill a file system, become a
user who may not write) and what needs a C compiler is left out where it cannot be had, and told.
"""

import argparse
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.chaos_line import Clock, Disk, Line, Served, kill, outcome_of, own_server_of
from benchmarks.from_tests import from_tests
from benchmarks.provenance import RESULTS, provenance
from benchmarks.tables import provenance_line
from monoglot import Retriever
from monoglot.errors import MonoglotError
from monoglot.serving.releases import Releases
from monoglot.store import Store

_TRIES = 5  # undisturbed runs until the edit must answer
_LEFT_ON_A_FULL_DISK = 2_000_000
_DAYS = 400


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


@dataclass
class Scene:
    """What a fault is done to."""

    line: Line
    served: Served
    disk: Disk | None
    folder: Path
    draw: random.Random
    endpoint_dead: threading.Event = field(default_factory=threading.Event)
    run_s: float = 0.0

    def moment(self) -> float:
        """Seconds into a run."""
        return self.draw.uniform(0, self.run_s)


def _kill_served(*victims: Callable[[Served], int | None]) -> Callable[[Scene], str]:
    """A run of the worker's, at a random moment of which processes are killed together."""

    def fault(scene: Scene) -> str:
        run = scene.served.trigger("retrain")
        moment = scene.moment()
        time.sleep(moment)
        killed = [kill(pid) for pid in [victim(scene.served) for victim in victims]]
        when = f"killed after {moment:.1f} s" if any(killed) else "too late to kill"
        if victims == (Served.flow,):
            return f"{when}; {scene.served.wait(run)}"
        scene.served.again()  # and nobody tells of the run's end but the next run
        return when

    return fault


def _kill_run(victim: Callable[[int], int | None]) -> Callable[[Scene], str]:
    def fault(scene: Scene) -> str:
        process = scene.line.start()
        moment = scene.moment()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        if process.poll() is None and kill(victim(process.pid)):
            return f"killed after {moment:.1f} s; {outcome_of(process)}"
        return f"too late to kill; {outcome_of(process)}"

    return fault


def _two_triggers(scene: Scene) -> str:
    first = scene.served.trigger("retrain")
    time.sleep(scene.moment())
    second = scene.served.trigger("on-kb-change")
    return f"{scene.served.wait(first)}; the second: {scene.served.wait(second)}"


def _dead_endpoint(scene: Scene) -> str:
    scene.endpoint_dead.set()
    try:
        return outcome_of(scene.line.start())
    finally:
        scene.endpoint_dead.clear()


def _full_disk(scene: Scene) -> str:
    assert scene.disk is not None
    process = scene.line.start()
    time.sleep(scene.moment())
    with scene.disk.full(scene.draw.randrange(_LEFT_ON_A_FULL_DISK)):
        return outcome_of(process)


def _read_only(scene: Scene) -> str:
    return outcome_of(scene.line.start_unprivileged())


def _clock_jump(scene: Scene) -> str:
    clock = Clock(scene.folder)
    process = scene.line.start(environment=clock.environment)
    time.sleep(scene.moment())
    days = scene.draw.choice((_DAYS, -_DAYS))
    clock.jump(days)
    return f"{days:+d} days; {outcome_of(process)}"


FAULTS: dict[str, tuple[str, Callable[[Scene], str]]] = {
    "flow killed": ("`kill -9` of the process of a worker's run", _kill_served(Served.flow)),
    "disk full": ("the store's file system has less than 2 MB left", _full_disk),
    "server killed": ("`kill -9` of Prefect's server", _kill_served(Served.server)),
    "two triggers": ("`on-kb-change` is started while `retrain` runs", _two_triggers),
    "worker killed": ("`kill -9` of the worker; its run goes on", _kill_served(Served.worker)),
    "run killed": ("`kill -9` of `monoglot run`", _kill_run(lambda pid: pid)),
    "endpoint dead": ("the LLM endpoint drops every connection", _dead_endpoint),
    "worker and flow killed": (
        "`kill -9` of both: nobody tells the server",
        _kill_served(Served.worker, Served.flow),
    ),
    "clock jump": ("the run's wall clock jumps by 400 days, ahead or back", _clock_jump),
    "its server killed": (
        "`kill -9` of the temporary server of `monoglot run`",
        _kill_run(own_server_of),
    ),
    "read-only": ("`monoglot run` by a user who may not write the store", _read_only),
}


def _possible(disk: Disk | None) -> list[str]:
    """The faults that can be had on this machine."""
    lacking = {
        "disk full": disk is None,
        "read-only": os.geteuid() != 0,
        "clock jump": not Clock.can_be_had,
    }
    return [name for name in FAULTS if not lacking.get(name, False)]


def recover(scene: Scene, text: str) -> tuple[float, int, list[str]]:
    """Run undisturbed until the edit answers: seconds, runs, and what failed meanwhile."""
    started, failures = time.monotonic(), []
    for tries in range(_TRIES):
        if scene.line.answers(text):
            return time.monotonic() - started, tries, failures
        came = scene.served.wait(scene.served.trigger("retrain"))
        if came != "Completed":
            failures.append(came)
    if scene.line.answers(text):
        return time.monotonic() - started, _TRIES, failures
    raise SystemExit(f"the edit {text!r} does not answer after {_TRIES} runs: {failures}")


def chaos(folder: Path, runs: int, seed: int) -> dict[str, Any]:
    """All runs on one store; the record."""
    tiny_line, llm = from_tests("tiny_line"), from_tests("llm_server")
    lost = Counter[str]()

    def fault_of(request: Any) -> Any:
        if not scene.endpoint_dead.is_set():
            return None
        lost.update(request.texts)
        return llm.Fault.dropped()

    disk = Disk.make(folder / "disk")
    shop = folder / "shop"
    tiny_line.write_line(
        shop,
        languages=[{"code": "hi-Latn", "name": "Hinglish"}],
        fine_tuning={"epochs": 12, "batch_size": 32, "learning_rate": 0.02},
        retention={"releases": 2, "grace_hours": 0.01},
        store=str(folder / "disk/store"),
    )
    for path in shop.rglob("*"):  # for the user who may read alone
        path.chmod(0o755 if path.is_dir() else 0o644)
    try:
        with llm.LLMServer(faults=fault_of) as endpoint:
            line = Line(shop, folder / "disk/store", endpoint.environment)
            with Served(line, folder / "prefect", _free_port()) as served:
                scene = Scene(line, served, disk, folder, random.Random(seed))  # noqa: S311
                record = _all_runs(scene, runs)
            asked = dict(endpoint.rows)
    finally:
        if disk is not None:
            disk.unmount()
    twice = {text: n - 1 - lost[text] for text, n in asked.items() if n - 1 > lost[text]}
    return record | {
        "left_out": [name for name in FAULTS if name not in _possible(disk)],
        "rows_bought": len(asked),
        "bought_twice": twice,
        "answers_lost_by_the_endpoint": sum(lost.values()),
        "restarts_of_serve": served.restarts,
    }


def _all_runs(scene: Scene, runs: int) -> dict[str, Any]:
    began = time.monotonic()
    first = scene.served.wait(scene.served.trigger("retrain"))
    if first != "Completed":
        raise SystemExit(f"the first, undisturbed run failed: {first}")
    scene.run_s = time.monotonic() - began
    steady = pl.read_csv(scene.line.config.with_name("kb.csv"))["query"][0]
    with Reader(scene.line.store, steady) as reader:
        disturbed = list(_disturbed(scene, runs))
    left_open = scene.served.open_runs()
    return {
        "runs": disturbed,
        "undisturbed_s": round(scene.run_s, 1),
        "searches": reader.searches,
        "wrong": reader.wrong,
        "failed": reader.failed,
        "half_built": reader.half_built,
        "releases_seen": len(reader.releases),
        "left_open": left_open,
    }


def _disturbed(scene: Scene, runs: int) -> Iterator[dict[str, Any]]:
    faults = _possible(scene.disk)
    for number in range(runs):
        fault = faults[number % len(faults)]
        text = scene.line.edit(number)
        came = FAULTS[fault][1](scene)
        seconds, tries, failures = recover(scene, text)
        scene.served.settle()
        result = {
            "fault": fault,
            "outcome": came.replace(f"{scene.folder}/", ""),
            "recovered_s": round(seconds, 1),
            "tries": tries,
            "failures": failures,
        }
        print(json.dumps(result), file=sys.stderr, flush=True)
        yield result


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


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
        f"each kill); {record['answers_lost_by_the_endpoint']} answers were lost by the endpoint. "
        f"`make serve` was started again {record['restarts_of_serve']} times; "
        f"{record['left_open']} runs whose process is gone are still shown as running.",
        "",
        "| disturbed by | which is | runs | s to recover: median, most | runs needed, most | what "
        "the first one said |",
        "|---|---|---|---|---|---|",
    ]
    for fault in dict.fromkeys(run["fault"] for run in runs):
        these = [run for run in runs if run["fault"] == fault]
        seconds = sorted(run["recovered_s"] for run in these)
        said = these[0]["outcome"].replace("|", "/")
        lines.append(
            f"| {fault} | {FAULTS[fault][0]} | {len(these)} | "
            f"{seconds[len(seconds) // 2]}, {seconds[-1]} | {max(run['tries'] for run in these)} | "
            f"{said} |"
        )
    lines += [
        "",
        "Seconds to recover count from the end of the disturbed run, or from the kill, to the "
        "moment at which the edit answers, by undisturbed runs of the worker.",
        *([f"Left out here: {', '.join(record['left_out'])}."] if record["left_out"] else []),
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
    kills = sum(run["outcome"].startswith("killed") for run in made["runs"])
    if (
        made["wrong"]
        or made["failed"]
        or made["half_built"]
        or sum(made["bought_twice"].values()) > kills
    ):
        raise SystemExit("a reader was let down, or a translation was bought twice: see above")


if __name__ == "__main__":
    main()
