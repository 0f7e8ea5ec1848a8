"""Batches under all faults at once; processes that are killed, or race, while batches are out."""

import os
import queue
import random
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from batched_translation import LINE_FAULTS, is_everything_in, keys_of, on, plan, right, run
from llm_batches import BatchFault, BatchServer, HttpFault
from parcels import kb

from monoglot.errors import BatchPendingError
from monoglot.generation import asking
from monoglot.generation.batch_records import BatchRecords
from monoglot.generation.ledger import Ledger

pytestmark = pytest.mark.slow


def some_faults(share, seed):
    """Faults of every kind on a share of the requests, the same ones for the same seed."""
    kinds = [fault for fault, _ in LINE_FAULTS.values()]

    def fault_of(texts):
        draw = random.Random(f"{seed}-{texts}")
        return draw.choice(kinds) if draw.random() < share else None

    return fault_of


@pytest.mark.parametrize("seed", [1, 2])
def test_under_a_mixture_of_faults_no_answered_row_is_asked_again(tmp_path, seed):
    rows = kb(200)
    with Ledger(tmp_path / "ledger.sqlite") as ledger, BatchServer() as server:
        for number in range(2 * asking.MAX_TRIES):
            try:
                bought = run(rows, server, ledger, llm_batch_requests=7)
                break
            except BatchPendingError:
                server.line_faults = some_faults(0.6, f"{seed}-{number}")
                server.finish(seed=number)
        asked = server.rows
        refused = bought.rejects["value"].to_list()
        answered = rows.filter(~pl.col("query").is_in(refused))
        assert len(refused) > 0
        assert bought.rows["text"].to_list() == right(answered)
        assert bought.rows.height + len(refused) == 200
        _, asks = keys_of(rows)
        tries = ledger.read("SELECT key, count(*) FROM rows GROUP BY key")
        assert {asks[key]["text"]: count for key, count in tries} == dict(asked)
        assert {asked[text] for text in refused} == {asking.MAX_TRIES}
        assert is_everything_in(ledger)


CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from parcels import CONFIG, HINGLISH, kb
from monoglot.errors import BatchPendingError
from monoglot.generation import batch_intake, batch_records
from monoglot.generation_config import SpendingConfig
from monoglot.generation.ledger import Ledger
from monoglot.generation.spending import Budget
from monoglot.generation.translation import translate
from monoglot.settings import read_settings

batch_intake._AT_ONCE = 2
left = int(sys.argv[3])
insert = batch_records.insert_reply
def insert_or_die(*arguments):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return insert(*arguments)
batch_records.insert_reply = insert_or_die

with Ledger(Path(sys.argv[2])) as ledger:
    try:
        translate(
            kb(90), HINGLISH, CONFIG, kb_language="en", settings=read_settings(), ledger=ledger,
            budget=Budget(SpendingConfig(batch=True)),
        )
    except BatchPendingError:
        sys.exit(3)
"""


def child(server, path, dies_at_reply=0):
    """Another process that does what `run(kb(90), ...)` does; may be killed at the n-th reply."""
    arguments = [str(Path(__file__).parent), path, str(dies_at_reply)]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments], env={**os.environ, **server.environment}
    )


# Call during which the process is killed, and whether the call is done by then.
KILLED_IN = [("POST /files", False), ("POST /batches", False), ("POST /batches", True)]


@pytest.mark.parametrize(("call", "done"), KILLED_IN)
def test_kill_9_while_submitting_loses_nothing_and_buys_nothing_twice(tmp_path, call, done):
    path = tmp_path / "ledger.sqlite"
    with BatchServer() as server:
        running = queue.Queue()
        kill = HttpFault(after=done, arrives=0.0, then=lambda: running.get().kill())
        server.http[call].append(kill)
        process = child(server, path)
        running.put(process)
        assert process.wait() == -9
        assert len(server.batches) == done
        with Ledger(path) as ledger:
            [batch] = BatchRecords(ledger).living()
            assert (batch.id, BatchRecords(ledger).outstanding().rows) == (None, 90)
            assert plan(kb(90), server, ledger).out == 90
        assert child(server, path).wait() == 3
        assert len(server.batches) == 1
        server.finish()
        with Ledger(path) as ledger:
            assert run(kb(90), server, ledger).rows.height == 90
            assert is_everything_in(ledger)
        assert server.rows == dict.fromkeys(kb(90)["query"], 1)
        assert len(server.batches) == 1


def test_kill_9_while_taking_in_records_every_reply_once(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with BatchServer(line_faults=on(7, BatchFault("error", 500))) as server:
        assert child(server, path).wait() == 3
        server.finish()
        server.line_faults = lambda _: None
        kept = []
        for dies_at in (4, 7):  # in the middle of a transaction, and at the failed one
            assert child(server, path, dies_at).wait() == -9
            with Ledger(path) as ledger:
                kept += ledger.read("SELECT count(*) FROM replies")
                assert BatchRecords(ledger).outstanding().requests == 9 - kept[-1][0]
        assert kept == [(2,), (8,)]
        assert child(server, path).wait() == 3  # the rest, and the failed rows are out again
        server.finish()
        with Ledger(path) as ledger:
            assert run(kb(90), server, ledger).rows.height == 90
            assert is_everything_in(ledger)
            [(replies, batched)] = ledger.read(
                "SELECT (SELECT count(*) FROM replies), count(*) FROM batched_replies"
            )
        assert replies == batched == len(server.requests) == 9 + 4
        assert len(server.batches) == 2


def test_two_processes_that_take_in_at_once_record_every_reply_once(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with BatchServer() as server:
        assert child(server, path).wait() == 3
        server.finish()
        processes = [child(server, path) for _ in range(2)]
        assert [process.wait() for process in processes] == [0, 0]
        with Ledger(path) as ledger:
            assert ledger.read("SELECT count(*) FROM replies") == [(9,)]
            assert run(kb(90), server, ledger).rows.height == 90
        assert len(server.batches) == 1
