"""A changed knowledge base is answered with nothing, a refresh or a training; and says why."""

import polars as pl
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from tiny_line import edit_kb, request_of, store_of, write_line

from flows import on_kb_change as module
from flows.fine_tune import NoWorkerError, fine_tune_model
from flows.on_kb_change import on_kb_change
from flows.refresh_index import refresh_index
from flows.retrain import retrain
from monoglot import Retriever
from monoglot.due import due_now
from monoglot.errors import BudgetError, ConfigError
from monoglot.health import Health
from monoglot.serving.releases import Releases
from monoglot.store import Store
from tasks.artifacts import artifact_key

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api", "no_endpoint")]

NEW = "my parrot ate the invoice, print me another copy"


def due_in(folder):
    config, settings = request_of(folder).read()
    return due_now(config, settings, Store.if_any(config.store))


def reworded(frame):
    first = pl.int_range(pl.len()) == 0
    return frame.with_columns(pl.when(first).then(pl.lit(NEW)).otherwise("query").alias("query"))


def with_new_label(frame, query=NEW, label="parrots"):
    row = dict.fromkeys(frame.columns) | {"query": query, "label": label}
    return pl.concat([frame, pl.DataFrame([row], schema=frame.schema)])


def best(folder, text):
    return Retriever(store_of(folder).root).search(text, k=1)[0]


def states_named(part):
    """State and name of the runs whose name holds a text."""
    chosen = FlowRunFilter(name=FlowRunFilterName(like_=part))
    with get_client(sync_client=True) as client:
        return [(run.state.name, run.name) for run in client.read_flow_runs(flow_run_filter=chosen)]


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (lambda kb: kb, "nothing", "are those of the release"),
        (lambda kb: kb.sample(fraction=1.0, shuffle=True, seed=1), "nothing", "of the release"),
        (reworded, "refresh", "within policy.retrain_share"),
        (lambda kb: kb.with_columns(answer=pl.lit("new")), "refresh", "the model is kept"),
        (with_new_label, "retrain", "1 new label: parrots"),
        (lambda kb: kb.filter(pl.int_range(pl.len()) % 10 > 0), "retrain", "policy.retrain_share"),
    ],
    ids=["untouched", "another order", "one edit", "answers", "a label", "many rows"],
)
def test_the_policy_decides(line, change, kind, said):
    edit_kb(line, change)
    work = due_in(line).work
    assert work.kind == kind
    assert said in work.reasons[0]


def test_another_config_is_left_to_the_scheduled_retrain(line):
    text = (line / "monoglot.yaml").read_text()
    (line / "monoglot.yaml").write_text(text + "\nsplit: {seed: 5}\n")
    assert due_in(line).work.kind == "nothing"


def test_without_a_release_it_retrains(tmp_path):
    write_line(tmp_path)
    due = due_in(tmp_path)
    assert (due.work.kind, due.has_release) == ("retrain", False)


def test_an_edit_goes_live_and_the_run_says_what_and_why(line):
    edit_kb(line, reworded)
    release = Releases(store_of(line)).current().id
    on_kb_change(request_of(line))
    assert best(line, NEW).query == NEW
    assert Releases(store_of(line)).current().id != release
    assert ("Completed", "refresh line: added: 1, removed: 1") in states_named("refresh line: ")
    asked = {"artifacts": {"key": {"any_": [artifact_key(store_of(line), "decision")]}}}
    with get_client(sync_client=True) as client:  # other tests have written to this server, too
        [found] = client.request("POST", "/artifacts/latest/filter", json=asked).json()
    page = found["data"]
    assert "within policy.retrain\\_share" in page
    assert f"- {NEW}" in page
    # The further ones of a burst have nothing to do, and no release is made.
    after = Releases(store_of(line)).pointer()
    on_kb_change(request_of(line))
    assert Releases(store_of(line)).pointer() == after
    assert ("Nothing", "nothing line") in states_named("nothing line")


