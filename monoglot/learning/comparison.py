"""Cells of a grid against one of them, over seeds: which differences are real.

Two things move a figure by chance: which questions were asked, and the seed. Against the first
stands the paired bootstrap over English sources, with a question's outcomes under all seeds drawn
together; against the second, that the difference has one sign under every seed. Many cells are
compared with one, so the p-values are adjusted (Holm 1979): at most one table in twenty calls a
difference real that is none.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

import polars as pl

from monoglot.learning.bootstrap import Interval, paired_bootstrap
from monoglot.learning.metrics import ALL, METRICS, summarise
from monoglot.wording import between, signed

LEVEL = 0.05


@dataclass(frozen=True)
class Cost:
    """What one training took.

    Attributes:
        seconds: wall clock, without the evaluations in between (but for those of another cell
            whose training this one shares); None: it was resumed, and the time before that is not
            known.
        steps: of the optimiser.
        texts: encoded with gradients; None as for `seconds`.
    """

    seconds: float | None
    steps: int
    texts: int | None


@dataclass(frozen=True, eq=False)
class Measured:
    """One cell as far as it was measured.

    Attributes:
        outcomes: seed -> `Outcomes` on the questions compared by; a system that learns nothing has
            the same under each seed.
        costs: seed -> of the training; empty where nothing was trained.
        failed: seed -> why it could not be trained.
    """

    outcomes: Mapping[int, pl.DataFrame]
    costs: Mapping[int, Cost]
    failed: Mapping[int, str]

    @classmethod
    def unseeded(cls, outcomes: pl.DataFrame, seeds: Collection[int]) -> "Measured":
        """A system that no seed changes."""
        return cls(dict.fromkeys(seeds, outcomes), {}, {})


@dataclass(frozen=True)
class Line:
    """A cell's line in the table.

    Attributes:
        cell: its name.
        seeds: that were measured.
        missing: seeds that were not, for whatever reason.
        failed: why, where the training failed: seed -> reason.
        values: metric -> mean over the seeds; empty: none was measured.
        spread: metric -> least and greatest value over the seeds.
        english: MRR of the same questions in English, mean over the seeds; None: no control.
        gain: of the deciding metric over the reference, on the seeds that both have; None: it is
            the reference, or no seed is shared.
        p: of the gain, adjusted for the number of comparisons; None where there is no gain.
        steady: whether the gain has one sign under every shared seed, of which there are several.
        compared: how many seeds the gain is over.
        cost: means over the seeds; None: nothing was trained.
    """

    cell: str
    seeds: tuple[int, ...]
    missing: tuple[int, ...]
    failed: Mapping[int, str]
    values: Mapping[str, float]
    spread: Mapping[str, tuple[float, float]]
    english: float | None
    gain: Interval | None
    p: float | None
    steady: bool
    compared: int
    cost: Cost | None

    @property
    def is_of_one_seed(self) -> bool:
        """Whether the gain is of one seed alone, so that nothing is known of another's."""
        return self.compared == 1

    @property
    def is_real(self) -> bool:
        """Whether the difference to the reference is more than chance of questions and seeds."""
        return self.p is not None and self.p < LEVEL and self.steady


def compare(
    cells: Mapping[str, Measured], reference: str, seeds: Collection[int], metric: str
) -> tuple[Line, ...]:
    """A line for each cell, in their order.

    Args:
        cells: name -> what was measured; all asked the same questions.
        reference: name of the cell that the others are compared with.
        seeds: that were wanted.
        metric: the one of `METRICS` that decides.

    Raises:
        RunError: two cells were asked different questions.
    """
    gains = {
        name: gain_of(cells[reference], cell, metric)
        for name, cell in cells.items()
        if name != reference
    }
    known = {name: gain for name, gain in gains.items() if gain is not None}
    adjusted = dict(zip(known, holm([p_value(gain) for gain in known.values()]), strict=True))
    return tuple(
        _line(
            name,
            cell,
            seeds,
            gain=known.get(name),
            p=adjusted.get(name),
            steady=name in known and is_steady(cells[reference], cell, metric),
            compared=len(_shared(cells[reference], cell)) if name in known else 0,
        )
        for name, cell in cells.items()
    )


def gain_of(reference: Measured, cell: Measured, metric: str) -> Interval | None:
    """Mean difference over the seeds that both have, and its interval over English sources.

    All outcomes of a source, under every seed, are drawn together: they are not independent.
    """
    shared = _shared(reference, cell)
    if not shared:
        return None
    a, b = (
        pl.concat([_tagged(each.outcomes[seed], seed) for seed in shared])
        for each in (reference, cell)
    )
    return paired_bootstrap(a, b, [metric])[metric]


def _shared(reference: Measured, cell: Measured) -> list[int]:
    return sorted(reference.outcomes.keys() & cell.outcomes.keys())


