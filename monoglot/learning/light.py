"""Common models read straight from their files, for encoding alone.

Importing sentence_transformers, with transformers' modelling code, takes several times as long as
torch, and is most of what a service waits for before its first answer. BERT and XLM-RoBERTa with
mean or first-token pooling, and static embeddings, need none of it: a hundred lines of torch give
the same vectors (cosine above 0.99999, held by tests), and sooner, since query, key and value are
one matrix product and texts of one length need no mask.

What is not known exactly, in any file of the folder, is left to sentence-transformers: `load_light`
returns None. Models that are trained are always sentence-transformers'.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from monoglot.learning.light_files import Files, Shape, known_static, known_transformer
from monoglot.learning.precision import SAMPLE, bf16_wins, precision
from monoglot.learning.sub_batches import size_for, sub_batches

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

Vectors = NDArray[np.float32]


class LightModel(Protocol):
    """Encodes on the processor what `Encoder` gives it."""

    dimensions: int

    def vectors(self, texts: Sequence[str], batch_size: int, *, many: bool) -> Vectors:
        """Vectors (n, d) of n texts, of any length, in batches of `batch_size` at most.

        With `many` texts it is worth measuring which precision is faster.
        """


def load_light(folder: Path, max_tokens: int | None) -> LightModel | None:
    """The model in a folder, on the processor; None where sentence-transformers has to load it.

    Args:
        folder: of a sentence-transformers model.
        max_tokens: longer texts are cut; None for the model's own limit, which is the highest.
    """
    files = Files(folder)
    if (static := known_static(files)) is not None:
        return _Static(*static)
    if (known := known_transformer(files, max_tokens)) is not None:
        return _Transformer(*known)
    return None


class _Static:
    """The mean of the tokens' vectors."""

    def __init__(self, tokenizer: "Tokenizer", table: "Tensor") -> None:
        self._tokenizer = tokenizer
        self._table = table
        self.dimensions = int(table.shape[1])

    def vectors(self, texts: Sequence[str], batch_size: int, *, many: bool) -> Vectors:  # noqa: ARG002
        import torch

        found = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        ids = [each.ids for each in found]
        starts = np.cumsum([0, *(len(each) for each in ids[:-1])])
        flat = np.fromiter((token for each in ids for token in each), np.int64)
        mean = torch.nn.functional.embedding_bag(
            torch.from_numpy(flat), self._table, torch.from_numpy(starts), mode="mean"
        )
        return np.asarray(mean.numpy(), np.float32)


class _Layer(NamedTuple):
    """Weights of one layer, each matrix with its bias."""

    inputs: tuple["Tensor", "Tensor"]  # of query, key and value, one below the other
    attended: tuple["Tensor", "Tensor"]
    attended_norm: tuple["Tensor", "Tensor"]
    widened: tuple["Tensor", "Tensor"]
    narrowed: tuple["Tensor", "Tensor"]
    narrowed_norm: tuple["Tensor", "Tensor"]


