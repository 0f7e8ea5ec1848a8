"""What becomes of rows, replies and money where an endpoint fails and processes die.

    python -m benchmarks.llm_faults

Three runs over a loopback endpoint (`loopback_llm`), 10 rows a request, 8 requests in flight:

- **faults**, twice with one seed: 20 % of the requests fail, in a random mixture of every kind, and
  2 % of the rows are never answered.
- **kills**: the process is killed (`kill -9`) at ten random moments, and started again each time.
- **two at once**: two processes translate overlapping rows into one store.

Writes `results/llm_faults.json` and `.md`.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.llm_throughput import CONFIG, HINGLISH, queries
from benchmarks.loopback_llm import LoopbackLLM, is_poisoned, translation_of
from benchmarks.provenance import RESULTS, provenance
from benchmarks.tables import provenance_line
from monoglot.generation.asking import Generated
from monoglot.generation.ledger import Ledger
from monoglot.generation.translation import pending, translate
from monoglot.identity import frame_digest
from monoglot.settings import Settings, read_settings

ROWS_PER_REQUEST, IN_FLIGHT = 10, 8


def buy(rows: pl.DataFrame, settings: Settings, path: Path) -> Generated:
    """Translate some rows with a ledger."""
    with Ledger(path) as ledger:
        return translate(rows, HINGLISH, CONFIG, kb_language="en", settings=settings, ledger=ledger)


def settings_of(llm: LoopbackLLM) -> Settings:
    """Settings that lead to an endpoint, at this benchmark's packing and concurrency."""
    return llm.settings(llm_rows_per_request=ROWS_PER_REQUEST, llm_concurrency=IN_FLIGHT)


def under_faults(
    count: int, folder: Path, *, share: float = 0.2, poisoned: float = 0.02, seed: int = 0
) -> dict[str, Any]:
    """Translate rows over an endpoint that fails, and see what came of each.

    Returns:
        The endpoint's counts; the rows translated, rightly translated, and refused with a reason;
        whether exactly the poisoned rows were refused; digests of both tables.
    """
    rows = queries(count)
    with LoopbackLLM(0.01, faults=share, poisoned=poisoned, seed=seed) as llm:
        made = buy(rows, settings_of(llm), folder / "ledger.sqlite")
        counts = llm.counts()
    right = [
        text == translation_of(english)
        for text, english in made.rows.select("text", "english").iter_rows()
    ]
    never = {text for text in rows["query"] if is_poisoned(text, poisoned, seed)}
    refused = made.rejects.filter(pl.col("reason").str.len_chars() > 0)["value"]
    return {
        **counts,
        "extra_answers": counts["row_answers"] - count,
        "translated": made.rows.height,
        "right": sum(right),
        "refused": len(refused),
        "refused_are_the_poisoned": set(refused) == never,
        "never_answered": len(never),
        "usage": made.usage.requests,
        "lost": made.usage.lost,
        "digest": hashlib.sha256(
            (frame_digest(made.rows) + frame_digest(made.rejects)).encode()
        ).hexdigest(),
    }


