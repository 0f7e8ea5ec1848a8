"""Candidate against the model in production: promote or keep, with the reasons in words.

What noise should decide. A wrong promotion is felt by users and noticed late; a wrong rejection
costs little, since the knowledge-base change goes live with the old model all the same. So by
default the whole 95% interval of the gain must lie above `min_gain`, and of two models that are
equally good the one in production stays. An operator with few questions, for whom that is too
strict, sets `certain: false` and lets the measured gain decide.

The English control is judged by the measured loss alone: to ask for certainty either way would
leave the decision to the number of questions.
"""

from dataclasses import dataclass

import polars as pl

from monoglot.learning.bootstrap import Interval, paired_bootstrap
from monoglot.learning.metrics import ALL, asked, summarise
from monoglot.learning_config import GateConfig

_FEW = 30
_DIGITS = 9  # what a sum of floats leaves beyond must not decide


@dataclass(frozen=True)
class Measured:
    """One metric of candidate and reference on the same questions."""

    questions: int
    candidate: float
    reference: float
    gain: Interval


@dataclass(frozen=True)
class Comparison:
    """All that the gate looks at.

    Attributes:
        against: what the candidate is compared with, as a reader would say it.
        metric: the metric, one of `monoglot.learning.metrics.METRICS`.
        target: over all target-language questions; None: there was no question.
        english: over their English wordings; None: no question has one.
    """

    against: str
    metric: str
    target: Measured | None
    english: Measured | None


@dataclass(frozen=True)
class Decision:
    """Whether the candidate goes into production, and why, one reason a sentence."""

    promote: bool
    reasons: tuple[str, ...]


def compare(
    candidate: pl.DataFrame, reference: pl.DataFrame, against: str, config: GateConfig
) -> Comparison:
    """Measure what `decide` asks for.

    Args:
        candidate: outcomes of the model that was just trained.
        reference: outcomes of the current release, or of the untuned model where there is none,
            on the same questions and the same, new knowledge base.
        against: "the untuned model", or "release ...".
        config: names the metric.

    Raises:
        RunError: the two were asked different questions.
    """

    def measure(*, control: bool) -> Measured | None:
        if asked(candidate, control=control).is_empty():
            return None
        scores = [summarise(each, control=control)[ALL] for each in (candidate, reference)]
        return Measured(
            questions=scores[0].questions,
            candidate=scores[0].micro[config.metric],
            reference=scores[1].micro[config.metric],
            gain=paired_bootstrap(reference, candidate, [config.metric], control=control)[
                config.metric
            ],
        )

    return Comparison(against, config.metric, measure(control=False), measure(control=True))


def decide(comparison: Comparison, config: GateConfig) -> Decision:
    """Promote the candidate if it is better by the configured rule and not worse in English."""
    if comparison.target is None:
        return Decision(
            False,
            (
                "Nothing was measured: there is no evaluation question. Give a file under "
                "evaluation.path, or set split.evaluation_share above 0.",
            ),
        )
    better, why = _is_better(comparison.target, comparison, config)
    kept_english, about_english = _keeps_english(comparison.english, config)
    return Decision(better and kept_english, (why, about_english))


def _is_better(target: Measured, comparison: Comparison, config: GateConfig) -> tuple[bool, str]:
    metric = comparison.metric.replace("mrr", "MRR")
    figures = (
        f"{metric} over {target.questions:,} questions: {target.candidate:.3f}, "
        f"against {target.reference:.3f} of {comparison.against}; {_gain(target.gain)}"
    )
    if target.questions < _FEW:
        figures += f", of little worth with fewer than {_FEW} questions"
    if round(target.gain.mean, _DIGITS) <= config.min_gain:
        return False, f"{figures}. It must gain more than {config.min_gain:.3f}."
    if not config.certain:
        return True, f"{figures}. That is more than the {config.min_gain:.3f} asked for."
    if round(target.gain.low, _DIGITS) > config.min_gain:
        return True, f"{figures}. All of the interval is above {config.min_gain:.3f}."
    return False, (
        f"{figures}. This may be chance: the interval is not all above {config.min_gain:.3f}. "
        "More evaluation questions would tell; gate.certain: false lets the measured gain decide."
    )


def _keeps_english(english: Measured | None, config: GateConfig) -> tuple[bool, str]:
    if english is None:
        return True, (
            "English was not checked: no evaluation question has its English wording "
            "(column english), so a loss of English would not be seen."
        )
    figures = (
        f"English control over {english.questions:,} questions: {english.candidate:.3f}, against "
        f"{english.reference:.3f}; {_gain(english.gain)}"
    )
    kept = round(english.gain.mean, _DIGITS) >= -config.max_english_loss
    rule = f"It may lose at most {config.max_english_loss:.3f}"
    return kept, f"{figures}. {rule}." if kept else f"{figures}. {rule}, and lost more."


def _gain(gain: Interval) -> str:
    """A signed difference with its interval, as prose."""
    word = "gain" if gain.mean >= 0 else "loss"
    return f"{word} {gain.mean:+.3f} (95% interval {gain.low:+.3f} to {gain.high:+.3f})"
