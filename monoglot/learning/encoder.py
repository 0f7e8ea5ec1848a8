"""`Encoder`: texts in any language to normalised vectors, with one model.

A knowledge-base row is a query like the user's, so both sides are encoded alike, with the same
prefix. Equal texts are encoded once, texts are batched by length, and bf16 is used where a short
measurement on this machine shows it to be faster.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monoglot.errors import ModelError
from monoglot.learning.models import model_digest, model_folder, query_prefix_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Vectors = NDArray[np.float32]
Progress = Callable[[int, int], None]

PIECE = 4096  # texts between two reports of progress; the part of one worker on a cluster
_WORTH_MEASURING = 512  # below so many texts, fp32 is fast enough and nothing is measured


class Encoder:
    """A sentence-transformers model, its prefix and its digest. Load it with `Encoder.load`."""

    def __init__(self, model: "SentenceTransformer", name: str, digest: str, prefix: str) -> None:
        self.model = model
        self.name = name
        self.digest = digest
        self.prefix = prefix

    @classmethod
    def load(
        cls,
        name: str,
        *,
        device: str = "",
        max_tokens: int | None = None,
        query_prefix: str | None = None,
    ) -> "Encoder":
        """Load a model by hub name, folder or `offline-minilm`; see `models.model_folder`.

        Args:
            name: what to load.
            device: `cpu`, `cuda`, `mps`; empty for the best there is.
            max_tokens: longer texts are cut; None for the model's own limit, which is also the
                highest. A model saved after training keeps the limit it was trained with.
            query_prefix: put before every text; None for the model's own.

        Raises:
            ModelError: the model cannot be found or loaded.
        """
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        folder = model_folder(name)
        try:
            model = SentenceTransformer(
                str(folder),
                device=device or None,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelError(f"base_model: {folder}: cannot be loaded: {error}") from error
        # Static embeddings have no positions, and no length to set.
        if model.transformers_model is not None and model.max_seq_length is not None:
            model.max_seq_length = min(max_tokens or model.max_seq_length, model.max_seq_length)
        prefix = query_prefix_of(name, query_prefix)
        return cls(model, name, model_digest(name, query_prefix), prefix)

    @property
    def dimensions(self) -> int:
        """Length d of a vector."""
        dimensions = self.model.get_embedding_dimension()
        assert dimensions is not None
        return int(dimensions)

    def encode(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = 256,
        on_progress: Progress | None = None,
    ) -> Vectors:
        """Vectors (n, d) of n texts, each of length 1; `on_progress(done, of)` texts."""
        if not texts:
            return np.zeros((0, self.dimensions), dtype=np.float32)
        place = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        distinct = list(place)
        order = sorted(range(len(distinct)), key=lambda number: len(distinct[number]))
        vectors = np.empty((len(distinct), self.dimensions), dtype=np.float32)
        autocast = len(distinct) >= _WORTH_MEASURING and bf16_is_faster(self.model)
        for start in range(0, len(order), PIECE):
            piece = order[start : start + PIECE]
            with precision(self.model.device.type, bf16=autocast):
                vectors[piece] = self.model.encode(
                    [self.prefix + distinct[number] for number in piece],
                    batch_size=batch_size,
                    show_progress_bar=False,
                    normalize_embeddings=False,
                )
            if on_progress is not None:
                on_progress(start + len(piece), len(order))
        return _unit(vectors, distinct)[[place[text] for text in texts]]

    def save(self, folder: Path) -> None:
        """Write the model as safetensors, with the prefix kept as its `query` prompt."""
        self.model.prompts["query"] = self.prefix
        self.model.save(str(folder), create_model_card=False, safe_serialization=True)


def _unit(vectors: Vectors, texts: Sequence[str]) -> Vectors:
    """Vectors scaled to length 1; one without a direction is an error, since no search finds it."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = ~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0)
    if bad.any():
        first = texts[int(np.argmax(bad))]
        raise ModelError(
            f"{int(bad.sum())} texts have no usable vector (not finite, or zero), the first: "
            f"{first[:80]!r}. The model's vocabulary does not cover them, or its training diverged."
        )
    return np.asarray(vectors / lengths, dtype=np.float32)


@contextlib.contextmanager
def precision(device: str, *, bf16: bool) -> Iterator[None]:
    """Compute matrix products in bf16 inside the block, if asked."""
    import torch

    with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
        yield


def bf16_is_faster(model: "SentenceTransformer") -> bool:
    """Whether this machine runs this model faster in bf16, from a short measurement.

    Processors differ by a factor of three either way, and their names do not tell; the answer is
    kept per process, device and architecture.
    """
    if model.transformers_model is None:
        return False  # static embeddings: no matrix products to speed up
    return _bf16_wins(model.device.type, _Shape(model))


class _Shape:
    """A model, compared by its architecture: what a measurement can be shared by."""

    def __init__(self, model: "SentenceTransformer") -> None:
        self.model = model
        config: Any = model.transformers_model.config
        self._key = (config.model_type, config.hidden_size, config.num_hidden_layers)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Shape) and self._key == other._key


@functools.cache
def _bf16_wins(device: str, shape: _Shape) -> bool:
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device != "cpu":
        return False
    features = shape.model.preprocess(["how do i set an alarm for nine in the morning"] * 32)
    seconds = {False: np.inf, True: np.inf}
    for bf16 in (False, True, False, True, False, True):
        with torch.inference_mode(), precision(device, bf16=bf16):
            start = time.perf_counter()
            shape.model(dict(features))
            seconds[bf16] = min(seconds[bf16], time.perf_counter() - start)
    return seconds[True] < 0.9 * seconds[False]
