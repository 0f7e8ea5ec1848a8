"""What needs no model at all: shared letters and shared words, asked the same questions.

A tuned model that does not beat shared words is not worth its upkeep.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from monoglot.contracts import Outcomes, empty
from monoglot.identity import normalised
from monoglot.learning.evaluation import outcomes_of, own_rows, with_english
from monoglot.learning.ranking import Floats, Scores, rank_by
from monoglot.learning.votes import SAMPLE, temperature_in_memory

if TYPE_CHECKING:
    from scipy.sparse import csr_array

ScoresOf = Callable[[pl.Series], Scores]

_CHARACTERS = (2, 5)
# Beyond so many rows TF-IDF would take most of a run's time and memory.
MOST_ROWS = 200_000
# BM25's parameters as Lucene has them: how soon a repeated word counts no more, and how much a
# long row is held back.
_SATURATION = 1.2
_LENGTH = 0.75


def tfidf(questions: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """What TF-IDF answers to each question and to its English wording: an `Outcomes` table.

    Character 2- to 5-grams within words, since users spell a romanised language as they like: on
    the validation questions of Hinglish-TOP they find the label first for .600, words and word
    pairs for .521 (English control .736 and .751). Weights are learnt from the knowledge base
    alone, and rows vote as they do for a model. A row that shares nothing with the question is not
    found, rather than found by chance.

    Args:
        questions: a `Queries` table.
        rows: a `KnowledgeBase` table.
    """
    scores_of = tfidf_scores(rows["query"])
    temperature = temperature_in_memory(
        lambda asked: scores_of(rows["query"].gather(asked))(slice(None), slice(None)),
        rows["label"],
        np.linspace(0, rows.height - 1, min(SAMPLE, rows.height)).astype(np.int64),
    )
    return _asked(questions, rows, scores_of, temperature)


def bm25(questions: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """What BM25 answers, over whole words: an `Outcomes` table; arguments as for `tfidf`.

    The nearest row decides: BM25's scores have no scale that votes could be weighted on.
    """
    return _asked(questions, rows, bm25_scores(rows["query"]), None)


def _asked(
    questions: pl.DataFrame, rows: pl.DataFrame, scores_of: ScoresOf, temperature: float | None
) -> pl.DataFrame:
    if questions.is_empty():
        return empty(Outcomes)

    def ask(part: pl.DataFrame, column: str) -> pl.DataFrame:
        found = rank_by(
            scores_of(part[column]),
            part.height,
            rows["label"],
            exclude=own_rows(part, rows),
            temperature=temperature,
        )
        return outcomes_of(part, found, rows, control=column == "english")

    answers = [ask(questions, "text")]
    english = with_english(questions)
    return pl.concat([*answers, ask(english, "english")]) if english.height else answers[0]


def tfidf_scores(known: pl.Series) -> ScoresOf:
    """Learn the weights of some texts; the result scores others against them, for `rank_by`."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # heavy, and of the pipeline only

    weigh = TfidfVectorizer(analyzer="char_wb", ngram_range=_CHARACTERS, dtype=np.float32)
    columns_of = weigh.fit_transform(known).T.tocsc()
    return lambda texts: _products(weigh.transform(texts), columns_of)


def bm25_scores(known: pl.Series) -> ScoresOf:
    """BM25 of texts against the known ones, for `rank_by`.

    Words are told apart as for leaks (`identity.normalised`), so that the vowel signs of Indic
    scripts stay with theirs. The weight of a rare word is Lucene's, which is never negative.
    Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    count = CountVectorizer(analyzer=lambda text: normalised(text).split(), dtype=np.float32)
    times = count.fit_transform(known).tocsr()
    lengths = np.asarray(times.sum(axis=1)).ravel()
    rows_with = np.bincount(times.indices, minlength=times.shape[1])
    rarity = np.log1p((times.shape[0] - rows_with + 0.5) / (rows_with + 0.5))
    row_of = np.repeat(np.arange(times.shape[0]), np.diff(times.indptr))
    held_back = _SATURATION * (1 - _LENGTH + _LENGTH * lengths[row_of] / lengths.mean())
    saturated = times.data * (_SATURATION + 1) / (times.data + held_back)
    times.data = (saturated * rarity[times.indices]).astype(np.float32)
    columns_of = times.T.tocsc()
    return lambda texts: _products(count.transform(texts), columns_of)


def _products(asked: "csr_array", columns_of: "csr_array") -> Scores:
    """Dot products of sparse rows with sparse columns; -inf where they share nothing."""

    def scores(queries: slice, columns: slice) -> Floats:
        products: Floats = (asked[queries] @ columns_of[:, columns]).toarray()
        products[products <= 0] = float("-inf")
        return products

    return scores
