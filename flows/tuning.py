"""A search for a better recipe: many candidates a little, the best of them in full, then a test."""

from prefect import flow, get_run_logger

from flows.ablation import (
    Benches,
    can_resplit,
    data_key,
    learn_all,
    learn_and_measure,
    measure_untuned,
    prepare,
)
from monoglot.config import Config
from monoglot.learning.grid import (
    PRESENT,
    Cells,
    Changes,
    Trial,
    seeded,
    trials_of,
    with_changes,
)
from monoglot.learning.search import (
    SHARES,
    Tried,
    candidates,
    differences,
    how_many,
    shortened,
    survivors,
)
from monoglot.tuning import TUNED, TuningReport
from tasks.ablation import write_ablation
from tasks.baseline import evaluate_tfidf
from tasks.models import base_model
from tasks.request import TuningRequest
from tasks.trials import Deadline, Results
from tasks.tuning import peak_rate, score_of
from tasks.workplace import Workplace

SEEDS = (0, 1, 2)


@flow(name="tune", flow_run_name="tune {request.title}")
def tune(request: TuningRequest) -> TuningReport:
    """Halve a field of candidates on validation, and compare the winner with the present recipe.

    Candidates learn under the first seed; the winner and the present recipe under all of them.
    """
    config, settings = request.read_fetched()
    resplit = can_resplit(config, settings)
    present = trials_of(
        Cells({PRESENT: {}}, PRESENT, SEEDS), config, request.config_file, "tune", resplit=resplit
    )
    place, benches = prepare(config, settings, present)
    bench = benches[data_key(present[0])]
    with place.store.writer():
        first = learn_and_measure(place, present[0], bench)
        count = how_many(request.seconds, first.facts["seconds"] or request.seconds)
        rate = peak_rate(place.store, config, base_model(config.base_model))
        field = candidates(config, rate, count, request.seed)
        deadline, tried = Deadline.after(request.seconds), []
        for rung, share in enumerate(SHARES):
            trials = [
                (changes, _trial(request, config, shortened(changes, share), resplit=resplit))
                for changes in field
            ]
            ran = _rung(
                place, trials, benches, rung=rung, deadline=deadline, metric=config.gate.metric
            )
            tried += ran
            field = survivors(ran)
        changes = differences(config, field[0]) if field else {}
        cells = Cells({PRESENT: {}, **({TUNED: dict(changes)} if changes else {})}, PRESENT, SEEDS)
        finalists = trials_of(cells, config, request.config_file, "tune", resplit=resplit)
        results = Results.of(finalists)
        learn_all(place, finalists, benches, results, Deadline.after(None))
        report = write_ablation(
            place,
            cells=cells,
            grid=f"tuning: {count} candidates, {len(tried)} trainings",
            config=config,
            bench=bench,
            results=results,
            untuned=measure_untuned(place, config, bench),
            tfidf=evaluate_tfidf(place, bench.data.questions, bench.rows),
        )
        return TuningReport(report, tuple(tried), changes, config.gate.max_english_loss)


def _trial(request: TuningRequest, config: Config, changes: Changes, *, resplit: bool) -> Trial:
    """A candidate under the first seed."""
    made = with_changes(config, changes, request.config_file, "a candidate")
    return Trial("candidate", SEEDS[0], seeded(made, SEEDS[0], resplit=resplit))


def _rung(
    place: Workplace,
    trials: list[tuple[Changes, Trial]],
    benches: Benches,
    *,
    rung: int,
    deadline: Deadline,
    metric: str,
) -> list[Tried]:
    """Measure the candidates of one rung as far as the time goes, the first one in any case."""
    ran: list[Tried] = []
    for changes, trial in trials:
        if ran and deadline.is_over:
            get_run_logger().warning("time is up", extra={"shown": True})
            break
        results, found = Results.of([trial]), None
        with results.noting(trial):
            found = learn_and_measure(place, trial, benches[data_key(trial)])
        ran.append(Tried(rung, changes, score_of(place.store, found, metric)))
    return ran
