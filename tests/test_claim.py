"""A flow run whose process was killed is closed by the next one on its store, and by no other."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from uuid import UUID

import polars as pl
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import LogSort
from prefect.flow_engine import run_flow
from prefect.runtime import flow_run
from tiny_line import edit_kb, request_of, store_of

from flows.claim import claim, in_turn
from flows.retrain import retrain
from monoglot import Retriever
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


def run_by_deployment(called, **parameters):
    """As a worker runs it."""
    with get_client(sync_client=True) as client:
        made = client.create_deployment(flow_id=client.create_flow(called), name="button")
        run = client.create_flow_run_from_deployment(made)
        return run_flow(called, flow_run=run, parameters=parameters)


def run_while_busy(held, called, meanwhile=lambda: None, **parameters):
    """Run it while the store is held, until it says that it waits."""
    with ThreadPoolExecutor(1) as worker:
        with held.writer():
            same_api = copy_context()  # Prefect's settings are no thread's own
            run = worker.submit(same_api.run, run_by_deployment, called, **parameters)
            while not has_logged(f"waiting for its turn: {held.root}: another run"):
                assert not run.done(), run.exception()
                time.sleep(0.2)
            meanwhile()
        return run.result()


def has_logged(words):
    with get_client(sync_client=True) as client:
        last = client.read_logs(sort=LogSort.TIMESTAMP_DESC)  # of 200 at the most
        return any(words in it.message for it in last)


@pytest.mark.usefixtures("prefect_api")
def test_a_deployments_run_waits_for_its_turn(tmp_path):
    store = str(tmp_path)
    assert run_by_deployment(takes_turns, store=store) is False
    assert run_while_busy(Store.open(store), takes_turns, store=store) is True


@pytest.mark.slow
def test_a_training_that_waited_learns_from_what_is_there_then(line):
    request = request_of(line)
    edit_kb(line, lambda kb: kb.with_columns(answer=pl.lit("before it waited")))
    record = run_while_busy(
        store_of(line),
        retrain,
        lambda: edit_kb(line, lambda kb: kb.with_columns(answer=pl.lit("while it waited"))),
        request=request,
    )
    assert Retriever(line / "store").search("invoice", k=1)[0].answer == "while it waited"
    assert retrain(request) == record  # of what is there now nothing is left to do


@pytest.mark.usefixtures("prefect_api")
def test_whoever_can_decide_is_told_at_once_that_another_run_writes(tmp_path):
    with Store.open(str(tmp_path)).writer():
        with pytest.raises(StoreBusyError, match="another run is writing"):
            takes_turns(str(tmp_path))
        assert run_by_deployment(starts_another, store=str(tmp_path)) == "told at once"
