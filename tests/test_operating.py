"""What an operator does from Prefect's UI, and what it shows: approve, roll back, evaluate."""

import json

import pytest
from prefect.client.orchestration import get_client
from tiny_line import configure, edit_kb

from flows.evaluate import evaluate
from flows.promote import promote
from flows.refresh_index import refresh_index
from flows.retrain import retrain
from flows.rollback import rollback
from monoglot.errors import ConfigError, InputError, RunError
from monoglot.serving.approval import Approval
from monoglot.serving.releases import Releases
from monoglot.store import Store
from tasks import artifacts, progress
from tasks.request import EvaluationRequest, PromoteRequest, RollbackRequest, RunRequest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api", "no_endpoint")]


# Any other model passes, and waits.
EASY = {"approval": True, "certain": False, "min_gain": -1.0, "max_english_loss": 1.0}
LONGER = {"epochs": 41, "batch_size": 32, "learning_rate": 0.02}


def shown(store, what):
    """The latest artifact under the store's key, and how many there are of it."""
    key = artifacts.artifact_key(store, what)
    with get_client(sync_client=True) as client:
        asked = {"sort": "CREATED_DESC", "artifacts": {"key": {"any_": [key]}}}
        kept = client.request("POST", "/artifacts/filter", json=asked).json()
    return kept[0]["data"].replace("\\", ""), len(kept)


def test_a_better_candidate_awaits_approval_and_is_approved_from_the_ui(line):
    """The old model answers from the new rows meanwhile; the next check finds nothing to do."""
    store = Store.existing(str(line / "store"))
    releases, before = Releases(store), Releases(store).current()
    path = configure(
        line,
        gate=EASY,
        fine_tuning=LONGER,
    )
    edit_kb(line, lambda rows: rows.head(rows.height - 1))
    record = retrain(RunRequest(config_file=path))
    candidate = Approval(store).waiting()
    assert record.verdict == "awaits approval"
    assert f"monoglot promote {candidate.id}" in record.reasons[-1]
    current = releases.current()
    assert (current.model_digest, current.rows) == (before.model_digest, before.rows - 1)
    assert candidate.model_digest != before.model_digest
    assert f"Awaits approval: {candidate.id}" in shown(store, "release")[0]
    assert retrain(RunRequest(config_file=path)).run == record.run
    assert "nothing to do" in shown(store, "plan")[0]

    approved = promote(PromoteRequest(config_file=path, why="looks good"))
    assert approved == candidate.id == releases.current().id
    assert "Awaits" not in shown(store, "release")[0]
    assert rollback(RollbackRequest(config_file=path)) == current.id
    assert shown(store, "release")[1] == 3  # under one key: the run's, the approval's, this


def test_a_candidate_overtaken_by_a_refresh_is_refused_with_the_reason_in_the_state(line):
    store = Store.existing(str(line / "store"))
    path = configure(
        line,
        gate=EASY,
        fine_tuning=LONGER,
    )
    retrain(RunRequest(config_file=path))
    edit_kb(line, lambda rows: rows.head(rows.height - 1))
    refresh_index(RunRequest(config_file=path))
    current = Releases(store).current()
    state = promote(PromoteRequest(config_file=path), return_state=True)
    assert state.is_failed()
    assert "earlier or later knowledge base" in state.message
    assert Releases(store).current() == current
    with pytest.raises(RunError):
        state.result()


def test_the_release_is_evaluated_on_a_file_and_the_table_is_shown(line):
    store = Store.existing(str(line / "store"))
    path = line / "monoglot.yaml"
    found = evaluate(EvaluationRequest(config_file=path))
    text, _ = shown(store, "evaluation")
    for system, value in (("current", found["current"]), ("untuned", found["untuned"])):
        every = value["all"]
        assert f"| {system} | all | {every['n']} | {every['mrr']:.3f} |" in text
    control = found["english_control"]["all"]
    assert f"| current, asked in English | all | {control['n']} | {control['mrr']:.3f} |" in text
    assert json.dumps(found)


