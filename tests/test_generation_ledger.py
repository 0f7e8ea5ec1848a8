"""The ledger: durable, found by row, shared by processes, and plain about what is wrong with it."""

import os
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from monoglot.errors import StoreError
from monoglot.generation import ledger as ledger_module
from monoglot.generation.ledger import Bought, Ledger
from monoglot.generation.ledger_file import MIGRATIONS
from monoglot.generation.owner import is_dead, new_owner
from monoglot.generation.replies import Reply, Usage


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path):
    with Ledger(path) as opened:
        yield opened


def reply(body, usage=None):
    return Reply(body=body, model="m", usage=usage or Usage(1, 10, 5, 2))


def test_a_reply_is_found_by_each_of_its_rows(ledger):
    ledger.record(reply("first"), {"a": "r1", "b": "r2"})
    ledger.record(reply("second"), {"b": "r9"})
    found = [(entry.key, entry.sent_as, entry.body) for entry in ledger.found(["b", "a", "c"])]
    assert sorted(found) == [("a", "r1", "first"), ("b", "r2", "first"), ("b", "r9", "second")]
    assert [body for key, _, body in found if key == "b"] == ["first", "second"]


def test_rows_are_found_across_lookups_of_bounded_size(ledger, monkeypatch):
    monkeypatch.setattr(ledger_module, "_CHUNK", 2)
    keys = [f"k{n}" for n in range(7)]
    for key in keys:
        ledger.record(reply(f"body of {key}"), {key: "r"})
    assert {entry.key: entry.body for entry in ledger.found(keys)} == {
        key: f"body of {key}" for key in keys
    }


def test_a_raw_reply_is_stored_once_with_its_tokens(ledger, path):
    ledger.record(reply("body"), {f"k{n}": f"r{n}" for n in range(10)})
    ledger.record(reply("uncounted", Usage(1, uncounted=1)), {"x": "r"})
    with sqlite3.connect(path) as other:
        stored = other.execute(
            "SELECT body, model, prompt_tokens, completion_tokens, cached_tokens FROM replies"
        ).fetchall()
    other.close()
    assert stored == [("body", "m", 10, 5, 2), ("uncounted", "m", None, None, None)]


def test_a_reply_is_flushed_to_the_disk_and_a_claim_is_not(ledger):
    statements = []
    ledger._database.set_trace_callback(statements.append)
    ledger.record(reply("body"), {"a": "r"})
    assert statements[0] == "PRAGMA synchronous = FULL"
    statements.clear()
    ledger.claim(new_owner(), ["b"], 1)
    assert statements[0] == "PRAGMA synchronous = NORMAL"
    assert ledger._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_reply_survives_a_process_that_is_killed_right_after(path):
    program = f"""
        import os
        from pathlib import Path
        from monoglot.generation.ledger import Ledger
        from monoglot.generation.replies import Reply
        ledger = Ledger(Path({str(path)!r}))
        ledger.record(Reply("paid"), {{"a": "r"}})
        os.kill(os.getpid(), 9)
    """
    child = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert child.returncode == -9
    with Ledger(path) as opened:
        assert [entry.body for entry in opened.found(["a"])] == ["paid"]


def test_two_buyers_share_rows_and_never_hold_the_same(ledger, path):
    one, two = new_owner(), new_owner()
    assert ledger.claim(one, ["a", "b", "c"], 2).won == {"a": 0, "b": 0}
    with Ledger(path) as other:
        claim = other.claim(two, ["a", "b", "c", "d"], 2)
        assert (dict(claim.won), claim.held) == ({"c": 0, "d": 0}, {"a", "b"})
        ledger.release(one, ["a"])
        assert other.claim(two, ["a", "b"], 2).won == {"a": 0}
        ledger.release(one)
        assert other.claim(two, ["b"], 2).won == {"b": 0}


def test_recording_a_reply_ends_the_claim_and_the_next_buyer_sees_the_reply(ledger):
    ledger.claim(new_owner(), ["a"], 1)
    ledger.record(reply("body"), {"a": "r"})
    assert ledger.claim(new_owner(), ["a"], 1).won == {"a": 1}


def test_a_claim_ends_with_its_lease_unless_renewed(ledger, monkeypatch):
    clock = time.time()
    monkeypatch.setattr(ledger_module.time, "time", lambda: clock)
    one, two = new_owner(), new_owner()
    ledger.claim(one, ["a"], 1)
    clock += ledger_module.LEASE_S - 1
    assert ledger.claim(two, ["a"], 1).held == {"a"}
    ledger.renew(one)
    clock += ledger_module.LEASE_S - 1
    assert ledger.claim(two, ["a"], 1).held == {"a"}
    clock += 2
    assert ledger.claim(two, ["a"], 1).won == {"a": 0}


