"""The peers of the public grid: other ways to the same end, by the stages of every report.

A peer learns from the grid's own data and is a trial like a cell, but another method, not another
setting.
"""

from collections.abc import Iterable
from typing import Any

from benchmarks.grid_cells import PEERS
from benchmarks.grid_data import Dataset
from flows.retrain import fine_tune
from monoglot.config import Config
from monoglot.learning.comparison import Cost
from monoglot.learning.grid import Trial, seeded, with_changes
from monoglot.store import Artifact
from tasks.cells import Bench
from tasks.comparison import evaluate_baselines
from tasks.models import base_model
from tasks.systems import measure
from tasks.workplace import Workplace


def peer_trials(
    names: Iterable[str], config: Config, dataset: Dataset, seeds: tuple[int, ...], *, resplit: bool
) -> tuple[Trial, ...]:
    """Every peer under every seed that it depends on; what no seed changes under the first.

    A peer that the data set has no lexicon for is left out.
    """
    return tuple(
        Trial(name, seed, seeded(_configured(name, config, dataset), seed, resplit=resplit))
        for seed in seeds
        for name in names
        if PEERS[name].is_seeded or seed == seeds[0]
        if PEERS[name].asked != "translate_query" or dataset.lexicon is not None
    )


def _configured(name: str, config: Config, dataset: Dataset) -> Config:
    """The default recipe with what a peer changes."""
    peer = PEERS[name]
    baselines: dict[str, Any] = {"also": [peer.asked] if peer.asked else []}
    if peer.asked == "translate_query":
        baselines["lexicon"] = str(dataset.lexicon)
    return with_changes(
        config, {**peer.changes, "baselines": baselines}, dataset.config, f"peer {name!r}"
    )


def measure_peer(place: Workplace, trial: Trial, bench: Bench) -> tuple[Artifact, Cost | None]:
    """What a peer answers to all questions, and what its training took."""
    base = base_model(trial.config.base_model)
    system = measure(place, (base,), bench.rows, bench.data.questions)[base.digest]
    before = len(place.journal)
    made = evaluate_baselines(
        place, trial.config, bench.rows, bench.data, base=system, fine_tune=fine_tune
    )
    ran = [it for it in place.journal[before:] if it.title.startswith(f"{trial.cell}: ")]
    trained = next((it for it in ran if "steps" in it.artifact.facts), None)
    if trained is None:
        return made.outcomes[trial.cell], None
    seconds = round(trained.seconds, 1) if trained.outcome == "done" else None
    return made.outcomes[trial.cell], Cost(seconds, trained.artifact.facts["steps"], None)
