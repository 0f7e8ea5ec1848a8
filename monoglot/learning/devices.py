"""Devices: which of them train together, and tensors put on one without waiting for it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def training_devices(setting: str) -> list[str]:
    """The devices that train together: all GPUs where the setting leaves it open, or just one.

    Args:
        setting: `Settings.device`: empty or `cuda` for all GPUs that there are; any other is meant
            as it stands.
    """
    import torch

    number = torch.cuda.device_count() if setting in ("", "cuda") else 0
    return [f"cuda:{place}" for place in range(number)] if number > 1 else [setting]


def without_plans_by_shape(device: "torch.device") -> None:
    """Keep torch from computing attention on a GPU by cuDNN, for this whole process.

    cuDNN makes a plan for each shape of a batch, which takes up to a second on an H100, and torch
    (2.11) asks it first there. Sub-batches of like length have a new shape in nearly every step.
    """
    import torch

    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)


def placed(tensor: "Tensor", device: "torch.device") -> "Tensor":
    """The tensor on a device; a copy to a GPU takes its place in the GPU's queue.

    A copy from ordinary memory would wait until the GPU has done all it was given before.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
