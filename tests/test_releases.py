"""The pointer moves as one, forth and back, and names only what is whole."""

import contextlib
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from test_index import DIMENSIONS, encode, knowledge_base, texts_of

from monoglot.config import RetentionConfig
from monoglot.errors import InputError, RunError, StaleVectorsError, StoreBusyError, StoreError
from monoglot.retention import clean
from monoglot.serving import verification
from monoglot.serving.index import Index
from monoglot.serving.releases import Release, Releases
from monoglot.store import Artifact, Store

MODEL = "a" * 64
OTHER_MODEL = "b" * 64


def artifact(store, stage, name):
    location = f"artifacts/{stage}/{name}"
    return Artifact(stage=stage, digest=name, location=location, rows=1)


def trained(store, name):
    """A model artifact whose folder has weights of a kind."""
    model = artifact(store, "training", name)
    (store.folder(model) / "model").mkdir(parents=True, exist_ok=True)
    (store.folder(model) / "model" / "model.safetensors").write_bytes(b"weights")
    return model


def release_of(store, texts, *, answer="yes", model_digest=MODEL, **changes):
    """A release with its index built; its metrics tell what the reader should find."""
    done = Index.of_model(store.index_uri, model_digest, DIMENSIONS).sync(
        knowledge_base(texts, answer=answer), encode
    )
    given = {
        "model": trained(store, model_digest[:8]),
        "model_name": "tiny",
        "model_digest": model_digest,
        "index_table": done.table,
        "index_version": done.version,
        "index_content": done.content,
        "rows": done.rows,
        "knowledge_base": artifact(store, "knowledge_base", "kb"),
        "config_digest": "c" * 64,
        "metrics": {"table": done.table, "rows": done.rows},
        "reason": "better",
    }
    return Release(**{**given, **changes})


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def releases(store):
    return Releases(store)


