"""The losses of fine-tuning: InfoNCE (arXiv 1807.03748) over different sets of candidates.

Rows are queries with a label, so another row of the anchor's own label is a right answer, too: it
is never among the negatives of any objective here. Sampled negatives are label-checked when drawn,
the rest of the batch is masked here.

That mask is why these are no losses of sentence-transformers (6.2): its MultipleNegativesRanking,
GISTEmbed and their cached kin take every other row of a batch as a negative, and are given no
labels to mask by; its batch-triplet losses know labels, but no pairs. The formulas are theirs
where they have one, which the tests hold by comparing values on batches without a shared label.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from monoglot.learning_config import TrainingConfig

Temperature = Any  # a float, or a tensor of one number where it is learned


@dataclass(frozen=True)
class Batch:
    """One optimiser step's unit vectors and labels.

    Attributes:
        anchors: (b, d) queries to be pulled to their positives.
        positives: (b, d) one row of the same label each.
        negatives: (b, k, d) sampled rows of other labels, k may be 0.
        labels: (b,) label codes of anchors and positives.
        negative_labels: (b, k) label codes of the negatives.
        teacher: the same batch in the vectors of a frozen model, of any d; None: there is none.
    """

    anchors: "Tensor"
    positives: "Tensor"
    negatives: "Tensor"
    labels: "Tensor"
    negative_labels: "Tensor"
    teacher: "Batch | None" = None

    @property
    def scores(self) -> "Tensor":
        """(b, b + bk) cosines of each anchor with all rows: the positives, then the negatives."""
        import torch

        return self.anchors @ torch.cat([self.positives, self.negatives.flatten(0, 1)]).T

    @property
    def same_label(self) -> "Tensor":
        """(b, b + bk) whether each row is of the anchor's label."""
        import torch

        row_labels = torch.cat([self.labels, self.negative_labels.flatten()])
        return self.labels[:, None] == row_labels[None, :]

    def reversed(self) -> "Batch":
        """The positives ask and the anchors answer; without the negatives."""
        return Batch(
            anchors=self.positives,
            positives=self.anchors,
            negatives=self.negatives[:, :0],
            labels=self.labels,
            negative_labels=self.negative_labels[:, :0],
            teacher=self.teacher and self.teacher.reversed(),
        )

    def prefix(self, dimensions: int) -> "Batch":
        """The first dimensions of all vectors but the teacher's, at unit length again."""
        from torch.nn.functional import normalize

        return replace(
            self,
            anchors=normalize(self.anchors[:, :dimensions], dim=1),
            positives=normalize(self.positives[:, :dimensions], dim=1),
            negatives=normalize(self.negatives[..., :dimensions], dim=-1),
        )


def explicit(batch: Batch, temperature: Temperature) -> "Tensor":
    """Each anchor against its own positive and its own sampled negatives (the paper, eq. 1)."""
    import torch

    positive = (batch.anchors * batch.positives).sum(dim=1, keepdim=True)
    negative = torch.einsum("bd,bkd->bk", batch.anchors, batch.negatives)
    logits = torch.cat([positive, negative], dim=1) / temperature
    target = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    return torch.nn.functional.cross_entropy(logits, target)


def in_batch(batch: Batch, temperature: Temperature) -> "Tensor":
    """Each anchor against all rows of the batch, those of its own label but its positive masked.

    The rows are the positives, and the sampled negatives if the batch has any.
    """
    return _own_positive_first(batch.scores / temperature, batch.same_label)


def supervised(batch: Batch, temperature: Temperature) -> "Tensor":
    """Every row of the batch with the anchor's label as a positive, each against all rows.

    Source: Khosla et al., Supervised Contrastive Learning (arXiv 2004.11362), eq. 2, with anchors
    and rows as the two views.
    """
    logits, positive = batch.scores / temperature, batch.same_label
    shares = logits.log_softmax(dim=1).masked_fill(~positive, 0.0)
    mean: Tensor = (shares.sum(dim=1) / positive.sum(dim=1)).mean()
    return -mean


def guided(batch: Batch, temperature: Temperature) -> "Tensor":
    """As `in_batch`, also without rows that a frozen teacher puts nearer than the positive.

    Two labels may mean the same; the teacher finds such false negatives where labels do not.

    Source: Solatorio, GISTEmbed (arXiv 2402.16829), eq. 5, anchors against rows.
    """
    assert batch.teacher is not None
    scores = batch.teacher.scores
    nearer = scores > scores.diagonal()[:, None]
    return _own_positive_first(batch.scores / temperature, batch.same_label | nearer)


def hardness(batch: Batch, temperature: Temperature, *, hardness_strength: float) -> "Tensor":
    """As `in_batch`, each negative weighing exp(strength * cosine) in the denominator.

    The weight carries no gradient of its own.

    Source: Lan et al., LLaVE (arXiv 2503.04812), eq. 5, where the strength is 9.
    """
    import torch

    scores = batch.scores
    weights = hardness_strength * scores.detach()
    own = torch.arange(len(scores), device=scores.device)
    weights[own, own] = 0.0
    return _own_positive_first(scores / temperature + weights, batch.same_label)


def _own_positive_first(logits: "Tensor", masked: "Tensor") -> "Tensor":
    """Cross-entropy of each anchor's own positive, the diagonal, among what is not masked."""
    import torch

    own = torch.arange(len(logits), device=logits.device)
    masked = masked.clone()
    masked[own, own] = False
    return torch.nn.functional.cross_entropy(logits.masked_fill(masked, float("-inf")), own)


@dataclass(frozen=True)
class Objective:
    """A loss, and what it needs.

    Attributes:
        loss: of a batch at a temperature.
        replay: the same for the reversed batch, in which no row has sampled negatives.
        sampled_negatives: whether these are encoded for it.
        teacher: whether it needs a frozen teacher's vectors.
        settings: names of the fields of `TrainingConfig` that it takes.
    """

    loss: "Callable[..., Tensor]"
    replay: "Callable[..., Tensor]"
    sampled_negatives: bool = False
    teacher: bool = False
    settings: tuple[str, ...] = ()


OBJECTIVES = {
    "explicit": Objective(explicit, in_batch, sampled_negatives=True),
    "in_batch": Objective(in_batch, in_batch),
    "both": Objective(in_batch, in_batch, sampled_negatives=True),
    "supervised": Objective(supervised, supervised),
    "guided": Objective(guided, guided, teacher=True),
    "hardness": Objective(hardness, hardness, settings=("hardness_strength",)),
}


def training_loss(batch: Batch, temperature: Temperature, config: "TrainingConfig") -> "Tensor":
    """The configured objective, in both directions with English replay, at all dimensions.

    With replay the English queries ask, too, and the translations answer: half the loss, without
    encoding a text more. Each of `matryoshka_dimensions` and the whole vector have an equal part
    (arXiv 2205.13147, eq. 1); the mean and not the sum, so that the clipping of gradients bites
    alike.
    """
    objective = OBJECTIVES[config.objective]
    settings = {name: getattr(config, name) for name in objective.settings}
    wholes = [batch, *map(batch.prefix, config.matryoshka_dimensions)]
    losses = [objective.loss(part, temperature, **settings) for part in wholes]
    if config.english_replay:
        losses += [objective.replay(part.reversed(), temperature, **settings) for part in wholes]
    return sum(losses[1:], start=losses[0]) / len(losses)
