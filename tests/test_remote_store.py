"""A store in a bucket of a real S3 server: artifacts, lock, releases, and what trouble says."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path, PurePosixPath

import polars as pl
import pytest
from s3_server import KEY as KEY_OF_S3
from test_index import DIMENSIONS, encode, knowledge_base, texts_of
from tiny_models import static_model

from flows import fine_tune
from monoglot import Retriever
from monoglot.config import RetentionConfig
from monoglot.errors import ConfigError, MonoglotError, StoreBusyError, StoreError
from monoglot.learning.encoder import Encoder
from monoglot.remote import store as remote_store
from monoglot.remote.bucket import Bucket
from monoglot.remote.lease import Lease
from monoglot.remote.place import connection, place_of
from monoglot.retention import clean, find_leavings
from monoglot.runs import Runs
from monoglot.serving import compaction, pruning
from monoglot.serving import index as index_module
from monoglot.serving.index import Index
from monoglot.serving.neighbours import Effort
from monoglot.serving.releases import Release, Releases
from monoglot.store import Key, Store

_NUMBERS = itertools.count()
KEY = Key.of("stage", 1, {}, "x")
FRAME = pl.DataFrame({"a": [1, 2, 3]})


@pytest.fixture(autouse=True)
def hosts(monkeypatch):
    """Each machine has a name of its own."""
    monkeypatch.setattr("socket.gethostname", lambda: os.environ["MONOGLOT_MIRROR"])


@pytest.fixture
def location(machine):
    return f"s3://shop/{os.getpid()}-{next(_NUMBERS)}/store"


def write(store, frame=FRAME, key=KEY):
    with store.writing(key) as draft:
        draft.write_table(frame)
        (draft.folder / "model").mkdir()
        (draft.folder / "model/weights.safetensors").write_bytes(b"weights")
    return store.find(key)


def tuned(store, folder, seed):
    """A model as training leaves it: its artifact, and itself."""
    folder = static_model(folder / f"model-{seed}", texts_of(12), seed=seed)
    encoder = Encoder.load(str(folder), device="cpu")
    key = Key.of("training", 1, {}, seed)
    with store.writing(key) as draft:
        encoder.save(draft.folder / "model")
    return store.find(key), encoder


def release_of(store, rows=12, model=None, encoder=None):
    """A release over some rows, of a base model that needs no files, or of a tuned one."""
    kb = knowledge_base(texts_of(rows))
    digest = encoder.digest if encoder else "m" * 64
    dimensions = encoder.dimensions if encoder else DIMENSIONS
    index = Index.of_model(store.index_uri, digest, dimensions)
    done = index.sync(kb, encoder.encode if encoder else encode)
    key = Key.of("knowledge_base", 1, {}, [rows])
    kept = store.find(key)
    if kept is None:
        with store.writing(key) as draft:
            draft.write_table(kb)
        kept = store.find(key)
    named = {"index_table": done.table, "index_version": done.version, "rows": done.rows}
    return Release(
        model=model,
        model_name="base",
        model_digest=digest,
        index_content=done.content,
        knowledge_base=kept,
        config_digest="c",
        **named,
    )


def test_another_machine_finds_what_was_made(machine, location):
    made = write(Store.open(location))
    assert Store.open(location).find(KEY) == made
    machine("b")
    store = Store.existing(location)
    assert store.holds(made)
    assert not (store.root / made.location).exists()
    assert store.table(made).equals(FRAME)
    assert (store.folder(made) / "model/weights.safetensors").read_bytes() == b"weights"
    assert (store.find(KEY), store.newest("stage")) == (made, [made])
    assert store.find(Key.of("stage", 2, {}, "x")) is None


def test_a_table_in_a_bucket_is_searched_without_a_copy(machine, location, monkeypatch):
    made = release_of(Store.open(location))
    machine("b")
    uri = Store.existing(location).index_uri
    held = Index.at(uri, made.index_table, made.index_version)
    vectors = encode(texts_of(3))
    expected = held.nearest(vectors, 4)
    monkeypatch.setattr(index_module, "EXACT_NUMBERS", 0)
    searched = Index.at(uri, made.index_table, made.index_version)
    searched._seen = searched._seen._replace(effort=Effort(1, 1, 0.5))
    found = searched.nearest(vectors, 4)
    assert found.drop("row", "score").equals(expected.drop("row", "score"))
    assert found["score"].to_list() == pytest.approx(expected["score"].to_list(), abs=1e-6)


def test_the_files_and_versions_of_a_table_in_a_bucket_are_tidied_and_removed(
    machine, location, monkeypatch
):
    monkeypatch.setattr(compaction, "_MOST_SMALL_FILES", 2)
    monkeypatch.setattr(index_module, "EXACT_NUMBERS", 0)
    store = Store.open(location)
    digest = "d" * 64
    made = []
    for number in range(6):
        texts = [*texts_of(300)[3:], *(f"edit {number} {row}" for row in range(3))]
        index = Index.of_model(store.index_uri, digest, DIMENSIONS)
        made.append(index.sync(knowledge_base(texts), encode))
    files = index._table.to_lance().get_fragments()
    assert len(files) < 4
    assert pruning.prune(store, made[0].table, {made[4].version, made[5].version}, time.time()) > 4
    for result in made[4:]:
        held = Index.at(store.index_uri, result.table, result.version)
        assert held.content_of_rows() == result.content
        asked = texts_of(300)[10:20]
        assert held.search(encode(asked), 1)["query"].to_list() == asked
    named = {
        f"d{Index.at(store.index_uri, it.table, it.version)._seen.undeleted}.manifest"
        for it in made[4:]
    }
    stored = {PurePosixPath(entry.name).name for entry in store.files.below("index")}
    assert {name for name in stored if name.startswith("d")} == named
    for result in made[:4]:
        with pytest.raises(StoreError):
            Index.at(store.index_uri, result.table, result.version)


def test_a_damaged_copy_is_fetched_again_and_a_damaged_original_is_not_there(machine, location):
    store = Store.open(location)
    made = write(store)
    copy = store.root / made.location / "table.parquet"
    copy.write_bytes(b"damaged")
    assert store.table(store.find(KEY)).equals(FRAME)
    entry = next(it for it in store.bucket.below("artifacts") if it.name.endswith("table.parquet"))
    store.bucket.put(entry.name, b"damaged")
    assert store.find(KEY) == made  # what is here is whole
    machine("b")
    other = Store.open(location)
    assert other.find(KEY) is None
    again = write(other)
    assert other.table(again).equals(FRAME)
    machine("c")
    assert Store.existing(location).table(again).equals(FRAME)


def test_what_the_bucket_lacks_is_not_there_whatever_the_mirror_holds(machine, location):
    store = Store.open(location)
    made = write(store)
    store.files.remove_folder(made.location)
    assert (store.root / made.location).exists()
    assert store.find(KEY) is None
    assert not store.holds(made)


def test_two_that_make_the_same_never_mix_and_the_first_stays(machine, location):
    first = Store.open(location)
    machine("b")
    second = Store.open(location)
    with first.writing(KEY) as slow:
        slow.write_table(FRAME)
        made = write(second, FRAME.reverse())
    assert first.find(KEY) == made
    assert first.table(made).equals(FRAME.reverse())


def test_an_upload_that_was_killed_leaves_nothing_that_is_found(machine, location, tmp_path):
    """kill -9 at each request of an upload; the run that follows is whole."""
    Store.open(location)
    code = """
