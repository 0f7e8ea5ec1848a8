"""`make serve` from nothing: what it starts, what it finds again, and that it ends all of it."""

import contextlib
import http.server
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

import polars as pl
import pytest
import yaml
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.states import Running
from test_prefect_pins import process, server_environment, wait_until_healthy
from tiny_line import configure, edit_kb

from deployments import serve
from monoglot import Retriever
from monoglot.errors import RunError
from monoglot.store import Store

ROOT = Path(__file__).parents[1]
DEPLOYED = {
    "retrain",
    "on-kb-change",
    "refresh-index",
    "ablation",
    "evaluate",
    "promote",
    "rollback",
}
LOGIN = "user:password"
_DATABASE = "PREFECT_SERVER_DATABASE_"
SHARED = [  # a database of several machines' servers, named as a whole and in parts
    {f"{_DATABASE}CONNECTION_URL": "postgresql+asyncpg://prefect@db.internal/prefect"},
    {
        f"{_DATABASE}DRIVER": "postgresql+asyncpg",
        f"{_DATABASE}HOST": "db.internal",
        f"{_DATABASE}USER": "prefect",
        f"{_DATABASE}PASSWORD": "p",
        f"{_DATABASE}NAME": "prefect",
    },
]
PATIENCE = 240.0  # for a busy machine; nothing waits longer than it must


class Server:
    """Prefect's API at a URL."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}/api"

    def get(self, path):
        return answer_to(urllib.request.Request(self.url + path))

    def post(self, path, **body):
        return self.post_all(path, body)

    def post_all(self, path, body):
        asked = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        return answer_to(asked)

    def deployments(self):
        return {it["name"]: it for it in self.post("/deployments/filter")}

    def start(self, deployment, **request):
        """Press the button; the run's id."""
        path = f"/deployments/{self.deployments()[deployment]['id']}/create_flow_run"
        return self.post(path, parameters={"request": request})["id"]

    def run(self, deployment, **request):
        """Press the button, and wait until the run has ended."""
        run = self.start(deployment, **request)
        return until(lambda: self.ended(run))

    def has_logged(self, run, words):
        found = self.post("/logs/filter", logs={"flow_run_id": {"any_": [run]}})
        return any(words in it["message"] for it in found)

    def artifacts(self):
        """Those that the UI lists: with a key."""
        return [it for it in self.post("/artifacts/filter") if it["key"]]

    def ended(self, run):
        found = self.get(f"/flow_runs/{run}")
        return found if found["state_type"] in {"COMPLETED", "FAILED", "CRASHED"} else None


def answer_to(request):
    """The API's answer; "busy" is asked again, as Prefect's client does: SQLite has one writer."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > end:
                raise
            time.sleep(0.5)


def until(there):
    """What it gives as soon as it gives something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = there()
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError("waited in vain")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def environment():
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MONOGLOT_"))}
    return {**kept, "PREFECT_WORKER_QUERY_SECONDS": "1"}


