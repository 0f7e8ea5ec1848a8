"""Each objective against a slow and obvious computation, one anchor and one row at a time."""

import math

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from monoglot.learning.objectives import (
    OBJECTIVES,
    Batch,
    explicit,
    guided,
    hardness,
    in_batch,
    supervised,
    training_loss,
)
from monoglot.learning_config import TrainingConfig

TEMPERATURE = 0.3


def vectors(*shape, seed):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(values, dim=-1)


def batch_of(labels=(0, 0, 1, 2, 1), negatives=2, seed=0, dimensions=6):
    """A batch with anchors that share a label, and negatives of labels that other anchors have."""
    size = len(labels)
    teacher = Batch(
        anchors=vectors(size, 3, seed=seed + 3),
        positives=vectors(size, 3, seed=seed + 4),
        negatives=vectors(size, negatives, 3, seed=seed + 5),
        labels=torch.tensor(labels),
        negative_labels=torch.zeros(size, negatives, dtype=torch.long),
    )
    others = [[(label + step) % 3 for step in range(1, negatives + 1)] for label in labels]
    return Batch(
        anchors=vectors(size, dimensions, seed=seed).requires_grad_(),
        positives=vectors(size, dimensions, seed=seed + 1).requires_grad_(),
        negatives=vectors(size, negatives, dimensions, seed=seed + 2).requires_grad_(),
        labels=torch.tensor(labels),
        negative_labels=torch.tensor(others, dtype=torch.long).reshape(size, negatives),
        teacher=teacher,
    )


def rows_of(batch):
    """(vector, label, teacher's vector) of every row: the positives, then the negatives."""
    rows = list(zip(batch.positives, batch.labels, batch.teacher.positives, strict=True))
    others = zip(batch.negatives, batch.negative_labels, batch.teacher.negatives, strict=True)
    return rows + [row for own in others for row in zip(*own, strict=True)]


def slow_explicit(batch):
    losses = []
    for anchor, positive, negatives in zip(
        batch.anchors, batch.positives, batch.negatives, strict=True
    ):
        own = math.e ** (anchor @ positive / TEMPERATURE)
        others = sum(math.e ** (anchor @ negative / TEMPERATURE) for negative in negatives)
        losses.append(-torch.log(own / (own + others)))
    return sum(losses) / len(losses)


def slow_in_batch(batch, weight=lambda _: 1.0, is_nearer=lambda _, __: False):
    """Each anchor against its positive and all rows of other labels, one by one."""
    losses = []
    for number, anchor in enumerate(batch.anchors):
        own = math.e ** (anchor @ batch.positives[number] / TEMPERATURE)
        below = own
        for row, label, teacher in rows_of(batch):
            if label != batch.labels[number] and not is_nearer(number, teacher):
                below = below + weight(anchor @ row) * math.e ** (anchor @ row / TEMPERATURE)
        losses.append(-torch.log(own / below))
    return sum(losses) / len(losses)


def slow_supervised(batch):
    losses = []
    for number, anchor in enumerate(batch.anchors):
        rows = rows_of(batch)
        below = sum(math.e ** (anchor @ row / TEMPERATURE) for row, _, _ in rows)
        positives = [row for row, label, _ in rows if label == batch.labels[number]]
        logs = [torch.log(math.e ** (anchor @ row / TEMPERATURE) / below) for row in positives]
        losses.append(-sum(logs) / len(logs))
    return sum(losses) / len(losses)


def slow_guided(batch):
    def is_nearer(number, teacher):
        asked = batch.teacher.anchors[number]
        return bool(asked @ teacher > asked @ batch.teacher.positives[number])

    return slow_in_batch(batch, is_nearer=is_nearer)


def slow_hardness(batch):
    return slow_in_batch(batch, weight=lambda cosine: math.exp(9.0 * float(cosine.detach())))


CASES = {
    "explicit": (explicit, slow_explicit),
    "in_batch": (in_batch, slow_in_batch),
    "both": (in_batch, slow_in_batch),
    "supervised": (supervised, slow_supervised),
    "guided": (guided, slow_guided),
    "hardness": (lambda b, t: hardness(b, t, hardness_strength=9.0), slow_hardness),
}


def gradients(loss, batch):
    parts = (batch.anchors, batch.positives, batch.negatives)
    found = torch.autograd.grad(loss, parts, allow_unused=True, retain_graph=True)
    return [
        torch.zeros_like(part) if gradient is None else gradient
        for part, gradient in zip(parts, found, strict=True)
    ]


@pytest.mark.parametrize("negatives", [2, 0])
@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_value_and_gradients_are_those_of_the_slow_computation(objective, negatives):
    fast, slow = CASES[objective]
    for seed in range(3):
        batch = batch_of(negatives=negatives, seed=10 * seed)
        expected, found = slow(batch), fast(batch, TEMPERATURE)
        assert found.item() == pytest.approx(expected.item(), rel=1e-9)
        for ours, theirs in zip(gradients(found, batch), gradients(expected, batch), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-9)


