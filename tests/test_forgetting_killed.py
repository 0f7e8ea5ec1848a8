"""`monoglot forget` in the index, killed at any step, and while services answer."""

import pytest
from test_forgetting_candidates import PATTERN, TEXTS, config, store  # noqa: F401
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
# Rebuilt, named, removed, copied, named again, removed: the table of the release's model, then that
# of the candidate's.
_STEPS = 12


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
    tables = sorted(path.stem for path in (store.root / "index").glob("*.lance"))
    assert tables == sorted(named.values())


def test_what_was_written_on_after_a_kill_keeps_its_place(
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
    assert releases.current() == written
    for release in Approval(store).known():
        releases.verify(release)
    assert not find(config, store, PATTERN).tables  # the one beside it stays there


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
