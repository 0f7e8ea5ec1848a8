"""A whole line whose store is in a bucket, on two machines that share it."""

import os

import pytest
from s3_server import environment, s3_server
from tiny_line import edit_kb, request_of, write_line

from flows.refresh_index import refresh_index
from flows.retrain import retrain
from monoglot import Retriever
from monoglot.serving.releases import Releases
from monoglot.store import Store


@pytest.fixture(scope="module")
def s3():
    with s3_server() as url:
        yield url


@pytest.fixture
def machine(s3, tmp_path, monkeypatch):
    """Go to another machine: `machine("b")` has a mirror of its own."""
    for name, value in environment(s3).items():
        monkeypatch.setenv(name, value)

    def go(name):
        monkeypatch.setenv("MONOGLOT_MIRROR", str(tmp_path / name))

    go("a")
    return go


QUESTION = "mera order kab aayega"


def outcomes(record):
    return {stage.title: stage.outcome for stage in record.stages}


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
