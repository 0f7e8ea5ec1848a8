"""Attention of short texts on a processor, where torch's own is slow.

torch's attention takes keys in blocks, and its softmax rows in registers; a text shorter than these
goes through them one by one. Two products and a softmax over texts of like length are several times
as fast in bf16, a tenth of a training step with texts of a dozen tokens (PyTorch 2.13). In fp32 the
result is torch's. In bf16 scores are rounded before their softmax, as wherever attention is written
as two products under autocast; torch's own output is nearer to fp32, by a factor of two to four as
scores grow.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

Integers = NDArray[np.int64]

LONGEST = 128  # tokens; beyond it torch's attention is no slower, and needs less memory
_MOST_PADDING = 1.25  # texts are computed together up to so many times the shortest one's length


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """What each token takes from others, forward alone: (n, h, L, d) each, and the same shape.

    Args:
        query: of n texts and h heads, scaled.
        key: of as many heads.
        value: as key.
        mask: keys that are real tokens, broadcast to (n, h, L, L); None: all are.
    """
    scores = (query @ key.transpose(2, 3)).float()
    if mask is not None:
        scores.masked_fill_(~mask, float("-inf"))
    # torch's softmax is slower on so short rows.
    shares = scores.sub_(scores.amax(3, keepdim=True)).exp_()
    shares /= shares.sum(3, keepdim=True)
    return shares.to(value.dtype) @ value


def attention_within(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, scale: float
) -> Tensor:
    """Attention of texts that follow one another: (1, h, T, d) each, and (1, T, h, d).

    Args:
        query: of T tokens and h heads.
        key: as query.
        value: as query.
        ends: (n + 1,) where texts begin and end, from 0 to T.
        scale: what scores are multiplied by.

    Raises:
        ValueError: there are fewer heads of keys, or values of another width.
    """
    if not query.shape == key.shape == value.shape:
        shapes = ", ".join(str(tuple(it.shape)) for it in (query, key, value))
        raise ValueError(f"attention of other heads or widths is not known here: {shapes}")
    # Rotary positions leave fp32 behind.
    inputs = [it.squeeze(0).transpose(0, 1).to(value.dtype) for it in (query, key, value)]
    runs = _runs(ends.cpu().numpy().astype(np.int64))
    sizes = [int(run[-1] - run[0]) for run in runs]
    taken = [
        _by_torch(*its, texts=len(run) - 1, scale=scale)
        if run[1] - run[0] > LONGEST
        else _Within.apply(*its, run - run[0], scale)  # type: ignore[no-untyped-call]
        for run, *its in zip(runs, *(torch.split(it, sizes) for it in inputs), strict=True)
    ]
    return (taken[0] if len(taken) == 1 else torch.cat(taken))[None]


def _runs(ends: Integers) -> list[Integers]:
    """Where texts begin and end that one call computes: short ones, or long ones of one length."""
    sizes = np.diff(ends)
    is_long = sizes > LONGEST
    differ = (np.diff(is_long) != 0) | (is_long[1:] & (np.diff(sizes) != 0))
    edges = [0, *(np.flatnonzero(differ) + 1).tolist(), len(sizes)]
    return [ends[first : last + 1] for first, last in pairwise(edges)]


def _by_torch(query: Tensor, key: Tensor, value: Tensor, *, texts: int, scale: float) -> Tensor:
    """By torch's own attention, of texts of one length: (T, h, d)."""
    q, k, v = (
        tensor.view(texts, -1, *tensor.shape[1:]).transpose(1, 2) for tensor in (query, key, value)
    )
    taken = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale)
    return taken.transpose(1, 2).flatten(0, 1)


class _Group(NamedTuple):
    """Neighbouring texts of like length, padded to the longest of them, in rows of (P, d).

    Attributes:
        rows: theirs, ordered by text, head and token.
        texts: how many there are.
        heads: of each.
        longest: tokens of each with padding.
        is_real: (texts, 1, longest) tokens that are no padding; None: all are.
    """

    rows: slice
    texts: int
    heads: int
    longest: int
    is_real: Tensor | None

    def of(self, packed: Tensor) -> Tensor:
        """Its part (texts x heads, longest, d)."""
        return packed[self.rows].view(self.texts * self.heads, self.longest, -1)

    def shares(self, query: Tensor, key: Tensor, scale: float) -> Tensor:
        """What tokens take of each other (texts x heads, longest, longest); padding, nothing."""
        scores = torch.bmm(query, key.transpose(1, 2)).float().mul_(scale)
        if self.is_real is None:
            return torch.softmax(scores, 2)
        by_text = (self.texts, self.heads, self.longest, self.longest)
        scores.view(by_text).masked_fill_(~self.is_real[:, :, None], float("-inf"))
        shares = torch.softmax(scores, 2)
        shares.view(by_text).mul_(self.is_real[..., None])
        return shares