import os, signal, sys
import polars as pl
from monoglot.remote.bucket import Bucket
from monoglot.store import Key, Store
left = [int(sys.argv[2])]
def dying(real):
    def call(*given, **named):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **named)
    return call
store = Store.open(sys.argv[1])
Bucket.put, Bucket.create = dying(Bucket.put), dying(Bucket.create)
with store.writing(Key.of("stage", 1, {}, "x")) as draft:
    draft.write_table(pl.DataFrame({"a": [1, 2, 3]}))
    (draft.folder / "more").write_text("x")
print("done")
"""
    ended = []
    for requests in range(5):
        command = [sys.executable, "-c", code, location, str(requests)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        ended.append(ran.returncode)
        store = Store.open(location)
        found = store.find(KEY)
        assert (found is not None) == (ran.returncode == 0), (requests, ran.stderr)
    assert ended == [-signal.SIGKILL] * 3 + [0] * 2
    assert store.table(found).equals(FRAME)


def test_one_machine_writes_at_a_time_and_names_itself(machine, location):
    store = Store.open(location)
    machine("b")
    other = Store.open(location)
    with store.writer():
        with pytest.raises(StoreBusyError, match=r"another machine is writing .*process \d+ on"):
            other.writer().__enter__()
        machine("a")
        with pytest.raises(StoreBusyError, match="another run is writing to this store"):
            Store.open(location).writer().__enter__()
    with other.writer():
        pass


def test_a_killed_holder_blocks_its_own_machine_not_at_all(machine, location):
    Store.open(location)
    code = (
        "import os, sys; from monoglot.store import Store; import socket\n"
        f"socket.gethostname = lambda: {os.environ['MONOGLOT_MIRROR']!r}\n"
        "with Store.open(sys.argv[1]).writer(): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, location], check=False).returncode == -9
    held = json.loads(Store.open(location).files.read("locks/writer.json"))
    assert held["token"]
    with Store.open(location).writer():
        pass


def test_a_dead_machines_lock_is_taken_over_and_it_learns_of_it(machine, location, monkeypatch):
    monkeypatch.setattr(remote_store, "TERM_S", 2.0)
    monkeypatch.setattr(Lease, "_renew", lambda *_: None)  # suspended: it renews nothing
    store = Store.open(location)
    with store.writer():
        made = write(store)
        machine("b")
        other = Store.open(location)
        with pytest.raises(StoreBusyError):
            other.writer().__enter__()
        taken = threading.Event()
        for _ in range(100):
            try:
                with other.writer():
                    taken.set()
                    with pytest.raises(StoreBusyError, match="lost the store's lock"):
                        store.files.write("runs/last.json", "{}")
                    with pytest.raises(StoreBusyError, match="lost the store's lock"):
                        write(store, key=Key.of("stage", 9, {}, "x"))
                    assert other.find(KEY) == made
                break
            except StoreBusyError:
                taken.wait(0.1)
        assert taken.is_set()
    assert json.loads(store.files.read("locks/writer.json"))["token"] == ""


def test_a_lease_is_renewed_and_an_overtaken_one_says_so(machine, location):
    bucket = Bucket(place_of(location))

    def lease(name, term):
        return Lease(bucket, "locks/x", machine=name, holder=name, term=term)

    with lease("a", 1.0).held() as held:
        with pytest.raises(StoreBusyError, match=r"\(a\)"):
            lease("b", 1.0)._take(0.0)
        threading.Event().wait(3.0)  # three terms
        held.check()
        with pytest.raises(StoreBusyError):
            lease("b", 1.0)._take(0.0)
        bucket.write("locks/x", json.dumps({"token": "another", "machine": "b"}))
        threading.Event().wait(1.0)
        with pytest.raises(StoreBusyError, match="lost the store's lock"):
            held.check()
    assert json.loads(bucket.read("locks/x").text)["token"] == "another"


class Flaky(Bucket):
    """A bucket behind a network that can lose what was asked for once, after it was done."""

    def __init__(self, place):
        super().__init__(place)
        self.loses, self.lost = None, threading.Event()

    def read(self, name):
        return self._through("answer to a read", super().read(name))

    def swap(self, name, text, tag):
        return self._through("answer to a write", super().swap(name, text, tag))

    def _through(self, what, answer):
        if self.loses == what:
            self.loses = None
            self.lost.set()
            raise StoreError(f"the {what} did not arrive")
        return answer


@pytest.mark.parametrize("loses", ["answer to a read", "answer to a write"])
def test_a_lease_whose_renewal_is_stored_and_not_heard_of_goes_on(machine, location, loses):
    bucket = Flaky(place_of(location))
    with Lease(bucket, "locks/x", machine="a", holder="a", term=4.0).held() as held:
        bucket.loses = loses
        assert bucket.lost.wait(30)
        for _ in range(30):  # three seconds: longer than what was known before would hold
            threading.Event().wait(0.1)
            held.check()
        bucket.loses = loses  # at the end, too: the lock is free at once, not after a term
        bucket.lost.clear()
        assert bucket.lost.wait(30)
    assert json.loads(bucket.read("locks/x").text) == {"token": ""}


def test_a_lease_that_was_overtaken_while_an_answer_was_lost_is_lost(machine, location):
    bucket = Flaky(place_of(location))
    with Lease(bucket, "locks/x", machine="a", holder="a", term=2.0).held() as held:
        bucket.loses = "answer to a write"
        assert bucket.lost.wait(30)
        bucket.write("locks/x", json.dumps({"token": "another", "machine": "b"}))
        threading.Event().wait(1.0)
        with pytest.raises(StoreBusyError, match="lost the store's lock"):
            held.check()
    assert json.loads(bucket.read("locks/x").text)["token"] == "another"


def test_of_two_promoters_one_loses_and_is_told(machine, location, monkeypatch):
    store = Store.open(location)
    first = Releases(store).promote(release_of(store), seq=0)
    machine("b")
    other = Store.open(location)
    assert Releases(other).current() == first
    seen = Releases(other).pointer().seq
    second = Releases(store).promote(release_of(store, rows=13), seq=seen)
    with pytest.raises(StoreBusyError, match=f"another run made {second.id} current meanwhile"):
        Releases(other).promote(release_of(other, rows=14), seq=seen)
    assert Releases(other).current() == second
    # Even where the lock for the moment was lost unnoticed, the object store compares.
    replace = type(other.files).replace

    def overtaken(self, name, text, seen):
        monkeypatch.setattr(type(other.files), "replace", replace)
        machine("a")
        Releases(Store.existing(location)).rollback(first.id)
        return replace(self, name, text, seen)

    monkeypatch.setattr(Lease, "_is_free", lambda *_: True)
    monkeypatch.setattr(type(other.files), "replace", overtaken)
    lost = release_of(other, rows=15)
    with pytest.raises(StoreBusyError, match="another machine moved the pointer"):
        Releases(other).promote(lost)
    assert Releases(store).current() == first
    assert lost.id not in [it.id for it in Releases(store).history()]


def test_a_manifest_that_another_machine_set_aside_before_the_pointer_moved_is_there(
    machine, location, monkeypatch
):
    """Its lock for the moment was lost unnoticed; the comparison of the pointer still holds."""
    store = Store.open(location)
    first = Releases(store).promote(release_of(store))
    replace = type(store.files).replace

    def overtaken(self, name, text, seen):
        monkeypatch.setattr(type(store.files), "replace", replace)
        machine("b")
        Releases(Store.existing(location)).pin(first.id)
        return replace(self, name, text, seen)

    monkeypatch.setattr(Lease, "_is_free", lambda *_: True)
    monkeypatch.setattr(type(store.files), "replace", overtaken)
    second = Releases(store).promote(release_of(store, rows=13))
    assert store.files.read(f"releases/retired/{second.id}.json")
    assert Releases(Store.existing(location)).current() == second
    assert Releases(Store.existing(location)).history() == [second, first]


def test_a_service_frees_its_mirror_of_models_that_the_store_has_no_more(
    machine, location, tmp_path
):
    store = Store.open(location)
    (first, one), (second, other) = (tuned(store, tmp_path, seed) for seed in (0, 1))
    Releases(store).promote(release_of(store, model=first, encoder=one))
    machine("b")
    service = Retriever(location, device="cpu")
    mirror = Store.existing(location).root
    made = write(Store.open(location))
    Releases(store).promote(release_of(store, model=second, encoder=other))
    assert service.refresh()
    mirrored = {it.parent.relative_to(mirror).as_posix() for it in mirror.rglob("record.json")}
    assert mirrored >= {first.location, second.location, made.location}
    Releases(store).promote(release_of(store, rows=13, model=second, encoder=other))
    with store.writer():
        clean(store, RetentionConfig(releases=1, grace_hours=0), "0" * 64)
    assert not store.holds(first)
    # Lost by mischance: what answers is not taken from under the service.
    store.files.remove_folder(second.location)
    assert service.refresh()
    assert list((mirror / "artifacts/training").iterdir()) == [mirror / second.location]
    assert not (mirror / made.location).exists()  # no run had named it: it went, too
    assert service.search("question number 3", k=1)[0].row_id == "r00003"


def test_a_training_elsewhere_frees_its_mirror(machine, location, monkeypatch):
    monkeypatch.setattr(fine_tune, "train_here", lambda *_: None)
    store = Store.open(location)
    gone, kept = write(store), write(store, key=Key.of("knowledge_base", 1, {}, "another"))
    store.files.remove_folder(gone.location)
    fine_tune.fine_tune_model.fn(fine_tune.TrainingJob.model_construct(store=location))
    assert not (store.root / gone.location).exists()
    assert (store.root / kept.location).exists()


def test_promotions_of_two_machines_at_once_all_count(machine, location, tmp_path):
    """Each finds its predecessor: none is overwritten."""
    store = Store.open(location)
    made = release_of(store)
    code = """
