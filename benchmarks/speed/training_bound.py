"""How fast fine-tuning could be at all here: the matrix products that it needs, at this peak.

What no way of training these pairs in fp32 can leave out is the products of the encoder's linear
layers with the tokens of each text, forward and twice backward. The peak is measured with products
of these very shapes, not taken from a data sheet.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.speed.figures import Figure
from monoglot.learning.encoder import Encoder
from monoglot.learning.tokens import Tokens

_TOKENS = 1_024  # about what a sub-batch of the loop holds
_TIMES = 20


def bound(
    encoder: Encoder, texts: Sequence[str], *, pairs: int, ours: float, theirs: float
) -> list[Figure]:
    """The peak, the share of it that both reach, and how much faster than the trainer is possible.

    Args:
        encoder: an untrained model.
        texts: of the pairs that both were shown.
        pairs: how many.
        ours: pairs a second of Monoglot's loop.
        theirs: pairs a second of the trainer.
    """
    tokens = Tokens(encoder.model, [encoder.prefix + text for text in texts]).lengths
    limit = encoder.model.max_seq_length or np.inf
    shapes = _shapes(encoder.model)
    work = 6 * sum(rows * columns for rows, columns in shapes)
    each = work * float(np.minimum(tokens, limit).sum()) / pairs
    peak = work * _TOKENS / sum(_seconds(shape) * shapes.count(shape) for shape in {*shapes})
    return [
        Figure("matrix products of a pair's tokens, forward and backward", each / 1e9, "GFLOP"),
        Figure("measured peak of such products, fp32", peak / 1e9, "GFLOP/s"),
        Figure("share of the peak that Monoglot's loop reaches", ours * each / peak, ""),
        Figure("share of the peak that the trainer reaches", theirs * each / peak, ""),
        Figure("the peak against the trainer: the most in fp32", peak / each / theirs, "x"),
    ]


def _shapes(model: Any) -> list[tuple[int, int]]:
    """Of the linear layers that each token goes through."""
    import torch

    return [
        (layer.out_features, layer.in_features)
        for name, layer in model.transformers_model.named_modules()
        if isinstance(layer, torch.nn.Linear) and "pooler" not in name
    ]


def _seconds(shape: tuple[int, int]) -> float:
    """The least time of a layer's three products: forward, for its input, for its weights."""
    import torch

    weights = torch.randn(*shape)
    given, gradient = torch.randn(_TOKENS, shape[1]), torch.randn(_TOKENS, shape[0])
    least = np.inf
    for _ in range(_TIMES):
        started = time.perf_counter()
        given @ weights.T, gradient @ weights, gradient.T @ given
        least = min(least, time.perf_counter() - started)
    return float(least)
