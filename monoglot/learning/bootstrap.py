"""Bootstrap intervals: how far chance alone could move a metric or a difference of two systems."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.errors import RunError
from monoglot.learning.metrics import MACRO, METRICS, asked, values_of

_CELLS_PER_BLOCK = 2_000_000
# Of fewer independent differences, one sign of all of them is no rare thing: a sign test of five
# alike has p = .06, while resamples of five numbers above 0 never have a mean below it.
FEWEST_SOURCES = 6

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value measured on the questions, and the bounds of its 95% bootstrap interval.

    Attributes:
        mean: the value.
        low: the lower bound.
        high: the upper bound.
        sources: groups of questions that were drawn; below `FEWEST_SOURCES` the bounds tell
            nothing.
    """

    mean: float
    low: float
    high: float
    sources: int

    @property
    def is_telling(self) -> bool:
        """Whether there are enough sources for the bounds to be worth anything."""
        return self.sources >= FEWEST_SOURCES


def bootstrap(
    outcomes: pl.DataFrame,
    metrics: Sequence[str] = METRICS,
    *,
    control: bool = False,
    macro_min: int = 1,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Interval]:
    """The interval of each metric of one system; arguments as for `paired_bootstrap`."""
    chosen = asked(outcomes, control=control).sort("query_id")
    scored = chosen.select("label", "group", *(values_of(metric) for metric in METRICS))
    return _intervals(scored, metrics, macro_min=macro_min, resamples=resamples, seed=seed)


def paired_bootstrap(
    a: pl.DataFrame,
    b: pl.DataFrame,
    metrics: Sequence[str] = METRICS,
    *,
    control: bool = False,
    macro_min: int = 1,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Interval]:
    """The interval of the difference b - a of two systems asked the same questions.

    Whole groups (translations of one English source) are drawn with replacement, since their
    outcomes go together; both systems are seen on the same draw, so that what makes a question
    hard for both cancels (Berg-Kirkpatrick et al. 2012; percentile bounds).

    Args:
        a: outcomes of the system compared with.
        b: outcomes of the system of interest.
        metrics: any of `METRICS` and `MACRO`.
        control: compare the English control instead of the questions themselves.
        macro_min: as for `summarise`.
        resamples: draws; 2000 leave the bounds uncertain by about 2 % of the interval's width.
        seed: seed of the draws.

    Raises:
        RunError: the two were not asked the same questions, or none.
    """
    first, second = asked(a, control=control), asked(b, control=control)
    return _paired(first, second, metrics, macro_min=macro_min, resamples=resamples, seed=seed)


def language_cost(
    outcomes: pl.DataFrame,
    metrics: Sequence[str] = METRICS,
    *,
    macro_min: int = 1,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Interval]:
    """What one system still loses to the language: English control minus the questions as asked.

    Only questions whose English wording is known are compared; arguments as for
    `paired_bootstrap`.

    Raises:
        RunError: no question has an English control.
    """
    english = asked(outcomes, control=True)
    native = asked(outcomes).join(english, on="query_id", how="semi")
    return _paired(native, english, metrics, macro_min=macro_min, resamples=resamples, seed=seed)


def _paired(
    a: pl.DataFrame, b: pl.DataFrame, metrics: Sequence[str], **options: int
) -> dict[str, Interval]:
    places = b.select("query_id", place_b="rank")
    both = a.join(places, on="query_id", validate="1:1").sort("query_id")
    if not both.height == a.height == b.height:
        raise RunError(
            f"two evaluations of different questions ({a.height:,} and {b.height:,}, of which "
            f"{both.height:,} are shared) cannot be compared. Evaluate both on the same file."
        )
    gains = both.select(
        "label", "group", *(values_of(name, "place_b") - values_of(name) for name in METRICS)
    )
    return _intervals(gains, metrics, **options)


