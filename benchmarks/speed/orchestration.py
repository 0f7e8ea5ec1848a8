"""What orchestration costs: a run with nothing to do, and the demo beside its work alone."""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.from_tests import from_tests
from benchmarks.provenance import ROOT
from benchmarks.speed.commands import demo, monoglot, stages_of
from benchmarks.speed.figures import Figure, seconds_of

TITLE = "A run with nothing to do, and the demo"
# What is left of the demo without its stages and without orchestration: a process that imports what
# the stages use, and answers.
_REST = """
import sys
import lancedb, sentence_transformers
from flows.cli import DEMO_QUESTIONS
from monoglot import Retriever
Retriever(sys.argv[1]).search_many(DEMO_QUESTIONS, k=1)
"""


def measure(*, quick: bool, data: Path | None) -> list[Figure]:
    """A small line, run to its end once, and then again; then the demo."""
    del data
    with tempfile.TemporaryDirectory() as folder:
        config = from_tests("tiny_line").write_line(Path(folder))
        first = monoglot("run", config).seconds
        work = sum(stage["seconds"] for stage in stages_of(Path(folder) / "store"))
        nothing = min(monoglot("run", config).seconds for _ in range(3))
        flow = _flow_run(config)
    python = seconds_of(lambda: subprocess.run([sys.executable, "-c", "import polars"]), times=3)  # noqa: PLW1510
    return [
        Figure("`monoglot run`, nothing to do", nothing, "s", most=3.0),
        Figure("Python that imports polars, beside it", python, "s"),
        Figure("a flow run with nothing to do, server up", flow, "s", most=10.0),
        Figure("a small line's first run, its own server started and ended", first, "s"),
        Figure("of that in stages", work, "s"),
        *([] if quick else _of_demo()),
    ]


def _of_demo() -> list[Figure]:
    """The demo in a new store, and the share of it that is neither stages nor their libraries."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        whole = demo(store).seconds
        work = sum(stage["seconds"] for stage in stages_of(store))
        command = [sys.executable, "-c", _REST, str(store)]
        rest = seconds_of(lambda: subprocess.run(command, cwd=ROOT, check=True))  # noqa: S603
    return [
        Figure("the demo", whole, "s"),
        Figure("of that in stages", work, "s"),
        Figure("the same libraries imported, and its questions answered", rest, "s"),
        Figure(
            "what is left, as a share of the demo", (whole - work - rest) / whole, "x", most=0.1
        ),
    ]


def _flow_run(config: Path) -> float:
    """Seconds from the call of the flow to its end."""
    from flows.retrain import retrain
    from flows.server import prefect_server
    from tasks.request import RunRequest

    with tempfile.TemporaryDirectory() as home, prefect_server(Path(home)):
        return seconds_of(lambda: retrain(RunRequest(config_file=config)), times=2)
