"""The table of a run: every system on the same questions, and in English, with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from monoglot.learning.bootstrap import Interval, bootstrap, language_cost, paired_bootstrap
from monoglot.learning.metrics import ALL, METRICS, asked, summarise

COLUMNS = (*METRICS, "macro_mrr")


@dataclass(frozen=True)
class Result:
    """One system's line in the table.

    Attributes:
        system: its name.
        control: whether it was asked in English.
        questions: how many questions.
        values: each of `COLUMNS` with its interval; a macro value is missing where no label has
            questions enough.
        gain: difference of the MRR to the baseline's on the same wording; None: it is the baseline.
    """

    system: str
    control: bool
    questions: int
    values: Mapping[str, Interval]
    gain: Interval | None


def results(
    systems: Mapping[str, pl.DataFrame], baseline: str, *, macro_min: int = 1
) -> tuple[Result, ...]:
    """A line for each system, and after them one for each that has an English control.

    Args:
        systems: name -> `Outcomes`, all of the same questions, in the order of the table.
        baseline: name of the system that the others are compared with.
        macro_min: labels with fewer questions are left out of the macro values.

    Raises:
        RunError: two systems were asked different questions, or none.
    """
    return tuple(
        _result(name, outcomes, systems[baseline], control, macro_min)
        for control in (False, True)
        for name, outcomes in systems.items()
        if not control or asked(outcomes, control=True).height
    )


def _result(
    name: str, outcomes: pl.DataFrame, baseline: pl.DataFrame, control: bool, macro_min: int
) -> Result:
    gain = None
    if outcomes is not baseline:
        gain = paired_bootstrap(baseline, outcomes, ["mrr"], control=control)["mrr"]
    return Result(
        system=name,
        control=control,
        questions=asked(outcomes, control=control).height,
        values=bootstrap(outcomes, COLUMNS, control=control, macro_min=macro_min),
        gain=gain,
    )


@dataclass(frozen=True)
class LanguageResult:
    """The MRR of one language, or of all.

    Attributes:
        language: its code, or "all".
        questions: how many.
        baseline: of the system compared with.
        candidate: of the system of interest, with its interval.
        gain: of the candidate over the baseline.
        cost: what the candidate still loses to the language: its English control minus its own
            value on the same questions; None: no question has its English wording.
    """

    language: str
    questions: int
    baseline: float
    candidate: Interval
    gain: Interval
    cost: Interval | None


def by_language(baseline: pl.DataFrame, candidate: pl.DataFrame) -> tuple[LanguageResult, ...]:
    """A line for each language in alphabetical order, and one for all of them.

    Raises:
        RunError: the two systems were asked different questions, or none.
    """
    languages = sorted(asked(candidate)["language"].unique())
    lines = [
        _of_language(language, *(each.filter(language=language) for each in (baseline, candidate)))
        for language in languages
    ]
    return (*lines, _of_language(ALL, baseline, candidate))


def _of_language(language: str, baseline: pl.DataFrame, candidate: pl.DataFrame) -> LanguageResult:
    controlled = asked(candidate, control=True).height > 0
    return LanguageResult(
        language=language,
        questions=asked(candidate).height,
        baseline=summarise(baseline)[ALL].micro["mrr"],
        candidate=bootstrap(candidate, ["mrr"])["mrr"],
        gain=paired_bootstrap(baseline, candidate, ["mrr"])["mrr"],
        cost=language_cost(candidate, ["mrr"])["mrr"] if controlled else None,
    )
