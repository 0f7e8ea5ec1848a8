"""The log of queries: complete under threads, processes and forks, redacted, bounded, harmless."""

import json
import logging
import multiprocessing
import os
import sys
import threading

import pytest

from monoglot import QueryLog
from monoglot.config import Config
from monoglot.errors import ConfigError
from monoglot.feedback import query_log
from monoglot.feedback.query_log import Suggestion, log_files, read_log
from monoglot.forgetting import find, forget
from monoglot.generation_config import RedactionConfig
from monoglot.matching import Pattern
from monoglot.serving.retriever import Answer
from monoglot.store import Store

TRACK = Answer("track", 0.9, 0.5, "where is my parcel", "Wait.", "r1", None, confident=False)
PAY = Answer("pay", 0.5, 0.25, "how do I pay", None, "r2", None, confident=False)


def ask(log, *texts, answers=(TRACK, PAY), language="hi-Latn", release="one"):
    log.note(texts, [answers] * len(texts), language=language, release=release)


def texts_in(folder):
    return [query.text for query in read_log(folder).queries]


def test_an_entry_says_what_was_asked_and_answered(tmp_path):
    log = QueryLog(tmp_path)
    ask(log, "mera parcel")
    assert log.flush()
    (query,) = read_log(tmp_path / "queries").queries
    assert (query.text, query.language, query.release) == ("mera parcel", "hi-Latn", "one")
    assert query.confident is False
    assert query.answers == (Suggestion("track", "r1", 0.45), Suggestion("pay", "r2", 0.125))
    (line,) = log_files(tmp_path / "queries")[0].read_text().splitlines()
    assert "Wait." not in line  # answers and rows are the knowledge base's, not the log's


def test_personal_data_is_never_written(tmp_path):
    own = RedactionConfig(patterns={"employee": r"EMP-\d{6}"})
    log = QueryLog(tmp_path, redaction=own)
    ask(log, "call 98765 43210 or mail asha@shop.in", "EMP-123456 का पार्सल", "order 4471 kahan hai")
    assert log.flush()
    raw = b"".join(path.read_bytes() for path in log_files(tmp_path / "queries"))
    for secret in (b"43210", b"asha", b"123456"):
        assert secret not in raw
    assert texts_in(tmp_path / "queries") == [
        "call {{phone_1}} or mail {{email_1}}",
        "{{employee_1}} का पार्सल",
        "order 4471 kahan hai",
    ]


def ask_much(folder, name, count, start):
    query_log._AT_ONCE = 3  # so that processes take turns, and full files are put aside meanwhile
    log = QueryLog(folder, max_mb=1.0)
    start.wait(60)
    threads = [
        threading.Thread(target=lambda t=t: [ask(log, f"{name} {t} {n}") for n in range(count)])
        for t in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.flush(60)
    assert log.lost == 0


def test_threads_of_many_processes_lose_and_mix_nothing(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Event()
    processes = [
        spawn.Process(target=ask_much, args=(tmp_path, name, 250, start)) for name in ("a", "b")
    ]
    for process in processes:
        process.start()
    processes.append(spawn.Process(target=ask_much, args=(tmp_path, "c", 250, start)))
    processes[-1].start()
    start.set()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    noted = read_log(tmp_path / "queries")
    wanted = {f"{name} {t} {n}" for name in "abc" for t in range(4) for n in range(250)}
    assert (noted.unreadable, noted.lost, len(noted.queries)) == (0, 0, 3000)
    assert {query.text for query in noted.queries} == wanted
    assert 4 <= len(log_files(tmp_path / "queries")) <= 10


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
# Other tests of this process may have imported it; the child does not use it.
@pytest.mark.filterwarnings("ignore:lance is not fork-safe")
def test_a_forked_worker_logs_its_own_and_not_its_parent_s(tmp_path):
    log = QueryLog(tmp_path)
    ask(log, "before")
    assert log.flush()
    child = os.fork()
    if child == 0:
        ask(log, "in the child")
        os._exit(0 if log.flush() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    ask(log, "after")
    assert log.flush()
    assert texts_in(tmp_path / "queries") == ["before", "in the child", "after"]


def test_the_log_is_bounded_and_the_oldest_goes(tmp_path):
    log = QueryLog(tmp_path, max_mb=0.05)
    for n in range(1000):
        ask(log, f"query {n:04} " + "x" * 200)
        if n % 10 == 9:
            assert log.flush()
    files = log_files(tmp_path / "queries")
    assert len(files) == 11
    assert sum(path.stat().st_size for path in files) <= 50_000
    kept = [int(text.split()[1]) for text in texts_in(tmp_path / "queries")]
    assert kept == list(range(kept[0], 1000))
    assert 100 < len(kept) < 300


def test_what_cannot_be_written_is_counted_told_and_noted_later(tmp_path, caplog):
    (tmp_path / "queries").write_text("in the way")
    log = QueryLog(tmp_path)
    with caplog.at_level(logging.WARNING):
        ask(log, "lost", "lost as well")
        assert log.flush()
    assert log.lost == 2
    assert "queries are not logged" in caplog.text
    (tmp_path / "queries").unlink()
    ask(log, "kept")
    assert log.flush()
    noted = read_log(tmp_path / "queries")
    assert (noted.lost, [query.text for query in noted.queries]) == (2, ["kept"])


def test_more_than_can_wait_is_counted_and_keeps_nobody_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr("monoglot.feedback.query_log._WAITING", 5)
    log, held = QueryLog(tmp_path), threading.Event()
    monkeypatch.setattr(log, "_write", lambda _: held.wait(60))
    for n in range(500):
        ask(log, str(n))
    assert log.lost >= 500 - 5 - 500 // 5
    held.set()
    assert log.flush()


def test_a_line_that_was_cut_off_harms_no_other(tmp_path):
    log = QueryLog(tmp_path)
    ask(log, "one")
    assert log.flush()
    with (tmp_path / "queries/queries.jsonl").open("ab") as stream:
        stream.write(b'{"time": "2026-')
    ask(log, "two")
    assert log.flush()
    noted = read_log(tmp_path / "queries")
    assert (noted.unreadable, [query.text for query in noted.queries]) == (1, ["one", "two"])


def test_without_phonenumbers_the_log_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    with pytest.raises(ConfigError, match=r"pip install 'monoglot\[log\]'"):
        QueryLog(tmp_path)


def test_logged_queries_are_forgotten_while_a_service_writes(tmp_path):
    log = QueryLog(tmp_path, folder=tmp_path / "elsewhere", max_mb=0.01)
    for n in range(30):
        ask(log, f"Asha Rao {n}", f"another {n}")
        assert log.flush()
    store = Store.open(str(tmp_path / "store"))
    config = Config(
        knowledge_base={"path": tmp_path / "kb.csv"},
        store=str(store.root),
        review={"log": tmp_path / "elsewhere"},
    )
    sought = Pattern("asha rao", literal=True)
    found = find(config, store, sought)
    before = texts_in(tmp_path / "elsewhere")
    assert len(found.queries) > 1
    assert found.counts["logged queries"] == sum("Asha" in text for text in before) > 1
    forget(store, found, sought)
    ask(log, "after")
    assert log.flush()
    kept = [text for text in before if "Asha" not in text]
    assert texts_in(tmp_path / "elsewhere") == [*kept, "after"]
    assert not any("Asha" in json.dumps(path.read_text()) for path in log_files(log._folder))
