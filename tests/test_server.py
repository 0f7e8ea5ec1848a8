"""Prefect's temporary server serves one command and ends with it, however that ends."""

import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from flows.server import prefect_server, trouble_at
from monoglot.errors import RunError

HOLD = """
import sys, time
from pathlib import Path
from flows.server import prefect_server
with prefect_server(Path(sys.argv[1])) as url:
    print(url, flush=True)
    time.sleep(600)
"""

SURVIVE = """
import os, signal, sys, time
from pathlib import Path
from flows.server import prefect_server

def servers():
    threads = Path("/proc/self/task").iterdir()
    children = [pid for it in threads for pid in (it / "children").read_text().split()]
    told = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    return [pid for pid, command in told.items() if b"flows.server" in command]

with prefect_server(Path(sys.argv[1])):
    from prefect import flow, get_client, task
    from prefect.client.schemas.filters import TaskRunFilter

    @task
    def before():
        pass

    @task
    def after():
        pass

    @flow
    def killing():
        before()
        time.sleep(3)  # Prefect's server records tasks once a second
        os.kill(servers()[0], signal.SIGKILL)
        after()

    state = killing(return_state=True)
    with get_client(sync_client=True) as client:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            runs = client.read_task_runs()
            if len(runs) == 2 and all(run.state.is_completed() for run in runs):
                break
            time.sleep(0.5)
        [run] = client.read_flow_runs()
        assert run.state.type == state.type
    names = sorted(run.name.split("-")[0] for run in runs)
    print(state.type.value, names, len(servers()), "server left", flush=True)
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


@pytest.mark.parametrize("status", [200, 401, 403, 404, 503])
def test_a_login_is_no_trouble_and_another_server_is(status):
    """`/health` asks nobody for a login, but a proxy before it may."""

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            """Silent."""

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.handle_request, daemon=True).start()
        trouble = trouble_at(f"http://127.0.0.1:{other.server_port}/api/")
    if status in (200, 401, 403):
        assert trouble is None
    else:
        assert isinstance(trouble, urllib.error.HTTPError)


def test_what_speaks_no_http_is_trouble():
    def greet(listener):
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"SSH-2.0-OpenSSH\r\n")
            connection.recv(1000)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=greet, args=(listener,), daemon=True).start()
        assert trouble_at(f"http://127.0.0.1:{listener.getsockname()[1]}/api") is not None


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
def test_a_server_that_is_killed_is_replaced_and_the_run_goes_on(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-c", SURVIVE, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # Of the history nothing is lost that was written before, and all that came after is there.
    assert done.stdout.splitlines()[-1] == "COMPLETED ['after', 'before'] 1 server left"


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
