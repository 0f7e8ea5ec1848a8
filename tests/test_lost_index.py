"""An index that was lost is built again, under version numbers that others had before."""

import shutil
from pathlib import Path

import pytest
from test_flows import NEW_QUERY, current_of, outcomes_of, plan_of, reworded
from test_index import texts_of
from test_releases import MODEL, OTHER_MODEL, release_of
from tiny_line import edit_kb, request_of

from flows.refresh_index import refresh_index
from flows.retrain import retrain
from monoglot import Retriever
from monoglot.errors import StoreError
from monoglot.matching import Pattern
from monoglot.serving.approval import Approval
from monoglot.serving.forgetting import forget_in_table
from monoglot.serving.releases import Releases
from monoglot.store import Store


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "store"))


def lose(store, release):
    shutil.rmtree(Path(store.index_uri) / f"{release.index_table}.lance")


def test_a_release_never_answers_from_the_rows_of_another(store):
    releases = Releases(store)
    first = releases.promote(release_of(store, texts_of(3)))
    second = releases.promote(release_of(store, texts_of(5)))
    lose(store, second)
    third = releases.promote(release_of(store, texts_of(5)))
    assert (third.index_version, third.rows) == (first.index_version, 5)
    with pytest.raises(StoreError, match=r"holds 5 rows and not the 3.*--force"):
        releases.rollback(first.id)
    assert [releases.answers(it) for it in (first, second, third)] == [False, False, True]
    assert releases.current() == third


def test_a_candidate_whose_index_was_lost_gives_way_to_the_one_built_again(store):
    releases, approval = Releases(store), Approval(store)
    releases.promote(release_of(store, texts_of(5)))
    release_of(store, texts_of(2), model_digest=OTHER_MODEL)
    old = release_of(store, texts_of(5), model_digest=OTHER_MODEL)
    assert approval.keep(old, compared_with=MODEL) == old
    lose(store, old)
    new = release_of(store, texts_of(5), model_digest=OTHER_MODEL)
    assert approval.keep(new, compared_with=MODEL) == new
    assert approval.keep(new.model_copy(update={"id": "x"}), compared_with=MODEL) == new
    assert approval.promote().id == new.id


def test_a_candidate_outlives_what_is_forgotten(store):
    releases, approval = Releases(store), Approval(store)
    releases.promote(release_of(store, texts_of(5)))
    release_of(store, texts_of(2), model_digest=OTHER_MODEL)
    candidate = release_of(store, texts_of(5), model_digest=OTHER_MODEL)
    approval.keep(candidate, compared_with=MODEL)
    forget_in_table(store, candidate.index_table, Pattern("question number 3", literal=True))
    waiting = approval.waiting()
    assert (waiting.id, waiting.rows) == (candidate.id, 4)
    assert approval.promote().rows == 4


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_api")
def test_a_run_builds_a_lost_index_and_puts_it_into_production(line):
    edit_kb(line, reworded)
    refreshed = refresh_index(request_of(line)).release
    shutil.rmtree(line / "store/index")
    assert plan_of(line).work.kind != "nothing"
    record = retrain(request_of(line))
    again = [title for title, outcome in outcomes_of(record).items() if outcome == "done"]
    assert {"index model", "index model, tuned"} <= set(again)
    assert record.release == current_of(line).id != refreshed
    assert Retriever(line / "store").search(NEW_QUERY, k=1)[0].score > 0.99
    shutil.rmtree(line / "store/index")
    assert retrain(request_of(line)).release == current_of(line).id
    assert Retriever(line / "store").search(NEW_QUERY, k=1)[0].score > 0.99


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_api")
def test_so_does_a_refresh_though_no_row_changed(line):
    edit_kb(line, reworded)
    refresh_index(request_of(line))
    lost = current_of(line)
    shutil.rmtree(line / "store/index")
    record = refresh_index(request_of(line))
    now = current_of(line)
    assert record.release == now.id != lost.id
    assert now.reason.startswith("the index was gone")
    assert now.metrics == lost.metrics
    assert Retriever(line / "store").search(NEW_QUERY, k=1)[0].score > 0.99
    assert refresh_index(request_of(line)) is None
