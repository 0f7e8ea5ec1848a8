"""A candidate that passed the gate waits for a person; the old release answers meanwhile."""

import json
import os
import time

import pytest
from test_index import texts_of
from test_releases import MODEL, OTHER_MODEL, artifact, release_of
from tiny_line import write_line
from typer.testing import CliRunner

from flows.cli import app
from monoglot.config import RetentionConfig
from monoglot.errors import InputError, RunError, StoreBusyError, StoreError
from monoglot.retention import clean
from monoglot.serving.approval import Approval, Candidate
from monoglot.serving.releases import Releases
from monoglot.store import Store

BASE = "c" * 64


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def approval(store):
    """A release in production, and a better candidate over the same rows that waits."""
    Releases(store).promote(release_of(store, texts_of(5)))
    kept = Approval(store)
    kept.keep(release_of(store, texts_of(5), model_digest=OTHER_MODEL), compared_with=MODEL)
    return kept


def test_a_candidate_waits_and_answers_nobody(store, approval):
    releases = Releases(store)
    candidate = approval.waiting()
    assert candidate.model_digest == OTHER_MODEL
    assert releases.current().model_digest == MODEL
    assert candidate.id not in [it.id for it in releases.history()]


@pytest.mark.parametrize("is_named", [False, True])
def test_an_approved_candidate_is_current_and_waits_no_more(store, approval, is_named):
    releases, before = Releases(store), Releases(store).current()
    candidate = approval.waiting()
    done = approval.promote(candidate.id if is_named else None)
    assert (releases.current(), done.id, done.previous) == (done, candidate.id, before.id)
    assert approval.waiting() is None
    with pytest.raises(InputError, match="no candidate awaits approval"):
        approval.promote()
    assert approval.promote(before.id).id == releases.current().id == before.id


def test_a_candidate_that_changed_while_it_was_checked_is_not_promoted(approval, monkeypatch):
    candidate, verify = approval.waiting(), Releases.verify

    def changing(self, release):
        verify(self, release)
        approval.amend(candidate.id, {"evaluation": None, "reason": "another"})

    monkeypatch.setattr(Releases, "verify", changing)
    with pytest.raises(StoreBusyError, match="was changed"):
        approval.promote()
    assert approval.waiting().reason == "another"


def test_a_candidate_that_comes_while_another_is_promoted_waits(store, approval, monkeypatch):
    later = release_of(store, texts_of(5), model_digest="d" * 64)
    move = Releases._move

    def coming(self, *given):
        move(self, *given)
        approval._write(Candidate(release=later, compared_with=MODEL))

    monkeypatch.setattr(Releases, "_move", coming)
    done = approval.promote()
    assert done.model_digest == OTHER_MODEL
    assert approval.waiting() == later


def test_what_is_amended_as_it_is_promoted_keeps_its_place_among_the_releases(store, approval):
    before, candidate = Releases(store).current(), approval.waiting()
    done = approval.promote()
    approval.amend(candidate.id, {"reason": "amended"})
    assert Releases(store).current() == done.model_copy(update={"reason": "amended"})
    assert done.previous == before.id
    approval.amend("unknown", {"reason": "amended"})


def test_the_same_candidate_again_is_the_one_that_waits_and_another_takes_its_place(
    store, approval
):
    first = approval.waiting()
    again = release_of(store, texts_of(5), model_digest=OTHER_MODEL)
    assert approval.keep(again, compared_with=MODEL) == first
    other = release_of(store, texts_of(5), model_digest=BASE)
    assert approval.keep(other, compared_with=MODEL) == other == approval.waiting()


@pytest.mark.parametrize("what", ["model", "knowledge base"])
def test_a_candidate_that_was_decided_on_other_grounds_takes_the_place_of_the_one_that_waits(
    store, approval, what
):
    """The same model over the same rows; production has changed since, and it is compared anew."""
    releases, overtaken = Releases(store), approval.waiting()
    model = BASE if what == "model" else MODEL
    base = artifact(store, "knowledge_base", "kb" if what == "model" else "edited")
    now = releases.promote(release_of(store, texts_of(5), model_digest=model, knowledge_base=base))
    again = release_of(
        store, texts_of(5), model_digest=OTHER_MODEL, knowledge_base=base, reason="better still"
    )
    assert approval.overtaken_by(now).startswith(f"candidate {overtaken.id}")
    assert approval.keep(again, compared_with=model) == again == approval.waiting()
    assert approval.overtaken_by(now) is None
    assert approval.promote().reason == "better still"
    assert releases.current().id == again.id


