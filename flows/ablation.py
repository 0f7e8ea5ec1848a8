"""An ablation: every cell of a grid learns from the same data and is asked the same questions.

Nothing of production changes, and no run is kept waiting: the store's writer lock is held while
the data are gathered, which `monoglot run` has mostly done already, and not while cells learn.
They do so in the store's workshop, a store of its own with its own lock, from copies of the data.
One training at a time, since two would share one machine and their seconds mean nothing.
"""

import dataclasses

from prefect import flow, get_run_logger

from flows.claim import in_turn
from flows.retrain import fine_tune, gather_data
from monoglot.ablation import AblationReport
from monoglot.config import Config
from monoglot.generation.spending import Budget
from monoglot.identity import digest, identity_of
from monoglot.learning.grid import Trial, cells_of, data_settings_of, trials_of
from monoglot.learning.grids import read_grid
from monoglot.planning import refuse_unready
from monoglot.settings import Settings
from monoglot.standing import languages_to_ask
from monoglot.store import Artifact, Store
from tasks.ablation import write_ablation
from tasks.baseline import evaluate_tfidf
from tasks.cells import (
    Bench,
    Curve,
    Learned,
    Learning,
    adopt,
    learning_digest,
    let_all_go,
    measure_cell,
)
from tasks.knowledge_base import read_knowledge_base
from tasks.merging import merge_with_base
from tasks.models import ModelRef, base_model, trained_model
from tasks.request import AblationRequest
from tasks.trials import Deadline, Results, shared_trainings
from tasks.workplace import Workplace

Benches = dict[str, Bench]


@flow(name="ablate", flow_run_name="ablate {request.title}")
def ablate(request: AblationRequest) -> AblationReport:
    """Measure a grid, and say which differences are real.

    Finished cells are found again, and one that was killed goes on at its last checkpoint.
    """
    config, settings = request.read_fetched()
    grid, where = read_grid(request.grid, config)
    seeds = tuple(dict.fromkeys(request.seeds)) or grid.seeds
    cells = cells_of(grid.model_copy(update={"seeds": seeds}), where)
    trials = trials_of(
        cells, config, request.config_file, where, resplit=can_resplit(config, settings)
    )
    place, benches = prepare(config, settings, trials)
    with place.store.writer():
        results = Results.of(trials)
        learn_all(place, trials, benches, results, Deadline.after(request.seconds))
        bench = benches[data_key(trials[0])]
        return write_ablation(
            place,
            cells=cells,
            grid=where,
            config=config,
            bench=bench,
            results=results,
            untuned=measure_untuned(place, config, bench),
            tfidf=evaluate_tfidf(place, bench.data.questions, bench.rows),
        )


def can_resplit(config: Config, settings: Settings) -> bool:
    """Whether another split changes neither the questions nor what must be bought."""
    return config.evaluation.path is not None and not languages_to_ask(config, settings)


def data_key(trial: Trial) -> str:
    """Trials with the same key learn from the same data."""
    return digest(identity_of(data_settings_of(trial.config)))


def prepare(
    config: Config, settings: Settings, trials: tuple[Trial, ...]
) -> tuple[Workplace, Benches]:
    """The workshop, and in it the data of every trial: of distinct ones once.

    Raises:
        StoreBusyError: a run is writing to the store, and this one is not a deployment's; or
            another is at work in the workshop.
    """
    store = Store.open(config.store)
    refuse_unready(config, settings, store)
    base = base_model(config.base_model)
    place = Workplace(store, settings, budget=Budget(config.spending))
    workshop = dataclasses.replace(place, store=Store.open(str(store.workshop)), journal=[])
    with in_turn(store), workshop.store.writer():
        rows = read_knowledge_base(place, config.knowledge_base)
        adopt(workshop.store, store, rows)
        benches: Benches = {}
        for trial in trials:
            if data_key(trial) not in benches:
                own = trial.config.model_copy(update={"base_model": config.base_model})
                data = gather_data(place, own, rows, base)
                for artifact in (*data[:3], *data.labelled.queries):
                    adopt(workshop.store, store, artifact)
                benches[data_key(trial)] = Bench(rows, data, config.split.seed)
    return workshop, benches


def learn_all(
    place: Workplace,
    trials: tuple[Trial, ...],
    benches: Benches,
    results: Results,
    deadline: Deadline,
) -> None:
    """Measure trial after trial, as far as the time goes."""
    for trial, is_shared in shared_trainings(trials):
        if deadline.is_over:
            get_run_logger().warning("time is up", extra={"shown": True})
            return
        with results.noting(trial):
            results.cells[trial.cell][trial.seed] = learn_and_measure(
                place, trial, benches[data_key(trial)], keep_training=is_shared
            )
    let_all_go(place.store)


def learn_and_measure(
    place: Workplace,
    trial: Trial,
    bench: Bench,
    *,
    keep_training: bool = False,
    with_curve: bool = True,
) -> Artifact:
    """One cell under one seed, by the stages of every run.

    Its curve costs five looks at the knowledge base.
    """
    base = base_model(trial.config.base_model)

    def learn(curve: Curve) -> Learned:
        watched = dataclasses.replace(place, watcher=curve if with_curve else None)
        trained = fine_tune(watched, trial.config, bench.rows, bench.data, base)
        merged = merge_with_base(
            place, trained=trained_model(trained, base), base=base, config=trial.config.merging
        )
        return Learned(trained_model(merged, base), (trained, merged))

    learning = Learning(
        f"{trial.cell}, seed {trial.seed}",
        learning_digest(trial, bench, base),
        learn,
        keep=frozenset(["training"] if keep_training else []),
    )
    return _measured(place, learning, bench)


def measure_untuned(place: Workplace, config: Config, bench: Bench) -> Artifact:
    """The base model, as a cell that learns nothing."""
    base: ModelRef = base_model(config.base_model)
    return _measured(place, Learning("untuned", base.digest, lambda _: Learned(base)), bench)


def _measured(place: Workplace, learning: Learning, bench: Bench) -> Artifact:
    return measure_cell(
        place,
        learning=learning,
        knowledge_base=bench.rows,
        parts=bench.data.parts,
        questions=bench.data.questions,
        seed=bench.seed,
    )
