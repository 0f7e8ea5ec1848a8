"""`Encoder`: texts in any language to normalised vectors, with one model.

A knowledge-base row is a query like the user's, so both sides are encoded alike, with the same
prefix. Equal texts are encoded once, texts are batched by length, and bf16 is used where a short
measurement on this machine shows it to be faster.

A common model on the processor is read by `light`, which gives a first answer in less than half the
time that sentence-transformers takes to be imported; it is loaded where its `model` is asked for.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from monoglot.errors import ModelError
from monoglot.learning.devices import without_plans_by_shape
from monoglot.learning.light import LightModel, accelerated, load_light
from monoglot.learning.models import model_digest, model_folder, query_prefix_of
from monoglot.learning.precision import bf16_is_faster, precision
from monoglot.learning.sub_batches import size_for, sub_batches
from monoglot.learning.tokens import Tokens

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Vectors = NDArray[np.float32]
Progress = Callable[[int, int], None]

PIECE = 4096  # texts between two reports of progress; the part of one worker on a cluster
_WORTH_MEASURING = 512  # below so many texts, fp32 is fast enough and nothing is measured


class Encoder:
    """A model, its prefix and its digest. Load it with `Encoder.load`."""

    def __init__(
        self, name: str, folder: Path, device: str, max_tokens: int | None, query_prefix: str | None
    ) -> None:
        self.name = name
        self.digest = model_digest(name, query_prefix)
        self.prefix = query_prefix_of(name, query_prefix)
        self._folder = folder
        self._device = device
        self._max_tokens = max_tokens
        self._light: LightModel | None = None
        self._model: SentenceTransformer | None = None

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
        folder = model_folder(name)
        encoder = cls(name, folder, device, max_tokens, query_prefix)
        if device == "cpu" or not (device or accelerated()):
            with _explained(folder):
                encoder._light = load_light(folder, max_tokens)
        if encoder._light is None:
            encoder._model = encoder._loaded()
        return encoder

    @property
    def model(self) -> "SentenceTransformer":
        """The sentence-transformers model; once it was asked for, it may be in training.

        Raises:
            ModelError: it cannot be loaded.
        """
        if self._model is None:
            self._model = self._loaded()
            self._light = None
        return self._model

    def _loaded(self) -> "SentenceTransformer":
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        with _explained(self._folder):
            model = SentenceTransformer(
                str(self._folder),
                device=self._device or None,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        without_plans_by_shape(model.device)
        # Static embeddings have no positions, and no length to set.
        if model.transformers_model is not None and model.max_seq_length is not None:
            own = model.max_seq_length
            model.max_seq_length = min(self._max_tokens or own, own)
        return model

    @property
    def dimensions(self) -> int:
        """Length d of a vector."""
        if self._light is not None:
            return self._light.dimensions
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
        """Vectors (n, d) of n texts, each of length 1; `on_progress(done, of)` texts.

        A batch has `batch_size` texts at most, and fewer where a processor's cache wants fewer or
        padding would cost more than another batch.
        """
        if not texts:
            return np.zeros((0, self.dimensions), dtype=np.float32)
        place = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        distinct = list(place)
        order = sorted(range(len(distinct)), key=lambda number: len(distinct[number]))
        vectors = np.empty((len(distinct), self.dimensions), dtype=np.float32)
        many = len(distinct) >= _WORTH_MEASURING
        light = self._light  # held: another thread may ask for the model
        for start in range(0, len(order), PIECE):
            piece = order[start : start + PIECE]
            prefixed = [self.prefix + distinct[number] for number in piece]
            if light is not None:
                vectors[piece] = light.vectors(prefixed, batch_size, many=many)
            else:
                vectors[piece] = _encoded(self.model, prefixed, batch_size, many=many)
            if on_progress is not None:
                on_progress(start + len(piece), len(order))
        return _unit(vectors, distinct)[[place[text] for text in texts]]

    def save(self, folder: Path) -> None:
        """Write the model as safetensors, with the prefix kept as its `query` prompt."""
        self.model.prompts["query"] = self.prefix
        self.model.save(str(folder), create_model_card=False, safe_serialization=True)


def _encoded(
    model: "SentenceTransformer", texts: Sequence[str], batch_size: int, *, many: bool
) -> Vectors:
    """Vectors (n, d) by sentence-transformers, without its batches by letters."""
    import torch

    device = model.device
    bf16 = many and bf16_is_faster(model)
    tokens = Tokens(model, texts)
    parts = sub_batches(tokens.lengths, size_for(device.type, batch_size))
    model.eval()  # no dropout
    with torch.inference_mode(), precision(device.type, bf16=bf16):
        found = [model(tokens.features(part))["sentence_embedding"].float() for part in parts]
    vectors = np.empty((len(texts), model.get_embedding_dimension() or 0), dtype=np.float32)
    # Fetched at the end: a GPU that is waited for after each sub-batch has nothing to do meanwhile.
    vectors[np.concatenate(parts)] = torch.cat(found).cpu().numpy()
    return vectors


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"base_model: {folder}: cannot be loaded: {error}") from error


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