def test_a_candidate_waits_whatever_is_wrong_with_an_old_manifest(store, approval):
    (old,) = Releases(store).history()
    now = Releases(store).promote(release_of(store, texts_of(5), reason="again"))
    (store.releases / "manifests" / f"{old.id}.json").write_text("")
    assert approval.overtaken_by(now) is None
    assert approval.promote().previous == now.id


def test_the_list_of_releases_says_that_what_waits_was_overtaken_and_what_cannot_be_read(
    store, approval, tmp_path
):
    def told(*options):
        config = str(write_line(tmp_path / "line", store=str(store.root)))
        ran = CliRunner().invoke(app, ["releases", "-c", config, *options])
        assert ran.exit_code == 0, ran.output
        return ran.stdout

    (old,) = Releases(store).history()
    candidate = approval.waiting()
    assert f"awaits approval: `monoglot promote {candidate.id}`" in told()
    now = Releases(store).promote(release_of(store, texts_of(5), model_digest=BASE))
    (store.releases / "manifests" / f"{old.id}.json").write_text("")
    listed = " ".join(told().split())  # lines are wrapped
    assert "warning: " in listed
    assert "was compared with another model than that of release" in listed
    found = json.loads(told("--json"))
    assert [it["id"] for it in found["releases"]] == [found["current"]] == [now.id]
    assert found["candidate"]["id"] == candidate.id
    assert found["overtaken"].startswith(f"candidate {candidate.id} was compared with another")
    assert f"{old.id}.json: cannot be read" in found["warnings"][0]


def test_a_candidate_compared_with_a_model_that_is_gone_is_refused(store, approval):
    Releases(store).promote(release_of(store, texts_of(5), model_digest=BASE))
    with pytest.raises(RunError, match=r"compared with another model .*monoglot run"):
        approval.promote()
    assert Releases(store).current().model_digest == BASE
    assert approval.waiting() is not None


def test_a_candidate_of_an_earlier_knowledge_base_is_refused(store, approval):
    now = artifact(store, "knowledge_base", "edited")
    Releases(store).promote(release_of(store, texts_of(6), knowledge_base=now))
    with pytest.raises(RunError, match=r"5 rows of an earlier or later knowledge base .* 6 rows"):
        approval.promote()
    assert Releases(store).current().rows == 6


def test_a_candidate_whose_model_is_gone_is_refused(store, approval):
    candidate = approval.waiting()
    (store.folder(candidate.model) / "model" / "model.safetensors").unlink()
    with pytest.raises(StoreError, match="its model is gone"):
        approval.promote()
    assert Releases(store).current().model_digest == MODEL


def test_an_approval_killed_before_it_cleared_up_is_done(store, approval):
    candidate = (store.releases / "candidate.json").read_bytes()
    approved = approval.promote()
    (store.releases / "candidate.json").write_bytes(candidate)
    assert approval.waiting() is None
    assert Releases(store).current() == approved


def test_the_first_release_of_a_store_may_be_approved_too(store):
    approval = Approval(store)
    approval.keep(release_of(store, texts_of(4)), compared_with=BASE)
    assert Releases(store).current() is None
    assert approval.promote().seq == 1


def test_a_clean_up_leaves_what_waits(store, approval):
    then = time.time() - 3600
    for path in store.root.rglob("*"):
        os.utime(path, (then, then))
    found = clean(store, RetentionConfig(releases=1, grace_hours=0), key="of no run")
    assert "index table" not in {thing.kind for thing in found.due}
    waited = approval.waiting()
    assert approval.promote() == Releases(store).current()
    assert Releases(store).current().id == waited.id