def test_a_dead_process_holds_nothing(ledger):
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time; from monoglot.generation.owner import new_owner\n"
            "print(new_owner(), flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    owner = child.stdout.readline().strip()
    ledger.claim(owner, ["a"], 1)
    assert ledger.claim(new_owner(), ["a"], 1).held == {"a"}
    child.kill()
    child.communicate()
    assert ledger.claim(new_owner(), ["a"], 1).won == {"a": 0}


def test_who_is_dead():
    machine, _, token = new_owner().rsplit("|", 2)
    assert not is_dead(new_owner())
    assert not is_dead(f"{machine}|1|{token}")
    assert is_dead(f"{machine}|{2**22 + 7}|{token}")
    assert not is_dead(f"{socket.gethostname()}-elsewhere|{2**22 + 7}|{token}")


def test_threads_share_a_ledger_and_buy_nothing_twice(ledger):
    keys = [f"k{n}" for n in range(40)]

    def buy(number):
        won = ledger.claim(owner := new_owner(), keys, 10).won
        fresh = [key for key, replies in won.items() if replies == 0]
        ledger.record(reply(f"by {number}"), dict.fromkeys(fresh, "r"))
        ledger.release(owner)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(buy, range(8)))
    bought = [entry.key for entry in ledger.found(keys)]
    assert bought
    assert len(bought) == len(set(bought))


def test_replies_written_together_share_a_flush(ledger):
    commits = []
    ledger._database.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else 0)
    bought = [Bought(reply(f"body of {n}"), {f"k{n}": "r"}) for n in range(25)]
    assert ledger.record_all(bought) == [None] * 25
    assert commits == ["COMMIT"]
    keys = [f"k{n}" for n in range(25)]
    assert {entry.key: entry.body for entry in ledger.found(keys)} == {
        f"k{n}": f"body of {n}" for n in range(25)
    }


def test_threads_lose_no_reply(ledger):
    start = threading.Barrier(8)

    def keep(number):
        start.wait()
        for n in range(25):
            ledger.record(reply(f"{number}-{n}"), {f"{number}-{n}": "r"})
            assert [entry.body for entry in ledger.found([f"{number}-{n}"])] == [f"{number}-{n}"]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(keep, range(8)))
    keys = [f"{number}-{n}" for number in range(8) for n in range(25)]
    assert {entry.key: entry.body for entry in ledger.found(keys)} == {key: key for key in keys}


def test_a_reply_that_cannot_be_written_takes_no_other_along(ledger):
    bought = [Bought(reply("body"), {"a": None if n == 1 else "r", f"{n}": "r"}) for n in range(3)]
    errors = ledger.record_all(bought)
    assert [type(error) for error in errors] == [type(None), StoreError, type(None)]
    assert sorted(entry.key for entry in ledger.found(["a", "0", "1", "2"])) == ["0", "2", "a", "a"]


def test_a_full_disk_is_told_of_each_reply(ledger):
    size = ledger._database.execute("PRAGMA page_count").fetchone()[0]
    ledger._database.execute(f"PRAGMA max_page_count = {size}")
    bought = [Bought(reply("x" * 9999), {f"{n}": "r"}) for n in range(3)]
    assert all("free space" in str(error) for error in ledger.record_all(bought))
    with pytest.raises(StoreError, match="free space"):
        ledger.record(*bought[0][:2])
    ledger._database.execute("PRAGMA max_page_count = 100000")
    ledger.record(reply("body"), {"a": "r"})
    assert [entry.key for entry in ledger.found(["a", "0", "1", "2"])] == ["a"]


def test_processes_may_create_and_write_one_ledger_at_once(path):
    program = f"""
        import sys
        from pathlib import Path
        from monoglot.generation.ledger import Ledger
        from monoglot.generation.replies import Reply
        with Ledger(Path({str(path)!r})) as ledger:
            for n in range(40):
                ledger.record(Reply(f"{{sys.argv[1]}}-{{n}}"), {{f"{{sys.argv[1]}}-{{n}}": "r"}})
    """
    children = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), str(number)])
        for number in range(3)
    ]
    assert [child.wait() for child in children] == [0, 0, 0]
    keys = [f"{number}-{n}" for number in range(3) for n in range(40)]
    with Ledger(path) as opened:
        assert {entry.key: entry.body for entry in opened.found(keys)} == {key: key for key in keys}


