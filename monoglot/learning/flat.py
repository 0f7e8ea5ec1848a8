"""Texts one after the other in one row, without padding, for a GPU with flash attention.

Each token sees the tokens of its own text: flash attention is told where texts begin (Dao,
arXiv 2307.08691), by way of torch's `varlen_attn`. A step is then one pass over as many tokens as
there are, where sub-batches of like length are several over a fifth more. sentence-transformers
(6.2) does the same where the package flash-attn is installed, which has to be compiled, and only
without gradient caching of masked losses; the names of the features are its own.

Whether a model reads texts so is tried out, since nothing says it of every architecture: its
vectors must be those of padded texts.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

    from monoglot.learning.tokens import Tokens

Integers = NDArray[np.int64]

_ATTENTION = "monoglot_flat"
_BLOCK = 128  # of tokens, in which flash attention works: a longest text is rounded up to it
_TOLERANCE = 1e-3  # of a component of a unit vector, both computed in fp32


def rounded(number: int, bits: int) -> int:
    """The least number that is not below another and has so many leading bits, then zeros."""
    step = 1 << max(0, (number - 1).bit_length() - bits)
    return -(-number // step) * step


def has_flash(device: "torch.device", *, bf16: bool) -> bool:
    """Whether torch has flash attention for this: half precision, on an Ampere GPU or later."""
    import torch

    return bf16 and device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def layout(sizes: Integers, longest: int, texts: int) -> tuple[Integers, int, int]:
    """Where texts begin and end, with as many further texts as make the shape one of few.

    Args:
        sizes: (n,) tokens of each text.
        longest: tokens of any text at most.
        texts: entries to have at least.

    Returns:
        Ends (m + 1,), from 0, of which the first n + 1 are those of the given texts; how many of
        the tokens are theirs; and the bound of a text's length that attention is given.
    """
    own = int(sizes.sum())
    spare = rounded(own, 4) - own
    bound = -(-int(sizes.max()) // _BLOCK) * _BLOCK
    whole, rest = divmod(spare, min(bound, longest))
    more = [min(bound, longest)] * whole + [rest] * (rest > 0)
    ends = np.cumsum([0, *sizes, *more])
    count = max(texts, rounded(len(sizes) + len(more), 2))
    return np.pad(ends, (0, count + 1 - len(ends)), mode="edge"), own, bound


@contextlib.contextmanager
def flat_attention(model: "SentenceTransformer") -> Iterator[None]:
    """Have the model's transformer attend within texts that follow one another."""
    from transformers import AttentionInterface

    AttentionInterface.register(_ATTENTION, _attend)
    config: Any = model.transformers_model.config
    usual = config._attn_implementation
    config._attn_implementation = _ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = usual


def _attend(
    _module: Any,
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    _mask: None,
    *,
    scaling: float,
    cu_seq_lens_q: "Tensor",
    max_length_q: int,
    **_others: Any,
) -> "tuple[Tensor, None]":
    """Attention (1, h, n, d) to (1, n, h, d), within texts; flash where that is there."""
    import torch

    if query.is_cuda and query.dtype is torch.bfloat16:
        from torch.nn.attention.varlen import varlen_attn

        q, k, v = (it[0].transpose(0, 1) for it in (query, key, value))
        ends, most = cu_seq_lens_q, max_length_q
        found = varlen_attn(q, k, v, ends, ends, most, most, scale=scaling)
        assert isinstance(found, torch.Tensor)
        return found[None], None
    tokens = torch.arange(query.shape[2], device=query.device)
    text = torch.bucketize(tokens, cu_seq_lens_q[1:], right=True)
    slow = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=text[:, None] == text[None, :], scale=scaling
    )
    return slow.transpose(1, 2), None


def first_position(model: "SentenceTransformer", tokens: "Tokens", sample: int) -> int | None:
    """What the model numbers the tokens of a text from; None: it cannot read texts flat.

    Args:
        model: in fp32, so that the same vectors can be told from others.
        tokens: the texts it will read.
        sample: how many of them to try, of different lengths.
    """
    import torch

    usual = model.transformers_model
    if usual is None or not usual.is_backend_compatible() or tokens.longest is None:
        return None
    order = np.argsort(tokens.lengths, kind="stable")
    places = np.unique(order[np.linspace(0, len(order) - 1, sample).astype(np.int64)])
    with torch.no_grad():
        expected = _unit(model(tokens.features(places))["sentence_embedding"])
        # From 0, or as RoBERTa and its kin do.
        for first in (0, 1 + (model.tokenizer.pad_token_id or 0)):
            with contextlib.suppress(RuntimeError, TypeError, ValueError, KeyError):
                with flat_attention(model):
                    found = _unit(model(tokens.flat(places, first))["sentence_embedding"])
                if bool((found[: len(expected)] - expected).abs().max() < _TOLERANCE):
                    return first
    return None


def _unit(vectors: "Tensor") -> "Tensor":
    import torch

    return torch.nn.functional.normalize(vectors.float(), dim=1)
