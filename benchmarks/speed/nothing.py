"""A run with nothing to do: as a command, and as a flow run against a server that is up."""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.from_tests import from_tests
from benchmarks.speed.commands import monoglot, stages_of
from benchmarks.speed.figures import Figure, seconds_of

TITLE = "A run with nothing to do"


def measure(*, quick: bool, data: Path | None) -> list[Figure]:
    """A small line, run to its end once, and then again."""
    del quick, data
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
    ]


def _flow_run(config: Path) -> float:
    """Seconds from the call of the flow to its end."""
    from flows.retrain import retrain
    from flows.server import prefect_server
    from tasks.request import RunRequest

    with tempfile.TemporaryDirectory() as home, prefect_server(Path(home)):
        return seconds_of(lambda: retrain(RunRequest(config_file=config)), times=2)
