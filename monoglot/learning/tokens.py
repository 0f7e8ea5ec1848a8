"""`Tokens`: texts tokenised once, to be taken from in sub-batches, padded or flat.

Tokenising in each step of a training again, or once more for the lengths, would leave a GPU idle
meanwhile, since Python does one thing at a time. What the model is given is what its own
preprocessing gives it; where that is more than tokens with a mask, it is asked for each sub-batch.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monoglot.learning.devices import placed
from monoglot.learning.flat import layout
from monoglot.learning.sub_batches import Integers, lengths_by

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

_IDS, _MASK, _TYPES = "input_ids", "attention_mask", "token_type_ids"
_CHUNK = 4096  # texts tokenised at a time


class Tokens:
    """Texts as features of a model.

    Args:
        model: the model.
        texts: all texts, with the model's prefix.

    Attributes:
        lengths: (n,) length of each text, in tokens where the model reads tokens in order; of a
            text that is cut, the whole length.
    """

    def __init__(self, model: "SentenceTransformer", texts: Sequence[str]) -> None:
        self._model = model
        self._texts = texts
        self._others: dict[str, Any] = {}
        self._pads = _pads(model)
        self._kept = self._tokenised() if self._pads else None
        self.lengths = self._lengths()

    @functools.cached_property
    def longest(self) -> int | None:
        """Tokens of the longest text as the model reads it; None where they are not known."""
        return None if self._kept is None else int(self._kept.sizes.max())

    def cut(self) -> int:
        """How many of the texts are longer than the model is given to read."""
        limit = self._model.max_seq_length
        if self._model.transformers_model is None or limit is None:
            return 0
        return int((self.lengths > limit).sum())

    def features(self, places: Integers) -> dict[str, Any]:
        """What the model takes for the texts at these places, on its device."""
        if self._kept is None:
            made = self._model.preprocess([self._texts[place] for place in places])
            features = dict(made.items())
        else:
            features = {**self._padded(places, self._kept), **self._others}
        return self._placed(features)

    def unpadded(
        self, places: Integers, first_position: int, texts: int | None = None
    ) -> dict[str, Any]:
        """The same texts one after the other, where `longest` is known; see `flat`.

        Args:
            places: of the texts.
            first_position: what the model numbers a text's tokens from.
            texts: to have at least; the further ones are padding. None: these alone.
        """
        import torch

        kept, longest = self._kept, self.longest
        assert kept is not None
        assert longest is not None
        ends, own, bound = layout(kept.sizes[places], longest, texts)
        text = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
        position = np.arange(ends[-1]) - ends[text]
        rows = {"position_ids": position + first_position, "seq_idx": text}
        source = kept.starts[places[text[:own]]] + position[:own]
        for name in kept.flat.keys() - {_MASK}:
            rows[name] = np.full(ends[-1], self._pads[name], dtype=np.int64)
            rows[name][:own] = kept.flat[name][source]
        features = {name: torch.from_numpy(row)[None] for name, row in rows.items()}
        known = {"cu_seq_lens_q": torch.from_numpy(ends.astype(np.int32)), "max_length_q": bound}
        return self._placed({**features, **known, **self._others})

    def _placed(self, features: dict[str, Any]) -> dict[str, Any]:
        return {
            name: placed(value, self._model.device) if hasattr(value, "to") else value
            for name, value in features.items()
        }

    def ids(self, places: Integers | None = None) -> "Tensor | None":
        """The distinct token ids, ascending, that these texts' features may hold; on the host.

        Of all texts where no places are given. None where the ids are not known before.
        """
        import torch

        if self._kept is None:
            return None
        ids = self._kept.flat[_IDS]
        if places is not None:
            inside, places_of = self._kept.inside(places)
            ids = ids[places_of[inside]]
        return torch.as_tensor(np.unique(np.append(ids, self._pads[_IDS])).astype(np.int64))

    def _padded(self, places: Integers, kept: "_Flat") -> "dict[str, Tensor]":
        import torch

        inside, places_of = kept.inside(places)
        padded = {}
        for name, flat in kept.flat.items():
            table = np.full(inside.shape, self._pads[name], dtype=np.int64)
            table[inside] = flat[places_of[inside]]
            padded[name] = torch.from_numpy(table)
        return padded

    def _lengths(self) -> Integers:
        if self._kept is None:
            return lengths_by(self._model, self._texts)
        lengths = self._kept.sizes.copy()
        full: Integers = np.flatnonzero(lengths >= (self._model.max_seq_length or np.inf))
        lengths[full] = lengths_by(self._model, [self._texts[place] for place in full])
        return lengths

    def _tokenised(self) -> "_Flat | None":
        """The features of all texts without padding; None where that would not be all."""
        import torch

        order = np.argsort(np.array([len(text) for text in self._texts]), kind="stable")
        parts: dict[str, list[NDArray[np.int32]]] = {}
        sizes: list[NDArray[np.int64]] = []
        for start in range(0, len(order), _CHUNK):
            chunk = order[start : start + _CHUNK]
            made = dict(self._model.preprocess([self._texts[place] for place in chunk]).items())
            tables = {name: value for name, value in made.items() if hasattr(value, "to")}
            self._others = {name: made[name] for name in made.keys() - tables.keys()}
            if not {_IDS, _MASK} <= tables.keys() <= self._pads.keys():
                return None
            sizes.append(tables[_MASK].sum(dim=1).numpy())
            inside = torch.arange(tables[_MASK].shape[1]) < tables[_MASK].sum(dim=1, keepdim=True)
            for name, table in tables.items():
                if not bool((table[~inside] == self._pads[name]).all()):
                    return None  # padded at its start, or with something else
                parts.setdefault(name, []).append(table[inside].int().numpy())
        flat = {name: np.concatenate(values) for name, values in parts.items()}
        return _Flat.of(flat, order, np.concatenate(sizes))


@dataclass(frozen=True)
class _Flat:
    """The features of all texts one after the other: text t has sizes[t] values from starts[t]."""

    flat: dict[str, NDArray[np.int32]]
    starts: Integers
    sizes: Integers

    @classmethod
    def of(cls, flat: dict[str, NDArray[np.int32]], order: Integers, sizes: Integers) -> "_Flat":
        """From the texts in another order, and the size of each in that order."""
        back = np.argsort(order)
        return cls(flat, (np.cumsum(sizes) - sizes)[back], sizes[back])

    def inside(self, places: Integers) -> tuple[NDArray[np.bool_], Integers]:
        """Of a table with a row for each text: which cells hold a value (n, w), and which one."""
        columns = np.arange(int(self.sizes[places].max()))
        return columns < self.sizes[places, None], self.starts[places, None] + columns


def _pads(model: "SentenceTransformer") -> dict[str, int]:
    """What each feature is padded with; empty for a model that reads no tokens in order."""
    if model.transformers_model is None:
        return {}
    tokenizer = model.tokenizer
    pad = getattr(tokenizer, "pad_token_id", None)
    if pad is None:
        return {}
    return {_IDS: int(pad), _MASK: 0, _TYPES: int(getattr(tokenizer, "pad_token_type_id", 0))}
