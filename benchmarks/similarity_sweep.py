"""How quality falls as the similarity of labels is made wrong, or the taxonomy shallow.

    python -m benchmarks.similarity_sweep DATA_DIR

The paper (arXiv 2506.02527) draws hard negatives by label similarity and leaves open what a bad one
costs. Here some labels are put in one another's places, or levels of `label_path` are left unread,
on Hinglish-TOP, with a static-embedding base (the token vectors of the offline MiniLM), which
trains in seconds. Writes `results/similarity_sweep.json`, `.md` and `.svg`.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import polars as pl
from prefect import flow

from benchmarks.grid_data import Dataset, hinglish_top
from benchmarks.hinglish_files import PAPER
from benchmarks.provenance import RESULTS, provenance
from benchmarks.static_base import STATIC, static_base
from benchmarks.tables import provenance_line, table
from flows.ablation import can_resplit, data_key, learning_digest, prepare
from flows.server import prefect_server
from monoglot.comparison_plots import lines
from monoglot.identity import digest, identity_of
from monoglot.learning.grid import Cells, Trial, trials_of
from monoglot.learning.metrics import ALL, summarise
from monoglot.plots import standalone
from tasks.cells import HELD_BACK, Bench, Curve, Learned, Learning, measure_cell
from tasks.models import base_model, trained_model
from tasks.request import RunRequest
from tasks.training import train
from tasks.triplets import Distortion, draw_triplets
from tasks.workplace import Workplace

SHUFFLED = (0.0, 0.25, 0.5, 0.75, 1.0)
LEVELS = (2, 1, 0)  # a path has a domain and the label itself; 0: all labels alike
_TEST = "test"


def sweeps() -> dict[str, tuple[dict[str, Any], Distortion]]:
    """Name -> what is changed in the paper's recipe, and what is made wrong."""
    made: dict[str, tuple[dict[str, Any], Distortion]] = {
        "random": (_paper("random"), Distortion())
    }
    for strategy in ("algorithm1", "weighted"):
        for share in SHUFFLED:
            name = f"{strategy}, {share:.0%} shuffled"
            made[name] = (_paper(strategy), Distortion(shuffled=share))
        for levels in LEVELS:
            name = f"{strategy}, path of {levels} levels"
            made[name] = (_paper(strategy, source="path"), Distortion(levels=levels))
    return made


def _paper(strategy: str, source: str = "text") -> dict[str, Any]:
    similarity = {**PAPER["sampling"]["similarity"], "source": source}
    return {
        **PAPER,
        "sampling": {**PAPER["sampling"], "strategy": strategy, "similarity": similarity},
        "fine_tuning": {**PAPER["fine_tuning"], **STATIC},
    }


def measure_one(
    place: Workplace, trial: Trial, bench: Bench, distortion: Distortion
) -> pl.DataFrame:
    """Train one recipe with something made wrong; its outcomes on all questions."""
    config, base = trial.config, base_model(trial.config.base_model)

    def learn(_curve: Curve) -> Learned:
        triplets = draw_triplets(
            place,
            anchors=bench.data.anchors,
            knowledge_base=bench.rows,
            parts=bench.data.parts,
            questions=bench.data.questions,
            user_labels=(),
            base=base,
            config=config.sampling,
            epochs=config.fine_tuning.epochs,
            seed=trial.seed,
            distortion=distortion,
        )
        trained = train(
            place,
            anchors=bench.data.anchors,
            parts=bench.data.parts,
            triplets=triplets,
            base=base,
            config=config.fine_tuning,
        )
        return Learned(trained_model(trained, base), (trained,))

    key = digest([learning_digest(trial, bench, base), identity_of(distortion)])
    measured = measure_cell(
        place,
        learning=Learning(f"{trial.cell}, seed {trial.seed}", key, learn),
        knowledge_base=bench.rows,
        parts=bench.data.parts,
        questions=bench.data.questions,
        seed=bench.seed,
    )
    return pl.concat([place.store.table(measured), place.store.table(measured, HELD_BACK)])


def measure(dataset: Dataset, base: Path, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Name -> metric -> a value per seed, on the test questions. Runs inside a flow."""
    config, settings = RunRequest(config_file=dataset.config).read()
    config = config.model_copy(update={"base_model": str(base)})
    chosen = sweeps()
    cells = Cells({name: changes for name, (changes, _) in chosen.items()}, "random", seeds)
    trials = trials_of(
        cells, config, dataset.config, "sweep", resplit=can_resplit(config, settings)
    )
    place, benches = prepare(config, settings, trials)
    test = [query_id for query_id, part in dataset.parts.items() if part == _TEST]
    found: dict[str, Any] = {name: {"mrr": [], "hit@3": []} for name in chosen}
    with place.store.writer():
        for trial in trials:
            outcomes = measure_one(
                place, trial, benches[data_key(trial)], chosen[trial.cell][1]
            ).filter(pl.col("query_id").is_in(test))
            micro = summarise(outcomes)[ALL].micro
            for metric, values in found[trial.cell].items():
                values.append(micro[metric])
    return found


def picture(found: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """MRR against the share of labels that are shuffled."""
    series = {}
    for strategy in ("algorithm1", "weighted"):
        means = [fmean(found[f"{strategy}, {share:.0%} shuffled"]["mrr"]) for share in SHUFFLED]
        series[strategy] = pl.DataFrame(
            {"step": [round(100 * share) for share in SHUFFLED], "mrr": means}
        )
    flat = fmean(found["random"]["mrr"])
    series["random"] = pl.DataFrame({"step": [0, 100], "mrr": [flat, flat]})
    return standalone(lines(series, "mrr", "MRR against the percentage of labels shuffled"))


def report(record: Mapping[str, Any]) -> str:
    """The markdown beside the JSON."""
    columns = {"mrr": "MRR", "hit@3": "hit@3"}
    seeds = ", ".join(map(str, record["seeds"]))
    lines_ = [
        "# Label similarity made wrong",
        "",
        *table(record["found"], columns, "negatives"),
        "",
        "![MRR against the percentage of labels shuffled](similarity_sweep.svg)",
        "",
        f"Hinglish-TOP, test split; mean (range) over seeds {seeds}. The paper's recipe on a "
        "static-embedding base; hard negatives by the texts of the labels, or by their paths. "
        "Shuffled: so many labels are in one another's places in the similarity.",
        "",
        provenance_line(record["provenance"]),
    ]
    return "\n".join(lines_) + "\n"


def main(given: Sequence[str] | None = None) -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.similarity_sweep")
    parser.add_argument("data", type=Path, help="Hinglish-TOP: kb.tsv, queries.tsv, labels.tsv")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, help="folder for files and store, kept")
    chosen = parser.parse_args(given)
    seeds = tuple(chosen.seeds)
    with tempfile.TemporaryDirectory() as temporary:
        work = (chosen.work or Path(temporary)).resolve()
        dataset = hinglish_top(chosen.data, work)
        base = static_base(work / "static")

        @flow(name="similarity-sweep")
        def sweep() -> dict[str, Any]:
            return measure(dataset, base, seeds)

        with prefect_server(work / ".prefect"):
            found = sweep()
    record = {
        "benchmark": "similarity_sweep",
        "seeds": seeds,
        "provenance": provenance(),
        "found": found,
    }
    path = RESULTS / "similarity_sweep.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(report(record), encoding="utf-8")
    path.with_suffix(".svg").write_text(picture(found), encoding="utf-8")
    print(report(record))


if __name__ == "__main__":
    main()
