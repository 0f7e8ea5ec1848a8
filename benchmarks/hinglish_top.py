"""Hinglish-TOP: human Hinglish questions, answered from English rows (arXiv 2211.07514).

    python -m benchmarks.hinglish_top DATA_DIR --split validation --seeds 0 1 2

Converts the public files into what a user would have (a knowledge base, translations, questions
and a monoglot.yaml per seed), runs the `monoglot` command on them as a user would, and writes
`results/hinglish_top_<split>.json` and `.md`. `README.md` in this folder says what is measured.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.hinglish_files import MACRO_MIN, RECIPES, Files, convert, write_config
from benchmarks.provenance import provenance
from benchmarks.tables import cell, provenance_line, table
from monoglot.config import KnowledgeBaseConfig, QueriesFile
from monoglot.config_file import load_config
from monoglot.knowledge.knowledge_base import load_knowledge_base
from monoglot.knowledge.queries import load_queries
from monoglot.learning.baselines import tfidf
from monoglot.learning.metrics import ALL, summarise
from monoglot.measuring import measure_release
from monoglot.settings import read_settings

RESULTS = Path(__file__).with_name("results")


def monoglot(*arguments: str) -> Any:
    """What a `monoglot` command with `--json` prints; its progress goes to the terminal."""
    command = [str(Path(sys.executable).with_name("monoglot")), *arguments, "--json"]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if ran.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {ran.returncode}")
    return json.loads(ran.stdout)


def measure_seed(files: Files, config: Path, seed: int) -> dict[str, Any]:
    """Run the line, and measure its release and the untuned model.

    Raises:
        SystemExit: a command failed, or the gate kept the untuned model, so that there is no
            tuned one to measure.
    """
    run = monoglot("run", "-c", str(config))
    if not run["promoted"]:
        raise SystemExit(f"{config}: the tuned model was not promoted: {run['reasons']}")
    training = next(stage for stage in run["stages"] if stage["key"].startswith("training/"))
    measured = measure_release(
        load_config(config), read_settings(), QueriesFile(path=files.questions)
    )
    return {
        "seed": seed,
        "release": run["release"],
        "training_seconds": training["facts"]["seconds"],
        "tuned": figures(measured.systems["current"], files.frequent),
        "untuned": figures(measured.systems["untuned"], files.frequent),
    }


def measure_tfidf(files: Files) -> dict[str, Any]:
    """The same of TF-IDF, which no seed changes."""
    rows = load_knowledge_base(KnowledgeBaseConfig(path=files.knowledge_base)).rows
    questions = load_queries(QueriesFile(path=files.questions)).rows
    return figures(tfidf(questions, rows), files.frequent)


def figures(outcomes: pl.DataFrame, frequent: Collection[str]) -> dict[str, Any]:
    """The columns of the table; the macro values are over the frequent intents alone."""
    micro = summarise(outcomes)[ALL]
    english = summarise(outcomes, control=True)[ALL]
    macro = summarise(outcomes.filter(pl.col("label").is_in(list(frequent))))[ALL]
    return {
        "questions": micro.questions,
        **micro.micro,
        "macro_labels": macro.labels,
        **{f"macro_{name}": value for name, value in macro.macro.items()},
        **{f"english_{name}": value for name, value in english.micro.items()},
    }


COLUMNS = {
    "hit@1": "hit@1",
    "hit@3": "hit@3",
    "hit@5": "hit@5",
    "mrr": "MRR",
    "macro_hit@3": "macro hit@3",
    "macro_mrr": "macro MRR",
    "english_hit@3": "English hit@3",
    "english_mrr": "English MRR",
}


def report(record: dict[str, Any]) -> str:
    """The markdown beside the JSON."""
    seeds = record["seeds"]
    rows = {
        "TF-IDF": by_column([record["tfidf"]]),
        "untuned": by_column([seed["untuned"] for seed in seeds]),
        "tuned": by_column([seed["tuned"] for seed in seeds]),
    }
    numbers = " ".join(str(seed["seed"]) for seed in seeds)
    first = seeds[0]["tuned"]
    lines = [
        f"# Hinglish-TOP, {record['split']} split, recipe {record['recipe']}",
        "",
        *table(rows, COLUMNS, "system"),
        "",
        f"{first['questions']:,} questions; mean (range) over seeds {numbers}. hit@k and MRR over "
        "distinct labels; a label that the knowledge base lacks is a miss. Macro: mean over the "
        f"{first['macro_labels']} intents with at least {MACRO_MIN} training and {MACRO_MIN} "
        "evaluated queries. English: the same questions in English.",
        "",
        f"Training {cell([seed['training_seconds'] for seed in seeds], 0)} s (wall clock). "
        f"{provenance_line(record['provenance'])}",
        "",
        "Made by `python -m benchmarks.hinglish_top DATA_DIR "
        f"--split {record['split']} --recipe {record['recipe']} --seeds {numbers}`.",
    ]
    return "\n".join(lines) + "\n"


def by_column(measured: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """The values of each column, one per seed."""
    return {name: [figures[name] for figures in measured] for name in COLUMNS}


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hinglish_top")
    parser.add_argument("data", type=Path, help="folder with kb.tsv, queries.tsv and labels.tsv")
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="default")
    parser.add_argument(
        "--work",
        type=Path,
        help="folder for converted files and stores, kept; left out: a temporary one",
    )
    return parser.parse_args(given)


def measure(chosen: argparse.Namespace, work: Path) -> dict[str, Any]:
    """All figures of one recipe on one split."""
    files = convert(chosen.data, chosen.split, work / chosen.split)
    folder = work / chosen.split / chosen.recipe
    return {
        "benchmark": "hinglish_top",
        "split": chosen.split,
        "recipe": chosen.recipe,
        "provenance": provenance(),
        "tfidf": measure_tfidf(files),
        "seeds": [
            measure_seed(files, write_config(files, chosen.recipe, seed, folder / str(seed)), seed)
            for seed in chosen.seeds
        ],
    }


def main(given: Sequence[str] | None = None) -> None:
    """Measure, and write the results."""
    chosen = arguments(given)
    with tempfile.TemporaryDirectory() as temporary:
        record = measure(chosen, (chosen.work or Path(temporary)).resolve())
    name = f"hinglish_top_{chosen.split}"
    if chosen.recipe != "default":
        name += f"_{chosen.recipe}"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(report(record), encoding="utf-8")
    print(report(record))


if __name__ == "__main__":
    main()