def test_a_new_label_answers_at_once_and_is_then_trained(line, monkeypatch):
    """The refresh comes first: what the training comes to holds no new row back."""
    asked = []

    def fail(request):
        asked.append(best(line, NEW).label)
        raise BudgetError("spending.max_usd is reached")

    monkeypatch.setattr(module, "retrain", fail)
    edit_kb(line, with_new_label)
    with pytest.raises(BudgetError):
        on_kb_change(request_of(line))
    assert asked == ["parrots"]
    on_kb_change(request_of(line))  # may not pay again for what failed
    assert len(asked) == 1
    edit_kb(line, lambda kb: with_new_label(kb, "where do pigeons sleep", "pigeons"))
    with pytest.raises(BudgetError):
        on_kb_change(request_of(line))
    assert len(asked) == 2


def test_without_a_worker_for_the_training_it_refreshes_and_tries_at_the_next_check(
    line, monkeypatch
):
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="asleep", type="process"))
        flow = client.create_flow(fine_tune_model)
        client.create_deployment(flow, "asleep", work_pool_name="asleep")
    monkeypatch.setenv("MONOGLOT_TRAINING_DEPLOYMENT", "fine-tune/asleep")
    edit_kb(line, with_new_label)
    for _ in range(2):
        with pytest.raises(NoWorkerError, match=r"asleep .* has no live worker"):
            on_kb_change(request_of(line))
    assert best(line, NEW).label == "parrots"


def test_an_edit_during_a_run_is_seen_by_the_next(line, monkeypatch):
    real = module.refresh_index

    def edited_meanwhile(request):
        real(request)
        edit_kb(line, lambda kb: kb.with_columns(answer=pl.lit("written meanwhile")))

    monkeypatch.setattr(module, "refresh_index", edited_meanwhile)
    edit_kb(line, reworded)
    on_kb_change(request_of(line))
    assert best(line, NEW).answer != "written meanwhile"
    monkeypatch.setattr(module, "refresh_index", real)
    on_kb_change(request_of(line))
    assert best(line, NEW).answer == "written meanwhile"


def test_while_another_run_writes_it_ends_and_the_next_check_takes_it_up(line):
    edit_kb(line, reworded)
    with store_of(line).writer():
        state = on_kb_change(request_of(line), return_state=True)
    assert (state.name, state.is_completed()) == ("Busy", True)
    assert "The next check takes up the change" in state.message
    on_kb_change(request_of(line))
    assert best(line, NEW).query == NEW


def test_a_run_that_comes_between_the_look_and_the_work_makes_it_busy_too(line, monkeypatch):
    real = module.refresh_index

    def beaten(request):
        with store_of(line).writer():
            real(request)

    monkeypatch.setattr(module, "refresh_index", beaten)
    edit_kb(line, reworded)
    assert on_kb_change(request_of(line), return_state=True).name == "Busy"


def test_a_store_that_serves_another_knowledge_base_is_refused(line):
    served = Releases(store_of(line)).current().id
    edit_kb(line, lambda kb: kb.with_columns(query="in another shop, " + pl.col("query")))
    edit_kb(line, lambda kb: kb.with_columns(label="another " + pl.col("label")))
    said = rf"its release {served} serves another knowledge base: none of its .* Set `store:`"
    for flow in (retrain, refresh_index, on_kb_change):
        with pytest.raises(ConfigError, match=said):
            flow(request_of(line))
    assert Releases(store_of(line)).current().id == served
    refresh_index(request_of(line, force=True))
    assert best(line, "parrot").query.startswith("in another shop, ")


def test_rows_that_were_all_put_into_another_form_are_the_same_knowledge_base(line):
    edit_kb(line, lambda kb: kb.with_columns(query=pl.col("query") + ", please"))
    refresh_index(request_of(line))
    assert best(line, "invoice").query.endswith(", please")


def test_a_check_that_ends_well_is_noted(line):
    store = store_of(line)
    before = Health(store).last_good()
    on_kb_change(request_of(line))
    assert Health(store).last_good() >= before
    assert (store.root / "health/good.json").exists()
