"""How fast fine-tuning could be at all here: the matrix products that it needs, at this peak.

What no way of training these pairs can leave out is the products of the encoder's linear layers
with the tokens of each text, forward and twice backward. The peaks, in fp32 and in bf16, are
measured with products of these very shapes, not taken from a data sheet. What the loop does beside
them is told by a profile.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.speed.figures import Figure, seconds_of
from monoglot.learning.encoder import Encoder
from monoglot.learning.tokens import Tokens

_TOKENS = 1_024  # about what a sub-batch of the loop holds
_TIMES = 20
# Operations of torch, each with all that it calls.
_KINDS = {
    "products with weights": {"aten::mm", "aten::addmm"},
    "attention": {"_Within", "_WithinBackward", "aten::scaled_dot_product_attention"},
    "optimiser": {"aten::_fused_adamw_", "aten::linalg_vector_norm"},
}


def bound(
    encoder: Encoder, texts: Sequence[str], *, pairs: int, ours: float, theirs: float
) -> list[Figure]:
    """The peaks, the share of them that both reach, and how far above the trainer they are.

    Args:
        encoder: an untrained model.
        texts: of the pairs that both were shown.
        pairs: how many.
        ours: pairs a second of Monoglot's loop.
        theirs: pairs a second of the trainer.
    """
    import torch

    tokens = Tokens(encoder.model, [encoder.prefix + text for text in texts]).lengths
    limit = encoder.model.max_seq_length or np.inf
    shapes = _shapes(encoder.model)
    work = 6 * sum(rows * columns for rows, columns in shapes)
    each = work * float(np.minimum(tokens, limit).sum()) / pairs
    fp32, bf16 = (
        work * _TOKENS / sum(_seconds(shape, kind) * shapes.count(shape) for shape in {*shapes})
        for kind in (torch.float32, torch.bfloat16)
    )
    return [
        Figure("matrix products of a pair's tokens, forward and backward", each / 1e9, "GFLOP"),
        Figure("measured peak of such products, fp32", fp32 / 1e9, "GFLOP/s"),
        Figure("the same, bf16", bf16 / 1e9, "GFLOP/s"),
        Figure(
            "share of the higher peak that Monoglot's loop reaches",
            ours * each / max(fp32, bf16),
            "",
        ),
        Figure("share of the fp32 peak that the trainer reaches", theirs * each / fp32, ""),
        Figure("the fp32 peak against the trainer", fp32 / each / theirs, "x"),
        Figure("the bf16 peak against the trainer", bf16 / each / theirs, "x"),
    ]


def shares(train: Callable[[], object]) -> list[Figure]:
    """Where a training's time goes; all else is pointwise operations, casts and Python."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        every = seconds_of(train)
    taken = dict.fromkeys(_KINDS, 0.0)
    for event in profiled.key_averages():
        for kind, names in _KINDS.items():
            if event.key in names:
                taken[kind] += event.cpu_time_total / 1e6
    taken["all else"] = every - sum(taken.values())
    return [Figure(f"of the loop's time: {kind}", its / every, "") for kind, its in taken.items()]


def _shapes(model: Any) -> list[tuple[int, int]]:
    """Of the linear layers that each token goes through."""
    import torch

    return [
        (layer.out_features, layer.in_features)
        for name, layer in model.transformers_model.named_modules()
        if isinstance(layer, torch.nn.Linear) and "pooler" not in name
    ]


def _seconds(shape: tuple[int, int], kind: Any) -> float:
    """The least time of a layer's three products: forward, for its input, for its weights."""
    import torch

    weights = torch.randn(*shape, dtype=kind)
    given, gradient = (torch.randn(_TOKENS, wide, dtype=kind) for wide in shape[::-1])
    least = np.inf
    for _ in range(_TIMES):
        started = time.perf_counter()
        given @ weights.T, gradient @ weights, gradient.T @ given
        least = min(least, time.perf_counter() - started)
    return float(least)
