"""Fine-tuning of an encoder on triplets: a plain loop over sentence-transformers' modules.

The library's own trainer pads a batch to its longest text, knows no labels to mask by, and reads a
fixed table of pairs. This loop encodes each distinct text of a batch once, with little padding or
none, in bf16 where that is faster, and draws new partners every epoch. Gradients are the same: the
loss is computed on the whole batch's vectors.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from monoglot.errors import RunError
from monoglot.learning import checkpoint
from monoglot.learning.adapters import merge_adapter
from monoglot.learning.encoder import Encoder, Vectors
from monoglot.learning.learned import Learned
from monoglot.learning.material import Material, PartnersOf
from monoglot.learning.objectives import training_loss
from monoglot.learning.passes import Passes
from monoglot.learning.ranks import Ranks
from monoglot.learning_config import TrainingConfig

if TYPE_CHECKING:
    import torch

OnStep = Callable[[int, int], None]

_SECONDS_BETWEEN_CHECKPOINTS = 60.0
_STEPS_BETWEEN_LOOKS = 16  # at the losses, for which a GPU must be waited for
_MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class TrainingLog:
    """What a training did.

    Attributes:
        steps: one row an optimiser step: step, epoch, loss, learning_rate, temperature.
        seconds: wall-clock time of this process's share; less than the whole after a resume.
        texts: texts encoded with gradients in this process's share.
        bf16: whether matrix products were computed in bf16.
        cut: distinct texts longer than `max_tokens`, which were cut.
        resumed_at: the step of the checkpoint it went on from; 0 for a start from nothing.
        temperature: of the loss, at the end.
    """

    steps: pl.DataFrame
    seconds: float
    texts: int
    bf16: bool
    cut: int
    resumed_at: int
    temperature: float


def fine_tune(
    encoder: Encoder,
    anchors: pl.DataFrame,
    rows: pl.DataFrame,
    triplets: pl.DataFrame,
    config: TrainingConfig,
    *,
    scratch: Path,
    respelt: Collection[str] = (),
    on_step: OnStep | None = None,
    partners: PartnersOf | None = None,
    ranks: Ranks | None = None,
) -> TrainingLog:
    """Train the encoder in place; killed and called again with the same scratch, it goes on.

    Args:
        encoder: the base model; its weights are changed.
        anchors: `contracts.Queries` the triplets name as anchors.
        rows: knowledge-base rows (row_id, query, label) the triplets name.
        triplets: `contracts.Triplets` of `config.epochs` epochs; with `partners`, of the first.
        config: objective, batch, rate and so on.
        scratch: folder for checkpoints, of this very training alone.
        respelt: ids of the anchors that `config.spelling_noise` may spell anew.
        on_step: called with (steps done, steps in all).
        partners: gives the triplets of a later epoch, asked at its start with the model as it is
            then; the same for the same epoch, also after a resume. None: `triplets` has them all.
        ranks: who trains together: each calls this with the same inputs, and has the same weights
            afterwards, those of one process but for rounding. None: this process alone.

    Raises:
        ConfigError: the config asks for what this model or environment has not.
        DataError: the mix shows no anchor.
        RunError: the loss is no longer finite.
    """
    ranks = ranks or Ranks()
    material = Material(
        encoder,
        anchors,
        rows,
        triplets,
        config,
        respelt=respelt,
        partners=partners and _drawn_once(partners, ranks),
    )
    run = _Run(encoder, config, material, ranks)
    state = run.learned.state
    resumed_at = checkpoint.load(scratch, state)
    run.passes.bf16 = state.bf16
    started = saved = time.perf_counter()
    for step in range(resumed_at, material.steps):
        run.step(step)
        if on_step is not None:
            on_step(step + 1, material.steps)
        if ranks.first and time.perf_counter() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
            run.look()
            checkpoint.save(scratch, state, step + 1)
            saved = time.perf_counter()
    run.look()
    if config.lora_rank:
        merge_adapter(encoder)
    return TrainingLog(
        steps=run.log(),
        seconds=time.perf_counter() - started,
        texts=run.passes.encoded,
        bf16=run.passes.bf16,
        cut=run.passes.tokens.cut(),
        resumed_at=resumed_at,
        temperature=float(run.learned.temperature_now),
    )


def _drawn_once(partners: PartnersOf, ranks: Ranks) -> PartnersOf:
    """Has the first rank draw an epoch's triplets, which the others then find drawn."""

    def of(epoch: int, encode: Callable[[Sequence[str]], Vectors]) -> pl.DataFrame:
        if ranks.first:
            drawn = partners(epoch, encode)
            ranks.wait()
            return drawn
        ranks.wait()
        return partners(epoch, encode)

    return of


