"""Votes: a label's rank counts all its rows near a query, not the nearest one alone.

The nearest row is one customer's wording and may be an odd one; five rows of a label close by are
better evidence than one row a hair closer. Each of the nearest rows votes for its label with weight
exp(cosine / temperature): k nearest neighbours with a Gaussian-like kernel (Nadaraya 1964; as a
softmax over cosines in Vinyals et al., arXiv 1606.04080). As the temperature falls, only the
nearest row counts.

The right temperature depends on the model, since models spread their cosines differently, and on
the rows. It is measured for each on the knowledge base alone, with no question looked at: of some
of its rows, each left out and asked as a query, the own label's share of the votes is to be likely
(temperature scaling, Guo et al., arXiv 1706.04599, with rows for a validation set). On Hinglish-TOP
validation this found .03 for the tuned and .04 for the untuned model, which is within .001 MRR
of the best for the questions; benchmarks/README.md has the gain.
"""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

SAMPLE = 512  # rows that are asked as queries
DEPTH = 200  # rows that vote
VERY_QUERY = 1 - 1e-3  # cosine of a text with itself, as far as bf16 can tell
_ASKED_AT_ONCE = 64
_LEAST_SHARE = 1e-12
_LOWEST = np.finfo(np.float32).min
_ENOUGH = 100  # asked rows; fewer cannot tell temperatures apart
# None is coarser than sentence-transformers' usual training temperature: with .05, a row that is
# the very query outweighs seven rows at cosine .9.
TEMPERATURES = (0.05, 0.04, 0.03, 0.025, 0.02, 0.015, 0.01, 0.0075, 0.005)


def votes(scores: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Weights of the rows found for a query, by their scores; they sum to 1.

    Where a row is the very query, others have no vote: no crowd overrules what is written there.

    Args:
        scores: (..., rows) of each query; a row of -inf was not found and has no vote.
        temperature: of the votes.

    Returns:
        As many weights; a query that found no row has zeros.
    """
    # Never -inf, from which -inf could not be taken; nor is there one of no row at all.
    best = scores.max(axis=-1, keepdims=True, initial=_LOWEST)
    weights: NDArray[np.float64] = np.exp((scores.astype(np.float64) - best) / temperature)
    weights[(best >= VERY_QUERY) & (scores < VERY_QUERY)] = 0.0
    weights /= np.maximum(weights.sum(axis=-1, keepdims=True), np.finfo(np.float64).tiny)
    return weights


def _votes(temperature: float) -> pl.Expr:
    """The same of rows that were found for each `question`, by `score`."""
    best = pl.col("score").max().over("question")
    weight = ((pl.col("score") - best) / temperature).exp()
    heard = (best < VERY_QUERY) | (pl.col("score") >= VERY_QUERY)
    weight = pl.when(heard).then(weight).otherwise(0.0)
    return weight / weight.sum().over("question")


def vote_temperature(found: pl.DataFrame) -> float:
    """The temperature that makes the rows' own labels likeliest.

    Args:
        found: `question`, `score` and `same` (bool) of the rows nearest to some rows of the
            knowledge base, the asked row left out; `same`: it has the asked row's label.

    Returns:
        One of `TEMPERATURES`; the finest, with which hardly more than the nearest row counts, where
        fewer than 100 rows found another one of their label.
    """
    asked = found.filter(pl.col("same").any().over("question"))
    if asked["question"].n_unique() < _ENOUGH:
        return TEMPERATURES[-1]
    # A share of 0, of a row that stands there under another label, too, or whose label is far off,
    # would make every temperature as unlikely as any: no row decides alone.
    shares = asked.select(
        "question",
        *(
            pl.when("same").then(_votes(temperature)).otherwise(0.0).alias(str(number))
            for number, temperature in enumerate(TEMPERATURES)
        ),
    )
    summed = shares.group_by("question").sum().drop("question")
    likelihoods = summed.select(pl.all().clip(_LEAST_SHARE).log().mean())
    best = max(enumerate(likelihoods.row(0)), key=lambda pair: pair[1])[0]
    return TEMPERATURES[best]


def temperature_in_memory(
    scores_of: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    labels: Sequence[str] | pl.Series,
    asked: NDArray[np.int64],
) -> float:
    """`vote_temperature` of rows that are in memory.

    Args:
        scores_of: gives the (n, rows) scores of n rows, by position, against all of them.
        labels: the label of each row.
        asked: positions of the rows that are asked as queries, each once.
    """
    labels = pl.Series("label", labels, dtype=pl.String)
    found = []
    for start in range(0, len(asked), _ASKED_AT_ONCE):
        own = asked[start : start + _ASKED_AT_ONCE]
        scores = scores_of(own)
        scores[np.arange(len(own)), own] = -np.inf
        depth = min(DEPTH, scores.shape[1])
        near = np.argpartition(scores, scores.shape[1] - depth, axis=1)[:, -depth:]
        found.append(
            pl.DataFrame(
                {
                    "question": np.repeat(np.arange(start, start + len(own)), depth),
                    "score": np.take_along_axis(scores, near, axis=1).ravel(),
                    "same": labels.gather(near.ravel()) == labels.gather(np.repeat(own, depth)),
                }
            )
        )
    return vote_temperature(pl.concat(found).filter(pl.col("score").is_finite()))
