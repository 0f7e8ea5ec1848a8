"""Lessons: a training's texts in one list, and each epoch's triplets as positions in it."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Lesson:
    """One epoch's anchors with their partners, as positions in one table of texts.

    Attributes:
        anchors, positives: (n,) positions of texts.
        negatives: (n, k) positions of texts.
        labels, negative_labels: (n,) and (n, k) label codes.
    """

    anchors: Integers
    positives: Integers
    negatives: Integers
    labels: Integers
    negative_labels: Integers


def lessons_of(
    anchors: pl.DataFrame, rows: pl.DataFrame, triplets: pl.DataFrame
) -> tuple[list[str], list[Lesson]]:
    """The texts, and one lesson an epoch.

    Args:
        anchors: `contracts.Queries` the triplets name as anchors.
        rows: knowledge-base rows (row_id, query, label) the triplets name.
        triplets: `contracts.Triplets`.
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
            )
        )
    return texts, lessons
