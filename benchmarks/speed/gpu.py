"""On a GPU: a model of the shape of multilingual-e5-base, trained and encoded with.

Its weights are random, since only their number matters to the time; its tokenizer has learned its
pieces from the texts. Beside it sentence-transformers' trainer in bf16, else at its defaults, and
its `encode`: both without cuDNN's attention, which Monoglot turns off, since it is slow at first
sight of a shape. How slow, the trainer's first steps with it show.

What a text needs is the matrix products of its tokens with the weights of the layers, in training
forward and twice backward (no padding, no attention scores, nothing done twice); the peak is that
of large bf16 products on this GPU in the same run.
"""

import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from benchmarks.from_tests import from_tests
from benchmarks.speed.figures import Figure, seconds_of
from benchmarks.speed.trainers import by_monoglot, by_trainer, material, mrr_of
from monoglot.learning.encoder import Encoder
from monoglot.learning.sub_batches import lengths_by
from monoglot.learning_config import TrainingConfig

TITLE = "A model of multilingual-e5-base's shape on a GPU"
_E5_BASE = {
    "vocab_size": 250_002,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3_072,
    "max_position_embeddings": 514,
}
_PIECES = 16_000
_BATCH, _RATE = 128, 2e-5
_TOGETHER = 512  # texts that the trainer encodes together under cached gradients
_SIDE = 8_192  # of the matrices whose product tells the peak

_Load = Callable[[], Encoder]


def measure(*, quick: bool, data: Path | None) -> list[Figure]:
    """Training at two batches, with cached gradients at a third, and encoding."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows, pairs, questions = material(data, folder)
        texts = [*rows["query"], *pairs["text"]]
        shape = {} if quick else _E5_BASE
        model = from_tests("tiny_models").xlm_roberta(folder / "m", texts, pieces=_PIECES, **shape)

        def load() -> Encoder:
            return Encoder.load(str(model), device="cuda", query_prefix="query: ")

        both = functools.partial(_both, load, rows, folder)
        both(pairs.head(256), batch=_BATCH, epochs=1)  # warms up
        first = _first_steps(load(), pairs, folder)
        # As many epochs as a training has: what is done once a shape counts as it does in life.
        epochs = 1 if quick else TrainingConfig().epochs
        small, ours, theirs = both(pairs, batch=_BATCH, epochs=epochs)
        large, _, _ = both(pairs, batch=1_024, epochs=epochs)
        cached, _, _ = both(pairs, batch=pairs.height, epochs=epochs, cached=_TOGETHER)
        return [
            first,
            *small,
            Figure("MRR after it, Monoglot's loop", mrr_of(ours, rows, questions), ""),
            Figure("MRR after it, the trainer", mrr_of(theirs, rows, questions), ""),
            *large,
            *cached,
            *_encoding(load(), list(dict.fromkeys(texts))),
        ]


def _first_steps(encoder: Encoder, pairs: pl.DataFrame, folder: Path) -> Figure:
    """What a step costs while cuDNN has seen few shapes."""
    import torch

    first, steps = pairs.head(4 * _BATCH), 4
    torch.backends.cuda.enable_cudnn_sdp(True)
    seconds = by_trainer(encoder, first, folder, epochs=1, batch=_BATCH, rate=_RATE, bf16=True)
    torch.backends.cuda.enable_cudnn_sdp(False)
    what = f"the trainer's first {steps} steps with cuDNN's attention, batch {_BATCH}"
    return Figure(what, seconds / steps, "s a step")


def _both(
    load: _Load,
    rows: pl.DataFrame,
    folder: Path,
    pairs: pl.DataFrame,
    *,
    batch: int,
    epochs: int,
    cached: int | None = None,
) -> tuple[list[Figure], Encoder, Encoder]:
    """The figures of one training by both, and the two models."""
    ours, theirs = load(), load()
    how = {"epochs": epochs, "batch": batch, "rate": _RATE}
    seconds, memory = _on_gpu(
        lambda: by_monoglot(ours, rows, pairs, folder, cached=cached is not None, **how)
    )
    default, theirs_memory = _on_gpu(
        lambda: by_trainer(theirs, pairs, folder, cached=cached, bf16=True, **how)
    )
    shown = epochs * pairs.height
    needed = 3 * epochs * _operations(ours, [*pairs["text"], *pairs["query"]])
    kind = f"batch {batch:,}" + ("" if cached is None else " with cached gradients")
    figures = [
        Figure(f"{kind}: Monoglot's loop", shown / seconds, "pairs/s"),
        Figure(f"{kind}: the trainer in bf16", shown / default, "pairs/s"),
        Figure(f"{kind}: the first against the second", default / seconds, "x", least=2.0),
        Figure(f"{kind}: share of the peak, Monoglot's loop", needed / seconds / _peak(), ""),
        Figure(f"{kind}: share of the peak, the trainer", needed / default / _peak(), ""),
        Figure(f"{kind}: GPU memory beside the model, Monoglot's", memory / 2**30, "GiB"),
        Figure(f"{kind}: GPU memory beside the model, the trainer's", theirs_memory / 2**30, "GiB"),
    ]
    return figures, ours, theirs


def _encoding(encoder: Encoder, texts: Sequence[str]) -> list[Figure]:
    """Distinct short texts to vectors."""
    encoder.encode(texts[:1_024])
    theirs = functools.partial(
        encoder.model.encode, prompt=encoder.prefix, normalize_embeddings=True
    )
    seconds = seconds_of(lambda: encoder.encode(texts))
    default = seconds_of(lambda: theirs(texts))
    least = (encoder.encode(texts) * theirs(texts)).sum(axis=1).min()
    share = _operations(encoder, texts) / seconds / _peak()
    return [
        Figure(f"`Encoder.encode`, {len(texts):,} texts", len(texts) / seconds, "texts/s"),
        Figure("`SentenceTransformer.encode` at its defaults", len(texts) / default, "texts/s"),
        Figure("the first against the second", default / seconds, "x", least=3.0),
        Figure("share of the peak, the first", share, ""),
        Figure("least cosine of a text's two vectors", float(least), "", least=0.999),
    ]


def _operations(encoder: Encoder, texts: Sequence[str]) -> float:
    """Multiplications and additions of a forward pass, in matrix products with the layers."""
    import torch

    layers = [
        layer
        for name, layer in encoder.model.transformers_model.named_modules()
        if isinstance(layer, torch.nn.Linear) and "pooler" not in name
    ]
    weights = sum(layer.weight.numel() for layer in layers)
    prefixed = [encoder.prefix + text for text in texts]
    return 2.0 * weights * float(lengths_by(encoder.model, prefixed).sum())


@functools.cache
def _peak() -> float:
    """Operations a second of a large product in bf16, of random numbers."""
    import torch

    left, right = (torch.randn(_SIDE, _SIDE, device="cuda").bfloat16() for _ in range(2))

    def ten_times() -> None:
        for _ in range(10):
            left @ right
        torch.cuda.synchronize()

    ten_times()
    return 10 * 2 * _SIDE**3 / seconds_of(ten_times, times=3)


def _on_gpu(run: Callable[[], float]) -> tuple[float, int]:
    """The run's own seconds, and the GPU memory it took at most."""
    import torch

    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    seconds = run()
    torch.cuda.synchronize()
    return seconds, torch.cuda.max_memory_allocated() - before
