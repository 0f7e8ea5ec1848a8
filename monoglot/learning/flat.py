"""Texts one after the other in one row, without padding.

Each token sees the tokens of its own text. A GPU's flash attention is told where texts begin (Dao,
arXiv 2307.08691), by way of torch's `varlen_attn`; on a processor neighbours of like length are
computed together (`attention`). A pass is then over as many tokens as there are, where sub-batches
of like length are over a fifth more, and many; of texts of a hundred words it costs as much as
these. sentence-transformers (6.2) reads texts so where the
package flash-attn is installed; torch has what it takes. The names of the features are those of
sentence-transformers.

Whether a model reads texts so is tried out, since nothing says it of every architecture: its
vectors must be those of padded texts.
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monoglot.learning.precision import precision

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

    from monoglot.learning.tokens import Tokens

Integers = NDArray[np.int64]

_LOGGER = logging.getLogger(__name__)
_ATTENTION = "monoglot_flat"
_BLOCK = 128  # of tokens, in which flash attention works: a longest text is rounded up to it
_SAMPLE, _SAMPLE_TOKENS = 8, 512  # texts to try a model with, and the longest of them
_SAME = 1e-4  # between components of unit vectors in fp32
_NEAR = 0.98  # cosine of vectors in fp32 and in bf16
# Others ask how many tokens there are in all, which waits for the GPU and cannot be recorded.
_POOLING = {"mean", "cls", "max", "lasttoken", "mean_sqrt_len_tokens"}


def rounded(number: int, bits: int) -> int:
    """The least number that is not below another and has so many leading bits, then zeros."""
    step = 1 << max(0, (number - 1).bit_length() - bits)
    return -(-number // step) * step


def has_flash(device: "torch.device", *, bf16: bool) -> bool:
    """Whether torch has flash attention for this: half precision, on an Ampere GPU or later."""
    import torch

    return bf16 and device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def layout(sizes: Integers, longest: int, texts: int | None) -> tuple[Integers, int, int]:
    """Where texts begin and end, with as many further texts as make the shape one of few.

    No text is empty: of an empty one no pooling makes a vector.

    Args:
        sizes: (n,) tokens of each text.
        longest: tokens of any text at most.
        texts: to have at least; None for these alone, of whatever shape.

    Returns:
        Ends (m + 1,), from 0, of which the first n + 1 are those of the given texts; how many of
        the tokens are theirs; and the bound of a text's length that attention is given.
    """
    own, bound = int(sizes.sum()), -(-int(sizes.max()) // _BLOCK) * _BLOCK
    if texts is None:
        return np.cumsum([0, *sizes]), own, bound
    count = max(texts, rounded(len(sizes), 2))
    while True:
        more = count - len(sizes)
        spare = rounded(own + more, 4) - own
        if spare <= more * min(bound, longest):
            break
        count = rounded(count + 1, 2)
    each, rest = divmod(spare, max(1, more))
    padding = np.repeat([each + 1, each], [rest, more - rest])
    return np.cumsum([0, *sizes, *padding]), own, bound


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
    **others: Any,
) -> "tuple[Tensor, None]":
    """Attention (1, h, T, d) to (1, T, h, d), within texts; flash where that is there."""
    import torch

    from monoglot.learning.attention import attention_within

    if others.get("sliding_window") is not None:
        raise ValueError("attention within a window is not known here")
    if query.is_cuda and torch.is_autocast_enabled("cuda"):
        from torch.nn.attention.varlen import varlen_attn

        kind = torch.get_autocast_dtype("cuda")  # rotary positions leave fp32 behind
        q, k, v = (it[0].transpose(0, 1).to(kind) for it in (query, key, value))
        ends, most = cu_seq_lens_q, max_length_q
        found = varlen_attn(q, k, v, ends, ends, most, most, scale=scaling)
        assert isinstance(found, torch.Tensor)
        return found[None], None
    return attention_within(query, key, value, cu_seq_lens_q, scaling), None


def first_position(model: "SentenceTransformer", tokens: "Tokens") -> int | None:
    """What the model numbers the tokens of a text from; None: it cannot read texts flat.

    Args:
        model: in fp32, so that the same vectors can be told from others.
        tokens: the texts it will read.
    """
    places, reason = _sample(model, tokens), "its kind, or no text is short"
    config: Any = getattr(model.transformers_model, "config", None)
    most = getattr(config, "max_position_embeddings", None) or float("inf")
    # From 0, or as RoBERTa and its kin do.
    for first in (0, 1 + (model.tokenizer.pad_token_id or 0)) if len(places) else ():
        # A position beyond the table ends the use of a GPU for the whole process.
        if first + int(tokens.lengths[places].max()) > most:
            continue
        try:
            if _agrees(model, tokens.features(places), tokens.unpadded(places, first)):
                return first
            reason = "its vectors would be others"
        except Exception as error:  # whatever it is, the model can read padded texts
            reason = f"{type(error).__name__}: {error}"
    _LOGGER.warning("fine_tuning: the model's texts are padded, only slower: %s", reason)
    return None


def _sample(model: "SentenceTransformer", tokens: "Tokens") -> Integers:
    """Places of texts of different lengths to try the model with; none where it is in vain."""
    from sentence_transformers.sentence_transformer.modules import Pooling

    usual, none = model.transformers_model, np.array([], dtype=np.int64)
    if usual is None or not usual.is_backend_compatible() or tokens.longest is None:
        return none
    modes = [module.pooling_mode for module in model if isinstance(module, Pooling)]
    if any(mode not in _POOLING for it in modes for mode in ([it] if isinstance(it, str) else it)):
        return none
    short = np.flatnonzero(tokens.lengths <= _SAMPLE_TOKENS)
    order = short[np.argsort(tokens.lengths[short], kind="stable")]
    spread = np.linspace(0, len(order) - 1, min(len(order), _SAMPLE)).astype(np.int64)
    return order[spread]


def _agrees(model: "SentenceTransformer", padded: dict[str, Any], flat: dict[str, Any]) -> bool:
    """Whether the vectors are those of padded texts: the same in fp32, near them as they train."""
    import torch

    with torch.no_grad():
        expected = _unit(model(dict(padded))["sentence_embedding"])
        with flat_attention(model):
            found = _unit(model(dict(flat))["sentence_embedding"])[: len(expected)]
    if not bool((found - expected).abs().max() < _SAME):
        return False
    with flat_attention(model), precision(model.device.type, bf16=True):
        trained = _unit(model(dict(flat))["sentence_embedding"])[: len(expected)]
    weights = [it for it in model.parameters() if it.requires_grad]
    gradients = torch.autograd.grad(trained.sum(), weights, allow_unused=True)
    finite = [bool(it.isfinite().all()) for it in gradients if it is not None]
    return all(finite) and bool(((trained * expected).sum(dim=1) > _NEAR).all())


def _unit(vectors: "Tensor") -> "Tensor":
    import torch

    return torch.nn.functional.normalize(vectors.float(), dim=1)
