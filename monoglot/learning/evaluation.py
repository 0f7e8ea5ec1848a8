"""Ask a system the evaluation questions: as users wrote them, and in English as a control.

The control is the same question in the knowledge base's language. What it gains over the question
itself is what the system still loses to the language alone, and a model that got better at Hindi
by forgetting English shows it here.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.contracts import Outcomes
from monoglot.errors import RunError
from monoglot.knowledge.validation import sources_of
from monoglot.learning.metrics import Scores
from monoglot.learning.ranking import Floats, Ranking, rank


def with_english(questions: pl.DataFrame) -> pl.DataFrame:
    """The questions whose English wording is known, in their order: those with a control."""
    return questions.filter(pl.col("english").str.strip_chars().str.len_chars() > 0)


def evaluate_vectors(
    questions: pl.DataFrame,
    question_vectors: Floats,
    english_vectors: Floats | None,
    rows: pl.DataFrame,
    row_vectors: Floats,
    *,
    temperature: float | None = None,
) -> pl.DataFrame:
    """What a model answers to each question, by the vectors it made: an `Outcomes` table.

    A question that was translated from a row of the knowledge base may not find that row, in
    either language: a user's question does not have its own source in the knowledge base.

    Args:
        questions: a `Queries` table.
        question_vectors: (questions, d), in the order of `questions`.
        english_vectors: (with_english(questions), d), in that order; None: no control is wanted.
        rows: a `KnowledgeBase` table.
        row_vectors: (rows, d), in the order of `rows`.
        temperature: of the rows' votes; None: the nearest row decides.

    Raises:
        RunError: a table and its vectors have different lengths.
        StaleVectorsError: the vectors are of two models.
    """
    _check_lengths("rows of the knowledge base", rows, row_vectors)
    _check_lengths("questions", questions, question_vectors)

    def ask(part: pl.DataFrame, vectors: Floats, *, control: bool) -> pl.DataFrame:
        own = own_rows(part, rows)
        found = rank(vectors, row_vectors, rows["label"], exclude=own, temperature=temperature)
        return outcomes_of(part, found, rows, control=control)

    native = ask(questions, question_vectors, control=False)
    if english_vectors is None:
        return native
    english = with_english(questions)
    _check_lengths("questions with an English wording", english, english_vectors)
    return pl.concat([native, ask(english, english_vectors, control=True)])


def own_rows(questions: pl.DataFrame, rows: pl.DataFrame) -> NDArray[np.int64]:
    """The position in `rows` of each question's source row, -1 where it has none there."""
    positions = rows.select("row_id", position=pl.int_range(pl.len(), dtype=pl.Int64))
    joined = questions.join(
        positions, left_on="source_row_id", right_on="row_id", how="left", maintain_order="left"
    )
    return joined["position"].fill_null(-1).to_numpy()


def outcomes_of(
    questions: pl.DataFrame, found: Ranking, rows: pl.DataFrame, *, control: bool
) -> pl.DataFrame:
    """An `Outcomes` table from a ranking of these questions over these rows.

    Args:
        questions: a `Queries` table.
        found: their ranking, in the same order.
        rows: the `KnowledgeBase` table that was ranked.
        control: whether the English wordings were asked.
    """
    nearest = pl.Series(found.row[:, 0], dtype=pl.Int64)
    nearest = pl.select(pl.when(nearest >= 0).then(nearest)).to_series()
    best = found.score[:, 0]
    table = questions.select(
        "query_id",
        pl.lit(control).alias("control"),
        "language",
        pl.col("english" if control else "text").alias("text"),
        "label",
        pl.Series("group", sources_of(questions), dtype=pl.String),
        pl.col("label").is_in(found.names.implode()).alias("known"),
        pl.Series("rank", found.place_of(questions["label"]), dtype=pl.Int32),
        _label_lists(found),
        rows["row_id"].gather(nearest).alias("top_row"),
        rows["query"].gather(nearest).alias("top_query"),
        pl.Series("top_score", np.where(np.isfinite(best), best, np.nan), pl.Float32).fill_nan(
            None
        ),
        pl.Series("top_share", found.share[:, 0], pl.Float32).fill_nan(None),
    )
    return pl.DataFrame(Outcomes.validate(table, cast=False))


def _label_lists(found: Ranking) -> pl.Series:
    """The names of the distinct labels of each query, best first."""
    codes = pl.Series(found.label.ravel(), dtype=pl.Int64)
    names = found.names.gather(pl.select(pl.when(codes >= 0).then(codes)).to_series())
    lists = names.reshape(found.label.shape).arr.to_list().list.drop_nulls()
    return lists.alias("top_labels")


def as_json(summary: Mapping[str, Scores]) -> dict[str, Any]:
    """A summary as plain values, per language and "all"."""
    return {language: scores.as_json() for language, scores in summary.items()}


def _check_lengths(what: str, table: pl.DataFrame, vectors: Floats) -> None:
    if table.height != len(vectors):
        raise RunError(
            f"{table.height:,} {what}, but {len(vectors):,} vectors: they do not belong together. "
            "Run again, so that the vectors are made anew."
        )
