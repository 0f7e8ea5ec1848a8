"""What a training learns, and how fast: weights or adapters, and the temperature of the loss."""

import math
from typing import TYPE_CHECKING, Any

from monoglot.errors import ConfigError
from monoglot.learning import checkpoint
from monoglot.learning.adapters import add_adapter
from monoglot.learning.encoder import Encoder
from monoglot.learning.ranks import Ranks
from monoglot.learning.token_rows import table_of
from monoglot.learning_config import TEMPERATURES, TrainingConfig

if TYPE_CHECKING:
    import torch

_WEIGHT_DECAY = 0.01
_RATE_AT_384 = 2e-4
# Low-rank matrices learn best at about ten times the rate of all weights ("LoRA Without Regret",
# Schulman et al. 2025, thinkingmachines.ai/blog/lora).
_ADAPTER_RATE = 10.0
# A learned temperature is one number with few steps to move: a step of Adam changes its logarithm
# by the rate. With that of the weights it would stay where it starts.
_TEMPERATURE_RATE = 50.0


class Learned:
    """The learned parts of one training, and their optimiser.

    Args:
        encoder: the base model; frozen beside adapters where the config asks for these.
        config: what is learned.

    Attributes:
        state: what a checkpoint keeps.

    Raises:
        ConfigError: the config asks for what this model or environment has not.
    """

    def __init__(self, encoder: Encoder, config: TrainingConfig) -> None:
        import torch

        _check_dimensions(encoder, config)
        if config.lora_rank:
            add_adapter(encoder, config.lora_rank, config.seed)
        # No dropout: on Hinglish-TOP validation (seed 0) it cost .010 MRR and a quarter of the
        # time.
        encoder.model.eval()
        self.peak_rate = peak_rate_of(config, encoder.dimensions)
        self._fixed = config.temperature
        self._log: torch.nn.Parameter | None = None
        if config.learn_temperature:
            start = torch.tensor(math.log(config.temperature), device=encoder.model.device)
            self._log = torch.nn.Parameter(start)
        self.state = _state(encoder, self._log, config.embedding_rate)

    @property
    def temperature(self) -> "float | torch.Tensor":
        """Of the loss; by its logarithm where it is learned, so that it stays positive."""
        return self._fixed if self._log is None else self._log.exp()

    @property
    def temperature_now(self) -> "float | torch.Tensor":
        """The same as it is at this step, apart from the graph: a learned one stays on its device.

        To read it would wait for the device.
        """
        return self._fixed if self._log is None else self._log.detach().exp()

    def agree(self, ranks: Ranks) -> None:
        """Give the temperature the first rank's gradient; every rank has that of the whole batch.

        They are equal but for rounding, which must not add up to different temperatures.
        """
        if self._log is not None and self._log.grad is not None:
            ranks.share_first(self._log.grad)

    def set_rate(self, share: float) -> float:
        """Set the rates to a share of their peaks; returns that of the weights."""
        rate = self.peak_rate * share
        for group in self.state.optimiser.param_groups:
            group["lr"] = rate * group["times_the_rate"]
        return rate

    def update(self) -> None:
        """One step of the optimiser, with the temperature kept in its bounds."""
        self.state.optimiser.step()
        if self._log is not None:
            self._log.data.clamp_(*map(math.log, TEMPERATURES))


def peak_rate_of(config: TrainingConfig, width: int) -> float:
    """Peak learning rate of a training, also where the config leaves it to the model's width."""
    own = rate_for(width) * (_ADAPTER_RATE if config.lora_rank else 1.0)
    return config.learning_rate or own


def rate_for(width: int) -> float:
    """Peak rate where the config names none: chosen at 384 dimensions, less for wider models."""
    return _RATE_AT_384 * (384 / width) ** 2


def _check_dimensions(encoder: Encoder, config: TrainingConfig) -> None:
    """Refuse prefixes that are no shorter than the model's vectors."""
    longest = max(config.matryoshka_dimensions, default=0)
    if longest >= encoder.dimensions:
        raise ConfigError(
            f"fine_tuning.matryoshka_dimensions: {longest} is no prefix of the base model's "
            f"vectors, which have {encoder.dimensions} dimensions and are trained whole anyway. "
            "Name smaller ones."
        )


def _state(
    encoder: Encoder, log_temperature: "torch.nn.Parameter | None", embedding_rate: float
) -> checkpoint.TrainingState:
    """All that training changes: what is learned, its optimiser, and an empty log.

    AdamW with weight decay on matrices only, as is usual for transformers; and not on a table of
    token embeddings, whose rows would shrink in every step, but learn in few.
    """
    import torch

    table = table_of(encoder.model)
    embeddings = [] if table is None else [table.weight]
    trained = [
        weights
        for weights in encoder.model.parameters()
        if weights.requires_grad and all(weights is not it for it in embeddings)
    ]
    groups = [
        _group([weights for weights in trained if weights.ndim >= 2], 1.0, decay=_WEIGHT_DECAY),
        _group([weights for weights in trained if weights.ndim < 2], 1.0),
        _group(embeddings, embedding_rate),
    ]
    learned = torch.nn.ModuleDict({"encoder": encoder.model})
    if log_temperature is not None:
        learned["loss"] = torch.nn.ParameterDict({"log_temperature": log_temperature})
        groups.append(_group([log_temperature], _TEMPERATURE_RATE))
    fused = encoder.model.device.type in ("cpu", "cuda")
    return checkpoint.TrainingState(learned, torch.optim.AdamW(groups, fused=fused), [], [], [])


def _group(
    weights: "list[torch.nn.Parameter]", times_the_rate: float, decay: float = 0.0
) -> dict[str, Any]:
    return {"params": weights, "weight_decay": decay, "times_the_rate": times_the_rate}