class _Packing(NamedTuple):
    """Where the (T, h, d) of tokens lie as (P, d), a group after the other.

    Attributes:
        there: (P,) the place in (T h) of each row; of padding, that of its text's first token.
        back: (T h,) the row of each.
        groups: of texts.
    """

    there: Tensor
    back: Tensor
    groups: list[_Group]

    @classmethod
    def of(cls, ends: Integers, heads: int, device: torch.device) -> "_Packing":
        """Of texts that begin and end so, with that many heads."""
        sizes, head = np.diff(ends), np.arange(heads)[:, None]
        there, groups, begin = [], [], 0
        back = np.empty((ends[-1], heads), dtype=np.int64)
        for first, last in pairwise(_alike(sizes)):
            longest = int(sizes[first:last].max())
            place = np.arange(longest)
            is_real = place < sizes[first:last, None]  # (texts, longest)
            tokens = ends[first:last, None] + np.where(is_real, place, 0)
            there.append((tokens[:, None] * heads + head).ravel())
            rows = begin + np.arange(there[-1].size).reshape(last - first, heads, longest)
            back[tokens[is_real]] = rows.transpose(0, 2, 1)[is_real]
            mask = None if is_real.all() else torch.from_numpy(is_real)[:, None].to(device)
            groups.append(
                _Group(slice(begin, begin + rows.size), last - first, heads, longest, mask)
            )
            begin += rows.size
        places, back_rows = np.concatenate(there), back.ravel()
        return cls(
            torch.from_numpy(places).to(device), torch.from_numpy(back_rows).to(device), groups
        )

    def packed(self, tokens: Tensor) -> Tensor:
        """(T, h, d) as (P, d)."""
        return tokens.flatten(0, 1).index_select(0, self.there)

    def unpacked(self, packed: Tensor, like: Tensor) -> Tensor:
        """(P, d) as (T, h, d)."""
        return packed.index_select(0, self.back).view_as(like)


def _alike(sizes: Integers) -> list[int]:
    """Where groups of neighbours of like length begin, and the number of texts."""
    edges, least, most = [0], int(sizes[0]), int(sizes[0])
    for place, size in enumerate(sizes.tolist()):
        least, most = min(least, size), max(most, size)
        if most > _MOST_PADDING * least:
            edges.append(place)
            least = most = size
    return [*edges, len(sizes)]


class _Within(torch.autograd.Function):
    """Attention (T, h, d) within texts, in one node of the graph."""

    @staticmethod
    def forward(  # noqa: PLR0917  autograd hands them on by position
        context: Any, query: Tensor, key: Tensor, value: Tensor, ends: Integers, scale: float
    ) -> Tensor:
        packing = _Packing.of(ends, value.shape[1], value.device)
        inputs = [packing.packed(tensor) for tensor in (query, key, value)]
        taken, kept = torch.empty_like(inputs[0]), []
        with torch.autocast(value.device.type, enabled=False):  # as in the backward pass
            for group in packing.groups:
                q, k, v = (group.of(tensor) for tensor in inputs)
                shares = group.shares(q, k, scale)
                torch.bmm(shares.to(v.dtype), v, out=group.of(taken))
                kept.append(shares)
        context.save_for_backward(*inputs, *kept)
        context.packing, context.scale = packing, scale
        return packing.unpacked(taken, value)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        packing: _Packing = context.packing
        query, key, value, *kept = context.saved_tensors
        given = packing.packed(gradient)
        found = [torch.empty_like(query) for _ in range(3)]
        for group, shares in zip(packing.groups, kept, strict=True):
            q, k, v, g = (group.of(tensor) for tensor in (query, key, value, given))
            weighted = torch.bmm(g, v.transpose(1, 2)).float().mul_(shares)
            weighted.addcmul_(shares, weighted.sum(2, keepdim=True), value=-1)
            scores = weighted.mul_(context.scale).to(q.dtype)
            of_query, of_key, of_value = (group.of(tensor) for tensor in found)
            torch.bmm(scores, k, out=of_query)
            torch.bmm(scores.transpose(1, 2), q, out=of_key)
            torch.bmm(shares.to(v.dtype).transpose(1, 2), g, out=of_value)
        return (*(packing.unpacked(it, gradient) for it in found), None, None)