def _intervals(
    scored: pl.DataFrame, metrics: Sequence[str], *, macro_min: int, resamples: int, seed: int
) -> dict[str, Interval]:
    """Intervals of micro and macro means, all from the same draws.

    `scored` has `label`, `group` and a column for each of `METRICS`; one row a question.
    """
    if scored.is_empty():
        raise RunError("there is no question to measure. Give an evaluation file with questions.")
    scored = scored.with_columns(pl.col("group").rank("dense").cast(pl.Int64) - 1)
    micro = _Cells.of(scored.with_columns(label=pl.lit("")))
    macro = _Cells.of(scored.filter(pl.len().over("label") >= macro_min))
    chosen = [
        (cells, [name for name in metrics if name in known])
        for cells, known in ((micro, METRICS), (macro, MACRO))
        if len(cells.group)
    ]
    groups = scored["group"].n_unique()
    means = [_means(chosen, np.ones((1, groups)))]  # of the questions as they are
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS_PER_BLOCK // scored.height)
    means += [
        _means(chosen, _draws(rng, min(block, resamples - start), groups))
        for start in range(0, resamples, block)
    ]
    return {
        name: _interval(np.concatenate([part[name] for part in means]), groups)
        for _, names in chosen
        for name in names
    }


def _means(chosen: "Sequence[tuple[_Cells, Sequence[str]]]", drawn: Values) -> dict[str, Values]:
    """Metric -> its value in each resample."""
    return {
        name: values
        for cells, names in chosen
        for name, values in zip(names, cells.means(names, drawn), strict=True)
    }


def _draws(rng: np.random.Generator, resamples: int, groups: int) -> Values:
    """How often each group is drawn in each resample: (resamples, groups), rows sum to groups."""
    drawn = rng.integers(0, groups, (resamples, groups))
    drawn += np.arange(resamples)[:, None] * groups
    counts = np.bincount(drawn.ravel(), minlength=resamples * groups)
    return counts.reshape(resamples, groups).astype(np.float64)


def _interval(values: Values, groups: int) -> Interval:
    """From the measured value and, after it, those of the resamples."""
    low, high = np.nanquantile(values[1:], (0.025, 0.975))
    return Interval(float(values[0]), float(low), float(high), groups)


@dataclass(frozen=True)
class _Cells:
    """Sums of the questions of one group and one label, sorted by label.

    A micro mean is a macro mean over a single label, so one sum serves both.
    """

    group: NDArray[np.int64]
    count: Values
    sums: Mapping[str, Values]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, scored: pl.DataFrame) -> "_Cells":
        by = scored.group_by("label", "group").agg(pl.col(METRICS).sum(), n=pl.len())
        by = by.sort("label", "group").with_row_index()
        return cls(
            group=by["group"].to_numpy(),
            count=by["n"].cast(pl.Float64).to_numpy(),
            sums={name: by[name].to_numpy() for name in METRICS},
            starts=by.filter(pl.col("label").is_first_distinct())["index"].cast(int).to_numpy(),
        )

    def means(self, metrics: Sequence[str], drawn: Values) -> list[Values]:
        """Each metric's mean over labels in each resample; a label not drawn is left out."""
        weights = drawn[:, self.group]
        sizes = self._by_label(weights, self.count)
        labels = (sizes > 0).sum(axis=1)
        sizes = np.maximum(sizes, 1)
        means = []
        for metric in metrics:
            totals = self._by_label(weights, self.sums[metric.removeprefix("macro_")])
            sums = (totals / sizes).sum(axis=1)
            means.append(np.where(labels > 0, sums / np.maximum(labels, 1), np.nan))
        return means

    def _by_label(self, weights: Values, values: Values) -> Values:
        """Weighted sums of the cells of each label: (resamples, labels)."""
        if len(self.starts) == 1:  # the usual case, and a matrix product is several times faster
            return (weights @ values)[:, None]
        return np.add.reduceat(weights * values, self.starts, axis=1)