class _Run:
    """One training: its material, what it learns, its schedule, its log."""

    def __init__(
        self, encoder: Encoder, config: TrainingConfig, material: Material, ranks: Ranks
    ) -> None:
        self.encoder = encoder
        self.config = config
        self.material = material
        self.ranks = ranks
        self.passes = Passes(encoder, material.texts, ranks)
        self.learned = Learned(encoder, config)
        self.learned.state.bf16 = self.passes.bf16
        self._unseen: list[tuple[torch.Tensor, float | torch.Tensor]] = []

    def step(self, step: int) -> None:
        """One optimiser step. Nothing in it waits for a GPU, which is given the next one early."""
        import torch

        state = self.learned.state
        state.rates.append(self.learned.set_rate(self._schedule(step)))
        state.optimiser.zero_grad(set_to_none=not self.passes.records)
        temperature = self.learned.temperature_now
        loss = self._backward(step)
        self.learned.agree(self.ranks)
        torch.nn.utils.clip_grad_norm_(self.encoder.model.parameters(), _MAX_GRADIENT_NORM)
        self.learned.update()
        self._unseen.append((loss, temperature))
        if len(self._unseen) >= _STEPS_BETWEEN_LOOKS:
            self.look()

    def look(self) -> None:
        """Read the losses of the last steps into the log.

        Raises:
            RunError: one of them is not finite.
        """
        state = self.learned.state
        for loss, temperature in self._unseen:
            state.losses.append(float(loss))
            state.temperatures.append(float(temperature))
            if not np.isfinite(state.losses[-1]):
                raise RunError(
                    f"fine_tuning: the loss is {state.losses[-1]} at step {len(state.losses)} of "
                    f"{self.material.steps}. Lower fine_tuning.learning_rate, or raise "
                    "fine_tuning.temperature."
                )
        self._unseen.clear()

    def _schedule(self, step: int) -> float:
        """Share of the peak rate: linear rise, then linear fall to zero."""
        total = self.material.steps
        warm_up = max(1, round(self.config.warmup_share * total))
        return min((step + 1) / warm_up, (total - step) / max(1, total - warm_up + 1))

    def _backward(self, step: int) -> "torch.Tensor":
        """Add the gradients of a step's loss; returns the loss."""
        at_step = self.material.at(step)
        backward = (
            self.passes.backward_cached if self.config.gradient_cache else self.passes.backward
        )
        return backward(
            at_step.positions,
            lambda vectors: training_loss(
                at_step.batch(vectors), self.learned.temperature, self.config
            ),
        )

    def log(self) -> pl.DataFrame:
        """Loss, rate and temperature of every step so far, those before a resume included."""
        state = self.learned.state
        steps = np.arange(len(state.losses))
        measured = {
            "loss": state.losses,
            "learning_rate": state.rates,
            "temperature": state.temperatures,
        }
        return pl.DataFrame(
            {"step": steps + 1, "epoch": steps // self.material.per_epoch + 1, **measured},
            schema_overrides=dict.fromkeys(measured, pl.Float64),
        )
