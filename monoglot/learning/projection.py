"""A look at vectors in two dimensions: do queries of one language lie apart from the rows?"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from monoglot.learning.evaluation import with_english
from monoglot.learning.ranking import Floats

ROWS = "knowledge base"


def projection(
    questions: pl.DataFrame,
    question_vectors: Floats,
    english_vectors: Floats | None,
    row_vectors: Floats,
    *,
    at_most: int = 500,
    seed: int = 0,
) -> pl.DataFrame:
    """The first two principal components of rows and questions, with a number to read beside them.

    The picture is a shadow of many dimensions; `cosine` is not. It is the mean cosine of a
    question and its own English wording: 1 where the model hears no difference of language.

    Args:
        questions: a `Queries` table.
        question_vectors: (questions, d), unit vectors.
        english_vectors: (with_english(questions), d), or None.
        row_vectors: (rows, d), by the same model.
        at_most: points drawn of each language, and of the rows, so that none hides the others.
        seed: seed of that choice.

    Returns:
        series (a language, or `ROWS`), x, y, cosine (null where no question has English).
    """
    rng = np.random.default_rng(seed)
    parts = {ROWS: _some(row_vectors, at_most, rng)}
    for language in questions["language"].unique().sort():
        chosen = (questions["language"] == language).to_numpy()
        parts[language] = _some(question_vectors[chosen], at_most, rng)
    points = _principal(np.concatenate(list(parts.values())))
    return pl.DataFrame(
        {
            "series": [name for name, part in parts.items() for _ in range(len(part))],
            "x": points[:, 0],
            "y": points[:, 1],
        },
        schema={"series": pl.String, "x": pl.Float32, "y": pl.Float32},
    ).with_columns(
        cosine=pl.col("series").replace_strict(
            _cosines(questions, question_vectors, english_vectors),
            default=None,
            return_dtype=pl.Float64,
        )
    )


def _some(vectors: Floats, at_most: int, rng: np.random.Generator) -> Floats:
    if len(vectors) <= at_most:
        return vectors
    return vectors[np.sort(rng.choice(len(vectors), at_most, replace=False))]


def _principal(vectors: Floats) -> Floats:
    """(n, 2): the first two principal components, each with its largest weight positive."""
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    points = centred @ (axes * np.sign(largest)).T
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1]))).astype(np.float32)


def _cosines(
    questions: pl.DataFrame, question_vectors: Floats, english_vectors: Floats | None
) -> Mapping[str, float]:
    """Language -> mean cosine of its questions and their English wordings."""
    if english_vectors is None:
        return {}
    english = with_english(questions.with_row_index("position"))
    pairs = (question_vectors[english["position"].to_numpy()] * english_vectors).sum(axis=1)
    by_language = english.select("language", cosine=pl.Series(pairs, dtype=pl.Float64))
    return dict(by_language.group_by("language").agg(pl.col("cosine").mean()).iter_rows())
