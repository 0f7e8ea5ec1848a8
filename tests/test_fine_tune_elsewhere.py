"""Training by a deployment of its own, on another pool: a real server and worker, one machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_URL, temporary_settings
from test_prefect_pins import api_url, process  # noqa: F401  a server with scheduler and triggers
from tiny_line import request_of, write_line

from flows.retrain import retrain
from monoglot import Retriever
from monoglot.errors import ConfigError
from monoglot.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_endpoint"), pytest.mark.timeout(600)]

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


def test_a_run_has_another_pool_train_and_goes_on(environment, tmp_path, monkeypatch):
    monkeypatch.setenv("MONOGLOT_TRAINING_DEPLOYMENT", "fine-tune/gpu")
    write_line(tmp_path / "line")
    with temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"]}):
        with pytest.raises(ConfigError, match="has no such deployment"):
            retrain(request_of(tmp_path / "line"))

        prefect(environment, "work-pool", "create", POOL, "--type", "process")
        prefect(environment, "deploy", "--prefect-file", "deployments/gpu.yaml", "--all")
        worker = ["-m", "prefect", "worker", "start", "--pool", POOL]
        with process(worker, tmp_path / "worker.log", environment, ROOT):
            record = retrain(request_of(tmp_path / "line"))
    [trained] = [stage for stage in record.stages if stage.title == "fine-tune"]
    assert trained.outcome == "reused"  # the deployment has trained it
    with SyncPrefectClient(environment["PREFECT_API_URL"]) as client:
        [run] = [it for it in client.read_flow_runs() if it.name == "fine-tune kb.csv"]
        assert run.state.is_completed()
        assert run.deployment_id is not None
    assert Retriever(tmp_path / "line/store").search("mera parcel kahan hai")
    assert Store.existing(str(tmp_path / "line/store")).find(trained.key)
