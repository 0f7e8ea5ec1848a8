"""Texts through the model with gradients: each distinct text once, in sub-batches of like length.

A batch is encoded in sub-batches either way. By `backward` all of them keep what their gradients
need until the loss is known; by `backward_cached` none does: the loss is computed on vectors that
were encoded without gradients, and a second pass, a sub-batch at a time, carries the vectors'
gradients into the weights (GradCache, Gao et al., arXiv 2101.06983). The memory is then that of one
sub-batch, whatever the batch, for about a third more work; the gradients are the same, since the
model has no dropout in training.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from monoglot.learning.encoder import Encoder
from monoglot.learning.precision import bf16_is_faster, precision
from monoglot.learning.sub_batches import Integers, lengths_by, size_for, sub_batches
from monoglot.learning.token_rows import gathered

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    LossOf = Callable[[Tensor], Tensor]


class Passes:
    """Forward and backward passes over texts that are named by their positions.

    Args:
        encoder: the model in training.
        texts: all texts of the training.

    Attributes:
        lengths: (n,) length of each text, in tokens where the model reads tokens in order.
        encoded: texts encoded with gradients so far.
        bf16: whether matrix products are computed in bf16.
    """

    def __init__(self, encoder: Encoder, texts: Sequence[str]) -> None:
        self.encoder = encoder
        self.texts = texts
        self.lengths = lengths_by(encoder.model, [encoder.prefix + text for text in texts])
        self.encoded = 0
        self.bf16 = bf16_is_faster(encoder.model)

    def backward(self, positions: Integers, loss_of: "LossOf") -> "Tensor":
        """Add the gradients of `loss_of(unit vectors (n, d))`; returns the loss."""
        import torch

        batches, back = self._batches(positions)
        with gathered(self.encoder.model, batches):
            vectors = torch.cat([self._forward(batch) for batch in batches])
            loss = loss_of(self._unit(vectors, back))
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def backward_cached(self, positions: Integers, loss_of: "LossOf") -> "Tensor":
        """The same with the memory of one sub-batch, in two passes."""
        import torch

        batches, back = self._batches(positions)
        with torch.no_grad():
            parts = [self._forward(batch) for batch in batches]
        vectors = torch.cat(parts)
        vectors.requires_grad_()
        loss = loss_of(self._unit(vectors, back))
        loss.backward()  # type: ignore[no-untyped-call]
        assert vectors.grad is not None
        gradients = torch.split(vectors.grad, [len(part) for part in parts])
        with gathered(self.encoder.model, batches):
            for batch, gradient in zip(batches, gradients, strict=True):
                self._forward(batch).backward(gradient)  # type: ignore[no-untyped-call]
        return loss.detach()

    def _batches(self, positions: Integers) -> tuple[list[dict[str, Any]], Integers]:
        """Features of the distinct texts in sub-batches, and where each of the positions is."""
        distinct, inverse = np.unique(positions, return_inverse=True)
        self.encoded += len(distinct)
        model = self.encoder.model
        parts = sub_batches(self.lengths[distinct], size_for(model.device.type))
        back = np.empty(len(distinct), dtype=np.int64)
        back[np.concatenate(parts)] = np.arange(len(distinct))
        batches = []
        for part in parts:
            texts = [self.encoder.prefix + self.texts[place] for place in distinct[part]]
            features = model.preprocess(texts)
            batches.append({name: _moved(it, model.device) for name, it in features.items()})
        return batches, back[inverse]

    def _forward(self, batch: dict[str, Any]) -> "Tensor":
        """Vectors (n, d) of one sub-batch, as the model gives them."""
        model = self.encoder.model
        with precision(model.device.type, bf16=self.bf16):
            vectors: Tensor = model(dict(batch))["sentence_embedding"]
        return vectors.float()

    def _unit(self, vectors: "Tensor", back: Integers) -> "Tensor":
        """At unit length, in the order of the positions that were asked for."""
        import torch

        unit = torch.nn.functional.normalize(vectors, dim=1)
        return unit[torch.as_tensor(back, device=unit.device)]

    def cut(self) -> int:
        """How many of the texts are longer than the model is given to read."""
        limit = self.encoder.model.max_seq_length
        if self.encoder.model.transformers_model is None or limit is None:
            return 0
        return int((self.lengths > limit).sum())


def _moved(value: Any, device: "torch.device") -> Any:
    return value.to(device) if hasattr(value, "to") else value
