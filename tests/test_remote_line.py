"""A whole line whose store is in a bucket, on two machines that share it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from llm_server import LLMServer
from tiny_line import edit_kb, request_of, write_line

from flows.refresh_index import refresh_index
from flows.retrain import retrain
from monoglot import Retriever
from monoglot.serving.releases import Releases
from monoglot.store import Store

QUESTION = "mera order kab aayega"


def outcomes(record):
    return {stage.title: stage.outcome for stage in record.stages}


@pytest.mark.slow
def test_two_machines_share_a_line(machine, tmp_path, prefect_api, no_endpoint):
    location = f"s3://shop/line-{os.getpid()}"
    folder = write_line(tmp_path / "line", store=location).parent
    first = retrain(request_of(folder))
    answer = Retriever(location).search(QUESTION)
    assert answer[0].answer

    machine("b")
    retriever = Retriever(location)
    assert retriever.search(QUESTION) == answer
    again = retrain(request_of(folder))  # nothing to do
    assert again == first
    forced = retrain(request_of(folder, force=True))
    assert set(outcomes(forced).values()) == {"reused"}
    assert forced.release == first.release

    edit_kb(folder, lambda kb: kb.head(kb.height - 1))
    refreshed = refresh_index(request_of(folder))
    assert refreshed.release != first.release
    assert retriever.refresh()
    machine("a")
    store = Store.existing(location)
    assert Releases(store).current().id == refreshed.release
    assert [it.id for it in Releases(store).history()] == [refreshed.release, first.release]
    Releases(store).rollback()
    machine("b")
    assert retriever.refresh()
    assert retriever.release.id == first.release
    assert retriever.search(QUESTION) == answer

    local = write_line(tmp_path / "local").parent
    retrain(request_of(local))
    assert Retriever(local / "store").search(QUESTION) == answer


# Each kills a run at another moment of its way into the bucket; the lock is short, so that another
# machine takes it over within seconds.
DYING = """
import os, signal
from monoglot.remote import store
from monoglot.remote.bucket import Bucket
store.TERM_S = 4.0
left = {count}

def dying(real):
    def call(self, name, *given):
        global left
        left -= {name!r} in str(name)
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, name, *given)
    return call

for method in ("put", "create", "swap"):
    setattr(Bucket, method, dying(getattr(Bucket, method)))
from flows.cli import main
main()
"""


def monoglot(folder, name="nothing", count=1):
    """`monoglot run` in a process of its own, killed at the count-th write of such a name."""
    code = DYING.format(name=name, count=count)
    return subprocess.run(
        [sys.executable, "-c", code, "run", "-c", str(folder / "monoglot.yaml"), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_runs_killed_on_two_machines_pay_once_and_serve_nothing_half_built(
    machine, tmp_path, prefect_api, no_endpoint, monkeypatch
):
    location = f"s3://shop/killed-{os.getpid()}"
    languages = [{"code": "hi-Latn", "name": "Hinglish"}]
    tuning = {"epochs": 2, "batch_size": 32}
    folder = write_line(
        tmp_path / "line", store=location, languages=languages, fine_tuning=tuning
    ).parent
    with LLMServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("MONOGLOT_LLM_CONCURRENCY", "1")
        for where, name, count in (
            ("a", "ledger/replies", 1),  # paid, and on the disk of this machine alone
            ("a", "artifacts/training", 2),
            ("b", "artifacts/index", 1),
            ("b", "releases/current", 1),
        ):
            machine(where)
            died = monoglot(folder, name, count)
            for _ in range(60):  # until the lock of the other machine's killed run is free
                if died.returncode != 1 or "another machine is writing" not in died.stderr:
                    break
                time.sleep(0.5)
                died = monoglot(folder, name, count)
            assert died.returncode == -signal.SIGKILL, (where, name, died.stderr)
            assert Releases(Store.existing(location)).current() is None
        machine("b")
        done = monoglot(folder)
        assert done.returncode == 0, done.stderr
        machine("a")
        again = json.loads(monoglot(folder).stdout)
        assert again["nothing_to_do"]
        assert again["release"] == json.loads(done.stdout)["release"]
        # The one request in flight when the first was killed: what had come back is not paid again.
        assert server.rows.total() - len(server.rows) <= server.settings().llm_rows_per_request
    stages = {it["title"]: it["outcome"] for it in json.loads(done.stdout)["stages"]}
    assert (stages["translate hi-Latn"], stages["fine-tune"]) == ("reused", "reused")
    releases = Releases(Store.existing(location))
    assert [it.id for it in releases.history()] == [again["release"]]
    releases.verify(releases.current())
    machine("c")
    assert Retriever(location).search(QUESTION)[0].answer
