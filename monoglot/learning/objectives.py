"""The losses of fine-tuning: InfoNCE (arXiv 1807.03748) over different sets of candidates.

Rows are queries with a label, so another row of the anchor's own label is a right answer, too: it
is never among the negatives of any objective here. Sampled negatives are label-checked when drawn,
the rest of the batch is masked here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One optimiser step's unit vectors and labels.

    Attributes:
        anchors: (b, d) queries to be pulled to their positives.
        positives: (b, d) one row of the same label each.
        negatives: (b, k, d) sampled rows of other labels, k may be 0.
        labels: (b,) label codes of anchors and positives.
        negative_labels: (b, k) label codes of the negatives.
    """

    anchors: "Tensor"
    positives: "Tensor"
    negatives: "Tensor"
    labels: "Tensor"
    negative_labels: "Tensor"


def explicit(batch: Batch, temperature: float) -> "Tensor":
    """Each anchor against its own positive and its own sampled negatives (the paper, eq. 1)."""
    import torch

    positive = (batch.anchors * batch.positives).sum(dim=1, keepdim=True)
    negative = torch.einsum("bd,bkd->bk", batch.anchors, batch.negatives)
    logits = torch.cat([positive, negative], dim=1) / temperature
    target = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    return torch.nn.functional.cross_entropy(logits, target)


def in_batch(batch: Batch, temperature: float) -> "Tensor":
    """Each anchor against all rows of the batch, those of its own label but its positive masked.

    The rows are the positives, and the sampled negatives if the batch has any.
    """
    import torch

    rows = torch.cat([batch.positives, batch.negatives.flatten(0, 1)])
    row_labels = torch.cat([batch.labels, batch.negative_labels.flatten()])
    logits = batch.anchors @ rows.T / temperature
    own = torch.arange(len(logits), device=logits.device)
    masked = batch.labels[:, None] == row_labels[None, :]
    masked[own, own] = False
    return torch.nn.functional.cross_entropy(logits.masked_fill(masked, float("-inf")), own)


def reversed_in_batch(batch: Batch, temperature: float) -> "Tensor":
    """Each positive against all anchors of the batch: the English query asks, translations answer.

    This replays English beside its translations without encoding a text more.
    """
    import torch

    logits = batch.positives @ batch.anchors.T / temperature
    own = torch.arange(len(logits), device=logits.device)
    masked = batch.labels[:, None] == batch.labels[None, :]
    masked[own, own] = False
    return torch.nn.functional.cross_entropy(logits.masked_fill(masked, float("-inf")), own)


@dataclass(frozen=True)
class Objective:
    """A loss, and whether sampled negatives are encoded for it."""

    loss: Callable[[Batch, float], "Tensor"]
    sampled_negatives: bool


OBJECTIVES = {
    "explicit": Objective(explicit, sampled_negatives=True),
    "in_batch": Objective(in_batch, sampled_negatives=False),
    "both": Objective(in_batch, sampled_negatives=True),
}
