"""Texts to vectors on this machine: `Encoder.encode` beside sentence-transformers' defaults."""

from pathlib import Path

import numpy as np

from benchmarks.speed.figures import Figure, seconds_of
from benchmarks.speed.rows import made_rows
from monoglot.learning.encoder import Encoder
from monoglot.learning.models import OFFLINE_MINILM

TITLE = "Encoding with MiniLM"


def measure(*, quick: bool, data: Path | None) -> list[Figure]:
    """Distinct short queries, the same ones by both."""
    count = 2_000 if quick else 20_000
    texts = made_rows(count, 200, data)["query"].to_list()
    encoder = Encoder.load(OFFLINE_MINILM, device="cpu")
    encoder.encode(texts[:600])  # measures which precision is faster, once a process
    ours: list[np.ndarray] = []
    theirs: list[np.ndarray] = []
    seconds = seconds_of(lambda: ours.append(encoder.encode(texts)))
    default = seconds_of(
        lambda: theirs.append(encoder.model.encode(texts, normalize_embeddings=True))
    )
    agreement = (ours[0] * theirs[0]).sum(axis=1).min()
    twice = texts[: count // 4] * 4
    repeated = seconds_of(lambda: encoder.encode(twice))
    return [
        Figure(f"`Encoder.encode`, {count:,} texts", count / seconds, "texts/s"),
        Figure("`SentenceTransformer.encode` at its defaults", count / default, "texts/s"),
        Figure("the first against the second", default / seconds, "x", least=3.0),
        Figure("least cosine of a text's two vectors", float(agreement), "", least=0.999),
        Figure("texts that stand there four times, against distinct ones", seconds / repeated, "x"),
    ]
