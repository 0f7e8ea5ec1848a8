"""The precision of matrix products: bf16 where a short measurement shows it to be faster.

Processors differ by a factor of three either way, and their names do not tell.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SAMPLE = ("how do i set an alarm for nine in the morning",) * 32
_ROUNDS = 3  # the first warms up
_SECONDS = 0.05  # a pass of a tiny model is over before another process gives the core back
_GAIN = 0.9  # rounding is worth a clear gain
_decided: dict[tuple[Any, ...], bool] = {}  # of this process, by device and architecture


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
    device = model.device.type

    def run(bf16: bool) -> object:
        with precision(device, bf16=bf16):
            return model(model.preprocess(list(SAMPLE)))

    return bf16_wins(device, architecture, run)


def bf16_wins(device: str, architecture: tuple[Any, ...], run: Callable[[bool], object]) -> bool:
    """Whether a model runs faster in bf16, measured once a process, device and architecture.

    Args:
        device: `cpu`, `cuda`, `mps`.
        architecture: what a measurement can be shared by.
        run: a forward pass over `SAMPLE`, in bf16 if told so; on a processor without bf16 units a
            tenth of a second.
    """
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device != "cpu":
        return False
    key = (device, *architecture)
    if key not in _decided:
        _decided[key] = _is_faster(run)
    return _decided[key]


def _is_faster(run: Callable[[bool], object]) -> bool:
    """The quickest of several passes each way, so many that a busy machine disturbs not all."""
    import torch

    seconds: dict[bool, list[float]] = {False: [], True: []}
    while len(seconds[True]) < _ROUNDS or sum(seconds[True]) < _SECONDS:
        for bf16, taken in seconds.items():
            with torch.inference_mode():
                start = time.perf_counter()
                run(bf16)
                taken.append(time.perf_counter() - start)
    return min(seconds[True]) < _GAIN * min(seconds[False])
