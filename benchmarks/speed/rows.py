"""A knowledge base of any size, made from real rows: distinct, seeded, with any number of labels.

Each row is a real one with two words replaced by others of the same collection, and, now and then,
two letters of a word swapped. A label is split into as many as are wanted.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from benchmarks.hinglish_files import read_tsv
from benchmarks.provenance import ROOT

_REPLACED = 2
_MISSPELT = 0.15
_SETS = ("clinc150", "hwu64", "banking77_ar", "hinglish_top")


def real_rows(data: Path | None) -> pl.DataFrame:
    """query, label: English rows of the public sets in a folder; without one, of the sample."""
    if data is None:
        return pl.read_csv(ROOT / "monoglot/sample/kb.csv").select("query", "label")
    tables = [
        read_tsv(data / name / "kb.tsv").select(query="text", label="label") for name in _SETS
    ]
    return pl.concat(tables).filter(pl.col("query").str.len_chars() > 0)


def made_rows(count: int, labels: int, data: Path | None, seed: int = 0) -> pl.DataFrame:
    """row_id, query, label: so many distinct rows under about so many labels."""
    real = real_rows(data)
    parts = max(1, round(labels / real["label"].n_unique()))
    rows = list(real.iter_rows())
    vocabulary = [word for query, _ in rows for word in query.split()]
    draw = random.Random(seed)  # noqa: S311  no secret
    made: dict[str, str] = {}
    while len(made) < count:
        query, label = rows[int(draw.random() * len(rows))]
        text = _varied(query, vocabulary, draw)
        made.setdefault(text, f"{label}_{len(made) % parts}")
    return pl.DataFrame({"query": made.keys(), "label": made.values()}).select(
        pl.int_range(pl.len()).cast(pl.String).alias("row_id"), "query", "label"
    )


def with_all_columns(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows as `contracts.KnowledgeBase` has them."""
    empty = pl.lit(None, pl.String)
    return rows.with_columns(label_path=empty, label_text=empty, answer=empty)


def edited(rows: pl.DataFrame, count: int, what: str, first: int = 0) -> pl.DataFrame:
    """The same rows with so many reworded, spread over all of them, from the first-th on."""
    every = max(1, rows.height // max(1, count))
    number = (pl.int_range(pl.len()) - first) % rows.height
    chosen = (number % every == 0) & (number // every < count)
    reworded = pl.col("query") + f" {what}"
    return rows.with_columns(query=pl.when(chosen).then(reworded).otherwise("query"))


def _varied(query: str, vocabulary: list[str], draw: random.Random) -> str:
    words = query.split()
    for _ in range(_REPLACED):
        word = vocabulary[int(draw.random() * len(vocabulary))]
        words[int(draw.random() * len(words))] = word
    if draw.random() < _MISSPELT:
        at = int(draw.random() * len(words))
        words[at] = _misspelt(words[at], draw)
    return " ".join(words)


def _misspelt(word: str, draw: random.Random) -> str:
    if len(word) < 4:
        return word
    at = 1 + int(draw.random() * (len(word) - 3))
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def doubling(most: int, times: int) -> Iterator[int]:
    """Sizes up to `most`, each twice the one before."""
    return (most >> (times - 1 - step) for step in range(times))
