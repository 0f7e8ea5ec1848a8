"""Checkpoints of a training: one safetensors file, replaced whole, read without running code.

A training resumed from one takes the very steps it would have taken: weights and optimiser moments
are kept, as is the precision, which another process might measure otherwise; batches and rates
follow from the step, and nothing else is random.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_FILE = "checkpoint.safetensors"


@dataclass
class TrainingState:
    """What changes during a training."""

    model: "torch.nn.Module"
    optimiser: "torch.optim.Optimizer"
    losses: list[float]
    rates: list[float]
    temperatures: list[float]
    bf16: bool = False


def save(folder: Path, state: TrainingState, step: int) -> None:
    """Replace the checkpoint in `folder` by the state after `step` steps."""
    from safetensors.torch import save_file

    tensors = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    for number, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": value for name, value in moments.items()}
    # Tied weights share memory, which safetensors refuses; a copy is written once a minute.
    tensors = {name: value.detach().cpu().clone() for name, value in tensors.items()}
    progress = {
        "step": step,
        "losses": state.losses,
        "rates": state.rates,
        "temperatures": state.temperatures,
        "bf16": state.bf16,
    }
    partial = folder / f".{_FILE}"
    save_file(tensors, partial, metadata={"progress": json.dumps(progress)})
    partial.replace(folder / _FILE)


def load(folder: Path, state: TrainingState) -> int:
    """Put the checkpoint's state in place; returns its step, or 0 where there is none."""
    from safetensors import safe_open

    path = folder / _FILE
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as stream:
        progress = json.loads(stream.metadata()["progress"])
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    state.model.load_state_dict(_under("model.", tensors))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("optimiser.", tensors).items():
        number, _, what = name.partition(".")
        moments.setdefault(int(number), {})[what] = value
    groups = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    state.losses[:] = progress["losses"]
    state.rates[:] = progress["rates"]
    state.temperatures[:] = progress["temperatures"]
    state.bf16 = progress.get("bf16", state.bf16)
    return int(progress["step"])


def _under(prefix: str, tensors: "dict[str, Tensor]") -> "dict[str, Tensor]":
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
