"""Material: which texts each step of a training encodes, and what their vectors mean.

All of it follows from the inputs, the seed and the step: nothing is kept from one step to the next,
so that a resumed training goes on with the very batches it would have had.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.learning.batches import Batches
from monoglot.learning.devices import placed
from monoglot.learning.encoder import Encoder, Vectors
from monoglot.learning.lessons import Lesson, lessons_of
from monoglot.learning.objectives import OBJECTIVES, Batch
from monoglot.learning.spellings import SpellingNoise, spellings_of
from monoglot.learning_config import TrainingConfig

if TYPE_CHECKING:
    from torch import Tensor

Integers = NDArray[np.int64]
PartnersOf = Callable[[int, Callable[[Sequence[str]], Vectors]], pl.DataFrame]


@dataclass(frozen=True)
class StepMaterial:
    """The texts of one step.

    Attributes:
        lesson: the anchors in the batch (b) with their partners, sampled negatives (k) only where
            the objective has some.
        spelt: (b,) positions of the anchors' texts as they are spelt in this epoch.
        teacher: frozen vectors of all texts but noisy spellings; None: there is no teacher.
    """

    lesson: Lesson
    spelt: Integers
    teacher: Vectors | None

    @property
    def positions(self) -> Integers:
        """(2b + bk,) of the texts to encode: anchors, positives, negatives."""
        return self._with(self.spelt)

    def batch(self, vectors: "Tensor") -> Batch:
        """The batch of the unit vectors (2b + bk, d) of `positions`."""
        import torch

        lesson, device = self.lesson, vectors.device
        size, number = lesson.negatives.shape
        anchors, positives, negatives = torch.split(vectors, [size, size, size * number])
        teacher = None
        if self.teacher is not None:
            known = placed(torch.as_tensor(self.teacher[self._with(lesson.anchors)]), device)
            teacher = StepMaterial(lesson, self.spelt, teacher=None).batch(known)
        return Batch(
            anchors=anchors,
            positives=positives,
            negatives=negatives.reshape(size, number, vectors.shape[1]),
            labels=placed(torch.as_tensor(lesson.labels), device),
            negative_labels=placed(torch.as_tensor(lesson.negative_labels), device),
            teacher=teacher,
        )

    def _with(self, anchors: Integers) -> Integers:
        return np.concatenate([anchors, self.lesson.positives, self.lesson.negatives.ravel()])


class Material:
    """The material of all steps.

    Args:
        encoder: the base model, as yet untrained: the teacher of objectives that have one.
        anchors: `contracts.Queries` the triplets name as anchors.
        rows: knowledge-base rows (row_id, query, label) the triplets name.
        triplets: `contracts.Triplets` of all epochs; with `partners`, of the first.
        config: objective, batch, mix and noise.
        respelt: ids of the anchors that may be spelt anew.
        partners: gives the triplets of a later epoch; see `training.fine_tune`.

    Attributes:
        texts: all that is ever encoded.
        steps: how many there are.
        per_epoch: how many there are in an epoch.
    """

    def __init__(
        self,
        encoder: Encoder,
        anchors: pl.DataFrame,
        rows: pl.DataFrame,
        triplets: pl.DataFrame,
        config: TrainingConfig,
        *,
        respelt: Collection[str],
        partners: PartnersOf | None = None,
    ) -> None:
        texts, lessons = lessons_of(anchors, rows, triplets)
        epochs = len(lessons) if partners is None else config.epochs
        self._lessons = dict(enumerate(lessons))

        def later(epoch: int) -> Lesson:
            assert partners is not None
            return lessons_of(anchors, rows, partners(epoch, encoder.encode))[1][0]

        self._later = later
        noise = SpellingNoise(config.spelling_noise, respelt, config.seed)
        self.texts, self._spellings = spellings_of(anchors, rows, texts, noise, epochs=epochs)
        self._objective = OBJECTIVES[config.objective]
        self._teacher = encoder.encode(texts) if self._objective.teacher else None
        shown = anchors.sort("query_id")[self._lessons[0].anchors]
        self._batches = Batches(shown, config.mix, config.batch_size, config.seed)
        self.per_epoch = self._batches.per_epoch
        self.steps = self.per_epoch * epochs

    def at(self, step: int) -> StepMaterial:
        """The texts of a step; steps count from 0."""
        epoch, number = divmod(step, self.per_epoch)
        chosen = self._batches.of(epoch)[number]
        if epoch not in self._lessons:
            self._lessons = {epoch: self._later(epoch)}
        lesson = self._lessons[epoch]
        width = lesson.negatives.shape[1] if self._objective.sampled_negatives else 0
        part = Lesson(
            anchors=lesson.anchors[chosen],
            positives=lesson.positives[chosen],
            negatives=lesson.negatives[chosen, :width],
            labels=lesson.labels[chosen],
            negative_labels=lesson.negative_labels[chosen, :width],
        )
        return StepMaterial(part, self._spellings[epoch][part.anchors], self._teacher)
