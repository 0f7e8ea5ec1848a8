"""The same pairs learned from twice: by Monoglot's loop, by sentence-transformers' own trainer.

Each text of a pair against the rows of the whole batch, at one temperature and one peak rate that
falls to zero. The trainer is at its defaults in all else. Needs the extra `bench`, which has what
the trainer needs.
"""

import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.hinglish_files import convert, read_tsv
from benchmarks.provenance import ROOT
from benchmarks.speed.figures import seconds_of
from monoglot.identity import text_digest
from monoglot.learning.encoder import Encoder
from monoglot.learning.evaluation import evaluate_vectors
from monoglot.learning.metrics import ALL, summarise
from monoglot.learning.training import fine_tune
from monoglot.learning_config import TrainingConfig

_TEMPERATURE = 0.05
_QUESTIONS = 1_000


def material(data: Path | None, folder: Path) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Rows (row_id, query, label), pairs (row_id, query, label, text), questions."""
    if data is None:
        sample = ROOT / "monoglot/sample"
        rows = pl.read_csv(sample / "kb.csv").with_row_index("row_id").cast({"row_id": pl.String})
        told = pl.read_csv(sample / "hinglish.csv").rename({"source": "query"})
        pairs = rows.join(told, on="query", maintain_order="left")
        questions = pl.read_csv(sample / "queries.csv")
    else:
        files = convert(data / "hinglish_top", "validation", folder / "data")
        rows, told = read_tsv(files.knowledge_base), read_tsv(files.translations)
        pairs = rows.join(told, on="row_id", maintain_order="left")
        questions = read_tsv(files.questions).head(_QUESTIONS)
    pairs = pairs.rename({"translation": "text"}).unique("text", maintain_order=True)
    asked = questions.select(
        pl.int_range(pl.len()).cast(pl.String).alias("query_id"),
        "text",
        "label",
        language=pl.lit("hi-Latn"),
        origin=pl.lit("native"),
        source_row_id=pl.lit(None, pl.String),
        english=pl.lit(None, pl.String),
    )
    return rows.select("row_id", "query", "label"), pairs, asked


def by_monoglot(
    encoder: Encoder,
    rows: pl.DataFrame,
    pairs: pl.DataFrame,
    folder: Path,
    *,
    epochs: int,
    batch: int,
    rate: float,
    cached: bool = False,
) -> float:
    """Train the encoder in place; returns the seconds."""
    ids = [text_digest(text) for text in pairs["text"]]
    anchors = pairs.select(
        "text", "label", query_id=pl.Series(ids), language=pl.lit("hi-Latn"),
        origin=pl.lit("translated"), source_row_id="row_id", english="query",
    )  # fmt: skip
    nothing = pl.lit([], pl.List(pl.String))
    triplets = pl.concat(
        pairs.select(
            pl.lit(epoch, pl.Int32).alias("epoch"),
            pl.Series("anchor", ids),
            positive_row="row_id",
            negative_rows=nothing,
            probabilities=nothing.cast(pl.List(pl.Float64)),
            strategy=pl.lit("none"),
        )
        for epoch in range(epochs)
    )
    config = TrainingConfig(
        epochs=epochs,
        batch_size=batch,
        learning_rate=rate,
        temperature=_TEMPERATURE,
        english_replay=False,
        gradient_cache=cached,
        warmup_share=0.0,
    )
    encoder.model.eval()  # loaded before the clock starts, as the trainer's is
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        return seconds_of(
            lambda: fine_tune(encoder, anchors, rows, triplets, config, scratch=Path(scratch))
        )


def by_trainer(
    encoder: Encoder,
    pairs: pl.DataFrame,
    folder: Path,
    *,
    epochs: int,
    batch: int,
    rate: float,
    cached: int | None = None,
    **also: Any,
) -> float:
    """Train the encoder in place, if asked with cached gradients; returns the seconds.

    Args:
        encoder: the base model, on the device to train on.
        pairs: text and query.
        folder: to write to.
        epochs: passes over the pairs.
        batch: pairs a step.
        rate: peak learning rate.
        cached: texts that are encoded together under cached gradients; None: without them.
        also: further arguments of the trainer.
    """
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )

    scale = 1 / _TEMPERATURE
    loss = (
        MultipleNegativesRankingLoss(encoder.model, scale=scale)
        if cached is None
        else CachedMultipleNegativesRankingLoss(encoder.model, scale, mini_batch_size=cached)
    )
    trainer = SentenceTransformerTrainer(
        model=encoder.model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(folder / "trainer"),
            num_train_epochs=epochs,
            per_device_train_batch_size=batch,
            learning_rate=rate,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **also,
        ),
        train_dataset=Dataset.from_dict(
            {"anchor": pairs["text"].to_list(), "positive": pairs["query"].to_list()}
        ),
        loss=loss,
    )
    return seconds_of(trainer.train)


def mrr_of(encoder: Encoder, rows: pl.DataFrame, questions: pl.DataFrame) -> float:
    """What it has learned."""
    encoder.model.eval()
    outcomes = evaluate_vectors(
        questions,
        encoder.encode(questions["text"].to_list()),
        None,
        rows,
        encoder.encode(rows["query"].to_list()),
    )
    return float(summarise(outcomes)[ALL].micro["mrr"])
