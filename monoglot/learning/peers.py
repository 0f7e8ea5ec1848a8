"""Two other ways to teach the same base from the same texts: distillation, and a classifier.

Both take the candidate's batch, rate, warm-up and number of steps, and are else trained as is
usual: one rate for all weights and weight decay on all, no spelling noise. Plain loops without
checkpoints: killed, they begin anew.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.errors import RunError
from monoglot.learning.encoder import Encoder
from monoglot.learning.heads import MOST_TEXTS, Head, evenly, fit_head
from monoglot.learning.learned import rate_for
from monoglot.learning.precision import bf16_is_faster, precision
from monoglot.learning_config import TrainingConfig

if TYPE_CHECKING:
    import torch

Integers = NDArray[np.int64]
OnStep = Callable[[int, int], None]

_SUB_BATCH = 64
_WEIGHT_DECAY = 0.01
_MAX_GRADIENT_NORM = 1.0


def steps_of(anchors: int, config: TrainingConfig) -> int:
    """How many optimiser steps the candidate takes on so many anchors."""
    return config.epochs * -(-anchors // config.batch_size)


def distil(
    encoder: Encoder,
    anchors: pl.DataFrame,
    config: TrainingConfig,
    *,
    steps: int,
    on_step: OnStep | None = None,
) -> list[float]:
    """Teach the encoder to give a translation, and its English wording, the English vector.

    The mean squared error to the untuned model's vector of the English text, over both columns:
    sentence-transformers' `make_multilingual` with its `MSELoss` (Reimers and Gurevych, arXiv
    2004.09813, eq. 1). Labels take no part.

    Args:
        encoder: the base model, which is the teacher before its weights are changed.
        anchors: `contracts.Queries` whose `english` is known.
        config: batch, rate and so on.
        steps: optimiser steps.
        on_step: called with steps done and in all.

    Returns:
        The loss of each step.

    Raises:
        RunError: the loss is no longer finite.
    """
    import torch

    texts, english = anchors["text"].to_list(), anchors["english"].to_list()
    teacher = torch.as_tensor(encoder.encode(english), device=encoder.model.device)

    def loss_of(chosen: Integers) -> "torch.Tensor":
        both = [texts[number] for number in chosen] + [english[number] for number in chosen]
        taught = teacher[torch.as_tensor(np.tile(chosen, 2), device=teacher.device)]
        return torch.nn.functional.mse_loss(embedded(encoder, both), taught)

    plan = _batches(len(texts), config.batch_size, steps, config.seed)
    return _train(encoder, [], loss_of, plan, config, steps=steps, on_step=on_step)


def train_classifier(
    encoder: Encoder,
    texts: pl.DataFrame,
    config: TrainingConfig,
    *,
    steps: int,
    on_step: OnStep | None = None,
) -> tuple[Head, list[float]]:
    """Fine-tune the encoder under a classification head, by cross-entropy on the labels.

    The head starts as logistic regression on the untuned vectors, or it would spend the training
    catching up and bend the encoder meanwhile (Kumar et al., arXiv 2202.10054). A step sees two
    texts where the candidate's sees an anchor and its positive.

    Args:
        encoder: the base model; its weights are changed.
        texts: columns text and label.
        config: batch, rate and so on.
        steps: optimiser steps.
        on_step: called with steps done and in all.

    Returns:
        The head, and the loss of each step.

    Raises:
        RunError: the loss is no longer finite.
    """
    import torch

    first = evenly(texts, MOST_TEXTS, config.seed)
    start = fit_head(encoder.encode(first["text"].to_list()), first["label"])
    device = encoder.model.device
    weights = torch.nn.Parameter(torch.as_tensor(start.weights, device=device).clone())
    bias = torch.nn.Parameter(torch.as_tensor(start.bias, device=device).clone())
    codes = torch.as_tensor(np.searchsorted(start.labels.to_numpy(), texts["label"].to_numpy()))
    codes, words = codes.to(device), texts["text"].to_list()

    def loss_of(chosen: Integers) -> "torch.Tensor":
        logits = embedded(encoder, [words[number] for number in chosen]) @ weights.T + bias
        return torch.nn.functional.cross_entropy(logits, codes[torch.as_tensor(chosen).to(device)])

    plan = _batches(len(words), 2 * config.batch_size, steps, config.seed)
    losses = _train(encoder, [weights, bias], loss_of, plan, config, steps=steps, on_step=on_step)
    trained = [part.detach().cpu().numpy() for part in (weights, bias)]
    return Head(start.labels, *trained), losses


def embedded(encoder: Encoder, texts: Sequence[str]) -> "torch.Tensor":
    """Unit vectors (n, d) with gradients; each distinct text once, like lengths together."""
    import torch

    place = {text: number for number, text in enumerate(sorted(dict.fromkeys(texts), key=len))}
    ordered, model = list(place), encoder.model
    pieces = []
    for start in range(0, len(ordered), _SUB_BATCH):
        piece = [encoder.prefix + text for text in ordered[start : start + _SUB_BATCH]]
        features = {
            name: value.to(model.device) if hasattr(value, "to") else value
            for name, value in model.preprocess(piece).items()
        }
        with precision(model.device.type, bf16=bf16_is_faster(model)):
            pieces.append(model(features)["sentence_embedding"].float())
    vectors = torch.nn.functional.normalize(torch.cat(pieces), dim=1)
    return vectors[torch.as_tensor([place[text] for text in texts], device=vectors.device)]


def _batches(texts: int, size: int, steps: int, seed: int) -> Iterator[Integers]:
    """As many batches as steps, over the texts in an order that is new in every round."""
    left = np.empty(0, np.int64)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        if len(left) == 0:
            left = rng.permutation(texts)
        yield left[:size]
        left = left[size:]


def _train(
    encoder: Encoder,
    head: "Sequence[torch.nn.Parameter]",
    loss_of: "Callable[[Integers], torch.Tensor]",
    batches: Iterator[Integers],
    config: TrainingConfig,
    *,
    steps: int,
    on_step: OnStep | None,
) -> list[float]:
    """AdamW with a linear rise and fall of the rate, and clipped gradients."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    encoder.model.eval()  # no dropout, as in `training.fine_tune`
    weights = [each for each in encoder.model.parameters() if each.requires_grad] + list(head)
    rate = config.learning_rate or rate_for(encoder.dimensions)
    optimiser = torch.optim.AdamW(weights, lr=rate, weight_decay=_WEIGHT_DECAY)
    warm_up = max(1, round(config.warmup_share * steps))
    schedule = get_linear_schedule_with_warmup(optimiser, warm_up, steps)
    losses = []
    for done, chosen in enumerate(batches, start=1):
        loss = loss_of(chosen)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, _MAX_GRADIENT_NORM)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if not np.isfinite(losses[-1]):
            raise RunError(
                f"baselines: the loss is {losses[-1]} at step {done} of {steps}. Lower "
                "fine_tuning.learning_rate, or leave this baseline out."
            )
        if on_step is not None:
            on_step(done, steps)
    return losses
