"""Candidate against the model in production: promote or keep, with the reasons in words.

What noise should decide. A wrong promotion is felt by users and noticed late; a wrong rejection
costs little, since the knowledge-base change goes live with the old model all the same. So by
default the whole 95% interval of the gain must lie above `min_gain`, and of two models that are
equally good the one in production stays. An operator with few questions, for whom that is too
strict, sets `certain: false` and lets the measured gain decide.

The English control and the guards are judged by the measured loss alone: to ask for certainty
either way would leave the decision to the number of questions.

A guard's floor lies below the better of the untuned model and the one in production: were each
release only compared with the one before it, a little could be lost with every one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from monoglot.learning.bootstrap import FEWEST_SOURCES, Interval, paired_bootstrap
from monoglot.learning.metrics import ALL, asked, summarise
from monoglot.learning_config import GateConfig, Verdict

_FEW = 30
_MORE = "More evaluation questions would tell; gate.certain: false lets the measured gain decide."
UNTUNED = "the untuned model"
_DIGITS = 9  # what a sum of floats leaves beyond must not decide


@dataclass(frozen=True)
class Measured:
    """One metric of candidate and reference on the same questions."""

    questions: int
    candidate: float
    reference: float
    gain: Interval


@dataclass(frozen=True, eq=False)
class GuardOutcomes:
    """Questions that training must not make worse, as several models answered them.

    Attributes:
        name: how people call it.
        max_loss: so much of the metric may be lost.
        candidate: `contracts.Outcomes` of the model that was just trained.
        before: those of the models before it, by how a reader would call them.
    """

    name: str
    max_loss: float
    candidate: pl.DataFrame
    before: Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class Guarded:
    """A guard, measured.

    Attributes:
        name: how people call it.
        max_loss: so much of the metric may be lost.
        before: the metric of each model before, by name.
        against: the best of these, which sets the floor.
        measured: of the candidate against that one; None: there was no question.
    """

    name: str
    max_loss: float
    before: Mapping[str, float] = field(default_factory=dict)
    against: str = ""
    measured: Measured | None = None

    @property
    def kept(self) -> bool:
        """Whether the candidate is above the floor; what was not measured is not lost."""
        return self.measured is None or _within(self.measured, self.max_loss)


@dataclass(frozen=True)
class Comparison:
    """All that the gate looks at.

    Attributes:
        against: what the candidate is compared with, as a reader would say it.
        metric: the metric, one of `monoglot.learning.metrics.METRICS`.
        target: over all target-language questions; None: there was no question.
        english: over their English wordings; None: no question has one.
        guards: what else must not get worse.
    """

    against: str
    metric: str
    target: Measured | None
    english: Measured | None
    guards: tuple[Guarded, ...] = ()


@dataclass(frozen=True)
class Decision:
    """What becomes of the candidate, and why, one reason a sentence.

    Attributes:
        verdict: what becomes of it.
        reasons: why, with the figures.
        guards: what else must not get worse, as it was measured.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    guards: tuple[Guarded, ...] = ()

    @property
    def promote(self) -> bool:
        """Whether it goes into production now."""
        return self.verdict == "promoted"


def compare(
    candidate: pl.DataFrame,
    reference: pl.DataFrame,
    against: str,
    config: GateConfig,
    guards: Sequence[GuardOutcomes] = (),
) -> Comparison:
    """Measure what `decide` asks for.

    Args:
        candidate: outcomes of the model that was just trained.
        reference: outcomes of the current release, or of the untuned model where there is none,
            on the same questions and the same, new knowledge base.
        against: "the untuned model", or "release ...".
        config: names the metric.
        guards: what else must not get worse.

    Raises:
        RunError: the two were asked different questions.
    """
    metric = config.metric
    return Comparison(
        against,
        metric,
        _measure(candidate, reference, metric, control=False),
        _measure(candidate, reference, metric, control=True),
        tuple(_guarded(guard, metric) for guard in guards),
    )


def untrained_guards(
    labels: Sequence[str], max_loss: float, candidate: pl.DataFrame, untuned: pl.DataFrame
) -> list[GuardOutcomes]:
    """The evaluation questions of labels that nothing was trained on, and their English wordings.

    Compared with the untuned model alone: one in production may have been trained on them.

    Args:
        labels: their names; none: no guard.
        max_loss: so much of the metric may be lost.
        candidate: outcomes of the model that was just trained.
        untuned: outcomes of the base model on the same questions.
    """

    def chosen(outcomes: pl.DataFrame, *, control: bool) -> pl.DataFrame:
        of_labels = asked(outcomes, control=control).filter(pl.col("label").is_in(labels))
        return of_labels.with_columns(control=pl.lit(value=False))

    names = {"untrained labels": False, "untrained labels, in English": True}
    return [
        GuardOutcomes(
            name,
            max_loss,
            chosen(candidate, control=control),
            {UNTUNED: chosen(untuned, control=control)},
        )
        for name, control in names.items()
        if labels
    ]


