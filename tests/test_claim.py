"""A flow run whose process was killed is closed by the next one on its store, and by no other."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.runtime import flow_run

from flows.claim import claim, in_turn
from monoglot.errors import StoreBusyError
from monoglot.store import Store

DIE = """
    import os, signal, sys
    from prefect import flow
    from prefect.runtime import flow_run
    from flows.claim import claim
    from monoglot.store import Store

    @flow(name="dies")
    def dies(store: str):
        with claim(Store.open(store)):
            print(flow_run.id, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    dies(sys.argv[1])
"""


@flow(name="claims")
def claims(store: str) -> str:
    with claim(Store.open(store)):
        return str(flow_run.id)


def state_of(run):
    with get_client(sync_client=True) as client:
        return client.read_flow_run(UUID(run)).state


@pytest.mark.usefixtures("prefect_api")
def test_the_next_run_on_the_store_closes_a_killed_one(tmp_path):
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    died = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DIE), one],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    dead = died.stdout.strip()
    claims(other)
    assert state_of(dead).is_running()
    alive = claims(one)
    assert state_of(dead).is_crashed()
    assert "its process was killed" in state_of(dead).message
    assert state_of(alive).is_completed()
    claims(one)
    assert state_of(alive).is_completed()
    assert not (tmp_path / "one" / "running.json").exists()


@pytest.mark.usefixtures("prefect_api")
def test_a_claim_that_cannot_be_read_holds_up_no_run(tmp_path):
    Store.open(str(tmp_path))
    (tmp_path / "running.json").write_text("{")
    assert state_of(claims(str(tmp_path))).is_completed()


@flow(name="takes-turns")
def takes_turns(store: str) -> bool:
    with in_turn(Store.open(store)) as waited:
        return waited


@flow(name="starts-another")
def starts_another(store: str) -> str:
    with pytest.raises(StoreBusyError, match=f"process {os.getpid()}"):
        takes_turns(store)
    return "told at once"


def run_by_deployment(called, store):
    """As a worker runs it."""
    with get_client(sync_client=True) as client:
        made = client.create_deployment(flow_id=client.create_flow(called), name="button")
        run = client.create_flow_run_from_deployment(made)
        return run_flow(called, flow_run=run, parameters={"store": store})


def has_logged(words):
    with get_client(sync_client=True) as client:
        return any(words in it.message for it in client.read_logs())


@pytest.mark.usefixtures("prefect_api")
def test_a_deployments_run_waits_for_its_turn(tmp_path):
    store = str(tmp_path)
    assert run_by_deployment(takes_turns, store) is False
    with ThreadPoolExecutor(1) as worker:
        with Store.open(store).writer():
            run = worker.submit(run_by_deployment, takes_turns, store)
            while not has_logged(f"waiting for its turn: {store}: another run"):
                assert not run.done()
                time.sleep(0.2)
        assert run.result() is True


@pytest.mark.usefixtures("prefect_api")
def test_whoever_can_decide_is_told_at_once_that_another_run_writes(tmp_path):
    with Store.open(str(tmp_path)).writer():
        with pytest.raises(StoreBusyError, match="another run is writing"):
            takes_turns(str(tmp_path))
        assert run_by_deployment(starts_another, str(tmp_path)) == "told at once"
