"""Training by a deployment of its own, on another pool: a real server and worker, one machine."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL, temporary_settings
from test_prefect_pins import api_url, process  # noqa: F401  a server with scheduler and triggers
from tiny_line import request_of, write_line

from flows.fine_tune import NoWorkerError, fine_tune_model, require, train_on
from flows.operation import is_served
from flows.retrain import retrain
from monoglot import Retriever
from monoglot.errors import ConfigError
from monoglot.store import Store

pytestmark = pytest.mark.usefixtures("no_endpoint")

ROOT = Path(__file__).parents[1]
POOL = "monoglot-gpu"


@pytest.fixture
def environment(api_url, tmp_path):  # noqa: F811
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    return kept | {
        "PREFECT_API_URL": api_url,
        "PREFECT_HOME": str(tmp_path / "gpu"),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": str(ROOT),
    }


def prefect(environment, *command):
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *command],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def wait_for_worker():
    until = time.monotonic() + 120
    with get_client(sync_client=True) as client:
        while not is_served(client, POOL):
            assert time.monotonic() < until, "no worker came"
            time.sleep(0.2)


@pytest.mark.usefixtures("prefect_api")
def test_a_pool_that_nobody_serves_is_refused_instead_of_waited_for():
    with get_client(sync_client=True) as client:
        flow = client.create_flow(fine_tune_model)
        client.create_work_pool(WorkPoolCreate(name="idle", type="process"))
        client.create_deployment(flow, "idle", work_pool_name="idle")
        client.create_deployment(flow, "by-a-process")  # as `flow.serve()` makes them
        for refuse in (require, lambda deployment: train_on(deployment, None)):
            with pytest.raises(NoWorkerError, match="`prefect worker start --pool idle`"):
                refuse("fine-tune/idle")
        client.send_worker_heartbeat("idle", "a worker", heartbeat_interval_seconds=30)
    require("fine-tune/idle")
    require("fine-tune/by-a-process")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_has_another_pool_train_and_goes_on(environment, tmp_path, monkeypatch):
    monkeypatch.setenv("MONOGLOT_TRAINING_DEPLOYMENT", "fine-tune/gpu")
    write_line(tmp_path / "line")
    with temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"]}):
        with pytest.raises(ConfigError, match="has no such deployment"):
            retrain(request_of(tmp_path / "line"))

        prefect(environment, "work-pool", "create", POOL, "--type", "process")
        prefect(environment, "deploy", "--prefect-file", "deployments/gpu.yaml", "--all")
        worker = ["-m", "prefect", "worker", "start", "--pool", POOL]
        with pytest.raises(NoWorkerError, match="has no live worker"):
            retrain(request_of(tmp_path / "line"))
        with process(worker, tmp_path / "worker.log", environment, ROOT):
            wait_for_worker()
            record = retrain(request_of(tmp_path / "line"))
    [trained] = [stage for stage in record.stages if stage.title == "fine-tune"]
    assert trained.outcome == "reused"  # the deployment has trained it
    with SyncPrefectClient(environment["PREFECT_API_URL"]) as client:
        [run] = [it for it in client.read_flow_runs() if it.name == "fine-tune kb.csv"]
        assert run.state.is_completed()
        assert run.deployment_id is not None
    assert Retriever(tmp_path / "line/store").search("mera parcel kahan hai")
    assert Store.existing(str(tmp_path / "line/store")).find(trained.key)
