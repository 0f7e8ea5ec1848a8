"""A release that was chosen by hand stays until something changes; plan, run and refresh agree."""

import pytest
from test_flows import current_of, plan_of, reworded
from test_index import texts_of
from test_releases import artifact, release_of
from tiny_line import configure, edit_kb, request_of, store_of

from flows.refresh_index import refresh_index
from flows.retrain import retrain
from monoglot.due import due_now
from monoglot.forgetting import find, forget
from monoglot.matching import Pattern
from monoglot.runs import Runs
from monoglot.serving.releases import Releases
from monoglot.standing import chosen_by_hand
from monoglot.store import Store

pytestmark = pytest.mark.usefixtures("prefect_api", "no_endpoint")


def due_in(folder):
    config, settings = request_of(folder).read()
    return due_now(config, settings, store_of(folder)).work


def test_a_choice_is_told_from_the_releases_whatever_else_is_damaged(tmp_path):
    store = Store.open(str(tmp_path))
    releases = Releases(store)
    made = [
        releases.promote(
            release_of(store, texts_of(5 + n), knowledge_base=artifact(store, "kb", f"rows {n}"))
        )
        for n in range(3)
    ]
    assert [chosen_by_hand(store, f"rows {n}") for n in range(3)] == [None, None, None]
    back = releases.rollback()
    (store.releases / f"manifests/{made[0].id}.json").write_text("{")
    assert f"{made[2].id}, after which release {back.id} was" in chosen_by_hand(store, "rows 2")
    assert chosen_by_hand(store, "rows 3") is None
    releases.rollback(made[2].id)
    assert chosen_by_hand(store, "rows 2") is None


@pytest.mark.slow
@pytest.mark.parametrize("new_label", [False, True])
def test_after_a_refresh_that_was_taken_back_nothing_is_to_be_done(line, new_label):
    edit_kb(line, reworded)
    if new_label:
        edit_kb(line, as_a_new_label)
    refreshed = refresh_index(request_of(line)).release
    back = Releases(store_of(line)).rollback()
    assert back.id != refreshed
    assert plan_of(line).work.kind == due_in(line).kind == "nothing"
    assert f"release {back.id} was chosen by hand" in plan_of(line).work.reasons[0]
    assert retrain(request_of(line)).release == refreshed  # its record: nothing was run
    assert refresh_index(request_of(line)) is None
    assert current_of(line) == back
    configure(line, gate={"metric": "hit@1"})
    assert plan_of(line).work.kind == "retrain"
    assert retrain(request_of(line)).flow == "retrain"
    assert current_of(line) != back


def as_a_new_label(frame):
    first, *rest = frame["label"].to_list()
    return frame.with_columns(label=frame["label"].scatter(0, f"{first}_{len(rest)}"))


@pytest.mark.slow
def test_a_refresh_alone_leaves_the_training_to_be_done(line):
    edit_kb(line, reworded)
    refresh_index(request_of(line))
    assert retrain(request_of(line)).flow == "retrain"
    assert Runs(store_of(line)).last().flow == "retrain"


def test_what_was_forgotten_is_told_and_no_number_made_of_it(line):
    config, _ = request_of(line).read()
    pattern = Pattern(config.knowledge_base.path.read_text().splitlines()[1].split(",")[0])
    store = store_of(line)
    forget(store, find(config, store, pattern), pattern)
    edit_kb(line, lambda frame: frame[1:])
    [told] = plan_of(line).work.reasons
    assert plan_of(line).work.kind == due_in(line).kind == "retrain"
    assert told.startswith("the knowledge base of the last training is in the store no more")


def test_what_an_llm_was_to_write_is_missed_in_the_plan(line):
    (line / "asked.csv").write_text("text\nkahan hai\n")
    configure(line, generation={"synthetic_per_label": 5}, user_queries={"path": "asked.csv"})
    synthetic, asked = [
        told for told in plan_of(line).warnings if "no LLM" in told or "none is" in told
    ]
    assert synthetic.startswith("generation.synthetic_per_label: 5 queries a label")
    assert asked.startswith("asked.csv: user queries are labelled by an LLM")
