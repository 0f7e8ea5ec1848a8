"""What goes wrong is told to a webhook, once, and never fails a run. A real receiver listens."""

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import yaml
from tiny_line import configure, edit_kb, request_of, store_of
from typer.testing import CliRunner

from flows import retrain as module
from flows.cli import app
from flows.on_kb_change import on_kb_change
from flows.refresh_index import refresh_index
from flows.retrain import retrain
from monoglot.errors import BudgetError, DataError
from monoglot.health import Health
from monoglot.notices import Notice, tell
from monoglot.serving.releases import Releases
from monoglot.settings import Settings
from monoglot.store import Store

pytestmark = pytest.mark.usefixtures("no_endpoint")

SECRET = "T0-very-secret"
REDIRECTS = (301, 302, 303, 307, 308)
NOTICE = Notice("failed", "retrain failed", "/store", "the reason", "what to do", "a run")


class Receiver(HTTPServer):
    """Keeps what is posted; answers with `status`, and to a GET with 200."""

    def __init__(self):
        self.status, self.got, self.asked = 200, [], 0
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hooks/{SECRET}"

    @property
    def events(self):
        return [message["event"] for message in self.got]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers["Content-Length"])
        self.server.got.append(json.loads(self.rfile.read(length)))
        self.send_response(self.server.status)
        if self.server.status in REDIRECTS:
            self.send_header("Location", f"{self.server.url}/moved")
        self.end_headers()

    def do_GET(self):
        self.server.asked += 1
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def webhook(monkeypatch):
    receiver = Receiver()
    thread = threading.Thread(target=receiver.serve_forever)
    thread.start()
    monkeypatch.setenv("MONOGLOT_WEBHOOK_URL", receiver.url)
    yield receiver
    receiver.shutdown()
    thread.join()
    receiver.server_close()


def break_kb(folder):
    (folder / "kb.csv").write_text("query,label\n")


def test_a_notice_is_json_that_chat_systems_show(webhook):
    assert tell(Settings(), NOTICE) == "told by webhook"
    [message] = webhook.got
    assert message == {
        "text": "Monoglot: retrain failed (a run)\nStore: /store\nthe reason\nTo do: what to do",
        "event": "failed",
        "what": "retrain failed",
        "store": "/store",
        "why": "the reason",
        "to_do": "what to do",
        "run": "a run",
    }


def test_secrets_are_not_told(webhook, monkeypatch):
    monkeypatch.setenv("MONOGLOT_LLM_API_KEY", "sk-secret")
    leaky = Notice("failed", "f", "/store", f"key sk-secret, hook {webhook.url}", "look")
    tell(Settings(), leaky)
    assert webhook.got[0]["why"] == "key ***, hook ***"


@pytest.mark.parametrize("key", ["test", "e", "awaits_approval"])
def test_a_dummy_key_mangles_no_path_and_no_event(webhook, monkeypatch, key):
    monkeypatch.setenv("MONOGLOT_LLM_API_KEY", key)
    waits = Notice("awaits_approval", "a candidate waits", "/data/test-store", "", "look")
    tell(Settings(), waits)
    [message] = webhook.got
    assert (message["event"], message["store"]) == ("awaits_approval", "/data/test-store")


@pytest.mark.parametrize("status", REDIRECTS)
def test_a_webhook_that_redirects_was_not_told(webhook, tmp_path, status):
    store = Store.open(str(tmp_path / "store"))
    webhook.status = status
    said = tell(Settings(), NOTICE, store)
    assert said == (
        "the webhook (MONOGLOT_WEBHOOK_URL) could not be told: "
        f"it redirects (HTTP {status}); set it to the address that it redirects to"
    )
    assert webhook.asked == 0
    webhook.status = 200
    assert tell(Settings(), NOTICE, store) == "told by webhook"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "ftp://127.0.0.1/", "http://[", "x"])
def test_a_webhook_that_does_not_work_is_told_without_its_address(url):
    said = tell(Settings(webhook_url=url + SECRET), NOTICE)
    assert said.startswith("the webhook (MONOGLOT_WEBHOOK_URL) could not be told: ")
    assert SECRET not in said


def test_the_same_news_is_told_once_a_day(webhook, line):
    store, settings = store_of(line), Settings()
    webhook.status = 500
    assert tell(settings, NOTICE, store).endswith("could not be told: it answers HTTP 500")
    webhook.status = 200
    assert tell(settings, NOTICE, store) == "told by webhook"
    assert tell(settings, NOTICE, store) == "not told again: the webhook took the same news " + (
        "within a day"
    )
    tell(settings, Notice("failed", "another", "/store", "", ""), store)
    assert len(webhook.got) == 3
    health, tomorrow = Health(store), datetime.now(UTC) + timedelta(hours=25)
    news = next(iter(json.loads((store.root / "health/told.json").read_text())))
    assert (health.was_told(news), health.was_told(news, tomorrow)) == (True, False)


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("flow", [retrain, refresh_index, on_kb_change], ids=lambda it: it.name)
def test_a_failed_run_is_told(webhook, line, flow, caplog):
    break_kb(line)
    with pytest.raises(DataError):
        flow(request_of(line))
    [message] = webhook.got
    assert message["event"] == "failed"
    assert message["what"] == f"{flow.name.replace('-', ' ')} of line failed"
    assert message["store"] == str(line / "store")
    assert "kb.csv" in message["why"]
    assert "mend what it names" in message["to_do"]
    assert SECRET not in caplog.text


