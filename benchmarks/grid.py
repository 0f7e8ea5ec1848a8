"""The public grid: every strategy, objective and recipe on the same data, one file a cell and seed.

    python -m benchmarks.grid hinglish_top DATA_DIR --work WORK_DIR

Trains what has no result yet, by the flow of `monoglot ablate`, all cells and peers of one seed
before the next. Killed or out of time, it goes on where it was: with the work folder at the last
checkpoint, without it, or on another machine, at the first cell without a file. `results_page`
makes the page.
"""

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from prefect import flow

from benchmarks.grid_cells import PEERS, cells_for, peers_for
from benchmarks.grid_data import DATASETS, Dataset
from benchmarks.grid_peers import measure_peer, peer_trials
from benchmarks.grid_results import (
    GRID,
    is_done,
    places_of,
    questions_of,
    result_path,
    settings_in,
    write_json,
)
from benchmarks.memory import forget_peak, peak
from benchmarks.provenance import provenance
from flows.ablation import can_resplit, data_key, learn_and_measure, measure_untuned, prepare
from flows.server import prefect_server
from monoglot.learning.grid import Cells, Trial, trials_of
from monoglot.store import Artifact, Store
from tasks.baseline import evaluate_tfidf
from tasks.cells import CURVE, HELD_BACK, INDEX_SET, Bench
from tasks.comparison import TFIDF
from tasks.request import RunRequest
from tasks.systems import UNTUNED
from tasks.trials import Deadline, Results, cost_of, shared_trainings
from tasks.workplace import Workplace


def measure_grid(
    dataset: Dataset, cells: Cells, peers: Sequence[str], folder: Path, deadline: Deadline
) -> int:
    """Measure the cells and peers that have no result in `folder`; returns how many still lack one.

    Runs inside a flow. A cell that cannot be trained is told, and the others go on.
    """
    config, settings = RunRequest(config_file=dataset.config).read()
    resplit = can_resplit(config, settings)
    trials = (
        *trials_of(cells, config, dataset.config, dataset.name, resplit=resplit),
        *peer_trials(peers, config, dataset, cells.seeds, resplit=resplit),
    )

    changes = {**cells.changes, **{name: PEERS[name].changes for name in peers}}

    def missing() -> tuple[Trial, ...]:
        lacking = [
            trial
            for trial in trials
            if not is_done(_path(folder, trial), changes[trial.cell], settings_in(trial.config))
        ]
        return tuple(sorted(lacking, key=lambda trial: trial.seed))

    wanted = missing()
    if not wanted:
        return 0
    place, benches = prepare(config, settings, wanted)
    results = Results.of(wanted)
    kept = _keeping_weights(wanted)
    with place.store.writer():
        bench = benches[data_key(wanted[0])]
        tfidf = place.store.table(evaluate_tfidf(place, bench.data.questions, bench.rows))
        keep_baselines(place.store, dataset, folder, tfidf, measure_untuned(place, config, bench))
        for trial in wanted:
            if deadline.is_over:
                break
            with results.noting(trial):
                told = _measured(
                    place,
                    trial,
                    benches[data_key(trial)],
                    keep=trial in kept,
                    with_curve=trial.seed == cells_for(dataset.name).seeds[0],
                )
                write_json(_path(folder, trial), {"changes": changes[trial.cell], **told})
                print(_path(folder, trial).name, file=sys.stderr)
    return len(missing())


def _path(folder: Path, trial: Trial) -> Path:
    is_seeded = trial.cell not in PEERS or PEERS[trial.cell].is_seeded
    return result_path(folder, trial.cell, trial.seed if is_seeded else None)


def _keeping_weights(wanted: Sequence[Trial]) -> list[Trial]:
    """Cells from whose training a later one goes on."""
    cells = [trial for trial in wanted if trial.cell not in PEERS]
    return [trial for trial, is_shared in shared_trainings(cells) if is_shared]


