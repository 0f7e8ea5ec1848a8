"""Common models read straight from their files, for encoding alone.

Importing sentence_transformers, with transformers' modelling code, takes several times as long as
torch, and is most of what a service waits for before its first answer. BERT and XLM-RoBERTa with
mean or first-token pooling, and static embeddings, need none of it: a hundred lines of torch give
the same vectors (cosine above 0.99999, held by tests), and sooner: query, key and value are one
matrix product, texts of one length need no mask, the attention of short texts is computed without
torch's blocks, and each core has texts of its own. In bf16 the weights are kept a second time, as
oneDNN reads them.

What is not known exactly, in any file of the folder, is left to sentence-transformers: `load_light`
returns None. Models that are trained are always sentence-transformers'.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from monoglot.learning.light_files import Files, Shape, known_static, known_transformer
from monoglot.learning.precision import SAMPLE, bf16_wins
from monoglot.learning.sub_batches import Integers, size_for, sub_batches

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

Vectors = NDArray[np.float32]

_SHORT = 16  # tokens; from there on torch's attention is as fast, forward alone
_TOKENS = 4096  # of a sub-batch, padded, at most: each core holds one


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


_STARTING = threading.Lock()


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


class _Product:
    """A matrix product with weights and a bias, in fp32 or in bf16."""

    def __init__(self, matrix: "Tensor", bias: "Tensor") -> None:
        self._matrix = matrix
        self._bias = bias

    def __call__(self, states: "Tensor", *, bf16: bool) -> "Tensor":
        from torch.nn.functional import linear

        if not bf16:
            return linear(states, self._matrix, self._bias)
        return self._in_bf16(states.bfloat16())

    @cached_property
    def _in_bf16(self) -> "Callable[[Tensor], Tensor]":
        """By oneDNN's own product: torch's public one lays the weights out anew at every call."""
        import torch

        matrix, bias = self._matrix.bfloat16(), self._bias.bfloat16()
        if not _onednn_has_bf16():
            return lambda states: torch.nn.functional.linear(states, matrix, bias)
        laid_out = torch.ops.mkldnn._reorder_linear_weight(matrix)
        product = torch.ops.mkldnn._linear_pointwise
        return lambda states: product(states, laid_out, bias, "none", [], "")


class _Layer(NamedTuple):
    """Weights of one layer."""

    inputs: _Product  # query, key and value, one below the other
    attended: _Product
    attended_norm: tuple["Tensor", "Tensor"]
    widened: _Product
    narrowed: _Product
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
        self._layers = [_layer(weights, shape, number) for number in range(shape.layers)]

    def vectors(self, texts: Sequence[str], batch_size: int, *, many: bool) -> Vectors:
        import torch

        ids = self._ids(texts)
        lengths = np.array([len(each) for each in ids], dtype=np.int64)
        threads = torch.get_num_threads()
        workers = _workers(threads) if many and threads > 1 else None
        bf16 = many and self._wins_in_bf16(workers)
        found = np.empty((len(ids), self.dimensions), dtype=np.float32)

        def encode(part: Integers) -> None:
            with torch.inference_mode():
                found[part] = self._pooled([ids[place] for place in part], bf16=bf16).numpy()

        parts = _bounded(sub_batches(lengths, size_for("cpu", batch_size)), lengths)
        one_by_one = map if workers is None else workers.map
        deque(one_by_one(encode, parts[::-1]), maxlen=0)  # the longest texts first
        return found

    def _wins_in_bf16(self, workers: ThreadPoolExecutor | None) -> bool:
        """Measured as it will be used: by one thread, where each has its own texts."""
        if workers is None:
            return bf16_wins("cpu", self._shape, self._measured)
        return workers.submit(bf16_wins, "cpu", self._shape, self._measured).result()

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [each.ids for each in self._tokenizer.encode_batch_fast(list(texts))]

    def _measured(self, bf16: bool) -> object:
        return self._pooled(self._ids(SAMPLE), bf16=bf16)

    def _pooled(self, ids: list[list[int]], *, bf16: bool) -> "Tensor":
        """Vectors (n, d) of texts given by their tokens, padded to the longest."""
        import torch

        longest = max(len(each) for each in ids)
        pad = self._shape.pad
        tokens = torch.tensor([each + [pad] * (longest - len(each)) for each in ids])
        lengths = torch.tensor([len(each) for each in ids])
        real = torch.arange(longest) < lengths[:, None]  # (n, longest)
        mask = None if bool(real.all()) else real[:, None, None, :]
        states = self._states(tokens, mask, bf16=bf16)
        if self._shape.first_token:
            return states[:, 0]
        if mask is not None:
            states = states * real[:, :, None]
        return states.sum(1) / lengths[:, None]

    def _states(self, tokens: "Tensor", mask: "Tensor | None", *, bf16: bool) -> "Tensor":
        """The last layer's states (n, longest, d), in fp32 between the products."""
        import torch
        from torch.nn.functional import embedding, gelu, layer_norm

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
            taken = self._attention(layer.inputs(states, bf16=bf16), mask)
            attended = layer.attended(taken, bf16=bf16)
            states = layer_norm(attended + states, normed, *layer.attended_norm, epsilon)
            inner = layer.narrowed(gelu(layer.widened(states, bf16=bf16)), bf16=bf16)
            states = layer_norm(inner + states, normed, *layer.narrowed_norm, epsilon)
        return states

    def _attention(self, inputs: "Tensor", mask: "Tensor | None") -> "Tensor":
        """What each token takes from the others: (n, longest, 3 d) to (n, longest, d)."""
        from torch.nn.functional import scaled_dot_product_attention

        from monoglot.learning.attention import attention

        count, longest, _ = inputs.shape
        heads = inputs.view(count, longest, 3, self._shape.heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        if count == 1 or longest >= _SHORT:
            taken = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
        else:
            taken = attention(query, key, value, mask)
        return taken.transpose(1, 2).reshape(count, longest, -1)


def _layer(weights: dict[str, "Tensor"], shape: Shape, number: int) -> _Layer:
    import torch

    at = f"encoder.layer.{number}."
    query, key, value = (
        _pair(weights, f"{at}attention.self.{part}") for part in ("query", "key", "value")
    )
    scale = (shape.width // shape.heads) ** -0.5  # of attention, taken once here
    return _Layer(
        _Product(
            torch.cat([query[0] * scale, key[0], value[0]]),
            torch.cat([query[1] * scale, key[1], value[1]]),
        ),
        _Product(*_pair(weights, at + "attention.output.dense")),
        _pair(weights, at + "attention.output.LayerNorm"),
        _Product(*_pair(weights, at + "intermediate.dense")),
        _Product(*_pair(weights, at + "output.dense")),
        _pair(weights, at + "output.LayerNorm"),
    )


def _pair(weights: dict[str, "Tensor"], name: str) -> tuple["Tensor", "Tensor"]:
    """A matrix and its bias, or a norm's two vectors."""
    return weights[name + ".weight"], weights[name + ".bias"]


@cache
def _onednn_has_bf16() -> bool:
    """Whether torch was built with oneDNN, with bf16 on this machine, and still as known here."""
    import torch

    states, matrix = torch.ones(3, 16).bfloat16(), torch.ones(8, 16).bfloat16()
    bias = torch.ones(8).bfloat16()
    try:
        found = torch.ops.mkldnn._linear_pointwise(
            states, torch.ops.mkldnn._reorder_linear_weight(matrix), bias, "none", [], ""
        )
    except (AttributeError, RuntimeError, TypeError):  # not there, not on this machine, or changed
        return False
    return bool((found == 17).all())


def _bounded(parts: Sequence[Integers], lengths: Integers) -> list[Integers]:
    """Sub-batches cut into such as have few tokens, or one text."""
    found = []
    for part in parts:
        most = max(1, _TOKENS // int(lengths[part].max()))
        found += np.split(part, range(most, len(part), most))
    return found


def _workers(number: int) -> ThreadPoolExecutor:
    """A thread a core, each with its own sub-batch: none waits for another at every product."""
    with _STARTING:
        return _started(number)


@cache
def _started(number: int) -> ThreadPoolExecutor:
    import torch

    ready = threading.Barrier(number)

    def alone() -> None:
        torch.get_num_threads()  # torch's first look at a thread undoes what was set before
        torch.set_num_threads(1)
        ready.wait()

    workers = ThreadPoolExecutor(number, thread_name_prefix="encode", initializer=alone)
    try:
        for waited_for in [workers.submit(int) for _ in range(number)]:
            waited_for.result()
    except BaseException:  # no thread may wait for one that never comes
        ready.abort()
        workers.shutdown(wait=False)
        raise
    finally:
        torch.set_num_threads(number)  # threads that torch has yet to see begin with the last one
    return workers


def accelerated() -> bool:
    """Whether torch sees a GPU or the like, on which sentence-transformers would run a model."""
    import torch

    return bool(torch.accelerator.is_available())
