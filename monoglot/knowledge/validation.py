"""Validation and held-back questions: one part to choose by, the other to measure the choice."""

import polars as pl

from monoglot.errors import DataError
from monoglot.identity import normalised
from monoglot.knowledge.split import places

_SHARE = 0.5


def sources_of(questions: pl.DataFrame) -> list[str]:
    """What each question is a wording of: its English source or, where that is unknown, its text.

    Copies of one question, as a log has them, say as little new as wordings of one source do.
    """
    return [
        normalised(english or "") or normalised(text) or query_id
        for english, text, query_id in questions.select("english", "text", "query_id").rows()
    ]


def is_validation(questions: pl.DataFrame, seed: int) -> pl.Series:
    """Whether each question is chosen by; the others measure what was chosen, once.

    By English source, or by its own text where that is unknown: all translations of one source are
    on one side. A threshold on a hash, so that further questions move none; half on each side,
    since an interval on the held-back part decides on what validation suggests.

    Args:
        questions: `contracts.Queries`.
        seed: of the split.

    Raises:
        DataError: one of the two sides would be empty.
    """
    sources = sources_of(questions)
    chosen = pl.Series(places(sources, f"{seed}/validation"), dtype=pl.Float64) < _SHARE
    if chosen.all() or not chosen.any():
        raise DataError(
            f"The {questions.height} evaluation questions cannot be halved by their English "
            f"sources ({len(set(sources))} of them). Choosing a recipe needs questions to choose "
            "by and others to measure the choice: give more under evaluation.path."
        )
    return chosen
