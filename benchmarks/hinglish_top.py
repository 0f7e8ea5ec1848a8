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
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.hinglish_files import MACRO_MIN, RECIPES, Files, convert, write_config
from benchmarks.provenance import provenance
from benchmarks.tables import cell, provenance_line, table
from monoglot.config import KnowledgeBaseConfig, QueriesFile
from monoglot.knowledge.knowledge_base import load_knowledge_base
from monoglot.knowledge.queries import load_queries
from monoglot.learning.baselines import tfidf
from monoglot.learning.evaluation import as_json
from monoglot.learning.metrics import summarise

RESULTS = Path(__file__).with_name("results")


def monoglot(*arguments: str) -> Any:
    """What a `monoglot` command with `--json` prints; its progress goes to the terminal."""
    command = [str(Path(sys.executable).with_name("monoglot")), *arguments, "--json"]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if ran.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {ran.returncode}")
    return json.loads(ran.stdout)


def measure_seed(files: Files, config: Path, seed: int) -> dict[str, Any]:
    """Run the line and evaluate its release: on all questions, and on those of frequent intents.

    Raises:
        SystemExit: a command failed, or the gate kept the untuned model, so that there is no
            tuned one to evaluate.
    """
    started = time.monotonic()
    run = monoglot("run", "-c", str(config))
    if not run["promoted"]:
        raise SystemExit(f"{config}: the tuned model was not promoted: {run['reasons']}")
    seconds = time.monotonic() - started
    training = next(stage for stage in run["stages"] if stage["key"]["stage"] == "training")
    asked = {
        name: monoglot("evaluate", "-c", str(config), "--queries", str(path))
        for name, path in (("all", files.questions), ("frequent", files.frequent))
    }
    return {
        "seed": seed,
        "release": run["release"],
        "training_seconds": training["artifact"]["facts"]["seconds"],
        "run_seconds": round(seconds, 1),
        "evaluation": asked,
    }


def measure_tfidf(files: Files) -> dict[str, Any]:
    """The same as `monoglot evaluate` prints, of TF-IDF."""
    rows = load_knowledge_base(KnowledgeBaseConfig(path=files.knowledge_base)).rows
    measured = {}
    for name, path in (("all", files.questions), ("frequent", files.frequent)):
        outcomes = tfidf(load_queries(QueriesFile(path=path)).rows, rows)
        asked, control = (as_json(summarise(outcomes, control=flag)) for flag in (False, True))
        measured[name] = {"tfidf": asked, "english_control": {"tfidf": control}}
    return measured


def values(evaluation: dict[str, Any], system: str) -> dict[str, float | None]:
    """One system's columns of the table; the macro values are over the frequent intents alone."""
    control = evaluation["all"]["english_control"][system]["all"]
    micro = evaluation["all"][system]["all"]
    macro = evaluation["frequent"][system]["all"]
    return {
        **{name: micro[name] for name in ("hit@1", "hit@3", "hit@5", "mrr")},
        **{name: macro[name] for name in ("macro_hit@3", "macro_mrr")},
        "english_hit@3": control["hit@3"],
        "english_mrr": control["mrr"],
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
    per_seed = [values(seed["evaluation"], "current") for seed in seeds]
    untuned = values(seeds[0]["evaluation"], "untuned")
    words = values(record["tfidf"], "tfidf")
    rows = {
        "TF-IDF": {name: [value] for name, value in words.items()},
        "untuned": {name: [value] for name, value in untuned.items()},
        "tuned": {name: [seed[name] for seed in per_seed] for name in COLUMNS},
    }
    numbers = ", ".join(str(seed["seed"]) for seed in seeds)
    asked = seeds[0]["evaluation"]
    lines = [
        f"# Hinglish-TOP, {record['split']} split, recipe {record['recipe']}",
        "",
        *table(rows, COLUMNS, "system"),
        "",
        f"{asked['all']['current']['all']['n']:,} questions; mean (range) over seeds {numbers}. "
        "hit@k and MRR over distinct labels; a label that the knowledge base lacks is a miss. "
        f"Macro: mean over the {asked['frequent']['current']['all']['labels']} intents with at "
        f"least {MACRO_MIN} training and {MACRO_MIN} evaluated queries. English: the same "
        "questions in English.",
        "",
        f"Training {cell([seed['training_seconds'] for seed in seeds], 0)} s, the whole run "
        f"{cell([seed['run_seconds'] for seed in seeds], 0)} s (wall clock). "
        f"{provenance_line(record['provenance'])}",
        "",
        "Made by `python -m benchmarks.hinglish_top DATA_DIR "
        f"--split {record['split']} --recipe {record['recipe']} "
        f"--seeds {numbers.replace(',', '')}`.",
    ]
    return "\n".join(lines) + "\n"


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