@pytest.mark.usefixtures("prefect_api")
def test_a_webhook_that_is_down_fails_no_run(webhook, line, caplog):
    webhook.status = 503
    break_kb(line)
    with pytest.raises(DataError):
        refresh_index(request_of(line))
    assert "could not be told: it answers HTTP 503" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.usefixtures("prefect_api")
def test_a_spending_stop_in_a_flow_of_a_flow_is_told_once(webhook, line, monkeypatch):
    def stop(*_):
        raise BudgetError("spending.max_usd = 1 is reached")

    monkeypatch.setattr(module, "train_and_release", stop)
    edit_kb(line, lambda kb: kb.head(40))
    with pytest.raises(BudgetError):
        on_kb_change(request_of(line))
    assert webhook.events == ["spending_stop"]
    assert webhook.got[0]["what"] == "on kb change of line stopped at the spending limit"
    assert "raise spending.max_usd" in webhook.got[0]["to_do"].lower()


@pytest.mark.usefixtures("prefect_api")
def test_a_rejected_candidate_is_told_once_and_not_by_runs_that_find_nothing(webhook, line):
    path = line / "monoglot.yaml"
    config = yaml.safe_load(path.read_text())
    config["fine_tuning"] |= {"epochs": 1, "learning_rate": 1e-9}
    path.write_text(yaml.safe_dump(config))
    current = Releases(store_of(line)).current()
    record = retrain(request_of(line))
    assert record.verdict == "rejected"
    assert webhook.events == ["rejected"]
    assert webhook.got[0]["why"] == " ".join(record.reasons)
    assert record.report in webhook.got[0]["to_do"]
    assert Releases(store_of(line)).current().model_digest == current.model_digest
    retrain(request_of(line))
    assert webhook.events == ["rejected"]


@pytest.mark.usefixtures("prefect_api")
def test_a_candidate_that_waits_is_told_as_such(webhook, line):
    easy = {"approval": True, "certain": False, "min_gain": -1.0, "max_english_loss": 1.0}
    longer = {"epochs": 41, "batch_size": 32, "learning_rate": 0.02}
    configure(line, gate=easy, fine_tuning=longer)
    assert retrain(request_of(line)).verdict == "awaits approval"
    assert webhook.events == ["awaits_approval"]
    assert "`monoglot promote`" in webhook.got[0]["to_do"]


@pytest.mark.usefixtures("prefect_api")
def test_a_training_that_gives_the_same_model_again_is_no_news(webhook, line):
    configure(line, gate={"metric": "hit@3"})
    assert retrain(request_of(line)).verdict == "unchanged"
    assert webhook.events == []


@pytest.mark.usefixtures("prefect_api")
def test_a_check_that_found_the_store_busy_is_not_a_good_one(line):
    """A run that hangs with the lock would otherwise stay unnoticed: the checks go on."""
    store = store_of(line)
    edit_kb(line, lambda kb: kb.head(70))
    old = datetime.now(UTC) - timedelta(hours=30)
    Health(store).note_good(old)
    noted = store.files.read("health/good.json")
    with store.writer():
        assert on_kb_change(request_of(line), return_state=True).name == "Busy"
    assert store.files.read("health/good.json") == noted
    on_kb_change(request_of(line))
    assert store.files.read("health/good.json") != noted


def test_a_stale_store_is_noticed_from_outside(webhook, line, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    store, health = store_of(line), Health(store_of(line))
    config = ["-c", str(line / "monoglot.yaml"), "--notify", "--json"]

    def last_check():
        found = json.loads(CliRunner().invoke(app, ["doctor", *config]).stdout)
        return next(it for it in found if it["what"] == "last check")

    assert last_check()["state"] == "ok"
    record = next(path for path in store.runs.glob("*.json") if path.name != "last.json")
    old = datetime.now(UTC) - timedelta(hours=30)
    text = json.loads(record.read_text()) | {"finished": f"{old:%Y-%m-%dT%H:%M:%SZ}"}
    record.write_text(json.dumps(text))
    health.note_good(old)
    said = last_check()
    assert said["state"] == "warning"
    assert "30.0 hours ago" in said["said"]
    assert "MONOGLOT_STALE_HOURS (26)" in said["said"]
    last_check()
    assert webhook.events == ["stale"]
    health.note_good()
    assert last_check()["state"] == "ok"