def _measured(
    place: Workplace, trial: Trial, bench: Bench, *, keep: bool, with_curve: bool
) -> dict[str, Any]:
    """Train a cell or a peer, ask it all questions, and tell what a result file holds."""
    forget_peak()
    started = time.process_time()
    if trial.cell in PEERS:
        outcomes, cost = measure_peer(place, trial, bench)
        places, curve = places_of(place.store.table(outcomes), None), []
    else:
        measured = learn_and_measure(place, trial, bench, keep_training=keep, with_curve=with_curve)
        places, cost = places_in(place.store, measured), cost_of(measured)
        curve = place.store.table(measured, CURVE).to_dicts()
    return {
        "cell": trial.cell,
        "seed": trial.seed,
        "settings": settings_in(trial.config),
        "cost": None if cost is None else dataclasses.asdict(cost),
        "provenance": provenance(),
        "places": places,
        "curve": curve,
        **_used(time.process_time() - started, made=place.journal[-1].outcome == "done"),
    }


def _used(cpu_seconds: float, *, made: bool) -> dict[str, float | None]:
    """Processor time, which a busy machine does not stretch, and peak memory.

    What was found finished, as after a crash, says nothing of either.
    """
    return {
        "cpu_seconds": round(cpu_seconds, 1) if made else None,
        "peak_bytes": peak() if made else None,
    }


def places_in(store: Store, measured: Artifact) -> dict[str, str]:
    """The places of a measured cell."""
    return places_of(_both_halves(store, measured), store.table(measured, INDEX_SET))


def _both_halves(store: Store, measured: Artifact) -> pl.DataFrame:
    """Of a measured cell, both halves of the questions together."""
    return pl.concat([store.table(measured), store.table(measured, HELD_BACK)])


def keep_baselines(
    store: Store, dataset: Dataset, folder: Path, tfidf: pl.DataFrame, untuned: Artifact
) -> None:
    """Write the questions, and what TF-IDF and the untuned model answer to them.

    Over the whole knowledge base alone: its index set is another one under every seed.
    """
    write_json(folder / "questions.json", questions_of(tfidf, dataset.parts))
    for name, places in (
        (TFIDF, places_of(tfidf, None)),
        (UNTUNED, places_of(_both_halves(store, untuned), None)),
    ):
        told = {"cell": name, "seed": None, "changes": {}, "provenance": provenance()}
        write_json(result_path(folder, name, None), {**told, "places": places})


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grid")
    parser.add_argument("dataset", choices=tuple(DATASETS))
    parser.add_argument("data", type=Path, help="folder with kb.tsv, queries.tsv and labels.tsv")
    parser.add_argument("--only", nargs="+", default=[], help="what has one of these in its name")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the data set's own")
    parser.add_argument("--budget-seconds", type=float, help="begin no further cell after this")
    parser.add_argument("--work", type=Path, help="folder for files and store, kept")
    parser.add_argument("--out", type=Path, default=GRID, help="folder of the results")
    return parser.parse_args(given)


def chosen_systems(chosen: argparse.Namespace) -> tuple[Cells, tuple[str, ...]]:
    """The cells and the peers of the data set that the command line asks for.

    Raises:
        SystemExit: none has such a name.
    """
    cells, peers = cells_for(chosen.dataset), peers_for(chosen.dataset)

    def is_chosen(name: str) -> bool:
        return not chosen.only or any(part in name for part in chosen.only)

    named = {name: changes for name, changes in cells.changes.items() if is_chosen(name)}
    others = tuple(filter(is_chosen, peers))
    if not named and not others:
        known = ", ".join((*cells.changes, *peers))
        raise SystemExit(f"--only: no cell or peer has such a name. There are: {known}")
    return Cells(named, cells.reference, tuple(chosen.seeds or cells.seeds)), others


def main(given: Sequence[str] | None = None) -> None:
    """Measure what is missing."""
    chosen = arguments(given)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        work = (chosen.work or Path(temporary)).resolve() / chosen.dataset
        dataset = DATASETS[chosen.dataset](chosen.data, work)
        deadline = Deadline.after(chosen.budget_seconds)
        cells, peers = chosen_systems(chosen)
        folder = chosen.out / chosen.dataset

        @flow(name="benchmark-grid")
        def measure() -> int:
            return measure_grid(dataset, cells, peers, folder, deadline)

        with prefect_server(work / ".prefect"):
            left = measure()
    print(f"{left} results are missing after {time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
