"""The precision of matrix products: bf16 where a short measurement shows it to be faster.

Processors differ by a factor of three either way, and their names do not tell.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SAMPLE = ("how do i set an alarm for nine in the morning",) * 32
_measured: dict[tuple[Any, ...], bool] = {}  # of this process, by device and architecture


@contextlib.contextmanager
def precision(device: str, *, bf16: bool) -> Iterator[None]:
    """Compute matrix products in bf16 inside the block, if asked."""
    import torch

    with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
        yield


def bf16_is_faster(model: "SentenceTransformer") -> bool:
    """Whether this machine runs this model faster in bf16; see `bf16_wins`."""
    transformer = model.transformers_model
    if transformer is None:
        return False  # static embeddings: no matrix products to speed up
    config: Any = transformer.config
    architecture = (config.model_type, config.hidden_size, config.num_hidden_layers)
    return bf16_wins(model.device.type, architecture, lambda: model(model.preprocess(list(SAMPLE))))


def bf16_wins(device: str, architecture: tuple[Any, ...], run: Callable[[], object]) -> bool:
    """Whether a model runs faster in bf16, measured once a process, device and architecture.

    Args:
        device: `cpu`, `cuda`, `mps`.
        architecture: what a measurement can be shared by.
        run: a forward pass over `SAMPLE`, on a processor without bf16 units a tenth of a second.
    """
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device != "cpu":
        return False
    key = (device, *architecture)
    if key not in _measured:
        seconds = {False: np.inf, True: np.inf}
        for bf16 in (False, True, False, True, False, True):
            with torch.inference_mode(), precision(device, bf16=bf16):
                start = time.perf_counter()
                run()
                seconds[bf16] = min(seconds[bf16], time.perf_counter() - start)
        _measured[key] = seconds[True] < 0.9 * seconds[False]
    return _measured[key]
