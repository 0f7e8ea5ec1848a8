"""A classification head: labels told from a query's vector, without looking at any row.

The plainest thing to do with labelled queries and an encoder, and what a retriever must beat. It
gives a label and no answer; a new label or row asks for a new training.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from monoglot.contracts import Outcomes, empty
from monoglot.learning.evaluation import outcomes_of, with_english
from monoglot.learning.ranking import Floats, rank_labels

# Bound the work of one fit to a minute or two: beyond, texts are drawn evenly over the labels, and
# a head over more labels is not measured at all.
MOST_TEXTS = 20_000
MOST_LABELS = 2_000
# Inverse strength of the L2 penalty. Vectors of length 1 need a weaker one than scikit-learn's 1.
_INVERSE_PENALTY = 30.0
_ITERATIONS = 300


@dataclass(frozen=True, eq=False)
class Head:
    """A linear layer over unit vectors.

    Attributes:
        labels: (m,) names of the columns, in order.
        weights: (m, d).
        bias: (m,).
    """

    labels: pl.Series
    weights: Floats
    bias: Floats

    def probabilities(self, vectors: Floats) -> Floats:
        """(n, m) by the softmax."""
        logits = vectors @ self.weights.T + self.bias
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float32)

    def table(self) -> pl.DataFrame:
        """As a table: label, bias, weights."""
        width = self.weights.shape[1]
        return pl.DataFrame(
            {"label": self.labels, "bias": self.bias, "weights": self.weights},
            schema_overrides={"weights": pl.Array(pl.Float32, width)},
        )

    @classmethod
    def of_table(cls, table: pl.DataFrame) -> "Head":
        """From `table`."""
        return cls(table["label"], table["weights"].to_numpy(), table["bias"].to_numpy())


def fit_head(vectors: Floats, labels: Sequence[str] | pl.Series) -> Head:
    """Multinomial logistic regression on frozen vectors (n, d), by scikit-learn."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression  # heavy, and of the pipeline only

    names = pl.Series("label", labels, dtype=pl.String).unique().sort()
    if len(names) == 1:  # which scikit-learn refuses
        nothing = np.zeros((1, vectors.shape[1]), np.float32)
        return Head(names, nothing, np.zeros(1, np.float32))
    fitted = LogisticRegression(C=_INVERSE_PENALTY, max_iter=_ITERATIONS)
    with warnings.catch_warnings():
        # The last digits of the weights move no label.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted.fit(vectors, np.asarray(labels))
    weights, bias = fitted.coef_, fitted.intercept_
    if len(names) == 2:  # one row for the second class alone
        weights, bias = np.vstack([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    return Head(names, weights.astype(np.float32), bias.astype(np.float32))


def evenly(texts: pl.DataFrame, at_most: int, seed: int) -> pl.DataFrame:
    """At most so many rows, of every label as many as of any other while they last.

    Args:
        texts: with a column `label`.
        at_most: rows to keep.
        seed: of the draw.
    """
    if texts.height <= at_most:
        return texts
    turn = pl.int_range(pl.len()).shuffle(seed).over("label")
    kept = texts.with_row_index("_place").with_columns(_turn=turn).sort("_turn", "label", "_place")
    return kept.head(at_most).sort("_place").drop("_place", "_turn")


def evaluate_head(
    questions: pl.DataFrame,
    question_vectors: Floats,
    english_vectors: Floats,
    rows: pl.DataFrame,
    head: Head,
) -> pl.DataFrame:
    """What a head answers to each question and to its English wording: an `Outcomes` table.

    Args:
        questions: a `Queries` table.
        question_vectors: (questions, d).
        english_vectors: (with_english(questions), d), in that order.
        rows: the `KnowledgeBase` table, for the labels that there are.
        head: of the model that made the vectors.
    """
    if questions.is_empty():
        return empty(Outcomes)
    names = rows["label"].unique().sort()

    def ask(part: pl.DataFrame, vectors: Floats, *, control: bool) -> pl.DataFrame:
        found = rank_labels(head.probabilities(vectors), head.labels, names)
        return outcomes_of(part, found, rows, control=control)

    native = ask(questions, question_vectors, control=False)
    english = with_english(questions)
    if english.is_empty():
        return native
    return pl.concat([native, ask(english, english_vectors, control=True)])
