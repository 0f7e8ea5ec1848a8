"""How many of a model's mistakes are the data's: a blind sheet for readers, and what they say.

    python -m benchmarks.label_noise draw CELL_DIR DATA_DIR --out SHEET_DIR
    python -m benchmarks.label_noise score SHEET_DIR ANSWERS.tsv [ANSWERS.tsv ...]

A reader sees a test question of Hinglish-TOP in both languages and two labels without being told
which one the data gives it: the other is the model's, or, where the model was right, its second.
`guide.md` has rows of every label. An answer is A, B, both or neither. CELL_DIR is the artifact of
a cell in the grid's workshop (`artifacts/cell/...`), which has what the model said.
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.hinglish_files import read_tsv

_WRONG, _RIGHT = 150, 50  # of each that many are drawn: the second show whether readers are careful
_ROWS_PER_LABEL = 8
_ANSWERS = ("A", "B", "both", "neither")


def draw(outcomes: pl.DataFrame, queries: pl.DataFrame, seed: int) -> list[dict[str, Any]]:
    """Items of the sheet, in random order, with what a reader must not see.

    Args:
        outcomes: `contracts.Outcomes`.
        queries: qid and en_text of the questions that may be drawn.
        seed: of the drawing.
    """
    rng = random.Random(seed)  # noqa: S311
    english = queries.select("en_text", query_id="qid")
    asked = outcomes.filter(~pl.col("control"), "known").join(english, on="query_id")
    asked = asked.sort("query_id").with_columns(
        other=pl.when(pl.col("rank") == 1)
        .then(pl.col("top_labels").list.get(1, null_on_oob=True))
        .otherwise(pl.col("top_labels").list.first())
    )
    is_right = pl.col("rank") == 1
    items = [
        {"was_right": was_right, **row}
        for was_right, count in ((False, _WRONG), (True, _RIGHT))
        for row in rng.sample(_rows(asked.filter(is_right if was_right else ~is_right)), count)
    ]
    rng.shuffle(items)
    for item in items:
        item["A"], item["B"] = rng.sample([item["label"], item["other"]], 2)
    return items


def _rows(asked: pl.DataFrame) -> list[dict[str, Any]]:
    return asked.drop_nulls("other").select("en_text", "text", "label", "other").to_dicts()


def write_sheet(items: Sequence[Mapping[str, Any]], rows: pl.DataFrame, folder: Path) -> None:
    """The sheet and the guide for readers, and the key, which is not for them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{number}. English: {it['en_text']} | Hinglish: {it['text']} | A: {it['A']} | B: {it['B']}"
        for number, it in enumerate(items, 1)
    ]
    (folder / "sheet.md").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "key.json").write_text(json.dumps(list(items)), "utf-8")
    guide = ["# Labels, and rows that carry them"]
    for label in sorted({it[side] for it in items for side in "AB"}):
        some = rows.filter(label=label)["text"]
        shown = some.sample(min(_ROWS_PER_LABEL, len(some)), seed=0)
        guide += ["", f"## {label}", "", *(f"- {text}" for text in shown)]
    (folder / "guide.md").write_text("\n".join(guide) + "\n", "utf-8")


def score(items: Sequence[Mapping[str, Any]], answers: pl.DataFrame) -> dict[bool, Counter[str]]:
    """Whether the model was right -> how often a reader chose what.

    Args:
        items: the key.
        answers: n (from 1) and choice.

    Raises:
        SystemExit: an item has no answer, or an unknown one.
    """
    said = dict(answers.select(pl.col("n").cast(pl.Int64), "choice").iter_rows())
    counts: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
    for number, item in enumerate(items, 1):
        choice = said.get(number)
        if choice not in _ANSWERS:
            raise SystemExit(f"item {number}: {choice!r} is none of {', '.join(_ANSWERS)}")
        if choice in item:
            choice = "the data's" if item[choice] == item["label"] else "the other"
        counts[item["was_right"]][choice] += 1
    return counts


def main() -> None:
    """Draw a sheet, or score what readers answered."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.label_noise")
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw")
    drawing.add_argument("cell", type=Path)
    drawing.add_argument("data", type=Path)
    drawing.add_argument("--out", type=Path, required=True)
    drawing.add_argument("--seed", type=int, default=0)
    scoring = commands.add_parser("score")
    scoring.add_argument("sheet", type=Path)
    scoring.add_argument("answers", type=Path, nargs="+")
    chosen = parser.parse_args()
    if chosen.command == "draw":
        parts = [pl.read_parquet(chosen.cell / f"{it}.parquet") for it in ("table", "held_back")]
        queries = read_tsv(chosen.data / "queries.tsv").filter(split="test")
        rows = read_tsv(chosen.data / "kb.tsv").filter(first_split="train")
        write_sheet(draw(pl.concat(parts), queries, chosen.seed), rows, chosen.out)
        return
    items = json.loads((chosen.sheet / "key.json").read_text("utf-8"))
    for path in chosen.answers:
        for was_right, counts in score(items, read_tsv(path)).items():
            told = ", ".join(f"{choice}: {count}" for choice, count in counts.most_common())
            print(f"{path}: where the model was {'right' if was_right else 'wrong'}: {told}")


if __name__ == "__main__":
    main()
