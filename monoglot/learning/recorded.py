"""Passes on a GPU: recorded once for each shape, and played back after that.

A pass of a transformer is some thousand small operations. To start them one by one takes longer
than the GPU needs for short texts: with a model of e5-base's shape 90 ms a step of 256 texts, of
which an H200 needs 20. A CUDA graph starts all at once. It is bound to its shape and to places in
memory: what a pass reads is copied to tensors that stay, and gradients are added up in tensors that
stay. To record takes about as long as a pass, so that even a shape that never comes again costs
little. All graphs draw on one pool of memory: what a pass leaves for its backward pass is there
until the next forward pass, and no longer.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Features = dict[str, Any]
    Run = Callable[[Features], Tensor]
    Does = Callable[[], None]

_LOGGER = logging.getLogger(__name__)


def has_graphs(device: "torch.device") -> bool:
    """Whether passes on this device can be recorded."""
    return device.type == "cuda"


class Plain:
    """Passes as they are, one operation after the other.

    Args:
        run: features of a sub-batch to its vectors (n, d).
    """

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._last: Tensor | None = None

    def forward(self, features: "Features", *, keep: bool) -> "Tensor":
        """Vectors (n, d), apart from the graph; `keep` what `backward` needs of this pass."""
        import torch

        with torch.set_grad_enabled(keep):
            vectors = self._run(features)
        self._last = vectors if keep else None
        return vectors.detach()

    def backward(self, gradient: "Tensor") -> None:
        """Add the weights' gradients, given that of the first vectors of the pass kept last."""
        assert self._last is not None
        self._last[: len(gradient)].backward(gradient)  # type: ignore[no-untyped-call]
        self._last = None


class Recorded:
    """The same by a graph for each shape.

    The weights' gradients must stay where they are: they are set to zero, never dropped.

    Args:
        run: features of a sub-batch to its vectors (n, d), without waiting for the GPU.
        device: the GPU.
    """

    def __init__(self, run: "Run", device: "torch.device") -> None:
        self._run = run
        self._plain = Plain(run)
        self._capture: Capture | None = Capture(device)
        self._graphs: dict[tuple[Any, ...], _Graph] = {}
        self._last: _Graph | Plain = self._plain

    def forward(self, features: "Features", *, keep: bool) -> "Tensor":
        """As `Plain.forward`."""
        key = tuple(
            (name, tuple(value.shape) if hasattr(value, "shape") else value)
            for name, value in features.items()
        )
        if key not in self._graphs and self._capture is not None:
            self._record(key, features, self._capture)
        self._last = self._graphs.get(key, self._plain)
        return self._last.forward(features, keep=keep)

    def backward(self, gradient: "Tensor") -> None:
        """As `Plain.backward`."""
        self._last.backward(gradient)

    def _record(self, key: tuple[Any, ...], features: "Features", capture: "Capture") -> None:
        """Record a shape. Where that fails, all passes are plain from then on."""
        try:
            self._graphs[key] = _Graph(self._run, features, capture)
        except RuntimeError as error:
            # What a recording complains of at its end is not what has ended it.
            cause = str(error.__context__ or error).strip()
            reason = (cause or type(error).__name__).splitlines()[0][:200]
        else:
            return
        _LOGGER.warning("fine_tuning: passes are not recorded, only slower: %s", reason)
        self._last, self._capture = self._plain, None
        self._graphs.clear()
        capture.end()


class _Graph:
    """Both passes of one shape. What they read and what they leave stays where it is in memory."""

    def __init__(self, run: "Run", features: "Features", capture: "Capture") -> None:
        import torch

        self._run = run
        self._vectors: Tensor
        self._read = {**features, **{k: v.clone() for k, v in _tensors(features).items()}}
        capture.warm_up(self._warm_up)
        self._again_forward = capture(self._forward)
        self._gradient = torch.zeros_like(self._vectors)
        self._again_backward = capture(self._backward)
        self._vectors = self._vectors.detach()  # lets go of the graph, of another stream

    def forward(self, features: "Features", *, keep: bool) -> "Tensor":
        """As `Plain.forward`; all is kept until any graph's next forward pass."""
        del keep
        for name, value in _tensors(features).items():
            self._read[name].copy_(value, non_blocking=True)
        self._again_forward()
        return self._vectors.detach().clone()

    def backward(self, gradient: "Tensor") -> None:
        """As `Plain.backward`."""
        self._gradient[: len(gradient)].copy_(gradient)
        self._gradient[len(gradient) :] = 0
        self._again_backward()

    def _forward(self) -> None:
        self._vectors = self._run(self._read)

    def _backward(self) -> None:
        self._vectors.backward(self._gradient)  # type: ignore[no-untyped-call]

    def _warm_up(self) -> None:
        """Both passes; of a gradient of zero, which adds nothing."""
        vectors = self._run(self._read)
        (0.0 * vectors).sum().backward()  # type: ignore[no-untyped-call]


class Capture:
    """Records CUDA graphs that share one memory, on a stream of their own."""

    def __init__(self, device: "torch.device") -> None:
        import torch

        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._is_warm = False

    def warm_up(self, does: "Does") -> None:
        """Run what is to be recorded first; libraries set themselves up in it, once a stream."""
        import torch

        if self._is_warm:
            return
        own = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(own)
        try:
            with torch.cuda.stream(self._stream):
                does()
        finally:
            own.wait_stream(self._stream)
        self._is_warm = True

    def __call__(self, does: "Does") -> "Does":
        """What does the same again."""
        import torch

        graph, own = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        # Other threads may meanwhile ask whether an event is over, as one of NCCL does.
        recording = torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        )
        with torch.cuda.device(self._device):
            try:
                with recording:
                    does()
            finally:
                torch.cuda.set_stream(own)  # torch leaves another one set where recording fails
        replay: Does = graph.replay
        return replay

    def end(self) -> None:
        """Give back the memory that graphs had."""
        import torch

        torch.cuda.empty_cache()


def _tensors(features: "Features") -> "dict[str, Tensor]":
    return {name: value for name, value in features.items() if hasattr(value, "shape")}