def under_kills(count: int, folder: Path, *, kills: int = 10, seed: int = 0) -> dict[str, Any]:
    """Translate rows in processes that are killed at random moments, and once to the end."""
    path, requests = folder / "ledger.sqlite", -(-count // ROWS_PER_REQUEST)
    draw = random.Random(seed)  # noqa: S311  no secret
    moments = sorted(draw.sample(range(1, requests), kills))
    killed = 0
    with LoopbackLLM(0.02) as llm:
        for moment in moments:
            process = start(llm, path, 0, count)
            while llm.counts()["completions"] < moment and process.poll() is None:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        last = start(llm, path, 0, count)
        code = last.wait()
        counts = llm.counts()
        with Ledger(path) as ledger:
            left = pending(
                queries(count),
                HINGLISH,
                CONFIG,
                kb_language="en",
                settings=settings_of(llm),
                ledger=ledger,
            ).rows
    return {
        "killed": killed,
        "exit_code": code,
        "undisturbed": requests,
        "paid": counts["completions"],
        "bound": requests + killed * IN_FLIGHT,
        "rows_left": left,
        "ledger_is_whole": is_whole(path),
    }


def two_at_once(count: int, folder: Path) -> dict[str, Any]:
    """Two processes, each with two thirds of the rows, so that a third is wanted by both."""
    path, third = folder / "ledger.sqlite", count // 3
    with LoopbackLLM(0.02) as llm:
        processes = [start(llm, path, at, 2 * third) for at in (0, third)]
        codes = [process.wait() for process in processes]
        counts = llm.counts()
    return {
        "exit_codes": codes,
        "rows": 3 * third,
        "rows_bought": counts["rows"],
        "bought_twice": counts["row_answers"] - counts["rows"],
        "in_flight": IN_FLIGHT * ROWS_PER_REQUEST,
        "ledger_is_whole": is_whole(path),
    }


def start(llm: LoopbackLLM, path: Path, first: int, count: int) -> "subprocess.Popen[bytes]":
    """Another process that translates rows, from a number on."""
    places = [str(path), str(first), str(count)]
    command = [sys.executable, "-m", "benchmarks.llm_faults", "--buy", *places]
    environment = {
        **llm.environment,
        "MONOGLOT_LLM_CONCURRENCY": str(IN_FLIGHT),
        "MONOGLOT_LLM_ROWS_PER_REQUEST": str(ROWS_PER_REQUEST),
    }
    return subprocess.Popen(command, env={**os.environ, **environment})  # noqa: S603


def buy_here(path: Path, first: int, count: int) -> None:
    """What `start` starts."""
    rows = queries(first + count)[first:]
    if buy(rows, read_settings(), path).rows.height != count:
        raise SystemExit("a row was lost")


def is_whole(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with a ledger."""
    with sqlite3.connect(path) as database:
        found = database.execute("PRAGMA integrity_check").fetchall()
    database.close()
    return found == [("ok",)]


def _state(run: dict[str, Any]) -> str:
    return "whole" if run["ledger_is_whole"] else "DAMAGED"


def report(record: dict[str, Any]) -> str:
    """The markdown beside the JSON."""
    faults, kills, two = record["faults"][0], record["kills"], record["two"]
    same = len({run["digest"] for run in record["faults"]}) == 1
    kinds = ", ".join(f"{name} {count}" for name, count in sorted(faults["faults"].items()))
    lines = [
        "# Buying translations while things fail",
        "",
        f"**Faults drawn with a chance of 20 %, {record['rows']:,} rows.** "
        f"{sum(faults['faults'].values()):,} of {faults['requests']:,} requests struck: {kinds}. "
        f"{faults['translated']:,} rows translated "
        f"({faults['right']:,} of them rightly), {faults['refused']:,} refused with a reason, "
        f"which are {'exactly' if faults['refused_are_the_poisoned'] else 'NOT'} the "
        f"{faults['never_answered']:,} that the endpoint never answers. Answers worked out beyond "
        f"one a row: {faults['extra_answers']:,}; answers the endpoint lost on purpose: "
        f"{faults['lost_answers'] - faults['never_answered']:,} and one for each row it never "
        f"answers. Rows asked for again although delivered: {faults['asked_again']}. The same "
        f"seed gave {'the same tables' if same else 'OTHER tables'} twice.",
        "",
        f"**kill -9 at {kills['killed']} random moments, {record['rows']:,} rows.** "
        f"{kills['paid']:,} requests paid for; an undisturbed run pays {kills['undisturbed']:,}, "
        f"and {IN_FLIGHT} may be in flight at each kill: at most {kills['bound']:,}. Rows left: "
        f"{kills['rows_left']}. The ledger is {_state(kills)}.",
        "",
        f"**Two processes at once, a third of {two['rows']:,} rows wanted by both.** Exit codes "
        f"{two['exit_codes']}; {two['rows_bought']:,} rows bought, {two['bought_twice']} of them "
        f"twice. The ledger is {_state(two)}.",
        "",
        f"{provenance_line(record['provenance'])}",
        "",
        "Made by `python -m benchmarks.llm_faults`.",
    ]
    return "\n".join(lines) + "\n"


def main(given: Sequence[str] | None = None) -> None:
    """Run all three, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llm_faults")
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--buy", nargs=3, help="ledger, first row, rows: buy them, write nothing")
    chosen = parser.parse_args(given)
    if chosen.buy:
        path, first, count = chosen.buy
        buy_here(Path(path), int(first), int(count))
        return
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / name for name in ("one", "two", "kills", "both")]
        for place in places:
            place.mkdir()
        record = {
            "benchmark": "llm_faults",
            "rows": chosen.rows,
            "provenance": provenance(),
            "faults": [under_faults(chosen.rows, place) for place in places[:2]],
            "kills": under_kills(chosen.rows, places[2]),
            "two": two_at_once(chosen.rows, places[3]),
        }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "llm_faults.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    (RESULTS / "llm_faults.md").write_text(report(record), "utf-8")
    print(report(record))


if __name__ == "__main__":
    main()
