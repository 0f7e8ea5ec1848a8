"""Texts to vectors on this machine: `Encoder.encode` beside sentence-transformers' defaults.

Both are held against the machine: the arithmetic that the texts' own tokens need (matrix products
with weights; no padding, no attention scores), by how fast torch multiplies one layer's matrices in
the same run. What sentence-transformers leaves of that is all that can be won in its precision.
"""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.figures import Figure, seconds_of
from benchmarks.speed.rows import made_rows
from monoglot.learning.encoder import Encoder
from monoglot.learning.models import OFFLINE_MINILM
from monoglot.learning.sub_batches import lengths_by

TITLE = "Encoding with MiniLM"
_TOKENS = 1024  # of a product: as many as a sub-batch has


def measure(*, quick: bool, data: Path | None) -> list[Figure]:
    """Distinct short queries, the same ones by both."""
    count = 2_000 if quick else 20_000
    texts = made_rows(count, 200, data)["query"].to_list()
    encoder = Encoder.load(OFFLINE_MINILM, device="cpu")
    model = Encoder.load(OFFLINE_MINILM, device="cpu").model
    encoder.encode(texts[:600])  # measures which precision is faster, once a process
    ours: list[np.ndarray] = []
    theirs: list[np.ndarray] = []
    needed = _operations(model.transformers_model) * int(lengths_by(model, texts).sum())
    peak = _operations_a_second(model.transformers_model)
    seconds = seconds_of(lambda: ours.append(encoder.encode(texts)))
    default = seconds_of(lambda: theirs.append(model.encode(texts, normalize_embeddings=True)))
    peak = max(peak, _operations_a_second(model.transformers_model))
    agreement = (ours[0] * theirs[0]).sum(axis=1).min()
    twice = texts[: count // 4] * 4
    repeated = seconds_of(lambda: encoder.encode(twice))
    return [
        Figure(f"`Encoder.encode`, {count:,} texts", count / seconds, "texts/s"),
        Figure("`SentenceTransformer.encode` at its defaults", count / default, "texts/s"),
        Figure("the first against the second", default / seconds, "x", least=3.0),
        Figure("fp32 matrix products of this machine", peak / 1e9, "GFLOP/s"),
        Figure("the first's share of that", 100 * needed / seconds / peak, "%"),
        Figure("the second's share", 100 * needed / default / peak, "%"),
        Figure("all of it, in fp32, against the second", default * peak / needed, "x"),
        Figure("least cosine of a text's two vectors", float(agreement), "", least=0.999),
        Figure("texts that stand there four times, against distinct ones", seconds / repeated, "x"),
    ]


def _operations(transformer: Any) -> int:
    """Multiplications and additions that a token needs, in matrix products with weights."""
    config = transformer.config
    weights = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    return 2 * int(config.num_hidden_layers * weights)


def _operations_a_second(transformer: Any) -> float:
    """Of this machine, in the largest matrix product of the model."""
    import torch

    config = transformer.config
    left = torch.randn(_TOKENS, config.hidden_size)
    weights = torch.randn(config.intermediate_size, config.hidden_size)
    seconds = seconds_of(lambda: torch.nn.functional.linear(left, weights), times=50)
    return 2 * _TOKENS * config.hidden_size * config.intermediate_size / seconds
