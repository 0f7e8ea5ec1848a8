"""The pinned Prefect starts, serves and schedules: what its own version ranges do not promise.

prefect 3.8.8 allows a fastapi with which its server cannot be imported, and an SQLAlchemy with
which its scheduler fails on every loop while everything else works. The pins `fastapi<0.151` and
`sqlalchemy<2.1` guard against both; this test fails when they no longer do.
"""

import contextlib
import importlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.schedules import IntervalSchedule

STARTS_WITHIN_S = 120
SCHEDULES_WITHIN_S = 60


def test_the_server_can_be_imported():
    assert importlib.import_module("prefect.server.api.server").create_app is not None


@pytest.fixture
def api_url(tmp_path: Path) -> Iterator[str]:
    """A Prefect server of its own on a free loopback port, stopped at the end whatever happens."""
    port, log = free_port(), tmp_path / "server.log"
    command = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = server_environment(tmp_path / "home", port)
    with process(command, log, environment, tmp_path) as server:
        url = f"http://127.0.0.1:{port}/api"
        wait_until_healthy(server, url, log)
        yield url


@contextlib.contextmanager
def process(
    command: list[str], log: Path, environment: dict[str, str], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Python with these arguments, in a process group of its own, stopped at the end."""
    with log.open("wb") as stream:
        child = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        stop(child)


def test_a_schedule_creates_runs(api_url, tmp_path):
    @flow
    def tick() -> None:
        """Do nothing."""

    with SyncPrefectClient(api_url) as client:
        deployment = client.create_deployment(
            client.create_flow(tick),
            "every-minute",
            schedules=[
                DeploymentScheduleCreate(schedule=IntervalSchedule(interval=timedelta(minutes=1)))
            ],
        )
        chosen = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
        deadline = time.monotonic() + SCHEDULES_WITHIN_S
        runs = []
        while not runs and time.monotonic() < deadline:
            time.sleep(0.5)
            runs = client.read_flow_runs(deployment_filter=chosen)
    assert runs, f"nothing was scheduled:\n{tail(tmp_path / 'server.log')}"
    assert all(run.auto_scheduled and run.state.is_scheduled() for run in runs)
    starts = sorted(run.expected_start_time for run in runs)
    assert starts == [starts[0] + timedelta(minutes=n) for n in range(len(starts))]


def server_environment(home: Path, port: int) -> dict[str, str]:
    """The environment of a server that shares nothing with the machine's own Prefect."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return clean | {
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1",
        "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_healthy(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"the server did not start (exit code {server.poll()}):\n{tail(log)}")


def tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-3000:]


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and its children: politely, then not."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, kind)
            server.wait(timeout=10)
        except (ProcessLookupError, PermissionError):  # macOS answers the latter for a dead group
            break
        except subprocess.TimeoutExpired:
            continue
    server.wait()
