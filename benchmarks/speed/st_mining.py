"""Negatives of the same rows by sentence-transformers' `mine_hard_negatives`, at its defaults.

Each row asks for three, another row of its label being its positive. Beside it, what the same rows
get here: Algorithm 1 of the paper, which needs no vectors; and the nearest rows of other labels, on
the very vectors that the other has kept. Needs the extra `bench`.
"""

import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.speed.figures import Figure, seconds_of
from benchmarks.speed.rows import made_rows
from monoglot.learning.by_similarity import Material
from monoglot.learning.distributions import Pool
from monoglot.learning.encoder import Encoder
from monoglot.learning.mined import mine_top
from monoglot.learning.mining import Space
from monoglot.learning.models import OFFLINE_MINILM
from monoglot.learning.negatives import draw_negatives
from monoglot.learning.similarity import label_similarity
from monoglot.learning_config import SamplingConfig, SimilarityConfig

_CONFIG = SamplingConfig(strategy="algorithm1", random_negatives=1, hard_negatives=2)


def beside_sentence_transformers(*, quick: bool, data: Path | None) -> list[Figure]:
    """Seconds of both, and how many times as fast."""
    size = 1_000 if quick else 20_000
    rows = made_rows(size, size // 100, data)
    named = f"{size:,} rows"
    whole, searching, vectors = _by_sentence_transformers(rows)
    similarity, drawing = _by_similarity(rows)
    by_model = _by_model(rows, vectors)
    return [
        Figure(f"{named}: `mine_hard_negatives`, MiniLM", whole, "s"),
        Figure(f"{named}: Algorithm 1's draw", drawing, "s"),
        Figure("the second against the first", whole / drawing, "x", least=500.0),
        Figure("the same with the labels' similarity", whole / (similarity + drawing), "x"),
        Figure(f"{named}: `mine_hard_negatives`, vectors kept", searching, "s"),
        Figure(f"{named}: the nearest of other labels, same vectors", by_model, "s"),
        Figure("the second against the first", searching / by_model, "x"),
    ]


def _by_sentence_transformers(rows: pl.DataFrame) -> tuple[float, float, np.ndarray]:
    """Seconds with encoding, and on vectors that were kept; these, in the order of the rows."""
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    model = Encoder.load(OFFLINE_MINILM, device="cpu").model
    of_label = pl.col("query").shift(-1).fill_null(pl.col("query").first()).over("label")
    pairs = rows.with_columns(positive=of_label).filter(pl.col("query") != pl.col("positive"))
    given = Dataset.from_dict(
        {"anchor": pairs["query"].to_list(), "positive": pairs["positive"].to_list()}
    )
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):

        def mine() -> None:
            mine_hard_negatives(given, model, corpus=rows["query"].to_list(), cache_folder=folder)

        whole, searching = seconds_of(mine), seconds_of(mine)
        [kept] = Path(folder).glob("corpus_embeddings_*.npy")
        return whole, searching, np.load(kept)


def _by_similarity(rows: pl.DataFrame) -> tuple[float, float]:
    """Seconds of label similarity by shared words, and of the draw."""
    known = rows.with_columns(
        pl.lit(None, pl.String).alias("label_path"),
        pl.lit(None, pl.String).alias("label_text"),
        pl.lit("index").alias("part"),
    )
    config = SimilarityConfig(source="lexical")
    similarity = label_similarity(known, config, None)
    codes = _codes(rows)
    given = Material(Pool.of(codes, codes.max() + 1), codes, _CONFIG, similarity=similarity)
    return (
        seconds_of(lambda: label_similarity(known, config, None)),
        seconds_of(lambda: draw_negatives(given, np.random.default_rng(0))),
    )


def _by_model(rows: pl.DataFrame, vectors: np.ndarray) -> float:
    """Seconds of the search for each row's nearest three of other labels."""
    codes = _codes(rows)
    pool = Pool.of(codes, codes.max() + 1)
    space = Space(vectors, vectors[pool.rows], codes, pool.places(np.arange(len(codes))), pool)
    return seconds_of(lambda: mine_top(space, _CONFIG))


def _codes(rows: pl.DataFrame) -> np.ndarray:
    """The label of each row by its place in the alphabet."""
    return rows["label"].rank("dense").to_numpy().astype(np.int64) - 1
