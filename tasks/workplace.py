"""`Workplace`: where and how the stages of one run happen, and what became of each.

Nothing here bears identity: two runs in different places share every cached result.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from monoglot.runs import StageRecord
from monoglot.settings import Settings
from monoglot.store import Artifact, Draft, Key, Store

Progress = Callable[[int, int], None]


def _silent(_title: str) -> Progress:
    return lambda _done, _of: None


# Set by who starts a flow in this process and shows bars; a flow's parameters are data alone.
PROGRESS: ContextVar[Callable[[str], Progress]] = ContextVar("PROGRESS", default=_silent)


@dataclass(frozen=True)
class Workplace:
    """What the flow hands to every stage beside its inputs.

    Attributes:
        store: where results are kept.
        settings: endpoint, key, device, batch sizes.
        progress: gives, for a stage's title, the function told `(done, of)` while it runs.
        journal: what each stage of this run did, in order; stages append to it.
    """

    store: Store
    settings: Settings
    progress: Callable[[str], Progress] = field(default_factory=PROGRESS.get)
    journal: list[StageRecord] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """One stage being computed: what its function works with.

    Attributes:
        store: to read the inputs' tables and folders from.
        settings: where and how.
        key: identity of the result; `scratch` is the folder that belongs to it.
        draft: to write the result to.
        on_progress: to be told `(done, of)` now and then.
    """

    store: Store
    settings: Settings
    key: Key
    draft: Draft
    on_progress: Progress

    @property
    def scratch(self) -> Path:
        """A folder for unfinished work, found again when this stage is started anew."""
        return self.store.scratch(self.key)

    def table(self, artifact: Artifact, name: str | None = None) -> pl.DataFrame:
        """A table of an input."""
        return self.store.table(artifact) if name is None else self.store.table(artifact, name)
