"""`Workplace`: where and how the stages of one run happen, and what became of each.

Nothing here bears identity: two runs in different places share every cached result.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from monoglot.generation.spending import Budget
from monoglot.identity import frame_digest
from monoglot.runs import StageRecord
from monoglot.settings import Settings
from monoglot.store import Artifact, Draft, Key, Store
from tasks.progress import ProgressInUI

if TYPE_CHECKING:
    from monoglot.learning.encoder import Encoder

REJECTS = "rejects.parquet"


class Progress(Protocol):
    """Told how far a stage is; `note` says what else is worth showing."""

    def __call__(self, done: int, of: int, note: str = "") -> None:
        """Tell it."""


# Looks at the weights during a training: (encoder, steps done, steps in all). It changes nothing.
Watcher = Callable[["Encoder", int, int], None]

# Set by who starts a flow in this process and shows bars; a flow's parameters are data alone.
PROGRESS: ContextVar[Callable[[str], Progress]] = ContextVar("PROGRESS", default=ProgressInUI)


@dataclass(frozen=True)
class Workplace:
    """What the flow hands to every stage beside its inputs.

    Attributes:
        store: where results are kept.
        settings: endpoint, key, device, batch sizes.
        progress: gives, for a stage's title, the function told `(done, of)` while it runs.
        journal: what each stage of this run did, in order; stages append to it.
        budget: what the run may spend on the LLM, over all its stages.
        watcher: looks on while a model is trained; None: nobody does.
    """

    store: Store
    settings: Settings
    progress: Callable[[str], Progress] = field(default_factory=PROGRESS.get)
    journal: list[StageRecord] = field(default_factory=list)
    budget: Budget = field(default_factory=Budget)
    watcher: Watcher | None = None


@dataclass(frozen=True)
class Job:
    """One stage being computed: what its function works with.

    Attributes:
        store: to read the inputs' tables and folders from.
        settings: where and how.
        key: identity of the result; `scratch` is the folder that belongs to it.
        draft: to write the result to.
        on_progress: to be told `(done, of)` now and then.
        budget: the run's, for stages that ask the LLM.
        watcher: looks on while a model is trained; None: nobody does.
    """

    store: Store
    settings: Settings
    key: Key
    draft: Draft
    on_progress: Progress
    budget: Budget = field(default_factory=Budget)
    watcher: Watcher | None = None

    def on_step(self, encoder: "Encoder", done: int, of: int) -> None:
        """The progress of a training, and a look at its weights where one is wanted."""
        self.on_progress(done, of)
        if self.watcher is not None:
            self.watcher(encoder, done, of)

    def on_purchase(self, done: int, of: int) -> None:
        """The progress of a stage that asks the LLM, told with what the run has spent so far."""
        self.on_progress(done, of, self.budget.told())

    @property
    def scratch(self) -> Path:
        """A folder for unfinished work, found again when this stage is started anew."""
        return self.store.scratch(self.key)

    def table(self, artifact: Artifact) -> pl.DataFrame:
        """The main table of an input."""
        return self.store.table(artifact)

    def write(
        self,
        rows: pl.DataFrame,
        rejects: pl.DataFrame | None = None,
        *,
        warnings: Sequence[str] = (),
        content: str = "",
        **facts: Any,
    ) -> None:
        """Write a table as the result, beside it what was rejected on the way.

        The digest is that of the rows: a file written anew with the same rows changes nothing.

        Args:
            rows: the result.
            rejects: `contracts.Rejects`; None: the stage rejects nothing.
            warnings: lines that the log and the report show, in this run and when it is reused.
            content: digest of the rows, where it is known.
            facts: numbers to keep with the result, as JSON.
        """
        self.draft.write_table(rows)
        self.draft.digest = content or frame_digest(rows)
        self.draft.facts |= {**facts, "warnings": list(warnings)}
        if rejects is not None:
            self.draft.write_table(rejects, REJECTS)
            self.draft.facts["rejected"] = rejects.height
