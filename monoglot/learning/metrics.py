"""hit@k and MRR over distinct labels, per language and over all.

hit@k is the share of questions whose label is among the first k distinct labels; MRR is the mean
of 1 / place, where a label beyond the tenth counts as 0. Micro values average over questions,
macro values over labels, so that a rare label weighs as much as a common one. A question whose
label the knowledge base lacks is a miss and is counted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

METRICS = ("hit@1", "hit@3", "hit@5", "mrr")
MACRO = tuple(f"macro_{metric}" for metric in METRICS)
ALL = "all"
_DIGITS = 4


@dataclass(frozen=True)
class Scores:
    """The metrics of one set of questions.

    Attributes:
        questions: how many questions, each of which counts.
        unknown: how many of them have a label that the knowledge base lacks.
        labels: how many labels the macro values average over.
        micro: metric -> mean over the questions.
        macro: metric -> mean over the labels; empty where no label has questions enough.
    """

    questions: int
    unknown: int
    labels: int
    micro: Mapping[str, float]
    macro: Mapping[str, float]

    def as_json(self) -> dict[str, float | int | None]:
        """As `monoglot evaluate` prints it: four digits, null where a macro value has no label."""
        values: dict[str, float | int | None] = {"n": self.questions}
        values |= {metric: round(self.micro[metric], _DIGITS) for metric in METRICS}
        for metric in METRICS:
            value = self.macro.get(metric)
            values[f"macro_{metric}"] = None if value is None else round(value, _DIGITS)
        return values | {"labels": self.labels, "label_not_in_kb": self.unknown}


def asked(outcomes: pl.DataFrame, *, control: bool = False) -> pl.DataFrame:
    """The questions as users wrote them, or, with `control`, the same ones in English."""
    return outcomes.filter(pl.col("control") == control)


def values_of(metric: str, column: str = "rank") -> pl.Expr:
    """A question's own value of a micro metric, from the place in a column (0: not found)."""
    place = pl.col(column)
    if metric == "mrr":
        return pl.when(place > 0).then(1.0 / place).otherwise(0.0).alias(metric)
    within = int(metric.removeprefix("hit@"))
    return place.is_between(1, within).cast(pl.Float64).alias(metric)


def summarise(
    outcomes: pl.DataFrame, *, control: bool = False, macro_min: int = 1
) -> dict[str, Scores]:
    """Scores per language, in alphabetical order, and at the end those of "all".

    Args:
        outcomes: an `Outcomes` table.
        control: score the English control instead of the questions themselves.
        macro_min: labels with fewer questions than this are left out of the macro values.

    Returns:
        An empty dict where there is no question (for instance: no English control).
    """
    chosen = asked(outcomes, control=control)
    if chosen.is_empty():
        return {}
    parts = {
        str(language): part
        for (language,), part in sorted(chosen.partition_by("language", as_dict=True).items())
    }
    return {name: _scores(part, macro_min) for name, part in (parts | {ALL: chosen}).items()}


def by_system(systems: Mapping[str, pl.DataFrame]) -> Iterator[tuple[str, str, Scores]]:
    """Title, language and scores: each system in each language, then each asked in English."""
    for control in (False, True):
        for name, outcomes in systems.items():
            title = f"{name}, asked in English" if control else name
            for language, scores in summarise(outcomes, control=control).items():
                yield title, language, scores


def _scores(part: pl.DataFrame, macro_min: int) -> Scores:
    means = [values_of(metric).mean() for metric in METRICS]
    micro = part.select(means).row(0, named=True)
    by_label = part.group_by("label").agg(*means, n=pl.len()).filter(pl.col("n") >= macro_min)
    macro = by_label.sort("label").select(pl.col(METRICS).mean()).row(0, named=True)
    return Scores(
        questions=part.height,
        unknown=int((~part["known"]).sum()),
        labels=by_label.height,
        micro=micro,
        macro=macro if by_label.height else {},
    )
