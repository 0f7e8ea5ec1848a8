"""Changes of the knowledge base's file are announced once per burst, to a real Prefect server."""

import contextvars
import json
import threading
import time
import urllib.request
import uuid
from datetime import UTC, datetime

import polars as pl
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from tiny_line import edit_kb
from typer.testing import CliRunner

from flows import announcing
from flows.announcing import announce, difference, watch
from flows.cli import app
from monoglot.errors import ConfigError, RunError
from monoglot.watching import Settling, signature
from tasks.request import RunRequest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_endpoint")]

WAIT_S = 60


@pytest.fixture
def api(prefect_api, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    return prefect_api


def renamed(text):
    """The first row under another text: one row removed, one added."""
    first = pl.int_range(pl.len()) == 0
    return lambda kb: kb.with_columns(
        pl.when(first).then(pl.lit(text)).otherwise("query").alias("query")
    )


def received(title):
    """The events about a knowledge base that the server has kept."""
    wanted = {"filter": {"resource": {"id": [f"monoglot.kb.{title}"]}}}
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/events/filter", json=wanted).json()
    return [event["payload"] for event in found["events"]]


def until(condition):
    deadline = time.monotonic() + WAIT_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert condition()


@pytest.fixture
def watching(line):
    """`monoglot watch` on a copy of the line under a name of its own; yields what it says."""
    stop, said = threading.Event(), []
    folder = line.rename(line.with_name(f"line-{line.parent.name}"))
    request = RunRequest(config_file=folder / "monoglot.yaml")
    thread = threading.Thread(
        target=contextvars.copy_context().run,  # Prefect's settings are those of the context
        args=(watch, request, said.append),
        kwargs={"every": 0.05, "quiet": 0.5, "stop": stop},
    )
    thread.start()
    yield folder, said
    stop.set()
    thread.join(WAIT_S)


def test_a_burst_settles_once_and_a_steady_stream_within_its_limit(tmp_path):
    settling = Settling(quiet=3.0, at_most=60.0)
    path = tmp_path / "kb.csv"
    ready = []
    for second in range(200):
        if second in (0, 10, 11, 12) or 50 <= second < 150:
            path.write_text("x" * (second + 1))
        if settling.is_ready(signature(path), float(second)):
            ready.append(second)
    # First seen at 0; the burst of 10 to 12; 100 s of edits in at most 60 s; what followed.
    assert ready == [3, 15, 110, 152]
    path.unlink()
    assert not settling.is_ready(signature(path), 200.0)
    assert settling.is_ready(signature(path), 203.0)  # a file that is gone is news, too


def test_notify_tells_the_server_the_counts(line, api):
    edit_kb(line, renamed("my parrot ate the invoice"))
    result = CliRunner().invoke(app, ["notify", "-c", str(line / "monoglot.yaml"), "--json"])
    sent = json.loads(result.stdout)
    expected = {
        "added": 1, "removed": 1, "edited": 0, "relabelled": 0, "answered": 0, "new_labels": 0,
        "lost_labels": 0,
    }  # fmt: skip
    assert sent["changes"] == expected
    assert sent["event"]["event"] == "monoglot.kb.changed"
    until(lambda: expected in received("line"))


def test_any_system_can_post_the_event(api):
    """As `deployments/README.md` says, with curl."""
    event = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "event": "monoglot.kb.changed",
        "resource": {"prefect.resource.id": "monoglot.kb.posted"},
        "payload": {"by": "curl"},
    }
    body, headers = json.dumps([event]).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{api}/events", body, headers)
    with urllib.request.urlopen(request) as reply:
        assert reply.status == 204
    until(lambda: received("posted") == [{"by": "curl"}])


def test_notify_says_nothing_where_nothing_changed(line, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)  # needed for nothing here
    result = CliRunner().invoke(app, ["notify", "-c", str(line / "monoglot.yaml")])
    assert (result.exit_code, result.stdout) == (0, "nothing to tell: no row differs\n")


def test_an_event_that_no_server_takes_is_an_error(line, monkeypatch):
    changes, _ = difference(RunRequest(config_file=line / "monoglot.yaml").read()[0])
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(ConfigError, match="PREFECT_API_URL is not set"):
        announce("line", changes)
    down = "http://127.0.0.1:9/api"
    monkeypatch.setenv("PREFECT_API_URL", down)
    with temporary_settings({PREFECT_API_URL: down}), pytest.raises(RunError, match=down):
        announce("line", changes)


def test_fifty_edits_are_one_event(watching, api):
    folder, said = watching
    until(lambda: "no row differs from the release in production" in said)
    for number in range(50):
        edit_kb(folder, renamed(f"invoice {number}, eaten by a parrot"))
        time.sleep(0.02)
    until(lambda: said and said[-1] == "monoglot.kb.changed: added: 1, removed: 1")
    until(lambda: received(folder.name))
    assert len(received(folder.name)) == 1


def test_a_half_written_file_is_waited_on(watching, api):
    folder, said = watching
    whole = (folder / "kb.csv").read_bytes()
    (folder / "kb.csv").write_bytes(b'query,label\n"half of a que')
    until(lambda: said and said[-1].startswith("waiting: "))
    assert "kb.csv" in said[-1]
    (folder / "kb.csv").unlink()
    until(lambda: said and said[-1].startswith("waiting: ") and len(said) >= 3)
    (folder / "kb.csv").write_bytes(whole)
    edit_kb(folder, renamed("the whole of a query"))
    until(lambda: said and said[-1] == "monoglot.kb.changed: added: 1, removed: 1")
    until(lambda: len(received(folder.name)) == 1)


def test_an_event_the_server_did_not_take_is_sent_again(watching, api, monkeypatch):
    folder, said = watching
    tries = []

    def down_at_first(title, changes):
        tries.append(title)
        if len(tries) < 3:
            raise RunError("the server is down")
        return announce(title, changes)

    monkeypatch.setattr(announcing, "announce", down_at_first)
    edit_kb(folder, renamed("said in the end"))
    until(lambda: said and said[-1].startswith("monoglot.kb.changed"))
    assert said[-2] == "trying again: the server is down"
    assert len(tries) == 3
