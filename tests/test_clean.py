"""`monoglot clean`, `pin` and `unpin` on a finished line: what is needed stays."""

import json
import os
import time

import pytest
from tiny_line import edit_kb
from typer.testing import CliRunner

from flows import cleaning
from flows.cli import app
from flows.refresh_index import refresh_index as refresh
from flows.retrain import retrain
from monoglot import Retriever
from monoglot.serving.releases import Releases
from monoglot.store import Store
from tasks.request import RunRequest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api", "no_endpoint")]
TWO_DAYS = 2 * 86400


def monoglot(folder, *arguments):
    ran = CliRunner().invoke(app, [*arguments, "-c", str(folder / "monoglot.yaml")])
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def age(folder):
    """As if everything had been written two days ago."""
    then = time.time() - TWO_DAYS
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


def test_a_finished_line_has_nothing_to_remove_and_what_is_stale_goes(line):
    store = Store.existing(str(line / "store"))
    age(store.root)
    stale = store.root / "tmp/resume-training-0123"
    stale.mkdir(parents=True)
    (stale / "checkpoint").write_bytes(b"x" * 1000)
    old = store.root / "artifacts/training/v1-of-another-config/model/model.safetensors"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"x" * 5000)
    monoglot(line, "clean", "--dry-run")
    shown = json.loads(monoglot(line, "clean", "--dry-run", "--json"))
    assert (shown["removed"], shown["releases"], shown["bytes"]) == (False, [], 0)
    assert {thing["kind"] for thing in shown["things"]} == {"model", "unfinished"}
    age(store.root)
    ledger = store.ledger_path.read_bytes() if store.ledger_path.exists() else None
    done = json.loads(monoglot(line, "clean", "--yes", "--json"))
    assert (done["removed"], done["bytes"]) == (True, 6000)
    assert not stale.exists()
    assert not old.parents[1].exists()
    assert ledger is None or store.ledger_path.read_bytes() == ledger
    record = retrain(RunRequest(config_file=line / "monoglot.yaml", force=True))
    assert {stage.outcome for stage in record.stages} == {"reused"}
    assert Retriever(store.root).search("mera parcel kahan hai")


def test_pinned_releases_outlive_the_others_and_can_be_gone_back_to(line):
    store = Store.existing(str(line / "store"))
    config = line / "monoglot.yaml"
    config.write_text(config.read_text() + "retention: {releases: 1, grace_hours: 0}\n")
    releases = Releases(store)
    first = releases.current().id
    monoglot(line, "pin", first)
    for number in range(3):
        edit_kb(line, lambda frame, n=number: frame.head(frame.height - 1 - n))
        assert refresh(RunRequest(config_file=config)) is not None
    kept = [release.id for release in releases.history()]
    assert len(kept) == 3  # the newest, the one before it, the pinned one
    assert kept[-1] == first
    listed = json.loads(monoglot(line, "releases", "--json"))["releases"]
    assert [it["id"] for it in listed if it["pinned"]] == [first]
    assert ", pinned" in monoglot(line, "releases")
    monoglot(line, "rollback", first)
    assert Retriever(store.root).release.id == first
    assert Retriever(store.root).search("mera parcel kahan hai")
    monoglot(line, "rollback", kept[0])
    monoglot(line, "unpin", first)
    monoglot(line, "clean", "--yes")
    assert [release.id for release in releases.history()] == kept[:2]


def test_a_clean_up_that_fails_does_not_fail_the_run(line, monkeypatch):
    def broken(*_):
        raise OSError("the disk is on fire")

    monkeypatch.setattr(cleaning, "clean", broken)
    edit_kb(line, lambda frame: frame.head(frame.height - 1))
    record = refresh(RunRequest(config_file=line / "monoglot.yaml"))
    assert Releases(Store.existing(str(line / "store"))).current().id == record.release
