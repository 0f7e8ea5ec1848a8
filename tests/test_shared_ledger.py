"""The ledger of a store in a bucket: what one machine bought, the others have."""

import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest

from monoglot.errors import StoreBusyError
from monoglot.generation import shared_ledger
from monoglot.generation.batch_records import BatchRecords, batches_in
from monoglot.generation.ledger import Ledger
from monoglot.generation.replies import Reply, Usage
from monoglot.generation.shared_ledger import ledger_file, open_ledger
from monoglot.remote.bucket import Bucket
from monoglot.store import Store

_NUMBERS = itertools.count()


@pytest.fixture
def store_on(machine):
    """A store on some machine: that of `store_on("b")` has a mirror of its own."""
    location = f"s3://shop/ledger-{os.getpid()}-{next(_NUMBERS)}"

    def go(name):
        machine(name)
        return Store.open(location)

    return go


def reply(body):
    return Reply(body=body, model="m", usage=Usage(1, 10, 5, 2, usd=0.25))


def bodies(store, *keys):
    """What the ledger has for some rows here, once all that others bought is taken in."""
    with Ledger(ledger_file(store)) as ledger:
        return sorted(entry.body for entry in ledger.found(keys))


def money(store):
    with sqlite3.connect(store.ledger_path) as database:
        return database.execute(
            "SELECT body, model, usd, prompt_tokens, kind, created FROM replies ORDER BY body"
        ).fetchall()


def test_what_one_machine_bought_the_other_has_and_does_not_ship_again(store_on):
    first = store_on("a")
    assert Ledger.existing(ledger_file(first)) is None
    with open_ledger(first) as ledger:
        ledger.record(reply("one \u2028 हिन्दी"), {"k1": "r1", "k2": "r2"})
        ledger.record(reply("two"), {"k2": "r2"})
    second = store_on("b")
    assert bodies(second, "k1", "k2") == ["one \u2028 हिन्दी"] * 2 + ["two"]
    assert money(second) == money(first)
    with open_ledger(second) as ledger:
        ledger.record(reply("three"), {"k3": "r"})
    assert bodies(first, "k1", "k2", "k3") == ["one \u2028 हिन्दी"] * 2 + ["three", "two"]
    with open_ledger(first), open_ledger(second):
        pass
    assert money(first) == money(second)
    assert len(money(first)) == 3


def test_replies_arrive_while_the_ledger_is_open(store_on):
    first = store_on("a")
    with open_ledger(first) as ledger:
        ledger.record(reply("one"), {"k": "r"})
        other = store_on("b")
        while not bodies(other, "k"):
            pass
        assert bodies(other, "k") == ["one"]


