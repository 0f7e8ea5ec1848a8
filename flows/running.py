"""Starting a flow from the command line: its server, its console, its log."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from flows.console import watched
from flows.server import prefect_server
from monoglot.config import Config
from monoglot.errors import MonoglotError, StoreError
from monoglot.outstanding import Outstanding
from monoglot.runs import RunRecord
from monoglot.store import Store
from tasks.request import AblationRequest, RunRequest, TuningRequest
from tasks.workplace import PROGRESS

if TYPE_CHECKING:
    from monoglot.ablation import AblationReport
    from monoglot.tuning import TuningReport

_ROOM = 20_000_000  # bytes; the smallest run, its server's database included, needs a quarter


def run_retrain(request: RunRequest, config: Config, console: Console) -> RunRecord | Outstanding:
    """`flows.retrain` in this process, watched on the console."""
    with _prefect(config, console):
        from flows.retrain import retrain

        return retrain(request)


def run_refresh(request: RunRequest, config: Config, console: Console) -> RunRecord | None:
    """`flows.refresh_index` in this process, watched on the console."""
    with _prefect(config, console, _load_refresh):
        from flows.refresh_index import refresh_index

        return refresh_index(request)


def run_ablation(request: AblationRequest, config: Config, console: Console) -> "AblationReport":
    """`flows.ablation` in this process, watched on the console."""
    with _prefect(config, console, in_workshop=True):
        from flows.ablation import ablate

        return ablate(request)


def run_tuning(request: TuningRequest, config: Config, console: Console) -> "TuningReport":
    """`flows.tuning` in this process, watched on the console."""
    with _prefect(config, console, in_workshop=True):
        from flows.tuning import tune

        return tune(request)


def refuse_full(folder: Path) -> None:
    """Refuse a disk on which no run can end.

    Raises:
        StoreError: there is hardly any space left; says how much.
    """
    free = shutil.disk_usage(folder).free
    if free < _ROOM:
        raise StoreError(
            f"{folder}: the disk is full ({free / 1e6:,.1f} MB left). What is finished is kept: "
            "free some space, or move the store and set `store:` to its place, and run again."
        )


@contextlib.contextmanager
def _full_disk_explained(folder: Path) -> Iterator[None]:
    """A disk that fills up during a run, told as such.

    The stages say so themselves; Prefect's server answers with an internal error instead.
    """
    try:
        yield
    except MonoglotError:
        raise
    except Exception as error:
        try:
            refuse_full(folder)
        except StoreError as full:
            raise full from error
        raise


def _load() -> None:
    """What a run needs and takes seconds to import."""
    import lancedb  # noqa: F401
    import sentence_transformers  # noqa: F401

    import flows.retrain  # noqa: F401


def _load_refresh() -> None:
    """The same for a refresh, which does without the library's trainer (`learning.light`)."""
    import lancedb  # noqa: F401
    import torch  # noqa: F401

    import flows.refresh_index  # noqa: F401


@contextlib.contextmanager
def _prefect(
    config: Config,
    console: Console,
    meanwhile: Callable[[], None] = _load,
    *,
    in_workshop: bool = False,
) -> Iterator[None]:
    """Prefect with the run's lines on the console and everything else in the store's log.

    Whether the store can be written, and is not being written to, is found out first: a server
    takes seconds to start. One for the workshop has its home there: a run of the line may start
    and end meanwhile.
    """
    store = Store.open(config.store)
    if in_workshop:
        store = Store.open(str(store.workshop))
    with store.writer():
        refuse_full(store.root)
    home = store.root / ".prefect"
    console.print(f"starting Prefect (its log: {home}/run.log)", style="dim", markup=False)
    with (
        _full_disk_explained(store.root),
        prefect_server(home, meanwhile),
        watched(console, home / "run.log") as bars,
    ):
        token = PROGRESS.set(bars.of)
        try:
            yield
        finally:
            PROGRESS.reset(token)
