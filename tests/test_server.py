"""Prefect's temporary server serves one command and ends with it, however that ends."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from flows.server import prefect_server
from monoglot.errors import RunError

HOLD = """
import sys, time
from pathlib import Path
from flows.server import prefect_server
with prefect_server(Path(sys.argv[1])) as url:
    print(url, flush=True)
    time.sleep(600)
"""


def answers(url):
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as reply:
            return reply.status == 200
    except urllib.error.URLError:
        return False


def test_a_server_that_is_set_is_used_and_none_is_started(monkeypatch, tmp_path, prefect_api):
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    with prefect_server(tmp_path / "home") as url:
        assert url == prefect_api
    assert not (tmp_path / "home").exists()


def test_a_server_that_is_set_and_down_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    refused = pytest.raises(RunError, match=r"PREFECT_API_URL=http://127\.0\.0\.1:9/api.*unset")
    with refused, prefect_server(tmp_path / "home"):
        pass


@pytest.mark.slow
def test_the_server_ends_when_its_command_is_killed(tmp_path):
    """The server's end of the pipe closes with the process that held the other, by any signal."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[1],
    ) as command:
        url = command.stdout.readline().strip()
        assert answers(url)
        command.send_signal(signal.SIGKILL)
        command.wait()
        until = time.monotonic() + 30
        while answers(url) and time.monotonic() < until:
            time.sleep(0.1)
        assert not answers(url)


@pytest.mark.slow
def test_a_server_that_cannot_start_names_its_log(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    home = tmp_path / "home"
    (home / "prefect.db").mkdir(parents=True)  # a folder where the database should be
    refused = pytest.raises(RunError, match=r"did not start; its log is .*server\.log")
    with refused, prefect_server(home):
        pass
    assert (home / "server.log").stat().st_size > 0
    assert "PREFECT_API_URL" not in os.environ
