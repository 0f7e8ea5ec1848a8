"""The trials of a grid one after another: which come next, and what has become of each."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from prefect import get_run_logger

from monoglot.errors import (
    InputError,
    RunError,
    StaleVectorsError,
    StoreBusyError,
    StoreError,
)
from monoglot.identity import digest, identity_of
from monoglot.learning.comparison import Cost, Measured
from monoglot.learning.grid import Trial, learning_settings_of
from monoglot.store import Artifact, Store


class Deadline(NamedTuple):
    """When no further cell is begun, on the monotonic clock; None: never."""

    at: float | None

    @classmethod
    def after(cls, seconds: float | None) -> "Deadline":
        """So many seconds from now."""
        return cls(None if seconds is None else time.monotonic() + seconds)

    @property
    def is_over(self) -> bool:
        """Whether it has passed."""
        return self.at is not None and time.monotonic() >= self.at


def shared_trainings(trials: Sequence[Trial]) -> Iterator[tuple[Trial, bool]]:
    """The trials in their order, and whether a later one goes on from the same training.

    That is one which differs from it in `merging` alone.
    """
    trainings = [_training(trial) for trial in trials]
    for number, trial in enumerate(trials):
        yield trial, trainings[number] in trainings[number + 1 :]


def _training(trial: Trial) -> str:
    config = trial.config
    before = {k: v for k, v in learning_settings_of(config).items() if k != "merging"}
    return digest(identity_of({**before, "split": config.split, "base": config.base_model}))


def cost_of(measured: Artifact) -> Cost | None:
    """What the training of a measured cell took; None: nothing was trained."""
    facts = measured.facts
    if "steps" not in facts:
        return None
    return Cost(facts["seconds"], facts["steps"], facts["texts"])


@dataclass
class Results:
    """What has become of a grid's trials so far: cell -> seed -> result, or why there is none."""

    cells: dict[str, dict[int, Artifact]]
    failed: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))

    @classmethod
    def of(cls, trials: Iterable[Trial]) -> "Results":
        """Of none of them yet, in their order."""
        return cls({trial.cell: {} for trial in trials})

    @contextlib.contextmanager
    def noting(self, trial: Trial) -> Iterator[None]:
        """Note why a cell cannot learn, and go on with the others; trouble with the store is more.

        A rate at which the loss diverges, or a similarity that these rows do not carry, is what a
        grid is there to find.
        """
        try:
            yield
        except (RunError, InputError) as error:
            if isinstance(error, StoreError | StoreBusyError | StaleVectorsError):
                raise
            self.failed[trial.cell][trial.seed] = str(error)
            get_run_logger().warning(
                f"cell {trial.cell}, seed {trial.seed}: {error}", extra={"shown": True}
            )

    def refuse_none(self) -> None:
        """Refuse to compare where every cell that was tried failed.

        Raises:
            RunError: says why the first did.
        """
        if self.failed and not any(self.cells.values()):
            cell, reasons = next(iter(self.failed.items()))
            raise RunError(f"No cell could be trained. {cell}: {next(iter(reasons.values()))}")

    def measured(self, store: Store, table: str = "") -> dict[str, Measured]:
        """Every cell with its outcomes on the validation questions, or those of another table."""
        named = (table,) if table else ()
        return {
            name: Measured(
                outcomes={seed: store.table(found, *named) for seed, found in by_seed.items()},
                costs={
                    seed: cost
                    for seed, found in by_seed.items()
                    if (cost := cost_of(found)) is not None
                },
                failed=self.failed.get(name, {}),
            )
            for name, by_seed in self.cells.items()
        }
