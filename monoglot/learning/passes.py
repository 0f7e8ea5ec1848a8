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
from numpy.typing import NDArray

from monoglot.learning.encoder import Encoder, bf16_is_faster, precision

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    LossOf = Callable[[Tensor], Tensor]

Integers = NDArray[np.int64]

_SUB_BATCH = {"cuda": 512, "mps": 128}
_CPU_SUB_BATCH = 32


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
        self.lengths = _lengths(encoder, texts)
        self.encoded = 0
        self.bf16 = bf16_is_faster(encoder.model)

    def backward(self, positions: Integers, loss_of: "LossOf") -> "Tensor":
        """Add the gradients of `loss_of(unit vectors (n, d))`; returns the loss."""
        import torch

        parts, back = self._parts(positions)
        vectors = torch.cat([self._forward(part) for part in parts])
        loss = loss_of(self._unit(vectors, back))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def backward_cached(self, positions: Integers, loss_of: "LossOf") -> "Tensor":
        """The same with the memory of one sub-batch, in two passes."""
        import torch

        parts, back = self._parts(positions)
        with torch.no_grad():
            vectors = torch.cat([self._forward(part) for part in parts])
        vectors.requires_grad_()
        loss = loss_of(self._unit(vectors, back))
        loss.backward()  # type: ignore[no-untyped-call]
        assert vectors.grad is not None
        gradients = torch.split(vectors.grad, [len(part) for part in parts])
        for part, gradient in zip(parts, gradients, strict=True):
            self._forward(part).backward(gradient)  # type: ignore[no-untyped-call]
        return loss.detach()

    def _parts(self, positions: Integers) -> tuple[list[Integers], Integers]:
        """Distinct positions in sub-batches, and where each of the positions is in them."""
        distinct, inverse = np.unique(positions, return_inverse=True)
        self.encoded += len(distinct)
        order = np.argsort(self.lengths[distinct], kind="stable")
        size = _SUB_BATCH.get(self.encoder.model.device.type, _CPU_SUB_BATCH)
        back = np.empty(len(order), dtype=np.int64)
        back[order] = np.arange(len(order))
        return np.array_split(distinct[order], -(-len(order) // size)), back[inverse]

    def _forward(self, part: Integers) -> "Tensor":
        """Vectors (n, d) of one sub-batch, as the model gives them."""
        model = self.encoder.model
        features = model.preprocess([self.encoder.prefix + self.texts[place] for place in part])
        features = {name: _moved(value, model.device) for name, value in features.items()}
        with precision(model.device.type, bf16=self.bf16):
            vectors: Tensor = model(features)["sentence_embedding"]
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


def _lengths(encoder: Encoder, texts: Sequence[str]) -> Integers:
    """Length of each text: in tokens, prefix included, where the model reads tokens in order.

    Texts with as many letters differ much in tokens, since a model knows one language's words
    whole and spells another's: sub-batches by letters had 1.5 times the needed tokens on
    Hinglish-TOP, those by tokens 1.2 times.
    """
    if encoder.model.transformers_model is None:
        return np.array([len(text) for text in texts], dtype=np.int64)
    prefixed = [encoder.prefix + text for text in texts]
    tokens = encoder.model.tokenizer(prefixed, truncation=False, verbose=False)["input_ids"]
    return np.array([len(ids) for ids in tokens], dtype=np.int64)


def _moved(value: Any, device: "torch.device") -> Any:
    return value.to(device) if hasattr(value, "to") else value
