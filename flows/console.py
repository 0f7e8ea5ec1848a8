"""What a person sees while a flow runs: one line per stage, progress bars, and no tracebacks.

Prefect's own lines and tracebacks go to a log file; on a worker, where nothing here is used, they
go where Prefect sends them.
"""

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as RichTask
from rich.text import Text

from monoglot.runs import StageRecord
from tasks.workplace import Progress as StageProgress

_OFF_TERMINAL = 200  # columns
_STYLES = {"done": "green", "reused": "blue"}


def make_console(*, stderr: bool = False) -> Console:
    """A console that breaks no path or number; off a terminal, no table either."""
    console = Console(stderr=stderr, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _OFF_TERMINAL
    return console


def show_line(text: str, *, stderr: bool = False) -> None:
    """Print a line as it is."""
    make_console(stderr=stderr).print(text, markup=False)


def print_json(value: Any) -> None:
    """Print a value for programs."""
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


class _Lines(logging.Handler):
    """Shows the flows' own records: stages as a row, other lines as they are."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        stage = getattr(record, "stage", None)
        if isinstance(stage, StageRecord):
            self.console.print(stage_row(stage))
        elif getattr(record, "shown", False):
            style = "yellow" if record.levelno >= logging.WARNING else ""
            self.console.print(Text(record.getMessage(), style=style))


class _Log(logging.FileHandler):
    """The log of a run. A full disk is told once by who runs it, not for each line that is lost."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's own name
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


def stage_row(stage: StageRecord) -> Text:
    """A stage in one line of aligned columns."""
    rejected = stage.artifact.facts.get("rejected")
    text = Text(f"{stage.title:<30} ")
    text.append(f"{stage.outcome:<7}", _STYLES[stage.outcome])
    text.append(f"{stage.rows:>9,} rows {stage.seconds:>7.1f} s")
    if rejected:
        text.append(f"  {rejected:,} rejected", "yellow")
    text.append(f"  {stage.reason}", "dim")
    return text


@contextlib.contextmanager
def watched(console: Console, log: Path) -> Iterator["Bars"]:
    """Inside the block, stages show on the console, and all other log records go to a file.

    Args:
        console: where to show.
        log: file for the rest, written anew.

    Yields:
        The bars that long stages fill: `Bars.of` is a `Workplace.progress`.
    """
    import prefect.main  # noqa: F401  # its import sets handlers up, which are then replaced

    log.parent.mkdir(parents=True, exist_ok=True)
    file = _Log(log, mode="w", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    lines = _Lines(console)
    swaps: dict[str, list[logging.Handler]] = {"": [file], "prefect._internal": [file]}
    shown = [logging.getLogger(f"prefect.{kind}_runs") for kind in ("flow", "task")]
    before = {name: logging.getLogger(name).handlers[:] for name in swaps}
    for name, handlers in swaps.items():
        logging.getLogger(name).handlers[:] = handlers
    for logger in shown:
        logger.addHandler(lines)
    logging.captureWarnings(capture=True)
    try:
        with Bars(console) as bars:
            yield bars
    finally:
        logging.captureWarnings(capture=False)
        for logger in shown:
            logger.removeHandler(lines)
        for name, handlers in before.items():
            logging.getLogger(name).handlers[:] = handlers
        file.close()


class _Rate(ProgressColumn):
    """Steps a second, of late."""

    def render(self, task: RichTask) -> Text:
        return Text(
            "" if task.speed is None else f"{task.speed:,.0f}/s", style="progress.data.speed"
        )


class Bars:
    """Progress bars of the stages that take long; they vanish when done, and off a terminal."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<30}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def of(self, title: str) -> StageProgress:
        """The function that a stage tells `(done, of)`; the bar appears with the first call."""
        bar: list[TaskID] = []

        def tell(done: int, of: int, note: str = "") -> None:
            if not bar:
                bar.append(self._progress.add_task(title, total=of, note=note))
            self._progress.update(bar[0], completed=done, total=of, note=note, visible=done < of)

        return tell
