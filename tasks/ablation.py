"""The report of an ablation: a page and a record in the workshop, and a summary in Prefect's UI."""

import json
import time
from collections.abc import Iterable, Mapping

import polars as pl
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from monoglot.ablation import AblationReport, render_ablation, render_ablation_markdown
from monoglot.config import Config
from monoglot.files import write_atomically
from monoglot.identity import digest
from monoglot.knowledge.validation import is_validation
from monoglot.learning.comparison import Line, Measured, best, compare
from monoglot.learning.grid import Cells
from monoglot.learning.metrics import ALL, METRICS, summarise
from monoglot.runs import new_run_name
from monoglot.store import Artifact, Store
from tasks.artifacts import show
from tasks.cells import CURVE, HELD_BACK, INDEX_SET, Bench
from tasks.comparison import TFIDF
from tasks.systems import UNTUNED
from tasks.trials import Results
from tasks.workplace import Workplace


@task(name="ablation report", cache_policy=NO_CACHE)
def write_ablation(
    place: Workplace,
    *,
    cells: Cells,
    grid: str,
    config: Config,
    bench: Bench,
    results: Results,
    untuned: Artifact,
    tfidf: Artifact,
) -> AblationReport:
    """Compare what is measured, and write `report.html` and `record.json` into a run's folder.

    Args:
        place: the workshop.
        cells: the grid.
        grid: its name or file.
        config: the user's.
        bench: what was learned from, and asked.
        results: what became of the trials.
        untuned: the base model's result, as a cell's.
        tfidf: outcomes of TF-IDF on all questions.

    Raises:
        RunError: every cell that was tried failed; says why the first did.
    """
    results.refuse_none()
    store, metric = place.store, config.gate.metric
    questions = store.table(bench.data.questions)
    validation = questions.filter(is_validation(questions, bench.seed))
    whole = Results({UNTUNED: dict.fromkeys(cells.seeds, untuned), **results.cells}, results.failed)
    measured = whole.measured(store)
    lexical = store.table(tfidf).join(validation, on="query_id", how="semi")
    first = {UNTUNED: measured.pop(UNTUNED), TFIDF: Measured.unseeded(lexical, cells.seeds)}
    lines = compare({**first, **measured}, cells.reference, cells.seeds, metric)
    run = new_run_name(digest({"grid": cells.changes, "seeds": cells.seeds}))
    report = AblationReport(
        title=config.knowledge_base.name,
        grid=grid,
        facts={"grid": grid, **facts_of(config, bench, questions, validation)},
        changes=cells.changes,
        reference=cells.reference,
        metric=metric,
        seeds=cells.seeds,
        lines=lines,
        held_back=_held_back(store, whole, cells, lines, metric),
        index_set={
            name: _mean_mrr(_tables(store, found, INDEX_SET), validation)
            for name, found in whole.cells.items()
            if found
        },
        curves={
            name: mean_curve(_tables(store, found, CURVE))
            for name, found in results.cells.items()
            if found
        },
        path=f"runs/{run}/report.html",
    )
    _write(store, report)
    show(store, "ablation", render_ablation_markdown(report), report.title)
    get_run_logger().info(f"report: {store.root / report.path}", extra={"shown": True})
    return report


def _held_back(
    store: Store, results: Results, cells: Cells, lines: tuple[Line, ...], metric: str
) -> tuple[Line, ...]:
    """The untuned model, the reference and the best cell on the questions nothing was chosen by."""
    chosen = best([line for line in lines if line.cell in cells.changes], metric)
    if chosen is None:
        return ()
    measured = results.measured(store, HELD_BACK)
    shown = dict.fromkeys((UNTUNED, cells.reference, chosen.cell))
    kept = {name: measured[name] for name in shown}
    return compare(kept, cells.reference, cells.seeds, metric)


def _tables(store: Store, found: Mapping[int, Artifact], name: str) -> list[pl.DataFrame]:
    return [store.table(artifact, name) for artifact in found.values()]


def _mean_mrr(outcomes: list[pl.DataFrame], questions: pl.DataFrame) -> float:
    """Over the seeds, on some of the questions."""
    asked = pl.concat(outcomes).join(questions, on="query_id", how="semi")
    return summarise(asked)[ALL].micro["mrr"]


def mean_curve(curves: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Mean over the seeds, look by look: seeds may differ by a few steps."""
    looks = [curve.with_row_index("look") for curve in curves]
    means = pl.concat(looks).group_by("look").agg(pl.col("step", *METRICS).mean())
    return means.sort("look").select(pl.col("step").round().cast(pl.Int64), *METRICS)


def facts_of(
    config: Config, bench: Bench, questions: pl.DataFrame, validation: pl.DataFrame
) -> dict[str, str]:
    """What a reader wants to know before the numbers."""
    return {
        "knowledge base": f"{bench.rows.rows:,} rows, {bench.rows.facts['labels']:,} labels",
        "languages": ", ".join(language.name for language in config.languages) or "native queries",
        "base model": config.base_model,
        "training queries": f"{bench.data.anchors.rows:,}",
        "questions": f"{validation.height:,} for validation, "
        f"{questions.height - validation.height:,} held back, of "
        f"{bench.data.questions.facts['source']}",
        "written": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def _write(store: Store, report: AblationReport) -> None:
    """The page, and beside it what `--json` prints."""
    path = store.root / report.path
    with store.explained():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, render_ablation(report))
        write_atomically(path.with_name("record.json"), json.dumps(report.as_json(), indent=1))
