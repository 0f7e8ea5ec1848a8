"""Lessons: a training's texts in one list, and each epoch's triplets as positions in it.

What differs between epochs is drawn before the first step, noisy spellings included, so that a
resumed training reads the very texts it would have read.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.spelling import noisy_spelling, words_of

Integers = NDArray[np.int64]

_NOISE_STREAM = 1  # of random numbers, beside those of the batches


@dataclass(frozen=True)
class Lesson:
    """One epoch's anchors with their partners, as positions in one table of texts.

    Attributes:
        anchors, positives: (n,) positions of texts.
        negatives: (n, k) positions of texts.
        labels, negative_labels: (n,) and (n, k) label codes.
        spelt: (n,) positions of the anchors' texts as they are spelt in this epoch; those of
            `anchors` where there is no noise.
    """

    anchors: Integers
    positives: Integers
    negatives: Integers
    labels: Integers
    negative_labels: Integers
    spelt: Integers


@dataclass(frozen=True)
class SpellingNoise:
    """Which anchors get another spelling for an epoch.

    Attributes:
        share: of the anchors in a romanised language, drawn anew for each epoch.
        romanised: the codes of those languages.
        seed: of all draws.
    """

    share: float
    romanised: Collection[str]
    seed: int


def lessons_of(
    anchors: pl.DataFrame,
    rows: pl.DataFrame,
    triplets: pl.DataFrame,
    noise: SpellingNoise | None = None,
) -> tuple[list[str], list[Lesson]]:
    """The texts, and one lesson an epoch.

    Args:
        anchors: `contracts.Queries` the triplets name as anchors.
        rows: knowledge-base rows (row_id, query, label) the triplets name.
        triplets: `contracts.Triplets`.
        noise: other spellings of the anchors; None: every epoch spells them as they are.

    Returns:
        The anchors' texts in the order of their ids, then the rows', then noisy spellings; and the
        lessons in the order of the epochs.
    """
    anchors = anchors.sort("query_id")
    rows = rows.sort("row_id")
    texts = anchors["text"].to_list() + rows["query"].to_list()
    label_names = pl.concat([anchors["label"], rows["label"]]).unique().sort().to_numpy()
    anchor_labels = np.searchsorted(label_names, anchors["label"].to_numpy())
    row_labels = np.searchsorted(label_names, rows["label"].to_numpy())
    anchor_ids, row_ids = anchors["query_id"].to_numpy(), rows["row_id"].to_numpy()
    lessons = []
    for (_,), epoch in triplets.sort("epoch", "anchor").group_by("epoch", maintain_order=True):
        anchor = np.searchsorted(anchor_ids, epoch["anchor"].to_numpy())
        positive = np.searchsorted(row_ids, epoch["positive_row"].to_numpy())
        width = int(epoch["negative_rows"].list.len().max() or 0)  # type: ignore[arg-type]
        flat = epoch["negative_rows"].explode().drop_nulls().to_numpy()
        negative = np.searchsorted(row_ids, flat).reshape(len(anchor), width)
        lessons.append(
            Lesson(
                anchors=anchor,
                positives=positive + len(anchor_ids),
                negatives=negative + len(anchor_ids),
                labels=anchor_labels[anchor],
                negative_labels=row_labels[negative],
                spelt=anchor,
            )
        )
    if noise is None or noise.share == 0.0:
        return texts, lessons
    return _respelt(texts, lessons, anchors, rows, noise)


def _respelt(
    texts: list[str],
    lessons: list[Lesson],
    anchors: pl.DataFrame,
    rows: pl.DataFrame,
    noise: SpellingNoise,
) -> tuple[list[str], list[Lesson]]:
    """The lessons with noisy spellings, whose texts follow the others."""
    romanised = anchors["language"].is_in(list(noise.romanised)).to_numpy()
    known = set().union(*map(words_of, rows["query"]))
    place: dict[str, int] = {}
    respelt = []
    for epoch, lesson in enumerate(lessons):
        rng = np.random.default_rng([noise.seed, epoch, _NOISE_STREAM])
        drawn = romanised[lesson.anchors] & (rng.random(len(lesson.anchors)) < noise.share)
        spelt = lesson.anchors.copy()
        for number in np.flatnonzero(drawn):
            spelling = noisy_spelling(texts[spelt[number]], known, rng)
            spelt[number] = place.setdefault(spelling, len(texts) + len(place))
        respelt.append(replace(lesson, spelt=spelt))
    return [*texts, *place], respelt
