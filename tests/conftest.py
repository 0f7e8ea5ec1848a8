"""Fixtures shared by the tests of tasks and flows."""

import os
import shutil
from pathlib import Path

# Before torch is loaded: the tests run side by side, one to a core, and idle threads that spin
# would take the cores from one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A GPU rounds more than most tests allow. `make test-gpu` runs those that are about one.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import pytest
from hypothesis import settings
from large_table import large, large_folder, large_table, little_memory  # noqa: F401  fixtures
from s3_server import machine, s3  # noqa: F401  fixtures
from tiny_line import write_line

from flows.server import prefect_server
from monoglot.generation.ledger import Ledger
from monoglot.learning import precision

# No test is timed: a busy machine breaks nothing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def fp32(monkeypatch):
    """Tests compute in fp32: what a busy machine measures of tiny models is chance."""
    monkeypatch.setattr(precision, "_is_faster", lambda _run: False)


@pytest.fixture
def ledger(tmp_path):
    """An empty ledger of LLM replies."""
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory):
    """URL of one Prefect server for all tests that run flows; starting one takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_API_URL", raising=False)
        with prefect_server(tmp_path_factory.mktemp("prefect")) as url:
            yield url


@pytest.fixture
def no_endpoint(monkeypatch):
    """No LLM endpoint in the environment, whatever the machine's own says."""
    for name in ("BASE_URL", "API_KEY", "MODEL"):
        monkeypatch.delenv(f"MONOGLOT_LLM_{name}", raising=False)


@pytest.fixture(scope="session")
def finished_line(tmp_path_factory, prefect_api):
    """A folder with a small line and its store after one run; read only."""
    from flows.retrain import retrain
    from tasks.request import RunRequest

    folder = tmp_path_factory.mktemp("line")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MONOGLOT_LLM_BASE_URL", raising=False)
        retrain(RunRequest(config_file=write_line(folder)))
    return folder


@pytest.fixture
def line(finished_line, tmp_path, no_endpoint) -> Path:
    """A copy of the finished line, to change."""
    return shutil.copytree(finished_line, tmp_path / "line")