def _tagged(outcomes: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Outcomes whose questions are told apart by seed, their groups are not."""
    return outcomes.with_columns(query_id=pl.format("{}/{}", "query_id", pl.lit(seed)))


def is_steady(reference: Measured, cell: Measured, metric: str) -> bool:
    """Whether the difference has one sign under every seed that both have, which are several."""
    signs = [
        _values(cell.outcomes[seed])[metric] - _values(reference.outcomes[seed])[metric]
        for seed in _shared(reference, cell)
    ]
    return len(signs) > 1 and (all(sign > 0 for sign in signs) or all(sign < 0 for sign in signs))


def p_value(gain: Interval) -> float:
    """Two-sided p of a difference, by the normal whose 95 % interval is as wide as this one.

    Not the share of resamples beyond 0: with 2000 of them the smallest p other than 0 is too
    coarse to be adjusted for dozens of comparisons. Of too few sources nothing is certain.
    """
    if not gain.is_telling:
        return 1.0
    deviation = (gain.high - gain.low) / (2 * NormalDist().inv_cdf(0.975))
    if deviation == 0:
        return 1.0 if gain.mean == 0 else 0.0
    return 2 * NormalDist().cdf(-abs(gain.mean) / deviation)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number by Holm's step-down procedure, in their order."""
    order = sorted(range(len(p_values)), key=lambda number: p_values[number])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, number in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[number]))
        adjusted[number] = highest
    return adjusted


def verdict(lines: Sequence[Line], reference: str, metric: str) -> str:
    """Which differences are real, in plain sentences."""
    compared = [line for line in lines if line.gain is not None]
    if not compared:
        return "Nothing can be compared yet: no cell shares a seed with the reference."
    name = "MRR" if metric == "mrr" else metric
    sentences = []
    for word, sign in (("above", 1), ("below", -1)):
        chosen = [x for x in compared if x.is_real and x.gain and x.gain.mean * sign > 0]
        chosen.sort(key=lambda x: -sign * (x.gain.mean if x.gain else 0))
        if chosen:
            told = "; ".join(f"{x.cell} by {_gain(x)}" for x in chosen)
            sentences.append(f"Really {word} {reference} in {name}: {told}.")
    alike = [line.cell for line in compared if not line.is_real and not line.is_of_one_seed]
    if alike:
        sentences.append(
            f"Not to be told from {reference} with these questions and seeds: {'; '.join(alike)}."
        )
    once = [f"{x.cell} by {_gain(x)}" for x in compared if x.is_of_one_seed]
    if once:
        sentences.append(
            f"Under one seed, which is too few to judge by: {'; '.join(once)}, against {reference}."
        )
    return " ".join(sentences)


def best(lines: Sequence[Line], metric: str) -> Line | None:
    """The cell with the highest mean, of those with the most seeds; None: nothing is measured."""
    most = max((len(line.seeds) for line in lines), default=0)
    complete = [line for line in lines if line.values and len(line.seeds) == most]
    return max(complete, key=lambda line: line.values[metric], default=None)


def _gain(line: Line) -> str:
    assert line.gain is not None
    return f"{signed(line.gain.mean)} ({between(line.gain.low, line.gain.high)})"


def _line(
    name: str,
    cell: Measured,
    seeds: Collection[int],
    *,
    gain: Interval | None,
    p: float | None,
    steady: bool,
    compared: int,
) -> Line:
    by_seed = {seed: _values(cell.outcomes[seed]) for seed in sorted(cell.outcomes)}
    english = [
        scores[ALL].micro["mrr"]
        for outcomes in cell.outcomes.values()
        if (scores := summarise(outcomes, control=True))
    ]
    columns = {
        metric: [values[metric] for values in by_seed.values()] for metric in METRICS if by_seed
    }
    return Line(
        cell=name,
        seeds=tuple(by_seed),
        missing=tuple(seed for seed in seeds if seed not in by_seed),
        failed=dict(cell.failed),
        values={metric: fmean(column) for metric, column in columns.items()},
        spread={metric: (min(column), max(column)) for metric, column in columns.items()},
        english=fmean(english) if english else None,
        gain=gain,
        p=p,
        steady=steady,
        compared=compared,
        cost=_mean_cost(list(cell.costs.values())),
    )


def _values(outcomes: pl.DataFrame) -> Mapping[str, float]:
    return summarise(outcomes)[ALL].micro


def _mean_cost(costs: Sequence[Cost]) -> Cost | None:
    if not costs:
        return None
    seconds = [cost.seconds for cost in costs if cost.seconds is not None]
    texts = [cost.texts for cost in costs if cost.texts is not None]
    return Cost(
        seconds=fmean(seconds) if seconds else None,
        steps=round(fmean(cost.steps for cost in costs)),
        texts=round(fmean(texts)) if texts else None,
    )
