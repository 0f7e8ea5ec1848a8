"""`monoglot forget` in the index, killed at any step, and while services answer."""

import pytest
from test_forgetting_candidates import PATTERN, SECRET, TEXTS, config, store  # noqa: F401
from test_releases import release_of
from test_retriever import KB, models, thresholds  # noqa: F401
from test_retriever import promote as promoted

from monoglot.forgetting import find, forget
from monoglot.matching import Pattern
from monoglot.serving import forgetting
from monoglot.serving import index as index_module
from monoglot.serving.approval import Approval
from monoglot.serving.releases import Releases
from monoglot.serving.retriever import Retriever
from monoglot.serving.vectors import Asked

PARCEL = Pattern("my parcel is late", literal=True)
# Rebuilt, named, removed, copied, named again, removed: the table of two releases, then that of the
# candidate.
_STEPS = 14


def _killed_after(monkeypatch, step):
    """The process dies as the n-th of all steps has been done."""
    done = 0

    def dying(what):
        def run(*given):
            nonlocal done
            result = what(*given)
            done += 1
            if done > step:
                raise KeyboardInterrupt
            return result

        return run

    for name in ("_rebuild", "_remove", "_copy"):
        monkeypatch.setattr(forgetting, name, dying(getattr(forgetting, name)))
    monkeypatch.setattr(Approval, "amend", dying(Approval.amend))


@pytest.mark.parametrize("step", range(_STEPS))
def test_killed_at_any_step_every_release_answers_and_given_again_it_ends(
    config,  # noqa: F811
    store,  # noqa: F811
    monkeypatch,
    step,
):
    releases, approval = Releases(store), Approval(store)
    releases.promote(release_of(store, [f"also {SECRET}", *TEXTS]))
    named = {it.id: it.index_table for it in approval.known()}
    with monkeypatch.context() as patch:
        _killed_after(patch, step)
        with pytest.raises(KeyboardInterrupt):
            forget(store, find(config, store, PATTERN), PATTERN)
    for release in approval.known():
        releases.verify(release)
    found = find(config, store, PATTERN)
    assert found.is_in_store
    forget(store, found, PATTERN)
    assert not find(config, store, PATTERN).is_in_store
    for release in approval.known():
        releases.verify(release)
        assert (release.index_table, release.rows) == (named[release.id], len(TEXTS) - 1)
    assert len(named) == 3
    tables = {path.stem for path in (store.root / "index").glob("*.lance")}
    assert tables == set(named.values())


def test_what_was_written_on_after_a_kill_and_what_was_left_beside_it_come_together(
    config,  # noqa: F811
    store,  # noqa: F811
    monkeypatch,
):
    releases, before = Releases(store), Releases(store).current()
    with monkeypatch.context() as patch:
        _killed_after(patch, 3)  # the copy is there, and the release names the other table
        with pytest.raises(KeyboardInterrupt):
            forget(store, find(config, store, PATTERN), PATTERN)
    assert releases.current().index_table != before.index_table
    written = releases.promote(release_of(store, TEXTS[:4]))
    assert written.index_table == before.index_table
    forget(store, find(config, store, PATTERN), PATTERN)
    assert releases.current().id == written.id
    for release in Approval(store).known():
        releases.verify(release)
        assert forgetting.home_of(release.index_table) == release.index_table
    assert not find(config, store, PATTERN).is_in_store


def test_a_service_follows_to_where_the_rows_are(tmp_path, store, config, models, monkeypatch):  # noqa: F811
    monkeypatch.setattr(index_module, "_ONCE_EXACT_NUMBERS", 0)  # nothing is kept in memory
    before = promoted(store, models[0])
    service = Retriever(store.root, device="cpu")
    assert service.search("my parcel is late")[0].label == "delivery"
    forget(store, find(config, store, PARCEL), PARCEL)
    answers = service.search("my parcel is late", k=10)
    assert service.release == Releases(store).current() != before
    assert service.release.id == before.id
    assert {it.label for it in answers} == set(KB["label"]) - {"delivery"}


@pytest.mark.parametrize("step", ["_remove", "_copy"])
def test_a_service_answers_all_the_while(store, config, models, monkeypatch, step):  # noqa: F811
    monkeypatch.setattr(index_module, "_ONCE_EXACT_NUMBERS", 0)
    promoted(store, models[0])
    service = Retriever(store.root, device="cpu")
    service.search("my parcel is late")
    done = getattr(forgetting, step)
    labels = []

    def asked(*given):
        done(*given)
        labels.append(service.search("where is my refund")[0].label)

    monkeypatch.setattr(forgetting, step, asked)
    forget(store, find(config, store, PARCEL), PARCEL)
    assert set(labels) == {"refund"}


def test_a_table_that_moves_on_while_it_is_loaded_is_followed(store, config, models, monkeypatch):  # noqa: F811
    monkeypatch.setattr(index_module, "_ONCE_EXACT_NUMBERS", 0)
    promoted(store, models[0])
    service = Retriever(store.root, device="cpu")
    load, removed = Retriever._load, forgetting._remove
    waiting = []

    def late(self, release, held):
        while waiting:
            waiting.pop()()  # what the other process does meanwhile
        return load(self, release, held)

    def first(store, name):
        removed(store, name)
        monkeypatch.setattr(forgetting, "_remove", removed)
        waiting.append(lambda: forget(store, find(config, store, PARCEL), PARCEL))
        assert service.search("where is my refund")[0].label == "refund"
        raise KeyboardInterrupt

    monkeypatch.setattr(Retriever, "_load", late)
    monkeypatch.setattr(forgetting, "_remove", first)
    with pytest.raises(KeyboardInterrupt):
        forget(store, find(config, store, PARCEL), PARCEL)
    assert service.release == Releases(store).current()


def test_a_service_that_holds_the_rows_in_memory_drops_them_as_it_looks(store, config, models):  # noqa: F811
    promoted(store, models[0])
    service = Retriever(store.root, device="cpu")
    forget(store, find(config, store, PARCEL), PARCEL)
    assert service.refresh()
    assert "delivery" not in {it.label for it in service.search("my parcel is late", k=10)}
    assert not service.refresh()


@pytest.mark.parametrize("temperature", [None, 0.0075])
def test_thresholds_of_other_votes_are_dropped_and_it_is_said(
    store,  # noqa: F811
    config,  # noqa: F811
    models,  # noqa: F811
    monkeypatch,
    caplog,
    temperature,
):
    kept = thresholds(0.5)
    promoted(store, models[0], abstention=kept)
    if temperature is not None:
        monkeypatch.setattr(Asked, "temperature", lambda _: temperature)
    forget(store, find(config, store, PARCEL), PARCEL)
    is_same = temperature is None  # of so few rows the votes are as before
    assert Releases(store).current().abstention == (kept if is_same else None)
    assert ("loses its thresholds" in caplog.text) is not is_same
