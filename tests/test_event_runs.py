"""The knowledge base is edited; watcher, server and worker do the rest, and the row answers."""

import os
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from test_prefect_pins import api_url, process  # noqa: F401  a server with scheduler and triggers
from tiny_line import edit_kb

from monoglot import Retriever

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_endpoint"), pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[1]
WAIT_S = 600


def renamed(text):
    first = pl.int_range(pl.len()) == 0
    return lambda kb: kb.with_columns(
        pl.when(first).then(pl.lit(text)).otherwise("query").alias("query")
    )


def until(condition):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.5)


def deployment_file(folder):
    """The project's own deployment `on-kb-change`, for the line in the folder, unscheduled."""
    whole = yaml.safe_load((ROOT / "deployments/prefect.yaml").read_text())
    [ours] = [it for it in whole["deployments"] if it["name"] == "on-kb-change"]
    ours["parameters"]["request"]["config_file"] = str(folder / "monoglot.yaml")
    del ours["schedules"]  # the event alone must do
    path = folder / "prefect.yaml"
    path.write_text(yaml.safe_dump({"name": "monoglot", "deployments": [ours]}))
    return path, ours["work_pool"]["name"]


def finished(client):
    """The ended runs of the deployment, as (state, name)."""
    runs = [it for it in client.read_flow_runs(limit=100) if it.deployment_id is not None]
    assert not [it for it in runs if it.state.is_failed() or it.state.is_crashed()]
    ended = sorted(
        (it for it in runs if it.state.is_final()), key=lambda it: it.expected_start_time
    )
    return [(it.state.name, it.name) for it in ended]


def test_an_edit_goes_live_by_itself_and_fifty_are_few_runs(line, api_url, tmp_path):  # noqa: F811
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    environment |= {
        "PREFECT_API_URL": api_url,
        "PREFECT_HOME": str(tmp_path / "worker"),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": str(ROOT),
    }
    file, pool = deployment_file(line)
    for command in (
        ["work-pool", "create", pool, "--type", "process"],
        ["--no-prompt", "deploy", "--prefect-file", str(file), "--all"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *command],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    run_cli = "from flows.cli import main; main()"
    watch = ["-u", "-c", run_cli, "watch", "-c", str(line / "monoglot.yaml")]
    worker = ["-m", "prefect", "worker", "start", "--pool", pool]
    retriever = Retriever(line / "store")

    def answers(text):
        retriever.refresh()
        return retriever.search(text, k=1)[0].query == text

    with (
        SyncPrefectClient(api_url) as client,
        process(worker, tmp_path / "worker.log", environment, ROOT),
        process(watch, tmp_path / "watch.log", environment, ROOT),
    ):
        until(lambda: "no row differs" in (tmp_path / "watch.log").read_text())
        edited = time.monotonic()
        edit_kb(line, renamed("my parrot ate the invoice"))
        until(lambda: answers("my parrot ate the invoice"))
        sys.stdout.write(f"answered {time.monotonic() - edited:.0f} s after the edit\n")
        until(lambda: finished(client))
        assert finished(client) == [("Completed", "refresh line: added: 1, removed: 1")]

        for number in range(50):
            edit_kb(line, renamed(f"invoice {number} was eaten by a parrot"))
            time.sleep(0.05)
        until(lambda: answers("invoice 49 was eaten by a parrot"))
        time.sleep(30)  # for a run too many
        until(lambda: all(it.state.is_final() for it in client.read_flow_runs()))
        assert len(finished(client)) <= 3