import sys
from monoglot.serving.releases import Release, Releases
from monoglot.store import Store
store = Store.open(sys.argv[1])
base = Release.model_validate_json(sys.stdin.read())
for number in range(4):
    release = base.model_copy(update={"id": f"{sys.argv[2]}-{number}"})
    Releases(store).promote(release)
"""
    running = []
    for name in ("x", "y"):
        process = subprocess.Popen(
            [sys.executable, "-c", code, location, name],
            stdin=subprocess.PIPE,
            env=os.environ | {"MONOGLOT_MIRROR": str(tmp_path / name)},
            text=True,
        )
        process.stdin.write(made.model_dump_json())
        process.stdin.close()
        running.append(process)
    assert [process.wait(200) for process in running] == [0, 0]
    history = sorted(Releases(store).history(), key=lambda it: it.seq)
    assert [it.seq for it in history] == list(range(1, 9))
    assert [it.previous for it in history] == [None, *(it.id for it in history[:-1])]
    assert Releases(store).current() == history[-1]


def test_rollback_pins_and_clean_up(machine, location):
    store = Store.open(location)
    releases = Releases(store)
    made = [releases.promote(release_of(store, rows=10 + n)) for n in range(5)]
    write(store)
    assert [it.id for it in releases.history()] == [it.id for it in reversed(made)]
    machine("b")
    other = Store.open(location)
    assert Releases(other).rollback() == made[3]
    Releases(other).pin(made[0].id)
    config = RetentionConfig(releases=1, grace_hours=0.0)
    found = find_leavings(other, config, "0" * 64)
    assert {it.id for it in found.releases} == {made[1].id}
    with other.writer():
        clean(other, config, "0" * 64)
    assert {it.id for it in releases.history()} == {made[n].id for n in (0, 2, 3, 4)}
    assert store.find(KEY) is None
    assert not store.holds(made[1].knowledge_base)
    for kept in releases.history():
        assert store.holds(kept.knowledge_base)
        assert len(releases.index(kept)) == kept.rows
    Releases(other).unpin(made[0].id)
    with other.writer():
        clean(other, config, "0" * 64)
    assert made[0].id not in {it.id for it in releases.history()}
    assert list(Runs(store).records()) == []


def test_two_that_index_at_once_leave_each_row_once(machine, location):
    """As a run that lost its lock and the one that has it now do; LanceDB may refuse the one."""
    store = Store.open(location)
    Index.of_model(store.index_uri, "m" * 64, DIMENSIONS)
    indexes = [Index.of_model(store.index_uri, "m" * 64, DIMENSIONS) for _ in range(2)]
    rows = knowledge_base(texts_of(40))

    def sync(index):
        with contextlib.suppress(StoreError):
            index.sync(rows, encode)

    threads = [threading.Thread(target=sync, args=(index,)) for index in indexes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = Index.of_model(store.index_uri, "m" * 64, DIMENSIONS)
    assert last.sync(rows, encode).rows == 40
    assert last.content_of_rows() == last.content


def told(opening, location):
    with pytest.raises(MonoglotError) as caught:
        opening(location)
    assert "\n" not in str(caught.value)
    assert KEY_OF_S3 not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("opening", [Store.open, Store.existing])
def test_what_is_missing_is_said_in_a_line(machine, location, monkeypatch, opening):
    if "MONOGLOT_TEST_S3" not in os.environ:  # SeaweedFS makes the bucket
        assert "there is no bucket nobodys at http" in told(opening, "s3://nobodys/store")
    if opening is Store.existing:
        assert (
            told(opening, location) == f"{location}: no store here yet. `monoglot run` makes one."
        )
    for wrong in ("gs://bucket/x", "s3://", "s3://me:key@bucket/x", "s3://bucket/x?region=y"):
        with pytest.raises(ConfigError, match=r"is no folder and no s3://bucket/prefix"):
            opening(wrong)
    with monkeypatch.context() as without:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            without.delenv(name)
        without.setenv("AWS_SHARED_CREDENTIALS_FILE", "none")
        without.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
        assert "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in told(opening, location)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in told(opening, location)
    assert "AWS_ENDPOINT_URL; then check the network" in told(opening, location)


def test_another_format_is_left_as_it_is(machine, location):
    bucket = Bucket(place_of(location))
    bucket.write("store.json", '{"format": 2}')
    for opening in (Store.open, Store.existing):
        with pytest.raises(StoreError, match="store format 2; this version of Monoglot reads"):
            opening(location)
    assert bucket.read("store.json").text == '{"format": 2}'


def test_an_object_store_without_conditions_is_refused(machine, location, monkeypatch):
    import obstore

    real = obstore.put

    def put(*given, mode=None, **more):  # what a server does that ignores the header
        return real(*given, **more)

    monkeypatch.setattr(obstore, "put", put)
    with pytest.raises(StoreError, match="ignores conditional writes"):
        Store.open(location)


def test_credentials_come_from_a_profile_where_the_environment_has_none(
    machine, tmp_path, monkeypatch
):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    file.write_text(
        "[default]\naws_access_key_id=a\naws_secret_access_key=b%\n[other]\naws_access_key_id=c\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    assert connection()["aws_secret_access_key"] == "b%"
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert connection()["aws_access_key_id"] == "c"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(Path(tmp_path / "none")))
    assert "aws_access_key_id" not in connection()
