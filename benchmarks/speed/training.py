"""Fine-tuning MiniLM beside sentence-transformers' trainer at its defaults: same pairs, same loss.

Translations and their English rows, InfoNCE over the batch, three epochs. Needs the extra `bench`,
which has what the trainer needs. Beside it, how fast any loop could be on this machine.
"""

import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.hinglish_files import convert, read_tsv
from benchmarks.provenance import ROOT
from benchmarks.speed.figures import Figure, seconds_of
from benchmarks.speed.training_bound import bound
from monoglot.identity import text_digest
from monoglot.learning.encoder import Encoder
from monoglot.learning.evaluation import evaluate_vectors
from monoglot.learning.metrics import ALL, summarise
from monoglot.learning.models import OFFLINE_MINILM
from monoglot.learning.training import fine_tune
from monoglot.learning_config import TrainingConfig

TITLE = "Fine-tuning MiniLM"
_PAIRS, _BATCH, _RATE, _TEMPERATURE = 1_280, 128, 2e-4, 0.05
_QUESTIONS = 1_000


def measure(*, quick: bool, data: Path | None) -> list[Figure]:
    """Pairs a second of both, and what each has learned."""
    with tempfile.TemporaryDirectory() as folder:
        rows, pairs, questions = _material(data, Path(folder))
        count = 256 if quick else _PAIRS
        pairs, epochs = pairs.head(count), 1 if quick else 3
        ours, seconds = _ours(rows, pairs, epochs, Path(folder))
        theirs, default = _theirs(pairs, epochs, Path(folder))
    shown = epochs * pairs.height
    texts = [*pairs["text"], *pairs["query"]]
    rates = {"ours": shown / seconds, "theirs": shown / default}
    base = Encoder.load(OFFLINE_MINILM, device="cpu")
    return [
        Figure("Monoglot's loop", shown / seconds, "pairs/s"),
        Figure("`SentenceTransformerTrainer` at its defaults", shown / default, "pairs/s"),
        Figure("the first against the second", default / seconds, "x", least=5.0),
        *bound(base, texts, pairs=pairs.height, **rates),
        Figure("MRR after Monoglot's loop", _mrr(ours, rows, questions), ""),
        Figure("MRR after the trainer", _mrr(theirs, rows, questions), ""),
    ]


def _material(data: Path | None, folder: Path) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
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


def _ours(rows: pl.DataFrame, pairs: pl.DataFrame, epochs: int, folder: Path) -> tuple[Any, float]:
    encoder = Encoder.load(OFFLINE_MINILM, device="cpu")
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
        batch_size=_BATCH,
        learning_rate=_RATE,
        temperature=_TEMPERATURE,
        english_replay=False,
        warmup_share=0.0,
    )
    seconds = seconds_of(
        lambda: fine_tune(encoder, anchors, rows, triplets, config, scratch=folder / "scratch")
    )
    return encoder, seconds


def _theirs(pairs: pl.DataFrame, epochs: int, folder: Path) -> tuple[Any, float]:
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    encoder = Encoder.load(OFFLINE_MINILM, device="cpu")
    trainer = SentenceTransformerTrainer(
        model=encoder.model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(folder / "trainer"),
            num_train_epochs=epochs,
            per_device_train_batch_size=_BATCH,
            learning_rate=_RATE,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=Dataset.from_dict(
            {"anchor": pairs["text"].to_list(), "positive": pairs["query"].to_list()}
        ),
        loss=MultipleNegativesRankingLoss(encoder.model, scale=1 / _TEMPERATURE),
    )
    return encoder, seconds_of(trainer.train)


def _mrr(encoder: Encoder, rows: pl.DataFrame, questions: pl.DataFrame) -> float:
    encoder.model.eval()
    outcomes = evaluate_vectors(
        questions,
        encoder.encode(questions["text"].to_list()),
        None,
        rows,
        encoder.encode(rows["query"].to_list()),
    )
    return float(summarise(outcomes)[ALL].micro["mrr"])