class _Transformer:
    """A BERT or an XLM-RoBERTa, pooled."""

    def __init__(self, tokenizer: "Tokenizer", shape: Shape, weights: dict[str, "Tensor"]) -> None:
        self._tokenizer = tokenizer
        self._shape = shape
        self.dimensions = shape.width
        first = "embeddings."
        self._words = weights[first + "word_embeddings.weight"]
        self._positions = (
            weights[first + "position_embeddings.weight"]
            + weights[first + "token_type_embeddings.weight"][0]
        )
        self._norm = _pair(weights, first + "LayerNorm")
        self._layers = [_layer(weights, number) for number in range(shape.layers)]

    def vectors(self, texts: Sequence[str], batch_size: int, *, many: bool) -> Vectors:
        import torch

        ids = self._ids(texts)
        lengths = np.array([len(each) for each in ids], dtype=np.int64)
        bf16 = many and bf16_wins("cpu", self._shape, self._measured)
        found = np.empty((len(ids), self.dimensions), dtype=np.float32)
        # Not `inference_mode`: its tensors have no place in autocast's cache of cast weights.
        with torch.no_grad(), precision("cpu", bf16=bf16):
            for part in sub_batches(lengths, size_for("cpu", batch_size)):
                found[part] = self._pooled([ids[place] for place in part]).float().numpy()
        return found

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [each.ids for each in self._tokenizer.encode_batch_fast(list(texts))]

    def _measured(self) -> object:
        return self._pooled(self._ids(SAMPLE))

    def _pooled(self, ids: list[list[int]]) -> "Tensor":
        """Vectors (n, d) of texts given by their tokens, padded to the longest."""
        import torch

        longest = max(len(each) for each in ids)
        pad = self._shape.pad
        tokens = torch.tensor([each + [pad] * (longest - len(each)) for each in ids])
        lengths = torch.tensor([len(each) for each in ids])
        real = torch.arange(longest) < lengths[:, None]  # (n, longest)
        mask = None if bool(real.all()) else real[:, None, None, :]
        states = self._states(tokens, mask)
        if self._shape.first_token:
            return states[:, 0]
        if mask is not None:
            states = states * real[:, :, None]
        return states.sum(1) / lengths[:, None]

    def _states(self, tokens: "Tensor", mask: "Tensor | None") -> "Tensor":
        """The last layer's states (n, longest, d)."""
        import torch
        from torch.nn.functional import embedding, gelu, layer_norm, linear

        shape = self._shape
        normed, epsilon = (shape.width,), shape.epsilon
        if shape.counts_from_pad:
            real = tokens != shape.pad
            places = torch.cumsum(real, 1) * real + shape.pad
        else:
            places = torch.arange(tokens.shape[1])
        states = embedding(tokens, self._words) + embedding(places, self._positions)
        states = layer_norm(states, normed, *self._norm, epsilon)
        for layer in self._layers:
            attended = linear(self._attention(linear(states, *layer.inputs), mask), *layer.attended)
            states = layer_norm(attended + states, normed, *layer.attended_norm, epsilon)
            inner = linear(gelu(linear(states, *layer.widened)), *layer.narrowed)
            states = layer_norm(inner + states, normed, *layer.narrowed_norm, epsilon)
        return states

    def _attention(self, inputs: "Tensor", mask: "Tensor | None") -> "Tensor":
        """What each token takes from the others: (n, longest, 3 d) to (n, longest, d)."""
        from torch.nn.functional import scaled_dot_product_attention

        count, longest, _ = inputs.shape
        heads = inputs.view(count, longest, 3, self._shape.heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        taken = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return taken.transpose(1, 2).reshape(count, longest, -1)


def _layer(weights: dict[str, "Tensor"], number: int) -> _Layer:
    import torch

    at = f"encoder.layer.{number}."
    inputs = [_pair(weights, f"{at}attention.self.{part}") for part in ("query", "key", "value")]
    return _Layer(
        (
            torch.nn.Parameter(torch.cat([matrix for matrix, _ in inputs])),
            torch.nn.Parameter(torch.cat([bias for _, bias in inputs])),
        ),
        _pair(weights, at + "attention.output.dense"),
        _pair(weights, at + "attention.output.LayerNorm"),
        _pair(weights, at + "intermediate.dense"),
        _pair(weights, at + "output.dense"),
        _pair(weights, at + "output.LayerNorm"),
    )


def _pair(weights: dict[str, "Tensor"], name: str) -> tuple["Tensor", "Tensor"]:
    """A matrix and its bias, as parameters: autocast keeps a cast copy of these alone."""
    import torch

    matrix, bias = weights[name + ".weight"], weights[name + ".bias"]
    return torch.nn.Parameter(matrix), torch.nn.Parameter(bias)


def accelerated() -> bool:
    """Whether torch sees a GPU or the like, on which sentence-transformers would run a model."""
    import torch

    return bool(torch.accelerator.is_available())
