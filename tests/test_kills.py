"""`kill -9` in the middle of a run, then the same command: it goes on; readers notice nothing."""

import json
import signal
import subprocess
import sys

import polars as pl
import pytest
from llm_server import LLMServer
from tiny_line import edit_kb, write_line

from monoglot import Retriever
from monoglot.serving.releases import Releases
from monoglot.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api", "no_endpoint")]

NEW_QUERY = "my parrot ate the invoice, print me another copy"
# What the run does when it is killed. Each stands in for the function that is there.
IN_TRAINING = """
from monoglot.learning import training
training._SECONDS_BETWEEN_CHECKPOINTS = 0.0
step = training._Run.step
training._Run.step = lambda self, number: die() if number == 9 else step(self, number)
"""
IN_THE_INDEX = """
from monoglot.serving import syncing
delete_rows = syncing.delete_rows
def written_and_dead(table, row_ids):
    assert len(row_ids) == 2
    die()
syncing.delete_rows = written_and_dead
"""


def monoglot(folder, command, killed=""):
    """`monoglot COMMAND` in a process of its own, with code that kills it, if any is given."""
    code = (
        "import os, signal\n"
        "def die(): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"{killed}\nfrom flows.cli import main\nmain()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, command, "-c", str(folder / "monoglot.yaml"), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )


def edited(frame):
    """The first row reworded, the second removed: rows to write and rows to delete."""
    place = pl.int_range(pl.len())
    query = pl.when(place == 0).then(pl.lit(NEW_QUERY)).otherwise("query").alias("query")
    return frame.with_columns(query).filter(place != 1)


def test_a_run_killed_twice_goes_on_and_the_old_release_answers_meanwhile(tmp_path, monkeypatch):
    languages = [{"code": "hi-Latn", "name": "Hinglish"}]
    write_line(tmp_path, languages=languages, fine_tuning={"epochs": 12, "batch_size": 32})
    with LLMServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        first = monoglot(tmp_path, "run")
        assert first.returncode == 0, first.stderr
        edit_kb(tmp_path, edited)

        for killed in (IN_TRAINING, IN_THE_INDEX):
            died = monoglot(tmp_path, "run", killed)
            assert died.returncode == -signal.SIGKILL, died.stderr
            store = Store.existing(str(tmp_path / "store"))
            assert Releases(store).current().id == json.loads(first.stdout)["release"]
            assert Retriever(store.root).search(NEW_QUERY, k=1)[0].query != NEW_QUERY

        last = monoglot(tmp_path, "run")
        assert last.returncode == 0, last.stderr
        assert set(server.rows.values()) == {1}
    stages = {stage["title"]: stage for stage in json.loads(last.stdout)["stages"]}
    assert stages["translate hi-Latn"]["outcome"] == "reused"
    assert stages["fine-tune"]["outcome"] == "reused"  # by the run that died in the index
    assert stages["fine-tune"]["facts"]["resumed_at"] == 9
    assert Retriever(store.root).search(NEW_QUERY, k=1)[0].query == NEW_QUERY
    assert not list((store.root / "tmp").iterdir())
