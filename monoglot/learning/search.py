"""Successive halving over a typed space of recipes (Jamieson and Talwalkar, arXiv 1502.07943).

Many candidates train for a ninth of their epochs, the best third of them for a third, and the best
third of these in full. The candidates are the first points of a scrambled Halton sequence: more
time tries more of them, and those that were tried before are found again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from pydantic import ValidationError

from monoglot.config import Config
from monoglot.learning.grid import Changes, updated
from monoglot.learning.grids import options_of
from monoglot.learning_config import SamplingConfig, TrainingConfig

T = TypeVar("T")

SHARES = (1 / 9, 1 / 3, 1.0)  # of a candidate's epochs, rung by rung
_KEPT = 3  # one in so many goes on to the next rung
_FEWEST, _MOST = 3, 81
_BATCHES = (32, 64, 128, 256)
_RATES = (0.25, 4.0)  # times the present rate
_TEMPERATURES = (0.02, 0.1)
_EPOCHS = (0.5, 1.0, 2.0)  # times the present epochs


@dataclass(frozen=True)
class Tried:
    """A candidate in one rung.

    Attributes:
        rung: from 0.
        changes: the candidate, with its own epochs.
        score: of the deciding metric on validation; None: it could not be trained.
    """

    rung: int
    changes: Changes
    score: float | None


def candidates(config: Config, rate: float, count: int, seed: int) -> list[Changes]:
    """Recipes as changes of the present one, spread evenly over the space.

    Args:
        config: the present recipe, around which rates and epochs are tried.
        rate: its peak learning rate.
        count: how many; those whose settings contradict one another are left out.
        seed: of the sequence.
    """
    from scipy.stats import qmc  # of the pipeline only

    points = qmc.Halton(d=6, rng=np.random.default_rng(seed)).random(count)
    made = [_candidate(config, rate, point) for point in points]
    return [changes for changes in made if _is_recipe(config, changes)]


def _is_recipe(config: Config, changes: Changes) -> bool:
    """Whether its settings go together: explicit negatives need some to be sampled."""
    try:
        Config.model_validate(updated(config.model_dump(), changes))
    except ValidationError:
        return False
    return True


def _candidate(config: Config, rate: float, point: Sequence[float]) -> Changes:
    batch, low, warm, epochs, objective, strategy = point
    chosen: Changes = {
        "fine_tuning": {
            "batch_size": _one(_BATCHES, batch),
            "learning_rate": _between(_RATES, low) * rate,
            "temperature": _between(_TEMPERATURES, warm),
            "epochs": max(1, round(_one(_EPOCHS, epochs) * config.fine_tuning.epochs)),
            "objective": _one(options_of(TrainingConfig, "objective"), objective),
        },
        "sampling": {"strategy": _one(options_of(SamplingConfig, "strategy"), strategy)},
    }
    tuned = chosen["fine_tuning"]
    for name in ("learning_rate", "temperature"):
        tuned[name] = float(f"{tuned[name]:.2g}")  # two digits: nobody can tell more apart
    return chosen


def _one(options: Sequence[T], place: float) -> T:
    return options[min(int(place * len(options)), len(options) - 1)]


def _between(bounds: tuple[float, float], place: float) -> float:
    """On a logarithmic scale."""
    low, high = bounds
    return float(low * (high / low) ** place)


def how_many(seconds: float, full: float) -> int:
    """Candidates that the time allows: together they cost a third of as many full trainings."""
    return min(_MOST, max(_FEWEST, math.floor(len(SHARES) * seconds / max(full, 1e-9))))


def shortened(changes: Changes, share: float) -> Changes:
    """A candidate with a share of its epochs."""
    tuned = changes["fine_tuning"]
    return {
        **changes,
        "fine_tuning": {**tuned, "epochs": max(1, round(share * tuned["epochs"]))},
    }


def survivors(rung: Sequence[Tried]) -> list[Changes]:
    """The best third of a rung, at least one; of equal ones the earlier."""
    ranked = sorted((it for it in rung if it.score is not None), key=lambda it: -(it.score or 0.0))
    return [it.changes for it in ranked[: max(1, len(rung) // _KEPT)]]


def differences(config: Config, changes: Changes) -> Mapping[str, Mapping[str, float | int | str]]:
    """What a candidate changes in the present recipe, without what it leaves as it is."""
    kept = {
        section: {
            name: value
            for name, value in settings.items()
            if getattr(getattr(config, section), name) != value
        }
        for section, settings in changes.items()
    }
    return {section: settings for section, settings in kept.items() if settings}
