"""Random histories of releases, pins, rollbacks and clean-ups, killed at random file operations."""

import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from test_index import DIMENSIONS, encode, knowledge_base

from monoglot.config import RetentionConfig
from monoglot.errors import InputError, StoreError
from monoglot.retention import clean, find_leavings
from monoglot.serving import index as index_module
from monoglot.serving import pruning
from monoglot.serving.index import Index
from monoglot.serving.releases import Release, Releases
from monoglot.store import Key, Store

KEPT = 2
NO_GRACE = RetentionConfig(releases=KEPT, grace_hours=0.0)
DAY = RetentionConfig(releases=KEPT, grace_hours=24.0)
NO_RUN = "0" * 64


class Killed(BaseException):
    """Stands in for `kill -9`: nothing in the product catches it."""


@contextmanager
def killed_at(number):
    """Die at the number-th rename or removal of a file; what a killed process leaves, stays."""
    left = [number]

    def dying(real):
        def operation(*given, **named):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(*given, **named)

        return operation

    with (
        mock.patch.object(Path, "rename", dying(Path.rename)),
        mock.patch.object(Path, "unlink", dying(Path.unlink)),
        mock.patch.object(os, "unlink", dying(os.unlink)),
        mock.patch.object(os, "rmdir", dying(os.rmdir)),
        suppress(Killed),
    ):
        yield


def kept_artifact(store, stage, name, file):
    """An artifact as a stage writes it."""
    key = Key.of(stage, 1, {}, name)
    found = store.find(key)
    if found is None:
        with store.writing(key) as draft:
            (draft.folder / file).parent.mkdir(exist_ok=True)
            (draft.folder / file).write_bytes(name.encode())
        found = store.find(key)
    return found


class Histories(RuleBasedStateMachine):
    """The model keeps, per release, what it must answer; the store is real."""

    @initialize()
    def a_store(self):
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store.open(str(self.folder / "store"))
        self.store.ledger_path.write_bytes(b"paid")
        self.releases = Releases(self.store)
        self.texts: dict[str, list[str]] = {}
        self.order: list[str] = []
        self.pins: set[str] = set()
        self.models = self.rows = 0
        self.promote(model=True)

    def teardown(self):
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    @rule(model=st.booleans())
    def promote(self, model):
        """A new model, or the same one over changed rows: a new version of its table."""
        self.models += model
        self.rows += 1
        name = f"{self.models:064x}"
        texts = [f"question {self.rows} {number}" for number in range(3)]
        with self.store.writer():
            index = Index.of_model(self.store.index_uri, name[::-1], DIMENSIONS)
            done = index.sync(knowledge_base(texts), encode)
            made = self.releases.promote(
                Release(
                    model=kept_artifact(self.store, "training", name, "model/model.safetensors"),
                    model_name="tiny",
                    model_digest=name[::-1],
                    index_table=done.table,
                    index_version=done.version,
                    index_content=done.content,
                    rows=done.rows,
                    knowledge_base=kept_artifact(self.store, "kb", str(texts), "table"),
                    config_digest="c" * 64,
                )
            )
        self.texts[made.id] = texts
        self.order.append(made.id)

    @rule(data=st.data())
    def roll_back(self, data):
        listed = [release.id for release in self.releases.history()]
        chosen = data.draw(st.sampled_from(listed))
        assert self.releases.rollback(chosen).id == chosen

    @rule(data=st.data())
    def pin_or_unpin(self, data):
        listed = [release.id for release in self.releases.history()]
        chosen = data.draw(st.sampled_from(listed))
        if chosen in self.pins:
            self.releases.unpin(chosen)
        else:
            self.releases.pin(chosen)
        self.pins ^= {chosen}

    @rule(config=st.sampled_from((NO_GRACE, DAY)))
    def clean(self, config):
        found = find_leavings(self.store, config, NO_RUN)
        current = self.releases.current()
        staying = {*self.order[-KEPT:], *self.pins, current.id, current.previous}
        expected = [it.id for it in self.releases.history() if it.id in staying]
        with self.store.writer():
            done = clean(self.store, config, NO_RUN)
            assert [it.id for it in done.releases] == [it.id for it in found.releases]
        assert [it.id for it in self.releases.history()] == expected
        if config is NO_GRACE:
            left = find_leavings(self.store, config, NO_RUN)
            assert left.releases == []
            assert {thing.kind for thing in left.things} <= {"index versions", "index table"}

    @rule(config=st.sampled_from((NO_GRACE, DAY)), number=st.integers(0, 30))
    def clean_and_die(self, config, number):
        with self.store.writer(), killed_at(number):
            clean(self.store, config, NO_RUN)

    @invariant()
    def what_is_listed_answers(self):
        listed = self.releases.history()
        current = self.releases.current()
        must = {current.id, *self.pins, *self.order[-KEPT:]} - {None}
        assert must <= {release.id for release in listed}
        assert self.releases.pinned() >= self.pins
        for release in listed:
            self.releases.verify(release)
            index = self.releases.index(release)
            found = index.search(encode(self.texts[release.id]), 1)
            assert found["query"].to_list() == self.texts[release.id]
        for gone in set(self.texts) - {release.id for release in listed}:
            with pytest.raises(InputError, match="no such release"):
                self.releases.rollback(gone)
        for folder in (self.store.root / "artifacts").glob("*/*"):
            # Whole, or gone: nothing findable lacks a file.
            assert (folder / "record.json").exists()
            assert len([it for it in folder.rglob("*") if it.is_file()]) == 2
        assert self.store.ledger_path.read_bytes() == b"paid"


