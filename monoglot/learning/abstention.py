"""When to say "I don't know": a score calibrated to a rate of wrong answers among the answered.

The statistic is the cosine of the query and the first label's nearest row, times the label's share
of the votes. Of the alternatives it answers most at one rate. With 5 % of the answered wrong: 38 %
of the Hinglish questions to the sample (the cosine alone 9 %, the share alone 38 %, its margin to
the second label 36 %), 72 % of Hinglish-TOP's test questions (68, 72, 38 %), and 68 % of these
where one query in ten is out of scope (rows of clinc150; 64, 61, 29 %).

The threshold is the lowest at which the upper confidence bound of the rate is within what was asked
for, found by Learn then Test with fixed-sequence testing (Angelopoulos et al. 2021, arXiv
2110.01052, section 2.2): thresholds at which 5, 10, ... 100 % of the questions are answered are
looked at in that order, from four starting points, and from each on until the first that fails. The
error probability is divided among the starts, not among the looks. So with 95 % confidence over the
draw of questions the rate holds on queries like those it was calibrated on. The binary search of
SGR (Geifman and El-Yaniv 2017, arXiv 1705.08500) divides it among all its looks, and with a few
hundred questions it fails at the first, half of them being too few to show a small rate, and turns
to still fewer.

Where out-of-scope queries are given, a query is taken to be one of them with probability p (the
configured share). The rate among the answered is then

    (1 - p) c w + p a  over  (1 - p) c + p a

with c the coverage of the questions, w the share of wrong ones among those answered, and a the
share of out-of-scope queries that are answered. It grows with w and a and falls with c, so exact
binomial bounds of the three (Clopper-Pearson), each at a third of the error probability, bound it.
Weighting the two samples keeps the sizes of two files from deciding the threshold.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.learning.metrics import ALL, asked
from monoglot.learning.thresholds import Abstention, Threshold

ERROR = 0.05  # probability with which a promise may fail
_LEVELS = 20
_STARTS = (2, 8, 14, 20)  # levels, from 1
_LOWEST = -1.0  # score of a question for which no row was found
_POINTS = 200  # of a curve
# Of a language. Where 30 out-of-scope queries all score low, one in ten of the others may not (95 %
# certain): of the usual share of such queries, that is a small part of the mistakes allowed.
_ENOUGH_OUTSIDE = 30
_CURVE = {
    "language": pl.String,
    "threshold": pl.Float64,
    "coverage": pl.Float64,
    "rate": pl.Float64,
}

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """What a threshold is calibrated on, all in ascending order.

    Attributes:
        scores: (n,) of the evaluation questions.
        mistakes: scores of those whose first label is wrong.
        outside: (m,) scores of the out-of-scope queries.
        share: probability that a query is out of scope; 0 where there are none.
    """

    scores: Values
    mistakes: Values
    outside: Values
    share: float

    @classmethod
    def of(
        cls, scores: Values, wrong: NDArray[np.bool_], outside: Values, share: float
    ) -> "Sample":
        """Sort the scores; without out-of-scope queries there is no share of them."""
        return cls(
            np.sort(scores),
            np.sort(scores[wrong]),
            np.sort(outside),
            share if len(outside) else 0.0,
        )

    @property
    def levels(self) -> Values:
        """The thresholds that are looked at, each answering more than the one before."""
        ranks = np.ceil(np.arange(1, _LEVELS + 1) / _LEVELS * len(self.scores)).astype(int)
        return np.asarray(self.scores[len(self.scores) - ranks])

    def answered(self, thresholds: Values) -> "Answered":
        """How many are answered at each of t thresholds."""
        return Answered(self, *(_at_least(each, thresholds) for each in self._parts))

    @property
    def _parts(self) -> tuple[Values, Values, Values]:
        return self.scores, self.mistakes, self.outside


def _at_least(scores: Values, thresholds: Values) -> Values:
    """How many of the ascending scores reach each threshold."""
    return (len(scores) - np.searchsorted(scores, thresholds, side="left")).astype(np.float64)


@dataclass(frozen=True)
class Answered:
    """Counts at t thresholds: answered questions, wrong ones among them, answered out-of-scope."""

    sample: Sample
    questions: Values
    wrong: Values
    outside: Values

    @property
    def coverage(self) -> Values:
        """Share of the questions that are answered."""
        return self.questions / max(len(self.sample.scores), 1)

    @property
    def rate(self) -> Values:
        """Measured share of wrong answers among the answered; NaN where nothing is answered."""
        passed = self.outside / max(len(self.sample.outside), 1)
        return self._mixed(self.coverage, _ratio(self.wrong, self.questions), passed)

    def bound(self) -> Values:
        """Upper bound of that share, as `find_threshold` asks for it at each of its looks."""
        sample = self.sample
        if not len(sample.outside):
            return _upper(self.wrong, self.questions, ERROR / len(_STARTS))
        part = ERROR / len(_STARTS) / 3
        return self._mixed(
            _lower(self.questions, len(sample.scores), part),
            _upper(self.wrong, self.questions, part),
            _upper(self.outside, len(sample.outside), part),
        )

    def _mixed(self, coverage: Values, wrong: Values, passed: Values) -> Values:
        inside, outside = (1 - self.sample.share) * coverage, self.sample.share * passed
        return _ratio(inside * np.nan_to_num(wrong) + outside, inside + outside)


def _ratio(a: Values, b: Values) -> Values:
    return np.divide(a, b, out=np.full_like(a, np.nan), where=b > 0)


def _upper(count: Values, of: Values | int, error: float) -> Values:
    """Clopper-Pearson upper bound of a share; 1 where there is nothing to tell by."""
    from scipy.stats import beta  # of the pipeline only, as all calibration is

    rest = np.maximum(of - count, 0)
    bound: Values = beta.ppf(1 - error, count + 1, np.maximum(rest, 1))
    return np.where(rest > 0, bound, 1.0)


def _lower(count: Values, of: Values | int, error: float) -> Values:
    """Clopper-Pearson lower bound of a share."""
    from scipy.stats import beta

    bound: Values = beta.ppf(error, np.maximum(count, 1), of - count + 1)
    return np.where(count > 0, bound, 0.0)


def find_threshold(sample: Sample, max_wrong: float) -> Threshold:
    """The lowest threshold that keeps the rate: with confidence, or else as far as measured.

    Where no threshold's bound is low enough, the lowest one whose measured rate is takes its
    place, and `certain` is false.
    """
    levels = sample.levels
    reached = _reached(sample.answered(levels).bound() <= max_wrong)
    if reached is not None:
        return threshold_at(sample, float(levels[reached]), certain=True)
    tried = np.unique(sample.scores)
    kept = np.flatnonzero(sample.answered(tried).rate <= max_wrong)
    return threshold_at(sample, float(tried[kept[0]]) if len(kept) else None)


def _reached(passes: NDArray[np.bool_]) -> int | None:
    """The last level reached from any start without a failure on the way; None: all fail."""
    reached = None
    for start in _STARTS:
        level = start - 1
        while level < len(passes) and passes[level]:
            reached = max(reached or 0, level)
            level += 1
    return reached


def threshold_at(
    sample: Sample, score: float | None, *, certain: bool = False, pooled: bool = False
) -> Threshold:
    """A score with its figures on a sample."""
    at = sample.answered(np.array([np.inf if score is None else score]))
    rate = float(at.rate[0])
    return Threshold(
        score=score,
        certain=certain,
        pooled=pooled,
        questions=len(sample.scores),
        out_of_scope=len(sample.outside),
        coverage=float(at.coverage[0]),
        wrong=None if np.isnan(rate) else rate,
        at_most=float(at.bound()[0]),
        caught=1 - float(at.outside[0]) / len(sample.outside) if len(sample.outside) else None,
    )


def is_too_small(sample: Sample, max_wrong: float) -> bool:
    """Whether even without a mistake the sample could not show the rate."""
    perfect = Sample.of(
        sample.scores,
        np.zeros(len(sample.scores), dtype=bool),
        np.full(len(sample.outside), _LOWEST - 1),
        sample.share,
    )
    return bool(perfect.answered(np.array([_LOWEST])).bound()[0] > max_wrong)


def samples_of(
    outcomes: pl.DataFrame, out_of_scope: pl.DataFrame, share: float, kb_language: str
) -> dict[str, Sample]:
    """The sample of each language, in alphabetical order, and of all of them under "all".

    The English controls are questions, too, namely those of users who write in the knowledge
    base's language; they have no part in "all", which is what users wrote. Of several questions
    with one English source one is taken, since their outcomes go together. Where a language has
    few out-of-scope queries of its own, those in other languages count beside them.

    Args:
        outcomes: `contracts.Outcomes` of the evaluation questions.
        out_of_scope: `contracts.Outcomes` of out-of-scope queries; empty: there are none.
        share: probability that a query is out of scope.
        kb_language: BCP 47 code of the knowledge base's language.
    """
    native = asked(outcomes)
    english = asked(outcomes, control=True).with_columns(language=pl.lit(kb_language))
    parts = pl.concat([native, english]).partition_by("language", as_dict=True)
    named = {str(language): part for (language,), part in sorted(parts.items())}

    def sample(part: pl.DataFrame, language: str) -> Sample:
        single = part.sort("query_id").unique("group", keep="first", maintain_order=True)
        own = out_of_scope.filter(pl.col("language").str.to_lowercase() == pl.lit(language))
        outside = own if own.height >= _ENOUGH_OUTSIDE else out_of_scope
        wrong = (single["rank"] != 1).to_numpy()
        return Sample.of(_scores(single), wrong, _scores(outside), share)

    by_language = {name: sample(part, name.lower()) for name, part in named.items()}
    return {**by_language, ALL: sample(native, "")}


def _scores(outcomes: pl.DataFrame) -> Values:
    confidence = pl.col("top_score") * pl.col("top_share").fill_null(1.0)
    values = outcomes.select(confidence.fill_null(_LOWEST).cast(pl.Float64)).to_series()
    return values.to_numpy()


def calibrate(samples: Mapping[str, Sample], max_wrong: float) -> Abstention | None:
    """The thresholds of all languages; None where there is no question to calibrate on.

    A language whose questions are too few to show the rate, even without a mistake, gets the
    score of all languages together.

    Args:
        samples: from `samples_of`.
        max_wrong: share of the answered that may be wrong.
    """
    overall = samples[ALL]
    if not len(overall.scores):
        return None
    together = find_threshold(overall, max_wrong)
    return Abstention(
        max_wrong=max_wrong,
        out_of_scope_share=overall.share,
        overall=together,
        languages={
            name: threshold_at(sample, together.score, pooled=True)
            if is_too_small(sample, max_wrong)
            else find_threshold(sample, max_wrong)
            for name, sample in samples.items()
            if name != ALL
        },
    )


def curve(samples: Mapping[str, Sample]) -> pl.DataFrame:
    """Risk and coverage at every threshold (Geifman and El-Yaniv 2017), thinned to 200 points.

    Returns:
        language, threshold, coverage, rate (of wrong answers among the answered), by language
        and falling threshold.
    """
    tables = [pl.DataFrame(schema=_CURVE)]
    for language, sample in samples.items():
        if not len(sample.scores):
            continue
        every = np.unique(sample.scores)[::-1]
        chosen = every[np.unique(np.linspace(0, len(every) - 1, _POINTS).round().astype(int))]
        at = sample.answered(chosen)
        tables.append(
            pl.DataFrame(
                {
                    "language": [language] * len(chosen),
                    "threshold": chosen,
                    "coverage": at.coverage,
                    "rate": at.rate,
                },
                schema=_CURVE,
            )
        )
    return pl.concat(tables)