def serving(config, port, home, more=(), **options):
    command = [sys.executable, "-m", "deployments.serve", "--config", str(config)]
    return subprocess.Popen(
        [*command, "--port", str(port), "--home", str(home)],
        cwd=ROOT,
        env=environment() | dict(more),
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_nothing_to_runs_by_hand_and_by_schedule_and_back_to_nothing(line, tmp_path):
    config, home, port = line / "monoglot.yaml", tmp_path / "home", free_port()
    server = Server(port)
    with serving(config, port, home) as process:
        try:
            assert process.stdout.readline().startswith(f"http://127.0.0.1:{port}: deployments of")
            found = server.deployments()
            assert set(found) == DEPLOYED
            by_default = {"request": {"config_file": str(config)}}
            assert all(it["parameters"] == by_default for it in found.values())
            scheduled = {found[name]["id"] for name in ("retrain", "on-kb-change")}
            planned = lambda: server.post("/flow_runs/filter")  # noqa: E731
            until(lambda: {it["deployment_id"] for it in planned()} == scheduled)
            assert all(it["auto_scheduled"] for it in planned())

            with serving(config, port, home) as again:
                assert "a worker is running already" in again.stdout.readline()
            assert again.returncode == 0
            assert {name: it["id"] for name, it in server.deployments().items()} == {
                name: it["id"] for name, it in found.items()
            }
            settings = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/ui-settings"))
            assert settings["api_url"] == server.url

            run = server.run("evaluate", config_file=str(config), why="a look")
            assert (run["name"], run["state_type"]) == ("evaluate line: a look", "COMPLETED")
            # A scheduled check of that minute may have left one, too.
            [table] = [it for it in server.artifacts() if it["flow_run_id"] == run["id"]]
            assert "| untuned, asked in English | all |" in table["data"]

            missing = server.run("retrain", config_file=str(tmp_path / "none.yaml"))
            assert missing["state_type"] == "FAILED"
            assert "none.yaml" in missing["state"]["message"]
            with pytest.raises(urllib.error.HTTPError, match="409") as refused:
                server.run("retrain", config_file=str(config), force="perhaps")
            assert "request.force" in refused.value.read().decode()

            every = {"interval": 10, "anchor_date": "2026-01-01T00:00:00Z", "timezone": "UTC"}
            server.post_all(
                f"/deployments/{found['retrain']['id']}/schedules",
                [{"schedule": every, "active": True}],
            )
            plan = until(lambda: [it for it in server.artifacts() if it["key"].startswith("plan-")])
            assert "nothing to do" in plan[0]["data"]

            with Store.open(str(line / "store")).writer():  # as a check of the same minute
                began = server.start("refresh-index", config_file=str(config))
                until(lambda: server.has_logged(began, "waiting for its turn"))
                edit_kb(line, lambda kb: kb.with_columns(answer=pl.lit("written meanwhile")))
            assert until(lambda: server.ended(began))["state_type"] == "COMPLETED"
            assert Retriever(line / "store").search("invoice", k=1)[0].answer == "written meanwhile"
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    with pytest.raises(urllib.error.URLError):
        server.get("/health")
    assert "database is locked" not in (home / "worker.log").read_text()
    with (home / "worker.lock").open("a") as lock:  # the kernel frees it when the worker is gone
        assert serve._is_free(lock.fileno())


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the worker by /proc")
def test_a_run_killed_with_its_worker_holds_no_slot_once_served_again(line, tmp_path):
    home, port = tmp_path / "home", free_port()
    server, short = Server(port), (line / "monoglot.yaml").read_text()
    long = {"epochs": 3000, "batch_size": 32, "learning_rate": 0.02}
    config = configure(line, fine_tuning=long)  # so that it is still running when it is killed
    with serving(config, port, home) as process:
        try:
            process.stdout.readline()
            killed = server.start("retrain", config_file=str(config))
            until(lambda: server.get(f"/flow_runs/{killed}")["state_type"] == "RUNNING")
            # The worker first: it would tell of the other's end.
            for victim in (worker_of(process.pid), process_of(killed)):
                os.kill(victim, signal.SIGKILL)
            assert "the worker ended (-9)" in process.communicate(timeout=PATIENCE)[0]
        finally:
            process.kill()
    config.write_text(short)
    with serving(config, port, home) as process:
        try:
            # A scheduled run of that minute may have been with the worker, too.
            served = f"http://127.0.0.1:{port}: deployments of"
            few = itertools.islice(process.stdout, 9)
            said = list(itertools.takewhile(lambda it: not it.startswith(served), few))
            found = server.get(f"/flow_runs/{killed}")
            assert f"run {found['name']} is Crashed: it was killed, and its worker, too\n" in said
            assert found["state_type"] == "CRASHED"
            # Its lease, of five minutes, would outlast the patience of this one.
            assert server.run("retrain", config_file=str(config))["state_type"] == "COMPLETED"
        finally:
            process.send_signal(signal.SIGINT)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_with_a_login_serves_another_machine_as_well(line, tmp_path):
    config, port = line / "monoglot.yaml", free_port()
    known = {"PREFECT_API_AUTH_STRING": LOGIN}
    closed = known | {"PREFECT_SERVER_API_AUTH_STRING": LOGIN}
    there = {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    with serving(config, port, tmp_path / "a", closed) as process:
        try:
            assert process.stdout.readline().startswith(f"http://127.0.0.1:{port}: deployments of")
            with serving(config, free_port(), tmp_path / "b", there) as stranger:
                assert "401 Unauthorized" in stranger.stdout.readline()
            assert stranger.returncode == 1
            with serving(config, free_port(), tmp_path / "b", there | known) as other:
                said = other.stdout.readline()
                other.send_signal(signal.SIGINT)
            assert said.startswith(f"http://127.0.0.1:{port}: deployments of")
            assert other.returncode == 0
            assert not (tmp_path / "b/server.log").exists()
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


def process_of(run):
    mark = f"PREFECT__FLOW_RUN_ID={run}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                return int(path.parent.name)
    return None


def worker_of(process):
    [worker] = [
        int(pid)
        for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()
        if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    ]
    return worker


def test_what_cannot_be_served_is_refused_before_anything_starts(tmp_path, capsys):
    home = tmp_path / "home"
    assert serve.main(["--config", str(tmp_path / "none.yaml"), "--home", str(home)]) == 2
    assert "none.yaml" in capsys.readouterr().out
    assert not home.exists()


def test_what_answers_at_the_port_and_is_not_prefect_is_named(tmp_path):
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *_):
            """Silent."""

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{other.server_port}/api"
        with pytest.raises(RunError, match=r"Is it a Prefect server\? `make serve PORT="):
            serve._answers(url, other.server_port)


def test_no_server_is_started_where_another_one_is_named_and_down(tmp_path, monkeypatch):
    """It may be back in a moment, with workers and runs on other machines."""
    down, port = f"http://127.0.0.1:{free_port()}/api", free_port()
    monkeypatch.setenv("PREFECT_API_URL", down)
    with pytest.raises(RunError, match=rf"PREFECT_API_URL={down}: .* does not answer .* unset"):
        serve.serve(serve.SAMPLE, port, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_is_started_where_its_own_address_is_named(host):
    port = free_port()
    assert not serve._answers(f"http://{host}:{port}/api", port)


def test_a_server_that_asks_for_a_login_is_given_the_one_that_is_set(tmp_path):
    port = free_port()
    url, mine = f"http://127.0.0.1:{port}/api", server_environment(tmp_path / "mine", port)
    command = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    closed = server_environment(tmp_path / "home", port) | {"PREFECT_SERVER_API_AUTH_STRING": LOGIN}
    log, mine["PREFECT_API_URL"] = tmp_path / "server.log", url
    with process(command, log, closed, tmp_path) as server:
        wait_until_healthy(server, url, log)
        assert serve._answers(url, port)
        with pytest.raises(RunError, match=r"401 Unauthorized.*Set PREFECT_API_AUTH_STRING="):
            serve._ensure_pool(url, mine)
        for _ in range(2):  # the second time it is there
            serve._ensure_pool(url, mine | {"PREFECT_API_AUTH_STRING": LOGIN})
        asked = {"Authorization": f"Basic {b64encode(LOGIN.encode()).decode()}"}
        pool = answer_to(urllib.request.Request(f"{url}/work_pools/{serve.POOL}", headers=asked))
    assert pool["type"] == "process"
    assert "command" in pool["base_job_template"]["job_configuration"]


def test_runs_in_a_database_that_servers_of_other_machines_may_share_are_left_alone(prefect_api):
    @flow
    def lasting() -> None:
        """Never started."""

    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="shared", type="process"))
        named = client.create_flow(lasting)
        deployment = client.create_deployment(named, "lasting", work_pool_name="shared")
        run = client.create_flow_run_from_deployment(deployment).id
        client.set_flow_run_state(run, Running(), force=True)  # on another machine, or killed
        command, url = ["deployments.dead_runs", "shared"], {"PREFECT_API_URL": prefect_api}
        for database in SHARED:
            done = serve._python(command, environment() | url | database)
            assert (done.returncode, done.stdout) == (0, ""), done.stderr
            assert client.read_flow_run(run).state.is_running()
        assert "is Crashed: it was killed" in serve._python(command, environment() | url).stdout
        assert client.read_flow_run(run).state.is_crashed()