def test_what_a_form_may_get_wrong_is_refused_with_the_reason_in_the_state(line, tmp_path):
    """Before anything is done: the store stays as it was."""
    no_questions = configure(line, evaluation={})
    no_model = line / "no_model.yaml"
    no_model.write_text(no_questions.read_text().replace("./model", "./no-such-model"))
    cases = {
        "missing.yaml": retrain(
            RunRequest(config_file=tmp_path / "missing.yaml"), return_state=True
        ),
        "no-such-model": retrain(RunRequest(config_file=no_model), return_state=True),
        "no questions to ask": evaluate(
            EvaluationRequest(config_file=no_questions), return_state=True
        ),
        "20200101-none": rollback(
            RollbackRequest(config_file=no_questions, release="20200101-none"), return_state=True
        ),
        "no candidate awaits": promote(PromoteRequest(config_file=no_questions), return_state=True),
        "no store here yet": rollback(
            RollbackRequest(config_file=no_questions, store=str(tmp_path / "none")),
            return_state=True,
        ),
    }
    for reason, state in cases.items():
        assert state.is_failed(), reason
        assert reason in state.message
        with pytest.raises((ConfigError, InputError, RunError)):
            state.result()
    assert not (tmp_path / "none").exists()


def test_a_run_shows_its_plan_report_gate_release_and_spend(line):
    """The report's picture is within the text: it needs no internet, and no other file."""
    store = Store.existing(str(line / "store"))
    path = configure(line, gate={"metric": "hit@3"})
    record = retrain(RunRequest(config_file=path))
    assert record.reasons[0][:20] in shown(store, "gate")[0]
    assert record.release in shown(store, "release")[0]
    assert "bought 0 replies" in shown(store, "spend")[0]
    assert "The policy asks for: retrain" in shown(store, "plan")[0]
    assert "| tuned, asked in English | all |" in shown(store, "evaluation")[0]
    report, _ = shown(store, "report")
    assert "](data:image/svg+xml;base64," in report
    assert "http" not in report


def bars():
    """Every progress artifact on the server."""
    with get_client(sync_client=True) as client:
        asked = {"artifacts": {"type": {"any_": ["progress"]}}}
        return client.request("POST", "/artifacts/filter", json=asked).json()


def test_a_run_shows_what_was_rejected_and_how_far_its_training_is(line, monkeypatch):
    monkeypatch.setattr(progress, "_FIRST_S", 0.0)
    monkeypatch.setattr(progress, "_EVERY_S", 0.1)
    store = Store.existing(str(line / "store"))
    with (line / "kb.csv").open("a") as rows:
        rows.write(",cancel_order,,,\n")
    before = {bar["id"] for bar in bars()}  # of slow trainings in other tests
    retrain(RunRequest(config_file=configure(line, fine_tuning=LONGER)))
    told, _ = shown(store, "data")
    assert "| knowledge base | 72 | 1 |" in told
    assert "| empty | 1 | 74 | query | the query is empty |" in told
    new = [bar for bar in bars() if bar["id"] not in before]
    [bar] = [it for it in new if it["description"].startswith("fine-tune: ")]
    assert (bar["data"], bar["key"]) == (100.0, None)
    assert bar["task_run_id"]


def test_two_stores_never_share_a_key(tmp_path):
    one, other = (Store.open(str(tmp_path / name / "store")) for name in ("Shöp A", "shop-a"))
    keys = {artifacts.artifact_key(each, "plan") for each in (one, other)}
    assert len(keys) == 2
    assert all(key.replace("-", "").isalnum() and key == key.lower() for key in keys)


def test_a_server_that_takes_no_artifact_fails_no_run(line, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("the server has no room")

    monkeypatch.setattr(artifacts, "create_markdown_artifact", refuse)
    path = configure(line, gate={"metric": "hit@5"})
    record = retrain(RunRequest(config_file=path))
    assert Releases(Store.existing(str(line / "store"))).current().id == record.release