def test_looking_for_a_ledger_creates_none(path):
    assert Ledger.existing(path) is None
    assert not path.exists()
    Ledger(path).close()
    with Ledger.existing(path) as opened:
        assert list(opened.found(["a"])) == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_bytes(b"no database" * 1000), "damaged"),
        (lambda path: path.mkdir(), "cannot be used"),
    ],
)
def test_a_file_that_is_no_ledger_is_refused(path, spoil, words):
    spoil(path)
    with pytest.raises(StoreError, match=words) as caught:
        Ledger(path)
    assert str(path) in str(caught.value)


def test_a_ledger_of_a_later_version_is_refused_and_left_as_it_is(path):
    Ledger(path).close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(StoreError, match=r"format 99.*Upgrade"):
        Ledger(path)


FIRST_FORMAT = """
CREATE TABLE replies (
    id INTEGER PRIMARY KEY, created TEXT NOT NULL, model TEXT NOT NULL, body TEXT NOT NULL,
    prompt_tokens INTEGER, completion_tokens INTEGER, cached_tokens INTEGER
);
CREATE TABLE rows (
    key TEXT NOT NULL, reply INTEGER NOT NULL REFERENCES replies(id), sent_as TEXT NOT NULL,
    PRIMARY KEY (key, reply)
) WITHOUT ROWID;
CREATE TABLE claims (
    key TEXT PRIMARY KEY, owner TEXT NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX claims_of_owner ON claims (owner);
INSERT INTO replies VALUES (1, '2026-01-01T00:00:00Z', 'm', 'paid long ago', 10, 5, 2);
INSERT INTO rows VALUES ('a', 1, 'r1');
PRAGMA user_version = 1;
"""


def structure(path):
    with sqlite3.connect(path) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master")]
        columns = [row[1:3] for row in database.execute("PRAGMA table_info(replies)")]
        number = database.execute("PRAGMA user_version").fetchone()
    database.close()
    return sorted(tables), columns, number


def test_a_ledger_of_an_older_version_is_brought_up_to_date_with_every_reply(path, tmp_path):
    with sqlite3.connect(path) as old:
        old.executescript(FIRST_FORMAT)
    old.close()
    with ThreadPoolExecutor(4) as pool:  # several at once
        opened = list(pool.map(lambda _: Ledger(path), range(4)))
    opened[0].record(reply("new", Usage(1, 10, 5, 2, usd=0.5)), {"b": "r2"})
    assert [entry.body for entry in opened[3].found(["a", "b"])] == ["paid long ago", "new"]
    for each in opened:
        each.close()
    Ledger(tmp_path / "fresh.sqlite").close()
    assert structure(path) == structure(tmp_path / "fresh.sqlite")


def test_an_upgrade_that_fails_leaves_the_old_ledger_as_it_was(path, monkeypatch):
    with sqlite3.connect(path) as old:
        old.executescript(FIRST_FORMAT)
    old.close()
    before = structure(path)
    broken = MIGRATIONS[1] + "; ALTER TABLE nowhere ADD COLUMN x"
    monkeypatch.setitem(MIGRATIONS, 1, broken)
    with pytest.raises(StoreError):
        Ledger(path)
    assert structure(path) == before


def test_replies_of_a_kind_tell_what_tokens_are_counted_as(ledger):
    def bought(number, kind, counted):
        expected = Usage(1, 100, 50)
        sent = {f"{kind}{number}": "r"}
        assert ledger.record_all([Bought(reply("body", counted), sent, kind, expected)]) == [None]

    bought(0, "a", Usage(1, 120, 100))
    bought(1, "a", Usage(1, 130, 110))
    assert ledger.calibration("a") == ledger_module.Calibration(1.0, 1.0, 0)  # too few to tell
    bought(2, "a", Usage(1, 110, 90))
    bought(3, "a", Usage(1, 900, 0))  # a refusal
    bought(4, "a", Usage(1, uncounted=1))
    bought(5, "b", Usage(1, 900, 900))
    assert ledger.calibration("a") == ledger_module.Calibration(1.2, 2.0, 3)
    assert ledger.calibration("never") == ledger_module.Calibration(1.0, 1.0, 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_named(path):
    path.parent.chmod(0o500)
    with pytest.raises(StoreError, match="owner of the folder"):
        Ledger(path)