def test_what_the_operator_has_set_stays(tmp_path, monkeypatch):
    database = "postgresql+asyncpg://prefect@127.0.0.1/prefect"
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.internal:4200/api")
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", database)
    found = serve.environment_of(4300, tmp_path)
    assert found["PREFECT_API_URL"] == "http://prefect.internal:4200/api"
    assert found["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == database
    assert found["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    assert found["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


def test_every_deployment_and_schedule_runs_the_given_config(tmp_path):
    path = serve._deployments(tmp_path / "shop.yaml", tmp_path)
    deployed = yaml.safe_load(path.read_text())
    for it in deployed["deployments"]:
        given = [it, *(each for each in it.get("schedules", ()) if "parameters" in each)]
        assert {each["parameters"]["request"]["config_file"] for each in given} == {
            str(tmp_path / "shop.yaml")
        }
    [step] = deployed["pull"]
    assert list(step.values()) == [{"directory": str(ROOT)}]


def test_the_files_for_containers_name_each_others_parts():
    """No Docker daemon and no cluster in the tests: what they would look up is looked up here."""
    folder = ROOT / "deployments"
    compose = yaml.safe_load((folder / "docker/compose.yaml").read_text())
    services = compose["services"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        assert {it.partition(":")[0] for it in service["volumes"]} <= set(compose["volumes"])
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    objects = list(yaml.safe_load_all((folder / "kubernetes/monoglot.yaml").read_text()))
    named = {(it["kind"], it["metadata"]["name"]) for it in objects}
    for it in (each for each in objects if each["kind"] == "Deployment"):
        pod = it["spec"]["template"]
        assert it["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
        for volume in pod["spec"]["volumes"]:
            claim = volume["persistentVolumeClaim"]["claimName"]
            assert ("PersistentVolumeClaim", claim) in named
        [container] = pod["spec"]["containers"]
        mounts = [mount["name"] for mount in container["volumeMounts"]]
        assert mounts == [volume["name"] for volume in pod["spec"]["volumes"]]
    pool = json.loads((folder / "kubernetes/kubernetes-pool.json").read_text())
    asked = set(re.findall(r"{{ (\w+) }}", json.dumps(pool["job_configuration"])))
    assert asked == set(pool["variables"]["properties"])
