"""What needs no model at all: TF-IDF over the same rows, asked the same questions.

A tuned model that does not beat shared words is not worth its upkeep.
"""

from collections.abc import Callable

import numpy as np
import polars as pl

from monoglot.contracts import Outcomes, empty
from monoglot.learning.evaluation import outcomes_of, own_rows, with_english
from monoglot.learning.ranking import Floats, Scores, rank_by
from monoglot.learning.votes import SAMPLE, temperature_in_memory

_CHARACTERS = (2, 5)


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
    if questions.is_empty():
        return empty(Outcomes)
    scores_of = tfidf_scores(rows["query"])
    sample = np.linspace(0, rows.height - 1, min(SAMPLE, rows.height)).astype(np.int64)
    temperature = temperature_in_memory(
        lambda asked: scores_of(rows["query"].gather(asked))(slice(None), slice(None)),
        rows["label"],
        sample,
    )

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


def tfidf_scores(known: pl.Series) -> Callable[[pl.Series], Scores]:
    """Learn the weights of some texts; the result scores others against them, for `rank_by`."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # heavy, and of the pipeline only

    weigh = TfidfVectorizer(analyzer="char_wb", ngram_range=_CHARACTERS, dtype=np.float32)
    columns_of = weigh.fit_transform(known).T.tocsc()

    def scores_of(texts: pl.Series) -> Scores:
        asked = weigh.transform(texts)

        def scores(queries: slice, columns: slice) -> Floats:
            products: Floats = (asked[queries] @ columns_of[:, columns]).toarray()
            products[products <= 0] = float("-inf")
            return products

        return scores

    return scores_of
