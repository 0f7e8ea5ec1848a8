"""The public grid: every strategy, objective and recipe on the same data, one file a cell and seed.

    python -m benchmarks.grid hinglish_top DATA_DIR --work WORK_DIR

Trains what has no result yet, by the flow of `monoglot ablate`, all cells of one seed before the
next. Killed or out of time, it goes on where it was: with the work folder at the last checkpoint,
without it, or on another machine, at the first cell without a file. `results_page` makes the page.
"""

import argparse
import dataclasses
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from prefect import flow

from benchmarks.grid_cells import cells_for
from benchmarks.grid_data import DATASETS, Dataset
from benchmarks.grid_results import (
    RESULTS,
    is_done,
    places_of,
    questions_of,
    result_path,
    settings_in,
    write_json,
)
from benchmarks.provenance import provenance
from flows.ablation import can_resplit, data_key, learn_and_measure, measure_untuned, prepare
from flows.server import prefect_server
from monoglot.learning.grid import Cells, Trial, trials_of
from monoglot.store import Artifact, Store
from tasks.baseline import evaluate_tfidf
from tasks.cells import HELD_BACK, INDEX_SET
from tasks.request import RunRequest
from tasks.trials import Deadline, Results, cost_of, shared_trainings

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def measure_grid(dataset: Dataset, cells: Cells, folder: Path, deadline: Deadline) -> int:
    """Measure the cells that have no result in `folder`; returns how many are missing still.

    Runs inside a flow. A cell that cannot be trained is told, and the others go on.
    """
    config, settings = RunRequest(config_file=dataset.config).read()
    trials = trials_of(
        cells, config, dataset.config, dataset.name, resplit=can_resplit(config, settings)
    )

    def missing() -> tuple[Trial, ...]:
        return tuple(
            trial
            for trial in trials
            if not is_done(result_path(folder, trial.cell, trial.seed), settings_in(trial.config))
        )

    wanted = missing()
    if not wanted:
        return 0
    place, benches = prepare(config, settings, wanted)
    results = Results.of(wanted)
    with place.store.writer():
        bench = benches[data_key(wanted[0])]
        tfidf = place.store.table(evaluate_tfidf(place, bench.data.questions, bench.rows))
        keep_baselines(place.store, dataset, folder, tfidf, measure_untuned(place, config, bench))
        for trial, is_shared in shared_trainings(wanted):
            if deadline.is_over:
                break
            forget_peak()
            with results.noting(trial):
                own = benches[data_key(trial)]
                measured = learn_and_measure(place, trial, own, keep_training=is_shared)
                # What was found finished says nothing of the memory that it took.
                peak_bytes = peak() if place.journal[-1].outcome == "done" else None
                told = result_of(place.store, trial, cells, measured)
                path = result_path(folder, trial.cell, trial.seed)
                write_json(path, {**told, "peak_bytes": peak_bytes})
                print(path.name, file=sys.stderr)
    return len(missing())


def result_of(store: Store, trial: Trial, cells: Cells, measured: Artifact) -> dict[str, Any]:
    """What a result file holds."""
    cost = cost_of(measured)
    return {
        "cell": trial.cell,
        "seed": trial.seed,
        "changes": cells.changes[trial.cell],
        "settings": settings_in(trial.config),
        "cost": None if cost is None else dataclasses.asdict(cost),
        "provenance": provenance(),
        "places": places_in(store, measured),
    }


def places_in(store: Store, measured: Artifact) -> dict[str, str]:
    """Of a measured cell, both halves of the questions together."""
    both = pl.concat([store.table(measured), store.table(measured, HELD_BACK)])
    return places_of(both, store.table(measured, INDEX_SET))


def keep_baselines(
    store: Store, dataset: Dataset, folder: Path, tfidf: pl.DataFrame, untuned: Artifact
) -> None:
    """Write the questions, and what TF-IDF and the untuned model answer to them."""
    write_json(folder / "questions.json", questions_of(tfidf, dataset.parts))
    for name, places in (
        ("TF-IDF", places_of(tfidf, None)),
        ("untuned", places_in(store, untuned)),
    ):
        told = {"cell": name, "seed": None, "changes": {}, "provenance": provenance()}
        write_json(result_path(folder, name, None), {**told, "places": places})


def forget_peak() -> None:
    """Have the kernel count this process's peak memory anew, where it can (Linux)."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")


def peak() -> int:
    """Bytes this process held at most; elsewhere than on Linux since it began."""
    if _STATUS.exists():
        line = next(x for x in _STATUS.read_text().split("\n") if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grid")
    parser.add_argument("dataset", choices=tuple(DATASETS))
    parser.add_argument("data", type=Path, help="folder with kb.tsv, queries.tsv and labels.tsv")
    parser.add_argument("--only", nargs="+", default=[], help="cells whose names contain one of")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the data set's own")
    parser.add_argument("--budget-seconds", type=float, help="begin no further cell after this")
    parser.add_argument("--work", type=Path, help="folder for files and store, kept")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    return parser.parse_args(given)


def chosen_cells(chosen: argparse.Namespace) -> Cells:
    """The cells of the data set that the command line asks for.

    Raises:
        SystemExit: no cell has such a name.
    """
    cells = cells_for(chosen.dataset)
    named = {
        name: changes
        for name, changes in cells.changes.items()
        if not chosen.only or any(part in name for part in chosen.only)
    }
    if not named:
        raise SystemExit(f"--only: no cell has such a name. Cells: {', '.join(cells.changes)}")
    return Cells(named, cells.reference, tuple(chosen.seeds or cells.seeds))


def main(given: Sequence[str] | None = None) -> None:
    """Measure what is missing."""
    chosen = arguments(given)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        work = (chosen.work or Path(temporary)).resolve() / chosen.dataset
        dataset = DATASETS[chosen.dataset](chosen.data, work)
        deadline = Deadline.after(chosen.budget_seconds)
        cells, folder = chosen_cells(chosen), chosen.out / chosen.dataset

        @flow(name="benchmark-grid")
        def measure() -> int:
            return measure_grid(dataset, cells, folder, deadline)

        with prefect_server(work / ".prefect"):
            left = measure()
    print(f"{left} cells are missing after {time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
