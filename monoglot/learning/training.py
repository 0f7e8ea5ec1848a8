"""Fine-tuning of an encoder on triplets: a plain loop over sentence-transformers' modules.

The library's own trainer pads a batch to its longest text, knows no labels to mask by, and reads a
fixed table of pairs. This loop encodes each distinct text of a batch once, in sub-batches of like
length, in bf16 where that is faster, and draws new partners every epoch. Gradients are the same:
the loss is computed on the whole batch's vectors.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.errors import RunError
from monoglot.learning import checkpoint
from monoglot.learning.encoder import Encoder, bf16_is_faster, precision
from monoglot.learning.lessons import Lesson, lessons_of
from monoglot.learning.objectives import OBJECTIVES, Batch, reversed_in_batch
from monoglot.learning_config import TrainingConfig

if TYPE_CHECKING:
    import torch

Integers = NDArray[np.int64]
OnStep = Callable[[int, int, float], None]
PartnersOf = Callable[[int, Callable[[Sequence[str]], NDArray[np.float32]]], pl.DataFrame]

_SUB_BATCH = {"cuda": 512, "mps": 128}
_CPU_SUB_BATCH = 32
_SECONDS_BETWEEN_CHECKPOINTS = 60.0
_MAX_GRADIENT_NORM = 1.0
_WEIGHT_DECAY = 0.01
_RATE_AT_384 = 2e-4


@dataclass(frozen=True)
class TrainingLog:
    """What a training did.

    Attributes:
        steps: one row an optimiser step: step, epoch, loss, learning_rate.
        seconds: wall-clock time of this process's share; less than the whole after a resume.
        texts: texts encoded with gradients in this process's share.
        bf16: whether matrix products were computed in bf16.
        cut: distinct texts longer than `max_tokens`, which were cut.
        resumed_at: the step of the checkpoint it went on from; 0 for a start from nothing.
    """

    steps: pl.DataFrame
    seconds: float
    texts: int
    bf16: bool
    cut: int
    resumed_at: int


def fine_tune(
    encoder: Encoder,
    anchors: pl.DataFrame,
    rows: pl.DataFrame,
    triplets: pl.DataFrame,
    config: TrainingConfig,
    *,
    scratch: Path,
    on_step: OnStep | None = None,
    partners: PartnersOf | None = None,
) -> TrainingLog:
    """Train the encoder in place; killed and called again with the same scratch, it goes on.

    Args:
        encoder: the base model; its weights are changed.
        anchors: `contracts.Queries` the triplets name as anchors.
        rows: knowledge-base rows (row_id, query, label) the triplets name.
        triplets: `contracts.Triplets` of `config.epochs` epochs; with `partners`, of the first.
        config: objective, batch, rate and so on.
        scratch: folder for checkpoints, of this very training alone.
        on_step: called with (steps done, steps in all, loss).
        partners: gives the triplets of a later epoch, asked at its start with the model as it is
            then; the same for the same epoch, also after a resume. None: `triplets` has them all.

    Raises:
        RunError: the loss is no longer finite.
    """
    # No dropout: on Hinglish-TOP validation (seed 0) it cost .010 MRR and a quarter of the time.
    encoder.model.eval()
    texts, lessons = lessons_of(anchors, rows, triplets)

    def later(epoch: int) -> Lesson:
        assert partners is not None
        return lessons_of(anchors, rows, partners(epoch, encoder.encode))[1][0]

    run = _Run(encoder, config, lessons, texts, None if partners is None else later)
    resumed_at = checkpoint.load(scratch, run.state)
    started = saved = time.perf_counter()
    for step in range(resumed_at, run.total):
        loss = run.step(step)
        if on_step is not None:
            on_step(step + 1, run.total, loss)
        if time.perf_counter() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
            checkpoint.save(scratch, run.state, step + 1)
            saved = time.perf_counter()
    return TrainingLog(
        steps=run.log(),
        seconds=time.perf_counter() - started,
        texts=run.encoded,
        bf16=run.bf16,
        cut=_count_cut(encoder, run.lengths),
        resumed_at=resumed_at,
    )


class _Run:
    """The moving parts of one training: batches, optimiser, schedule, log."""

    def __init__(
        self,
        encoder: Encoder,
        config: TrainingConfig,
        lessons: Sequence[Lesson],
        texts: Sequence[str],
        later: Callable[[int], Lesson] | None,
    ) -> None:
        self.encoder = encoder
        self.config = config
        self.lessons = dict(enumerate(lessons))
        self.later = later
        self.texts = texts
        self.per_epoch = -(-len(lessons[0].anchors) // config.batch_size)
        self.total = self.per_epoch * (len(lessons) if later is None else config.epochs)
        self.lengths = _lengths(encoder, texts)
        self.encoded = 0
        self.bf16 = bf16_is_faster(encoder.model)
        self.peak_rate = config.learning_rate or _rate_for(encoder.dimensions)
        self.state = checkpoint.TrainingState(
            encoder.model, _optimiser(encoder), losses=[], rates=[]
        )

    def step(self, step: int) -> float:
        """One optimiser step; returns its loss."""
        import torch

        rate = self.peak_rate * self._schedule(step)
        for group in self.state.optimiser.param_groups:
            group["lr"] = rate
        loss = self._loss(*self._batch(step))
        self.state.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.encoder.model.parameters(), _MAX_GRADIENT_NORM)
        self.state.optimiser.step()
        value = float(loss.detach())
        if not np.isfinite(value):
            raise RunError(
                f"fine_tuning: the loss is {value} at step {step + 1} of {self.total}. "
                "Lower fine_tuning.learning_rate, or raise fine_tuning.temperature."
            )
        self.state.losses.append(value)
        self.state.rates.append(rate)
        return value

    def _schedule(self, step: int) -> float:
        """Share of the peak rate: linear rise, then linear fall to zero."""
        warm_up = max(1, round(self.config.warmup_share * self.total))
        return min((step + 1) / warm_up, (self.total - step) / max(1, self.total - warm_up + 1))

    def _batch(self, step: int) -> tuple[Lesson, Integers]:
        """The lesson of a step and which of its anchors are in the batch."""
        epoch, number = divmod(step, self.per_epoch)
        if epoch not in self.lessons and self.later is not None:
            self.lessons = {epoch: self.later(epoch)}
        lesson = self.lessons[epoch]
        rng = np.random.default_rng([self.config.seed, epoch])
        order = rng.permutation(len(lesson.anchors))
        return lesson, order[number * self.config.batch_size :][: self.config.batch_size]

    def _loss(self, lesson: Lesson, chosen: Integers) -> "torch.Tensor":
        """The objective, and in equal parts the English queries' own with replay."""
        import torch

        device = self.encoder.model.device
        objective = OBJECTIVES[self.config.objective]
        used = slice(None) if objective.sampled_negatives else slice(0)
        negatives = lesson.negatives[chosen][:, used]
        parts = [lesson.anchors[chosen], lesson.positives[chosen], negatives.ravel()]
        vectors = torch.split(self._encode(np.concatenate(parts)), [len(part) for part in parts])
        batch = Batch(
            anchors=vectors[0],
            positives=vectors[1],
            negatives=vectors[2].reshape(*negatives.shape, vectors[0].shape[1]),
            labels=torch.as_tensor(lesson.labels[chosen], device=device),
            negative_labels=torch.as_tensor(lesson.negative_labels[chosen][:, used], device=device),
        )
        loss = objective.loss(batch, self.config.temperature)
        if not self.config.english_replay:
            return loss
        return (loss + reversed_in_batch(batch, self.config.temperature)) / 2

    def _encode(self, positions: Integers) -> "torch.Tensor":
        """Unit vectors (n, d) with gradients; each distinct text once, like lengths together."""
        import torch

        distinct, inverse = np.unique(positions, return_inverse=True)
        texts = [self.encoder.prefix + self.texts[position] for position in distinct]
        self.encoded += len(texts)
        model = self.encoder.model
        order = np.argsort(self.lengths[distinct], kind="stable")
        size = _SUB_BATCH.get(model.device.type, _CPU_SUB_BATCH)
        pieces = []
        for part in np.array_split(order, -(-len(order) // size)):
            features = model.preprocess([texts[number] for number in part])
            features = {name: _moved(value, model.device) for name, value in features.items()}
            with precision(model.device.type, bf16=self.bf16):
                pieces.append(model(features)["sentence_embedding"].float())
        back = np.empty(len(order), dtype=np.int64)
        back[order] = np.arange(len(order))
        vectors = torch.nn.functional.normalize(torch.cat(pieces), dim=1)
        return vectors[torch.as_tensor(back[inverse], device=vectors.device)]

    def log(self) -> pl.DataFrame:
        """Loss and rate of every step so far, those before a resume included."""
        steps = np.arange(len(self.state.losses))
        return pl.DataFrame(
            {
                "step": steps + 1,
                "epoch": steps // self.per_epoch + 1,
                "loss": self.state.losses,
                "learning_rate": self.state.rates,
            },
            schema_overrides={"loss": pl.Float64, "learning_rate": pl.Float64},
        )


def _rate_for(width: int) -> float:
    """Peak rate where the config names none: chosen at 384 dimensions, less for wider models."""
    return _RATE_AT_384 * (384 / width) ** 2


def _optimiser(encoder: Encoder) -> "torch.optim.AdamW":
    """AdamW; weight decay on matrices only, as is usual for transformers."""
    import torch

    trained = [weights for weights in encoder.model.parameters() if weights.requires_grad]
    groups = [
        {"params": [w for w in trained if w.ndim >= 2], "weight_decay": _WEIGHT_DECAY},
        {"params": [w for w in trained if w.ndim < 2], "weight_decay": 0.0},
    ]
    fused = encoder.model.device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, fused=fused)


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


def _count_cut(encoder: Encoder, lengths: Integers) -> int:
    """How many of the texts are longer than the model is given to read."""
    limit = encoder.model.max_seq_length
    if encoder.model.transformers_model is None or limit is None:
        return 0
    return int((lengths > limit).sum())


def _moved(value: Any, device: "torch.device") -> Any:
    return value.to(device) if hasattr(value, "to") else value
