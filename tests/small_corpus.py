"""Three labels of three rows with their translations: what the tests of learning learn from."""

import numpy as np
import polars as pl
import pytest

from monoglot.learning.pairs import make_triplets
from monoglot.learning.similarity import LabelSimilarity
from monoglot.learning_config import SamplingConfig

LABELS = ("alarm", "music", "weather")
ENGLISH = {
    "alarm": ["set an alarm for nine", "wake me up at six", "alarm in two hours"],
    "music": ["play a song", "next track please", "turn the volume up"],
    "weather": ["will it rain today", "how hot is it outside", "forecast for sunday"],
}
HINGLISH = {
    "alarm": ["nau baje ka alarm lagao", "chhe baje mujhe jagao", "do ghante mein alarm"],
    "music": ["ek gaana bajao", "agla gaana please", "awaaz badhao"],
    "weather": ["kya aaj barish hogi", "bahar kitni garmi hai", "sunday ka mausam"],
}


@pytest.fixture
def rows():
    return pl.DataFrame(
        [
            {
                "row_id": f"{label}-{number}",
                "query": query,
                "label": label,
                "part": "index" if number == 0 else "training",
            }
            for label in LABELS
            for number, query in enumerate(ENGLISH[label])
        ]
    )


@pytest.fixture
def anchors():
    return pl.DataFrame(
        [
            {
                "query_id": f"q-{label}-{number}",
                "text": HINGLISH[label][number],
                "label": label,
                "language": "hi-Latn",
                "origin": "translated",
                "source_row_id": f"{label}-{number}",
            }
            for label in LABELS
            for number in (1, 2)
        ]
    )


@pytest.fixture
def similarity():
    return LabelSimilarity(
        LABELS,
        np.array([[1, 2], [0, 2], [0, 1]], dtype=np.int32),
        np.array([[0.5, 0.1], [0.5, 0.2], [0.1, 0.2]], dtype=np.float32),
    )


def triplets_of(anchors, rows, similarity, epochs=1, **sampling):
    return make_triplets(
        anchors, rows, similarity, SamplingConfig(**sampling), epochs=epochs, seed=3
    )


def all_texts():
    return [text for part in (ENGLISH, HINGLISH) for texts in part.values() for text in texts]