BUYING = """
import os, signal, sys
from monoglot.generation.replies import Reply, Usage
from monoglot.generation.shared_ledger import open_ledger
from monoglot.remote.bucket import Bucket
from monoglot.store import Store

real, after = Bucket.create, sys.argv[2] == "after"

def create(self, name, content):
    if name.startswith("ledger/replies"):
        if after:
            real(self, name, content)
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, name, content)

Bucket.create = create
with open_ledger(Store.open(sys.argv[1])) as ledger:
    ledger.record(Reply("paid", "m", Usage(1)), {"k": "r"})
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_reply_that_a_killed_process_did_not_ship_is_shipped_once(store_on, when):
    store = store_on("a")
    ran = subprocess.run([sys.executable, "-c", BUYING, store.location, when], check=False)
    assert ran.returncode == -signal.SIGKILL
    other = store_on("b")
    assert bodies(other, "k") == (["paid"] if when == "after" else [])
    with open_ledger(store):
        pass
    assert bodies(other, "k") == bodies(store, "k") == ["paid"]


def test_a_mirror_that_was_copied_ships_under_names_of_its_own(store_on):
    first = store_on("a")
    with open_ledger(first) as ledger:
        ledger.record(reply("one"), {"k": "r"})
    second = store_on("b")
    shutil.copytree(first.root, second.root, dirs_exist_ok=True)
    for store, body in ((first, "two"), (second, "three")):
        with open_ledger(store) as ledger:
            ledger.record(reply(body), {"k": "r"})
    expected = ["one", "three", "two"]
    assert bodies(first, "k") == bodies(second, "k") == bodies(store_on("c"), "k") == expected


def test_many_shipments_are_packed_and_nothing_comes_twice(store_on, monkeypatch):
    monkeypatch.setattr(shared_ledger, "_MANY", 3)
    first, second = store_on("a"), store_on("b")
    for number in range(7):
        with open_ledger(first if number % 2 else second) as ledger:
            ledger.record(reply(f"body {number}"), {"k": "r"})
    assert len(first.bucket.below("ledger/replies")) <= 3
    expected = [f"body {number}" for number in range(7)]
    assert bodies(first, "k") == bodies(second, "k") == bodies(store_on("c"), "k") == expected


def test_what_comes_while_shipments_are_packed_stays(store_on, monkeypatch):
    monkeypatch.setattr(shared_ledger, "_MANY", 2)
    first, second = store_on("a"), store_on("b")
    for number in range(2):
        with open_ledger(first) as ledger:
            ledger.record(reply(f"body {number}"), {"k": "r"})
    listed, late = shared_ledger.SharedLedger._listed, []

    def list_after_another_came(self):
        """Two listings are to take in what there is; before the third, another machine ships."""
        if len(late) == 2:
            monkeypatch.setattr(shared_ledger.SharedLedger, "_listed", listed)
            monkeypatch.setattr(shared_ledger, "_MANY", 50)  # it packs nothing itself
            with open_ledger(store_on("c")) as ledger:
                ledger.record(reply("late"), {"k": "r"})
            monkeypatch.setattr(shared_ledger, "_MANY", 2)
        late.append(1)
        return listed(self)

    monkeypatch.setattr(shared_ledger.SharedLedger, "_listed", list_after_another_came)
    with open_ledger(second):
        pass
    assert len(late) == 3
    expected = ["body 0", "body 1", "late"]
    assert bodies(store_on("d"), "k") == bodies(first, "k") == expected


def put_out(ledger, name="b", key="k"):
    return BatchRecords(ledger).put_out(
        name, "http://x", "m", {"q": {key: "r"}}, {key: 0}, kind="", expected={"q": Usage()}
    )


def test_what_is_out_in_batches_is_known_everywhere_before_the_endpoint_knows(store_on):
    first = store_on("a")
    with open_ledger(first) as ledger:
        assert put_out(ledger)
        second = store_on("b")  # while the first goes on
        assert [(it.name, it.rows) for it in batches_in(ledger_file(second))] == [("b", 1)]
        BatchRecords(ledger).created("b", "batch-1")
    with open_ledger(second) as ledger:
        records = BatchRecords(ledger)
        assert [it.id for it in records.living()] == ["batch-1"]
        assert not put_out(ledger, name="c")
        assert records.take_in("b", [("q", reply("answer"))]).requests == 1
        records.end("b")
    assert batches_in(ledger_file(first)) == []
    assert bodies(first, "k") == ["answer"]
    with open_ledger(first) as ledger:  # whoever uses it first tells what it cost, and no other
        usage, rows = BatchRecords(ledger).report(["k"])
        assert (usage.usd, rows) == (0.25, {"k"})
    with open_ledger(second) as ledger:
        assert BatchRecords(ledger).report(["k"]) == (Usage(), set())


def test_a_batch_noted_here_alone_is_told_by_the_next_process(store_on, monkeypatch):
    first = store_on("a")
    with monkeypatch.context() as killed, open_ledger(first) as ledger:
        killed.setattr(Bucket, "read", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            put_out(ledger)
    second = store_on("b")
    assert batches_in(ledger_file(second)) == []
    with open_ledger(first):
        pass
    assert [it.name for it in batches_in(ledger_file(second))] == ["b"]


def test_a_machine_that_lost_the_lock_submits_no_batch(store_on):
    first, second = store_on("a"), store_on("b")
    with open_ledger(first) as slow:
        with open_ledger(second) as ledger:
            assert put_out(ledger, name="theirs", key="x")
        with pytest.raises(StoreBusyError, match="another machine submits batches"):
            put_out(slow, name="ours")
    with open_ledger(first) as ledger:
        assert [it.name for it in BatchRecords(ledger).living()] == ["theirs"]
