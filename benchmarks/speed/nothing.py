"""A run with nothing to do: as a command, and as a flow run against a server that is up."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.from_tests import from_tests
from benchmarks.provenance import ROOT
from benchmarks.speed.figures import Figure, seconds_of

TITLE = "A run with nothing to do"
_RUN = "from flows.cli import main; main()"


def measure(*, quick: bool, data: Path | None) -> list[Figure]:
    """A small line, run to its end once, and then again."""
    del quick, data
    with tempfile.TemporaryDirectory() as folder:
        config = from_tests("tiny_line").write_line(Path(folder))
        first = seconds_of(lambda: _monoglot(config))
        record = _last_record(Path(folder) / "store")
        work = sum(stage["seconds"] for stage in record["stages"])
        nothing = seconds_of(lambda: _monoglot(config), times=3)
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


def _monoglot(config: Path) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MONOGLOT_"))}
    subprocess.run(  # noqa: S603
        [sys.executable, "-c", _RUN, "run", "-c", str(config)],
        cwd=ROOT,
        env=kept,
        capture_output=True,
        check=True,
    )


def _last_record(store: Path) -> dict[str, list[dict[str, float]]]:
    records = [json.loads(path.read_text()) for path in (store / "runs").glob("*.json")]
    found: dict[str, list[dict[str, float]]]
    [found] = [record for record in records if "stages" in record]
    return found
