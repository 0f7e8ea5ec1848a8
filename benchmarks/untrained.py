"""What training does to what it is not about: other labels, English, other knowledge bases.

    python -m benchmarks.untrained DATA_DIR --other clinc150 CLINC_DIR --other hwu64 HWU_DIR

Runs the default recipe on Hinglish-TOP with ten labels left out of the training in both languages
(`split.untrained_labels`) and the other knowledge bases as guards, all English, and writes
`results/untrained.json` and `.md`. `README.md` in this folder says what is measured.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from benchmarks.hinglish_files import MACRO_MIN, Files, convert, read_tsv, write_config, write_tsv
from benchmarks.provenance import RESULTS, provenance
from benchmarks.tables import provenance_line, table
from monoglot.knowledge.split import places
from monoglot.learning.metrics import ALL, summarise
from monoglot.runs import Runs
from monoglot.store import Store
from tasks.systems import TUNED, UNTUNED

LEFT_OUT = 10
_QUESTION = ("query_id", "text", "language", "label")
_METRICS = ("hit@1", "hit@3", "mrr")


def left_out(files: Files) -> list[str]:
    """The labels that nothing is trained on: of the frequent ones those with the lowest hashes."""
    labels = sorted(files.frequent)
    hashed = pl.DataFrame({"label": labels, "place": places(labels, "benchmark")})
    return sorted(hashed.sort("place").head(LEFT_OUT)["label"])


def guard(name: str, data: Path, folder: Path) -> dict[str, Any]:
    """A knowledge base of English intents (rows of the split train) as a guard; asked: test."""
    kb = read_tsv(data / "kb.tsv")
    write_tsv(
        kb.filter(split="train").select("label", row_id="kb_id", query="text"),
        folder / f"{name}.tsv",
    )
    asked = kb.filter(split="test").with_columns(language=pl.lit("en"), query_id="kb_id")
    write_tsv(asked.select(_QUESTION), folder / f"{name}_questions.tsv")
    return {
        "name": name,
        "path": str(folder / f"{name}_questions.tsv"),
        "knowledge_base": {"path": str(folder / f"{name}.tsv")},
    }


def configure(files: Files, others: Mapping[str, Path], folder: Path) -> Path:
    """The default recipe's monoglot.yaml with labels left out, and guards."""
    path = write_config(files, 0, folder)
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["split"]["untrained_labels"] = left_out(files)
    config["guards"] = [guard(name, data, folder) for name, data in others.items()]
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def monoglot(*arguments: str) -> Any:
    """What a `monoglot` command with `--json` prints; its progress goes to the terminal."""
    command = [str(Path(sys.executable).with_name("monoglot")), *arguments, "--json"]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if ran.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {ran.returncode}")
    return json.loads(ran.stdout)


def measure(data: Path, others: Mapping[str, Path], folder: Path) -> dict[str, Any]:
    """Run the line, and read what both models answered from its record."""
    files = convert(data, "test", folder)
    config = configure(files, others, folder)
    run = monoglot("run", "-c", str(config))
    store = Store.existing(str(folder / "store"))
    record = Runs(store).last()
    assert record is not None  # the run has just ended
    labels = left_out(files)
    outcomes = {name: store.table(record.systems[name]) for name in (UNTUNED, TUNED)}
    is_left_out = pl.col("label").is_in(labels)
    parts = {
        "trained labels, Hinglish": ~pl.col("control") & ~is_left_out,
        f"{LEFT_OUT} labels left out, Hinglish": ~pl.col("control") & is_left_out,
        "trained labels, English": pl.col("control") & ~is_left_out,
        f"{LEFT_OUT} labels left out, English": pl.col("control") & is_left_out,
    }
    rows = {
        title: {name: _figures(it.filter(chosen)) for name, it in outcomes.items()}
        for title, chosen in parts.items()
    }
    for name in others:
        probed = [it for it in record.stages if it.key.stage == "probe" and it.title.endswith(name)]
        rows[f"{name}, English"] = {
            TUNED if TUNED in it.title else UNTUNED: _figures(store.table(it.artifact))
            for it in probed
        }
    return {
        "benchmark": "untrained",
        "provenance": provenance(),
        "left_out": labels,
        "promoted": run["promoted"],
        "reasons": run["reasons"],
        "rows": rows,
    }


def _figures(outcomes: pl.DataFrame) -> dict[str, float]:
    """Of the outcomes as they are, whatever language was asked in."""
    asked = outcomes.with_columns(control=pl.lit(value=False))
    scores = summarise(asked)[ALL]
    return {"questions": scores.questions, **{it: scores.micro[it] for it in _METRICS}}


def report(record: Mapping[str, Any]) -> str:
    """The markdown beside the JSON."""
    columns = {
        **{f"{it} before": f"{'MRR' if it == 'mrr' else it}, untuned" for it in _METRICS},
        **{f"{it} after": f"{'MRR' if it == 'mrr' else it}, tuned" for it in _METRICS},
    }
    rows = {}
    for title, models in record["rows"].items():
        before, after = models[UNTUNED], models[TUNED]
        rows[f"{title} ({after['questions']:,} questions)"] = {
            **{f"{it} before": [before[it]] for it in _METRICS},
            **{f"{it} after": [after[it]] for it in _METRICS},
        }
    lines = [
        "# What training does to what it is not about",
        "",
        *table(rows, columns, "asked"),
        "",
        f"Hinglish-TOP, test split, seed 0, default recipe. Left out of the training in both "
        f"languages: {', '.join(record['left_out'])} (of the intents with at least {MACRO_MIN} "
        "training and evaluated queries; their rows are in the index). The other knowledge bases "
        "answer from their own train rows.",
        "",
        f"The gate: {' '.join(record['reasons'])}",
        "",
        provenance_line(record["provenance"]),
    ]
    return "\n".join(lines) + "\n"


def main(given: Sequence[str] | None = None) -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.untrained")
    parser.add_argument("data", type=Path, help="Hinglish-TOP: kb.tsv, queries.tsv, labels.tsv")
    parser.add_argument("--other", nargs=2, action="append", default=[], metavar=("NAME", "DIR"))
    parser.add_argument("--work", type=Path, help="folder for files and store, kept")
    chosen = parser.parse_args(given)
    with tempfile.TemporaryDirectory() as temporary:
        work = (chosen.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        record = measure(chosen.data, {name: Path(it) for name, it in chosen.other}, work)
    path = RESULTS / "untrained.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(report(record), encoding="utf-8")
    print(report(record))


if __name__ == "__main__":
    main()