def _measure(
    candidate: pl.DataFrame, reference: pl.DataFrame, metric: str, *, control: bool
) -> Measured | None:
    if asked(candidate, control=control).is_empty():
        return None
    scores = [summarise(each, control=control)[ALL] for each in (candidate, reference)]
    return Measured(
        questions=scores[0].questions,
        candidate=scores[0].micro[metric],
        reference=scores[1].micro[metric],
        gain=paired_bootstrap(reference, candidate, [metric], control=control)[metric],
    )


def _guarded(guard: GuardOutcomes, metric: str) -> Guarded:
    """A guard against the best model before; the first of equals."""
    if guard.candidate.is_empty():
        return Guarded(guard.name, guard.max_loss)
    before = {
        name: summarise(outcomes)[ALL].micro[metric] for name, outcomes in guard.before.items()
    }
    best = max(before, key=lambda name: before[name])
    measured = _measure(guard.candidate, guard.before[best], metric, control=False)
    return Guarded(guard.name, guard.max_loss, before, best, measured)


def decide(comparison: Comparison, config: GateConfig) -> Decision:
    """Promote the candidate if it is better by the configured rule and not worse in English."""
    if comparison.target is None:
        return Decision(
            "rejected",
            (
                "Nothing was measured: there is no evaluation question. Give a file under "
                "evaluation.path, or set split.evaluation_share above 0.",
            ),
        )
    better, why = _is_better(comparison.target, comparison, config)
    kept_english, about_english = _keeps_english(comparison.english, config)
    kept = kept_english and all(guard.kept for guard in comparison.guards)
    about_guards = (_about(guard) for guard in comparison.guards)
    verdict: Verdict = "promoted" if better and kept else "rejected"
    return Decision(verdict, (why, about_english, *about_guards), comparison.guards)


def _is_better(target: Measured, comparison: Comparison, config: GateConfig) -> tuple[bool, str]:
    metric = comparison.metric.replace("mrr", "MRR")
    figures = (
        f"{metric} over {target.questions:,} questions: {target.candidate:.3f}, "
        f"against {target.reference:.3f} of {comparison.against}; {_gain(target.gain)}"
    )
    if target.gain.sources < _FEW:
        figures += f", of little worth with fewer than {_FEW} English sources"
    if round(target.gain.mean, _DIGITS) <= config.min_gain:
        return False, f"{figures}. It must gain more than {config.min_gain:.3f}."
    if not config.certain:
        return True, f"{figures}. That is more than the {config.min_gain:.3f} asked for."
    if not target.gain.is_telling:
        return False, (
            f"{figures}. This may be chance: an interval tells something from {FEWEST_SOURCES} "
            f"sources on, and the questions have {target.gain.sources}. {_MORE}"
        )
    if round(target.gain.low, _DIGITS) > config.min_gain:
        return True, f"{figures}. All of the interval is above {config.min_gain:.3f}."
    return False, (
        f"{figures}. This may be chance: the interval is not all above {config.min_gain:.3f}. "
        f"{_MORE}"
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
    kept = _within(english, config.max_english_loss)
    return kept, f"{figures}. {_floor(config.max_english_loss, kept=kept)}"


def _about(guard: Guarded) -> str:
    """A guard's reason."""
    measured = guard.measured
    if measured is None:
        return f"Guard {guard.name} was not checked: it has no question."
    return (
        f"Guard {guard.name} over {measured.questions:,} questions: {measured.candidate:.3f}, "
        f"against {measured.reference:.3f} of {guard.against}; {_gain(measured.gain)}. "
        f"{_floor(guard.max_loss, kept=guard.kept)}"
    )


def _within(measured: Measured, max_loss: float) -> bool:
    return round(measured.gain.mean, _DIGITS) >= -max_loss


def _floor(max_loss: float, *, kept: bool) -> str:
    return f"It may lose at most {max_loss:.3f}{'' if kept else ', and lost more'}."


def _gain(gain: Interval) -> str:
    """A signed difference with its interval, as prose."""
    word = "gain" if gain.mean >= 0 else "loss"
    return f"{word} {gain.mean:+.3f} (95% interval {gain.low:+.3f} to {gain.high:+.3f})"
