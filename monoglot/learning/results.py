"""The table of a run: every system on the same questions, and in English, with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from monoglot.learning.bootstrap import Interval, bootstrap, paired_bootstrap
from monoglot.learning.metrics import METRICS, asked

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
