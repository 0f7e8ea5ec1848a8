"""Passes on a GPU: recorded once for each shape of a sub-batch, and played back after that.

A pass of a transformer is some thousand small operations. To start them one by one takes longer
than the GPU needs for short texts: 81 ms a step of 256 texts on an H100, of which the matrix
products are 4 %. A CUDA graph starts all at once. It is bound to its shape and to places in memory:
texts are padded to few shapes, what a pass reads is copied to tensors that stay, and gradients are
added up in tensors that stay. Recording costs as much as a few passes, so a shape is recorded when
it has been met a few times.

All graphs share one memory, so that what a pass leaves for its backward pass is there until the
next pass, and no longer.
"""

import logging
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    Features = dict[str, Any]
    Run = Callable[[Features], Tensor]
    Does = Callable[[], None]
    Capture = Callable[[Does, Does], tuple[Does, Does]]

_LOGGER = logging.getLogger(__name__)
_WORTH_RECORDING = 4  # passes of a shape before it is recorded, which takes about as long
_WARM_UP = 2  # passes on the stream of the recording, in which libraries set themselves up


def rounded(number: int) -> int:
    """The least of 1, 2, 3, 4, 6, 8, 12, 16, 24 and so on that is not below a number."""
    power: int = 1 << max(0, number - 1).bit_length()
    between = power * 3 // 4
    return between if power >= 4 and number <= between else power


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
    """The same, by graphs for the shapes that come again.

    The weights' gradients must stay where they are: they are set to zero, never dropped.

    Args:
        run: features of a sub-batch to its vectors (n, d), without waiting for the GPU.
        capture: given what a forward and a backward pass do, returns what does the same again.
    """

    def __init__(self, run: "Run", capture: "Capture | None" = None) -> None:
        self._run = run
        self._plain = Plain(run)
        self._capture = capture or Capturing()
        self._met: Counter[tuple[Any, ...]] = Counter()
        self._graphs: dict[tuple[Any, ...], _Graph] = {}
        self._last: _Graph | Plain = self._plain
        self._refused = False

    def forward(self, features: "Features", *, keep: bool) -> "Tensor":
        """As `Plain.forward`."""
        key = tuple((name, tuple(value.shape)) for name, value in _tensors(features).items())
        self._met[key] += 1
        if self._met[key] == _WORTH_RECORDING + 1 and not self._refused:
            self._record(key, features)
        self._last = self._graphs.get(key, self._plain)
        return self._last.forward(features, keep=keep)

    def backward(self, gradient: "Tensor") -> None:
        """As `Plain.backward`."""
        self._last.backward(gradient)

    def _record(self, key: tuple[Any, ...], features: "Features") -> None:
        """Record a shape; a model that waits for the GPU, or whose passes do not fit, goes on."""
        try:
            self._graphs[key] = _Graph(self._run, features, self._capture)
        except RuntimeError as error:
            self._refused = True
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            _LOGGER.warning("fine_tuning: passes are not recorded, only slower: %s", reason)


class _Graph:
    """Both passes of one shape. What they read and what they leave stays where it is in memory."""

    def __init__(self, run: "Run", features: "Features", capture: "Capture") -> None:
        import torch

        self._run = run
        self._read = {**features, **{k: v.clone() for k, v in _tensors(features).items()}}
        with torch.no_grad():
            self._vectors = run(self._read)
        self._gradient = torch.zeros_like(self._vectors)
        self._again_forward, self._again_backward = capture(self._forward, self._backward)

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


class Capturing:
    """Records CUDA graphs that share one memory, on a stream of their own."""

    def __init__(self) -> None:
        import torch

        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def __call__(self, forward: "Does", backward: "Does") -> "tuple[Does, Does]":
        """Run both a few times, without effect as long as the vectors' gradient is zero; record."""
        import torch

        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP):
                forward()
                backward()
        torch.cuda.current_stream().wait_stream(self._stream)
        return self._recorded(forward), self._recorded(backward)

    def _recorded(self, does: "Does") -> "Does":
        import torch

        graph = torch.cuda.CUDAGraph()
        # Other threads may meanwhile ask whether an event is over, as one of NCCL does.
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            does()
        replay: Does = graph.replay
        return replay


def _tensors(features: "Features") -> "dict[str, Tensor]":
    return {name: value for name, value in features.items() if hasattr(value, "shape")}