def test_the_slow_computations_differ_from_one_another():
    batch = batch_of()
    values = {round(slow(batch).item(), 6) for _, slow in CASES.values()}
    assert len(values) == len(CASES) - 1  # both is in_batch, with the negatives encoded


@pytest.mark.parametrize("objective", sorted(set(OBJECTIVES) - {"supervised"}))
def test_no_row_of_the_anchors_own_label_is_pushed_away(objective):
    """A step against the gradient of a row moves it from an anchor: never for one of its label."""
    batch = batch_of(labels=(0, 0, 0), negatives=1)
    batch.negative_labels[:] = torch.tensor([[1], [2], [1]])
    loss = CASES[objective][0](batch, TEMPERATURE)
    for gradient, anchor in zip(gradients(loss, batch)[1], batch.anchors, strict=True):
        # The positives are in no other anchor's denominator: each gradient is along its own anchor.
        assert torch.allclose(gradient, (gradient @ anchor) * anchor, atol=1e-12)
        assert gradient @ anchor < 0


def test_guided_leaves_out_only_what_the_teacher_puts_nearer():
    batch = batch_of(labels=(0, 1, 2), negatives=0)
    sure = Batch(**{**vars(batch), "teacher": batch_with_teacher(batch, torch.eye(3).double())})
    assert guided(sure, TEMPERATURE).item() == pytest.approx(in_batch(sure, TEMPERATURE).item())
    # This teacher takes the second row for the answer to every question.
    astray = torch.tensor([[0.0, 1.0, 0.0]] * 3, dtype=torch.float64)
    sways = Batch(**{**vars(batch), "teacher": batch_with_teacher(batch, astray)})
    pulled = torch.autograd.grad(guided(sways, TEMPERATURE), batch.positives)[0][1]
    assert torch.allclose(pulled, (pulled @ batch.anchors[1]) * batch.anchors[1], atol=1e-12)
    assert pulled @ batch.anchors[1] < 0


def batch_with_teacher(batch, asked):
    """A teacher whose rows are unit vectors, and whose anchors are those that are given."""
    return Batch(
        anchors=asked,
        positives=torch.eye(3, dtype=torch.float64),
        negatives=torch.zeros(3, 0, 3, dtype=torch.float64),
        labels=batch.labels,
        negative_labels=batch.negative_labels,
    )


@pytest.mark.parametrize("strength", [0.0, 9.0])
def test_without_shared_labels_the_values_are_those_of_sentence_transformers(strength):
    batch = batch_of(labels=(0, 1, 2, 3), negatives=0)
    theirs = MultipleNegativesRankingLoss(
        torch.nn.Identity(),
        scale=1 / TEMPERATURE,
        hardness_mode="in_batch_negatives" if strength else None,
        hardness_strength=strength,
    ).compute_loss_from_embeddings([batch.anchors, batch.positives], None)
    ours = hardness(batch, TEMPERATURE, hardness_strength=strength)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-9)
    if not strength:
        assert in_batch(batch, TEMPERATURE).item() == pytest.approx(theirs.item(), rel=1e-9)


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_english_replay_is_half_the_loss_with_the_roles_reversed(objective):
    batch = batch_of(negatives=2)
    config = TrainingConfig(objective=objective, english_replay=True)
    turned = Batch(
        anchors=batch.positives,
        positives=batch.anchors,
        negatives=batch.negatives[:, :0],
        labels=batch.labels,
        negative_labels=batch.negative_labels[:, :0],
        teacher=Batch(
            anchors=batch.teacher.positives,
            positives=batch.teacher.anchors,
            negatives=batch.teacher.negatives[:, :0],
            labels=batch.labels,
            negative_labels=batch.negative_labels[:, :0],
        ),
    )
    _, slow = CASES[objective]
    replay = slow_in_batch if objective == "explicit" else slow
    expected = (slow(batch) + replay(turned)) / 2
    assert training_loss(batch, TEMPERATURE, config).item() == pytest.approx(expected.item())
    alone = TrainingConfig(objective=objective, english_replay=False)
    assert training_loss(batch, TEMPERATURE, alone).item() == pytest.approx(slow(batch).item())


def test_prefixes_have_an_equal_part_in_the_loss_each_at_unit_length():
    batch = batch_of(dimensions=6)
    config = TrainingConfig(matryoshka_dimensions=[4, 2], english_replay=False)
    cut = [slow_in_batch(batch)]
    for size in (4, 2):
        parts = [part[..., :size] for part in (batch.anchors, batch.positives, batch.negatives)]
        units = [part / part.norm(dim=-1, keepdim=True) for part in parts]
        names = dict(zip(("anchors", "positives", "negatives"), units, strict=True))
        cut.append(slow_in_batch(Batch(**(vars(batch) | names))))
    expected = sum(cut) / 3
    found = training_loss(batch, TEMPERATURE, config)
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)
    for ours, theirs in zip(gradients(found, batch), gradients(expected, batch), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-9)