class TestHistories(Histories.TestCase):
    settings = settings(
        max_examples=5,
        stateful_step_count=10,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "store"))


def sync(store, number):
    index = Index.of_model(store.index_uri, "a" * 64, DIMENSIONS)
    return index.sync(knowledge_base([f"question {number} {row}" for row in range(3)]), encode)


def test_versions_that_are_not_named_go_and_files_with_them(store):
    made = [sync(store, number) for number in range(6)]
    table = made[0].table
    named = {made[1].version, made[3].version}
    folder = Path(store.index_uri) / f"{table}.lance"
    before = len(list((folder / "data").iterdir()))
    old = pruning.old_versions(store, table, named, time.time())
    assert pruning.prune(store, table, named, time.time()) == len(old) >= 3
    assert len(list((folder / "data").iterdir())) < before
    newest = Index.of_model(store.index_uri, "a" * 64, DIMENSIONS)
    left = {it["version"] for it in newest._table.list_versions()}
    assert left == named | {made[5].version}
    for number in (1, 3, 5):
        index = Index.at(store.index_uri, table, made[number].version)
        assert index.content == index.content_of_rows() == made[number].content
    with pytest.raises(StoreError):
        Index.at(store.index_uri, table, made[2].version)
    again = sync(store, 5)
    assert (again.content, again.encoded) == (made[5].content, 0)


def test_the_version_with_deleted_rows_goes_with_the_version_that_is_searched_by_it(
    store, monkeypatch
):
    monkeypatch.setattr(index_module, "EXACT_NUMBERS", 0)
    texts = [f"question {number}" for number in range(300)]
    made = []
    for number in range(4):
        texts[number] += " edited"
        index = Index.of_model(store.index_uri, "a" * 64, DIMENSIONS)
        made.append(index.sync(knowledge_base(texts), encode))
    folder = Path(store.index_uri) / f"{made[0].table}.lance" / "_versions"

    def detached():
        return {int(it.stem[1:]) for it in folder.glob("d*.manifest")}

    needed = [Index.at(store.index_uri, it.table, it.version)._seen.undeleted for it in made]
    assert needed[0] is None  # nothing was deleted yet
    assert detached() == set(needed[1:])
    between = time.time()
    assert pruning.prune(store, made[0].table, {made[2].version}, between) > 0
    assert detached() == set(needed[2:])  # the newest stays, too
    index = Index.at(store.index_uri, made[2].table, made[2].version)
    assert index.search(encode([texts[0]]), 1)["query"].to_list() == [texts[0]]


def test_versions_stay_that_are_young_or_tagged_and_all_where_no_named_one_is_there(store):
    made = [sync(store, number) for number in range(3)]
    between = time.time()
    made += [sync(store, number) for number in range(3, 6)]
    table = made[0].table
    newest = Index.of_model(store.index_uri, "a" * 64, DIMENSIONS)
    newest._table.tags.create("mine", made[0].version)
    assert pruning.prune(store, table, {made[5].version + 9}, time.time()) == 0
    old = pruning.old_versions(store, table, {made[5].version}, between)
    assert pruning.prune(store, table, {made[5].version}, between) == len(old) > 0
    left = {it["version"] for it in newest._table.list_versions()}
    assert not left & set(old)
    for number, is_there in enumerate((True, False, False, True, True, True)):
        if is_there:
            index = Index.at(store.index_uri, table, made[number].version)
            assert index.content_of_rows() == made[number].content
        else:
            with pytest.raises(StoreError):
                Index.at(store.index_uri, table, made[number].version)