def files_of(folder):
    return sorted(
        (str(path.relative_to(folder)), path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    )


def test_a_promoted_release_is_current_and_remembered(store, releases):
    assert releases.current() is None
    first = releases.promote(release_of(store, texts_of(5)))
    second = releases.promote(release_of(store, texts_of(6)))
    assert (first.previous, second.previous) == (None, first.id)
    assert releases.current() == second
    assert releases.history() == [second, first]
    assert releases.get(first.id) == first
    assert (releases.pointer().seq, releases.pointer().reason) == (2, "better")


def test_promoting_the_same_release_again_changes_nothing(store, releases):
    first = releases.promote(release_of(store, texts_of(5)))
    second = releases.promote(release_of(store, texts_of(6)))
    assert releases.promote(second.model_copy(update={"previous": None})) == second
    assert releases.pointer().seq == 2
    assert releases.get(second.id).previous == first.id


def test_a_promotion_killed_before_the_pointer_moved_can_be_done_again(store, releases):
    first = releases.promote(release_of(store, texts_of(5)))
    pointer = store.releases / "current.json"
    before = pointer.read_text()
    second = releases.promote(release_of(store, texts_of(6)))
    pointer.write_text(before)
    assert releases.current() == first
    assert releases.history() == [first]
    assert releases.promote(second) == second
    assert releases.current() == second


@pytest.mark.parametrize("move", ["promote", "rollback"])
def test_a_release_that_was_never_live_is_never_listed(store, releases, move):
    first, second = (releases.promote(release_of(store, texts_of(n))) for n in (5, 6))
    pointer = store.releases / "current.json"
    before = pointer.read_text()
    killed = releases.promote(release_of(store, texts_of(7)))
    pointer.write_text(before)
    if move == "promote":
        third = releases.promote(release_of(store, texts_of(8)))
        expected = [third, second, first]
    else:
        releases.rollback()
        expected = [second, first]
    assert releases.history() == expected
    with pytest.raises(InputError, match="no such release"):
        releases.rollback(killed.id)


def moves(releases, release):
    """Everything that takes the lock, by name."""
    return {
        "promote": lambda: releases.promote(release),
        "rollback": releases.rollback,
        "pin": lambda: releases.pin(release.id),
        "unpin": lambda: releases.unpin(release.id),
        "retire": lambda: releases.retire(1),
    }


def three_whose_pointer_is(pointer, store, releases):
    """Three releases, the second pinned; the pointer is lost, or the first one's again."""
    made = [releases.promote(release_of(store, texts_of(5)))]
    file = store.releases / "current.json"
    backup = file.read_text()
    made += [releases.promote(release_of(store, texts_of(count))) for count in (6, 7)]
    releases.pin(made[1].id)
    if pointer == "missing":
        file.unlink()
    else:
        file.write_text(backup)
    return made


@pytest.mark.parametrize("pointer", ["missing", "older"])
@pytest.mark.parametrize("move", ["promote", "rollback", "pin", "unpin", "retire"])
def test_where_the_pointer_is_not_the_last_nothing_moves_and_nothing_is_removed(
    store, releases, move, pointer
):
    made = three_whose_pointer_is(pointer, store, releases)
    before = files_of(store.root)
    newest = ", ".join(release.id for release in reversed(made))
    said = rf"current\.json: is {pointer}.*`monoglot rollback ID`. The newest: {newest}\."
    with pytest.raises(StoreError, match=said):
        moves(releases, made[0])[move]()
    assert files_of(store.root) == before
    assert releases.listing().releases == list(reversed(made))
    assert re.search(said, releases.listing().warnings[0])


@pytest.mark.parametrize("pointer", ["missing", "older"])
@pytest.mark.parametrize("named", [0, 1, 2])
def test_a_release_that_is_named_gives_a_lost_pointer_its_place_back(
    store, releases, pointer, named
):
    made = three_whose_pointer_is(pointer, store, releases)
    if pointer == "missing":
        with pytest.raises(StoreError, match="is missing"):
            releases.current()
    with pytest.raises(InputError, match="no such release"):
        releases.rollback("yesterday")
    assert releases.rollback(made[named].id) == made[named] == releases.current()
    assert releases.history() == list(reversed(made))
    assert releases.pointer().seq == 4
    assert releases.promote(release_of(store, texts_of(8))).previous == made[named].id


def test_a_pointer_that_is_one_move_behind_costs_no_release_that_was_pinned_or_is_named(
    store, releases
):
    first = releases.promote(release_of(store, texts_of(5)))
    file = store.releases / "current.json"
    backup = file.read_text()
    second = releases.promote(release_of(store, texts_of(6)))
    file.write_text(backup)
    assert releases.rollback(second.id) == second == releases.current()
    releases.pin(second.id)
    file.write_text(backup)
    with pytest.raises(StoreError, match=f"older than release {second.id}"):
        releases.promote(release_of(store, texts_of(7)))
    assert releases.rollback(first.id) == first
    assert releases.history() == [second, first]


def test_what_a_killed_promotion_left_is_set_aside_with_what_was_retired(store, releases):
    killed = releases.promote(release_of(store, texts_of(5)))
    (store.releases / "current.json").unlink()
    assert releases.current() is None
    first = releases.promote(release_of(store, texts_of(6)))
    assert (first.seq, first.previous) == (1, None)
    assert releases.history() == [first]
    aside = store.releases / "retired" / f"{killed.id}.json"
    assert Release.model_validate_json(aside.read_text()) == killed


@pytest.mark.parametrize("text", [b"", b"{}", b"\xff"])
def test_a_damaged_manifest_hides_no_other_release_and_keeps_all_from_being_removed(
    store, releases, text
):
    old, first, second = (
        releases.promote(release_of(store, texts_of(count))) for count in (4, 5, 6)
    )
    manifest = store.releases / "manifests" / f"{old.id}.json"
    manifest.write_bytes(text)
    assert releases.rollback() == first
    third = releases.promote(release_of(store, texts_of(7)))
    releases.pin(second.id)
    listing = releases.listing()
    assert (listing.current, listing.releases) == (third.id, [third, second, first])
    assert [str(manifest) in warning for warning in listing.warnings] == [True]
    before = files_of(store.root)
    config = RetentionConfig(releases=1, grace_hours=0)
    for remove in (lambda: releases.retire(1), lambda: clean(store, config, key="of no run")):
        with pytest.raises(StoreError, match=rf"{old.id}\.json: cannot be read"):
            remove()
    assert files_of(store.root) == before
    with pytest.raises(StoreError, match="cannot be read"):
        releases.history()


def test_a_damaged_current_manifest_is_left_by_naming_another_release(store, releases):
    first, second = (releases.promote(release_of(store, texts_of(count))) for count in (5, 6))
    (store.releases / "manifests" / f"{second.id}.json").write_text("")
    for attempt in (releases.current, releases.rollback):
        with pytest.raises(StoreError, match=r"cannot be read.*`monoglot rollback ID`"):
            attempt()
    assert releases.rollback(first.id) == first == releases.current()


def test_a_manifest_that_is_retired_while_all_are_read_is_not_there(store, releases, monkeypatch):
    first, second = (releases.promote(release_of(store, texts_of(count))) for count in (5, 6))
    below = type(store.files).below

    def retired_meanwhile(self, folder):
        found = below(self, folder)
        if folder == "releases/manifests":
            monkeypatch.setattr(type(store.files), "below", below)
            store.files.move(f"{folder}/{first.id}.json", f"releases/retired/{first.id}.json")
        return found

    monkeypatch.setattr(type(store.files), "below", retired_meanwhile)
    assert releases.history() == [second]


def test_a_manifest_that_another_machine_took_for_a_killed_promotions_is_written_again(
    store, releases, monkeypatch
):
    """As between machines, where the lock for the moment can be lost unnoticed."""
    first = releases.promote(release_of(store, texts_of(5)))
    replace = type(store.files).replace
    monkeypatch.setattr(type(store.files), "still", lambda *_: contextlib.nullcontext())

    def overtaken(self, name, text, seen):
        monkeypatch.setattr(type(store.files), "replace", replace)
        Releases(Store.existing(str(store.root))).pin(first.id)
        return replace(self, name, text, seen)

    monkeypatch.setattr(type(store.files), "replace", overtaken)
    second = releases.promote(release_of(store, texts_of(6)))
    assert releases.current() == second
    assert releases.history() == [second, first]


def test_a_manifest_is_never_changed(store, releases):
    first = releases.promote(release_of(store, texts_of(5)))
    releases.promote(release_of(store, texts_of(6)))
    with pytest.raises(StoreError, match="another release has this id"):
        releases.promote(first.model_copy(update={"reason": "rewritten"}))
    assert releases.get(first.id).reason == "better"


def test_an_overtaken_promotion_loses(store, releases):
    seen = releases.pointer()
    assert seen is None
    candidate = release_of(store, texts_of(6))
    first = releases.promote(release_of(store, texts_of(5)), seq=0)
    with pytest.raises(StoreBusyError, match=f"made {first.id} current meanwhile"):
        releases.promote(candidate, seq=0)
    assert releases.current() == first
    assert releases.promote(candidate, seq=1).previous == first.id


def test_rollback_goes_to_the_one_before_or_the_one_named(store, releases):
    first, second, third = (
        releases.promote(release_of(store, texts_of(count))) for count in (5, 6, 7)
    )
    assert releases.rollback() == second
    assert releases.current() == second
    assert releases.rollback() == first
    assert releases.rollback(third.id) == third
    assert (releases.pointer().seq, releases.pointer().reason) == (
        6,
        f"rolled back from {first.id}",
    )
    assert releases.rollback(third.id) == third  # already there
    assert releases.pointer().seq == 6
    fourth = releases.promote(release_of(store, texts_of(8)))
    assert fourth.previous == third.id


def test_rollback_to_nowhere_is_refused(store, releases):
    with pytest.raises(StoreError, match="no release yet"):
        releases.rollback()
    first = releases.promote(release_of(store, texts_of(5)))
    with pytest.raises(InputError, match="first release"):
        releases.rollback()
    with pytest.raises(InputError, match=f"no such release. The newest: {first.id}"):
        releases.rollback("yesterday")
    with pytest.raises(InputError, match="no such release"):
        releases.get("../current")
    assert releases.current() == first


@pytest.mark.parametrize("gone", ["model", "table", "version"])
def test_a_release_of_which_a_part_is_gone_is_refused(store, releases, gone):
    first = releases.promote(release_of(store, texts_of(5)))
    second = releases.promote(release_of(store, texts_of(6), model_digest=OTHER_MODEL))
    table = store.root / "index" / f"{first.index_table}.lance"
    if gone == "model":
        (store.folder(first.model) / "model" / "model.safetensors").unlink()
    elif gone == "table":
        table.rename(store.root / "index" / "elsewhere")
    else:
        for version in (table / "_versions").iterdir():
            version.unlink()
    for attempt in (releases.rollback, lambda: releases.verify(first)):
        with pytest.raises(StoreError, match=r"is gone|has no index table|opened at version"):
            attempt()
    assert releases.current() == second


def test_a_base_model_in_a_folder_that_is_gone_is_refused(store, releases, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    release = release_of(store, texts_of(5)).model_copy(
        update={"model": None, "model_name": str(base)}
    )
    releases.verify(release)
    base.rmdir()
    with pytest.raises(StoreError, match="base model's folder"):
        releases.promote(release)


def damaged(release, what, store):
    """The release with its index not being what the release says."""
    if what == "content":  # a later sync replaced the rows
        later = release_of(store, texts_of(release.rows), answer="no")
        return release.model_copy(update={"index_version": later.index_version})
    if what == "rows":
        return release.model_copy(update={"rows": release.rows + 1})
    table = Index.of_model(store.index_uri, MODEL, DIMENSIONS)._table
    if what == "unfinished":
        table.delete("row_id = 'r00002'")
    else:
        table.update(where="row_id = 'r00002'", values={"vector": [0.0] * DIMENSIONS})
    return release.model_copy(update={"index_version": table.version})


@pytest.mark.parametrize("what", ["content", "rows", "unfinished"])
def test_an_index_with_other_rows_is_not_promoted(store, releases, what):
    good = release_of(store, texts_of(5))
    releases.verify(good)
    bad = damaged(good, what, store)
    with pytest.raises(RunError, match=r"holds .* rows and not the"):
        releases.promote(bad)
    assert releases.current() is None
    assert releases.history() == []


def test_an_index_in_which_a_row_does_not_find_itself_is_not_promoted(store, releases):
    bad = damaged(release_of(store, texts_of(5)), "vector", store)
    with pytest.raises(RunError, match="1 of 5 rows do not find themselves, the first: r00002"):
        releases.promote(bad)


def test_rows_of_one_text_find_themselves(store, releases):
    releases.verify(release_of(store, ["the same"] * 3 + ["another"] + ["many"] * 15))


def test_an_index_of_another_model_is_refused(store, releases):
    release = release_of(store, texts_of(5)).model_copy(update={"model_digest": OTHER_MODEL})
    with pytest.raises(StaleVectorsError, match="its index kb-aaaa"):
        releases.promote(release)


def test_a_store_may_be_moved(store, releases, tmp_path):
    first = releases.promote(release_of(store, texts_of(5)))
    releases.promote(release_of(store, texts_of(6)))
    store.root.rename(tmp_path / "moved")
    moved = Releases(Store.existing(str(tmp_path / "moved")))
    assert moved.rollback() == first
    assert len(moved.index(first)) == 5
    assert moved.model_location(first).startswith(str(tmp_path / "moved"))


def test_a_pointer_that_cannot_be_read_is_an_error_and_not_no_release(store, releases):
    releases.promote(release_of(store, texts_of(5)))
    (store.releases / "current.json").write_text("{")
    with pytest.raises(StoreError, match=r"current\.json: cannot be read.*Remove it, and name"):
        releases.current()


def test_reading_writes_nothing(store, releases):
    releases.promote(release_of(store, texts_of(5)))
    before = files_of(store.root)
    reading = Releases(Store.existing(str(store.root)))
    reading.verify(reading.current())
    reading.history()
    assert files_of(store.root) == before


HAMMER = """
    import sys
    sys.path.insert(0, {tests!r})
    from monoglot.serving.releases import Releases
    from monoglot.store import Store
    releases = Releases(Store.existing({root!r}))
    ids = {ids!r}
    for number in range({moves}):
        releases.rollback(ids[number % len(ids)])
"""


@pytest.mark.slow
def test_a_reader_sees_whole_and_matching_releases_while_two_processes_move_the_pointer(
    store, releases
):
    kept = [
        releases.promote(release_of(store, texts_of(count), model_digest=model))
        for count, model in ((5, MODEL), (6, OTHER_MODEL), (7, MODEL))
    ]
    script = textwrap.dedent(
        HAMMER.format(
            tests=os.path.dirname(__file__),  # noqa: PTH120
            root=str(store.root),
            ids=[release.id for release in kept],
            moves=100,
        )
    )
    start = releases.pointer().seq
    writers = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    seen, sequence = set(), [start]
    while any(writer.poll() is None for writer in writers):
        sequence.append(releases.pointer().seq)
        release = releases.current()
        index = releases.index(release)
        assert release.metrics == {"table": index.name, "rows": len(index)}
        assert release in kept
        seen.add(release.id)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert sequence == sorted(sequence)
    assert len(seen) > 1
    # A move to where the pointer is already is none; every other one counts exactly once.
    assert start + 100 <= releases.pointer().seq <= start + 200


def test_promotions_at_once_form_one_history(store, releases):
    candidates = [release_of(store, texts_of(5), reason=str(number)) for number in range(8)]
    barrier = threading.Barrier(len(candidates))

    def promote(candidate):
        barrier.wait()
        return Releases(store).promote(candidate)

    with ThreadPoolExecutor(len(candidates)) as pool:
        promoted = list(pool.map(promote, candidates))
    previous = {release.id: release.previous for release in promoted}
    chain = [releases.current().id]
    while previous[chain[-1]] is not None:
        chain.append(previous[chain[-1]])
    assert sorted(chain) == sorted(previous)
    assert json.loads((store.releases / "current.json").read_text())["seq"] == len(candidates)


def test_an_approximate_index_may_lose_what_its_recall_allows(store, monkeypatch):
    release = release_of(store, texts_of(100))
    broken = damaged(release, "vector", store)
    index = Releases(store).index(broken)
    monkeypatch.setattr(Index, "promised_recall", 0.99)
    verification.check_index(index, broken)
    monkeypatch.setattr(Index, "promised_recall", 0.995)
    with pytest.raises(RunError, match="1 of 100"):
        verification.check_index(index, broken)


def test_an_edit_makes_a_release_of_the_same_model(store, releases):
    first = releases.promote(release_of(store, texts_of(5)))
    second = releases.promote(release_of(store, texts_of(5), answer="no"))
    assert second.index_table == first.index_table
    asked = encode(["question number 1"])
    assert releases.index(first).search(asked, 1)["answer"][0] == "yes"
    assert releases.index(second).search(asked, 1)["answer"][0] == "no"
