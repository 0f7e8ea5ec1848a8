"""Texts through the model with gradients: each distinct text once, with little padding or none.

By `backward`, what the gradients need is kept until the loss is known. By `backward_cached` it is
not: the loss is computed on vectors that were encoded without gradients, and a second pass, a
sub-batch at a time, carries the vectors' gradients into the weights (GradCache, Gao et al., arXiv
2101.06983). The memory is then that of one sub-batch, whatever the batch, for about a third more
work; the gradients are the same, since the model has no dropout in training.

Texts are read without padding (`flat`) on a processor and on a GPU with flash attention, there in
passes that are recorded (`recorded`); elsewhere, and by a model that cannot, in sub-batches of like
length (`sub_batches`).

Among several ranks each encodes its share of a batch's distinct texts; see `ranks`.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from monoglot.learning.devices import placed
from monoglot.learning.encoder import Encoder
from monoglot.learning.flat import first_position, flat_attention, has_flash
from monoglot.learning.precision import bf16_is_faster, precision
from monoglot.learning.ranks import Ranks
from monoglot.learning.recorded import Plain, Recorded, has_graphs
from monoglot.learning.sub_batches import Integers, cuts, size_for
from monoglot.learning.token_rows import Rows, TableGradient, gathered, rows_of
from monoglot.learning.tokens import Tokens

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

    from monoglot.learning.recorded import Run

    LossOf = Callable[[Tensor], Tensor]

# Of a sub-batch where texts are read flat; on a GPU under cached gradients alone.
_TOKENS = {"cpu": 4_096, "cuda": 16_384}


@dataclass(frozen=True)
class _Texts:
    """The texts of one step.

    Attributes:
        count: distinct texts n of all ranks.
        back: where the vector of each position is among the n.
        rows: of the table of token embeddings, that any rank reads.
        batches: of this rank, each with its features and how many texts it has; the features may
            have more, for the sake of their shape.
        idle: this rank has no text to encode, and takes one whose vector counts for nothing, so
            that it has gradients to add to those of the others.
    """

    count: int
    back: "Tensor"
    rows: Rows | None
    batches: list[tuple[dict[str, Any], int]]
    idle: bool


class Passes:
    """Forward and backward passes over texts that are named by their positions.

    Args:
        encoder: the model in training.
        texts: all texts of the training.
        ranks: who trains together.

    Attributes:
        tokens: the texts as the model takes them.
        encoded: texts encoded with gradients so far, by all ranks.
        bf16: whether matrix products are computed in bf16.
    """

    def __init__(self, encoder: Encoder, texts: Sequence[str], ranks: Ranks | None = None) -> None:
        import torch

        self.encoder = encoder
        self.ranks = ranks or Ranks()
        self.tokens = Tokens(encoder.model, [encoder.prefix + text for text in texts])
        self.encoded = 0
        faster = torch.tensor([int(bf16_is_faster(encoder.model))], device=encoder.model.device)
        self.ranks.share_first(faster)  # measured: it may come out otherwise for another
        self.bf16 = bool(faster)
        self._most = 0  # texts that a flat pass had
        self._table_gradient = TableGradient()

    @functools.cached_property
    def _first_position(self) -> int | None:
        """What the model numbers tokens from, where all ranks read texts flat."""
        import torch

        model, first = self.encoder.model, None
        can = model.device.type == "cpu" or has_flash(model.device, bf16=self.bf16)
        if can and model.transformers_model is not None:
            first = first_position(model, self.tokens)
        agreeing = torch.tensor([0 if first is None else 1], device=model.device)
        self.ranks.sum([agreeing])
        return first if int(agreeing) == self.ranks.number else None

    @functools.cached_property
    def _run(self) -> "Run":
        # No method of this object, which would be its own keeper, with all that is recorded.
        return functools.partial(_vectors, self.encoder.model, bf16=self.bf16, flat=self.reads_flat)

    @functools.cached_property
    def _passes(self) -> Plain | Recorded:
        device = self.encoder.model.device
        return Recorded(self._run, device) if self.records else Plain(self._run)

    @functools.cached_property
    def _all_rows(self) -> Rows | None:
        """The rows of all tokens, which stay where they are, as recorded passes need."""
        return rows_of(self.encoder.model, self.tokens.ids())

    @property
    def reads_flat(self) -> bool:
        """Whether texts are read flat."""
        return self._first_position is not None

    @property
    def records(self) -> bool:
        """Whether passes are recorded: then gradients stay where they are."""
        return self.reads_flat and has_graphs(self.encoder.model.device)

    def backward(self, positions: Integers, loss_of: "LossOf") -> "Tensor":
        """Add the gradients of `loss_of(unit vectors (n, d))`; returns the loss.

        Among several ranks the gradients are set, and must be none or zero before.
        """
        import torch

        texts = self._texts(positions)
        if self.records:
            return self._in_passes(texts, loss_of)
        with gathered(self.encoder.model, texts.rows, self.ranks, self._table_gradient):
            vectors = torch.cat([self._run(batch) for batch, _ in texts.batches])
            loss, gradient = self._loss(vectors, texts, loss_of)
            vectors.backward(gradient)  # type: ignore[no-untyped-call]
        return loss

    def backward_cached(self, positions: Integers, loss_of: "LossOf") -> "Tensor":
        """The same with the memory of one sub-batch, in two passes where there are several."""
        return self._in_passes(self._texts(positions, cached=True), loss_of)

    def _in_passes(self, texts: _Texts, loss_of: "LossOf") -> "Tensor":
        import torch

        several = len(texts.batches) > 1
        with gathered(self.encoder.model, texts.rows, self.ranks, self._table_gradient):
            parts = [
                self._passes.forward(features, keep=not several)[:count]
                for features, count in texts.batches
            ]
            loss, gradient = self._loss(torch.cat(parts), texts, loss_of)
            gradients = torch.split(gradient, [len(part) for part in parts])
            for (features, _), its in zip(texts.batches, gradients, strict=True):
                if several:
                    self._passes.forward(features, keep=True)
                self._passes.backward(its)
        return loss

    def _texts(self, positions: Integers, *, cached: bool = False) -> _Texts:
        """Sub-batches of like length of the distinct texts, those of this rank's share."""
        import torch

        distinct, inverse = np.unique(positions, return_inverse=True)
        self.encoded += len(distinct)
        order = np.argsort(self.tokens.lengths[distinct], kind="stable")
        back = np.empty(len(order), dtype=np.int64)
        back[order] = np.arange(len(order))
        device, ordered = self.encoder.model.device, distinct[order]
        own = ordered[self.ranks.share]
        idle = len(own) == 0
        if idle:
            own = ordered[:1]
        return _Texts(
            count=len(ordered),
            back=placed(torch.as_tensor(back[inverse]), device),
            rows=self._all_rows
            if self.records
            else rows_of(self.encoder.model, self.tokens.ids(ordered)),
            batches=[(self._features(part), len(part)) for part in self._parts(own, cached=cached)],
            idle=idle,
        )

    def _parts(self, places: Integers, *, cached: bool) -> list[Integers]:
        """Texts in ascending length as sub-batches.

        Static embeddings pad nothing, and have a gradient as large as their table for each
        sub-batch: all their texts are one.
        """
        from sentence_transformers.sentence_transformer.modules import StaticEmbedding

        model = self.encoder.model
        if isinstance(model[0], StaticEmbedding) or (self.records and not cached):
            return [places]
        lengths = self.tokens.lengths[places]
        if self.reads_flat:
            before = np.cumsum(lengths) - lengths
            part = _TOKENS[model.device.type]
            return np.split(places, np.flatnonzero(np.diff(before // part)) + 1)
        return np.split(places, cuts(lengths, *size_for(model.device.type)))

    def _features(self, places: Integers) -> dict[str, Any]:
        if not self.reads_flat:
            return self.tokens.features(places)
        assert self._first_position is not None
        if not self.records:
            return self.tokens.unpadded(places, self._first_position)
        features = self.tokens.unpadded(places, self._first_position, self._most)
        self._most = len(features["cu_seq_lens_q"]) - 1
        return features

    def _loss(self, vectors: "Tensor", texts: _Texts, loss_of: "LossOf") -> "tuple[Tensor, Tensor]":
        """The loss of all ranks' vectors, and its gradient by this rank's own (n, d)."""
        import torch

        everyone = self.ranks.gathered(vectors, texts.count).requires_grad_()
        unit = torch.nn.functional.normalize(everyone, dim=1)
        loss = loss_of(unit[texts.back])
        loss.backward()  # type: ignore[no-untyped-call]
        assert everyone.grad is not None
        own = torch.zeros_like(vectors) if texts.idle else everyone.grad[self.ranks.share]
        return loss.detach(), own


def _vectors(
    model: "SentenceTransformer", features: dict[str, Any], *, bf16: bool, flat: bool
) -> "Tensor":
    """Vectors (n, d) of one sub-batch, as the model gives them."""
    attention = flat_attention(model) if flat else contextlib.nullcontext()
    with precision(model.device.type, bf16=bf16), attention:
        vectors: Tensor = model(dict(features))["sentence_embedding"]
    return vectors.float()
