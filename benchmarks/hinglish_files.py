"""The public Hinglish-TOP files as Monoglot reads them: rows, translations, questions, config."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

LANGUAGE = "hi-Latn"
MACRO_MIN = 5  # macro values: intents with as many evaluated queries
# arXiv 2506.02527: Algorithm 1 and InfoNCE on its explicit negatives alone.
PAPER: dict[str, Any] = {
    "sampling": {
        "strategy": "algorithm1",
        "random_negatives": 1,
        "hard_negatives": 2,
        "positives": "index",
        "similarity": {"source": "text", "temperature": 0.1},
    },
    "fine_tuning": {
        "objective": "explicit",
        "epochs": 3,
        "batch_size": 32,
        "learning_rate": 5e-5,
        "embedding_rate": 1.0,
        "spelling_noise": 0.0,
        "temperature": 0.05,
        "english_replay": False,
    },
    "merging": {"base_weight": 0.0},
}


@dataclass(frozen=True)
class Files:
    """The converted files, all TSV, and what the macro values are over.

    Attributes:
        knowledge_base: English rows.
        translations: Hinglish training queries, by row id.
        questions: Hinglish questions of the evaluated split.
        frequent: labels with at least `MACRO_MIN` training and as many evaluated queries.
    """

    knowledge_base: Path
    translations: Path
    questions: Path
    frequent: frozenset[str]


def convert(data: Path, split: str, folder: Path) -> Files:
    """Write the public files as Monoglot reads them.

    Args:
        data: folder with kb.tsv, queries.tsv and labels.tsv.
        split: which queries are the questions.
        folder: where the files go; made if need be.

    Raises:
        SystemExit: a file is missing.
    """
    kb, queries, labels = (read_tsv(data / f"{name}.tsv") for name in ("kb", "queries", "labels"))
    rows = kb.filter(pl.col("first_split") == "train").join(
        labels.select("label", "label_text"), on="label", how="left", maintain_order="left"
    )
    trained = queries.filter(pl.col("split") == "train")
    asked = queries.filter(pl.col("split") == split).select(
        "label", query_id="qid", text="text", english="en_text", language=pl.lit(LANGUAGE)
    )
    often = [
        part.group_by("label").len().filter(pl.col("len") >= MACRO_MIN)["label"]
        for part in (trained, asked)
    ]
    files = Files(
        knowledge_base=folder / "kb.tsv",
        translations=folder / "hinglish.tsv",
        questions=folder / "questions.tsv",
        frequent=frozenset(often[0]) & frozenset(often[1]),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_tsv(
        rows.select(
            "label",
            "label_text",
            row_id="kb_id",
            query="text",
            label_path=pl.concat_str("parent", pl.lit("/"), "label"),
        ),
        files.knowledge_base,
    )
    write_tsv(trained.select(row_id="kb_id", translation="text"), files.translations)
    write_tsv(asked, files.questions)
    return files


def read_tsv(path: Path) -> pl.DataFrame:
    """A TSV file without quoting, every column as text."""
    if not path.is_file():
        raise SystemExit(f"{path}: no such file. See benchmarks/README.md for the data's layout.")
    return pl.read_csv(path, separator="\t", quote_char=None, infer_schema=False)


def write_tsv(frame: pl.DataFrame, path: Path) -> None:
    """The same way out."""
    frame.write_csv(path, separator="\t", quote_style="never")


def write_config(files: Files, seed: int, folder: Path) -> Path:
    """Write the monoglot.yaml of the default recipe; its store lies beside it."""
    config: dict[str, Any] = {
        "knowledge_base": {"path": str(files.knowledge_base)},
        "languages": [
            {"code": LANGUAGE, "name": "Hinglish", "translations": str(files.translations)}
        ],
        "evaluation": {"path": str(files.questions)},
        "base_model": "offline-minilm",
        "store": "store",
        "split": {"seed": seed},
        "fine_tuning": {"seed": seed},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "monoglot.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path
