"""The whole line on a corner of the sample, with a model made by the tests."""

import os
import re
import shutil

import polars as pl
import pytest
from llm_server import LLMServer
from prefect.client.orchestration import get_client
from tiny_line import configure, edit_kb, request_of, store_of, write_line

from flows import refresh_index as refresh_module
from flows.refresh_index import refresh_index
from flows.retrain import retrain
from monoglot import Retriever
from monoglot.errors import ConfigError, DataError, EndpointError, StoreBusyError
from monoglot.learning.models import model_digest
from monoglot.planning import make_plan
from monoglot.runs import Runs
from monoglot.serving.releases import Releases
from monoglot.standing import Inputs
from monoglot.store import Store
from tasks.versions import versions

pytestmark = pytest.mark.usefixtures("prefect_api", "no_endpoint")

NEW_QUERY = "my parrot ate the invoice, print me another copy"


def current_of(folder):
    return Releases(store_of(folder)).current()


def stages_of(record):
    """The stages by title, a tuned model's without its digest."""
    return {re.sub(r"(tuned) [0-9a-f]{8}$", r"\1", it.title): it for it in record.stages}


def outcomes_of(record):
    return {title: stage.outcome for title, stage in stages_of(record).items()}


def plan_of(folder):
    config, settings = request_of(folder).read()
    inputs = Inputs.of(config, settings, versions())
    return make_plan(inputs, config, settings, Store.if_any(config.store))


def first_query(folder):
    return pl.read_csv(folder / "kb.csv")["query"][0]


def reworded(frame):
    """The first row with another text."""
    place = pl.int_range(pl.len())
    return frame.with_columns(
        pl.when(place == 0).then(pl.lit(NEW_QUERY)).otherwise("query").alias("query")
    )


def test_the_line_ends_in_a_release_that_answers(finished_line):
    store, current = store_of(finished_line), current_of(finished_line)
    record = Runs(store).last()
    assert record.promoted
    assert record.release == current.id
    assert list(stages_of(record)) == [
        "knowledge base",
        "split",
        "queries of queries.csv",
        "translations hi-Latn",
        "evaluation set",
        "training set",
        "triplets",
        "fine-tune",
        "merge with the base",
        "index model",
        "evaluate model",
        "index model, tuned",
        "evaluate model, tuned",
        "evaluate TF-IDF",
        "evaluate BM25",
        "evaluate a logistic head",
        "diagnose",
        "calibrate abstention",
    ]
    assert set(outcomes_of(record).values()) == {"done"}
    assert list(record.systems) == ["untuned", "TF-IDF", "BM25", "logistic head", "tuned"]
    rows = pl.read_csv(finished_line / "kb.csv")
    assert len(Releases(store).index(current)) == rows.height == current.rows
    assert current.metrics["mrr"] > 0.6
    best = Retriever(store.root).search(first_query(finished_line), k=1)[0]
    assert (best.query, best.label) == (rows["query"][0], rows["label"][0])
    page = (store.root / record.report).read_text(encoding="utf-8")
    assert "kb.csv: 72 rows, 6 labels" in page


def test_training_shares_nothing_with_evaluation(finished_line):
    store = store_of(finished_line)
    stages = stages_of(Runs(store).last())
    anchors = store.table(stages["training set"].artifact)
    questions = store.table(stages["evaluation set"].artifact)
    for column in ("text", "english"):
        assert not set(anchors[column]) & set(questions[column])
    parts = store.table(stages["split"].artifact)
    index_set = parts.filter(pl.col("part").cast(pl.String) == "index")["row_id"]
    assert not set(anchors["source_row_id"]) & set(index_set)


@pytest.mark.slow
def test_what_the_evaluation_asks_is_taken_out_of_training(tmp_path):
    """A question's text among the translations, and a row that is a question in English."""
    write_line(tmp_path)
    configure(tmp_path, fine_tuning={"objective": "both"})
    asked = pl.read_csv(tmp_path / "queries.csv").row(0, named=True)
    edit_kb(
        tmp_path,
        lambda frame: pl.concat(
            [frame, frame.head(1).with_columns(query=pl.lit(asked["english"]))]
        ),
    )
    translations = pl.read_csv(tmp_path / "hinglish.csv")
    stolen = translations.head(1).with_columns(translation=pl.lit(asked["text"].upper()))
    pl.concat([translations, stolen]).write_csv(tmp_path / "hinglish.csv")
    stages = stages_of(retrain(request_of(tmp_path)))
    store = store_of(tmp_path)
    anchors = store.table(stages["training set"].artifact)
    rejects = store.table(stages["training set"].artifact, "rejects.parquet")
    assert asked["text"].upper() not in anchors["text"]
    assert rejects["value"].to_list() == [asked["text"].upper()]
    rows = store.table(stages["knowledge base"].artifact)
    [leak] = rows.filter(pl.col("query") == asked["english"])["row_id"]
    triplets = store.table(stages["triplets"].artifact)
    used = set(triplets["positive_row"]) | set(triplets["negative_rows"].explode())
    assert used == set(rows["row_id"]) - {leak}
    assert Retriever(store.root).search(asked["english"], k=1)[0].row_id == leak


def test_two_labels_of_which_one_has_two_rows_are_enough(tmp_path):
    """No negatives are drawn for an objective that reads none: there may be too few rows."""
    write_line(tmp_path)

    def two_labels(frame):
        first, second = frame["label"].unique(maintain_order=True)[:2]
        of_second = frame.filter(label=second).head(2)
        return pl.concat([frame.filter(label=first), of_second])

    edit_kb(tmp_path, two_labels)
    kept = pl.read_csv(tmp_path / "kb.csv")["label"].unique().implode()
    questions = pl.read_csv(tmp_path / "queries.csv").filter(pl.col("label").is_in(kept))
    questions.write_csv(tmp_path / "queries.csv")
    stages = stages_of(retrain(request_of(tmp_path)))
    triplets = store_of(tmp_path).table(stages["triplets"].artifact)
    assert triplets["negative_rows"].list.len().max() == 0
    assert current_of(tmp_path).rows == 14


def test_a_place_named_like_a_model_changes_no_model(tmp_path):
    """E5 models are known by their own name; a folder above one says nothing."""
    write_line(tmp_path / "shop")
    shutil.copytree(tmp_path / "shop", tmp_path / "e5-shop")
    digests = {model_digest(str(tmp_path / name / "model")) for name in ("shop", "e5-shop")}
    assert len(digests) == 1


def test_a_model_that_is_not_asked_does_not_matter(line, monkeypatch):
    monkeypatch.setenv("MONOGLOT_LLM_MODEL", "another-model")
    configure(line, generation={"temperature": 0.9})
    assert plan_of(line).work.kind == "nothing"


def test_the_same_inputs_again_do_nothing(line):
    before = Runs(store_of(line)).last()
    assert retrain(request_of(line)) == before
    assert len(Releases(store_of(line)).history()) == 1
    assert plan_of(line).work.kind == "nothing"


@pytest.mark.slow
def test_force_reuses_every_stage_and_leaves_what_is_right(line):
    before = current_of(line)
    record = retrain(request_of(line, force=True))
    assert set(outcomes_of(record).values()) == {"reused"}
    assert current_of(line) == before


@pytest.mark.slow
def test_a_settings_change_that_bears_identity_recomputes_only_what_depends_on_it(line):
    configure(line, gate={"metric": "hit@1"})
    assert plan_of(line).work.kind == "retrain"
    record = retrain(request_of(line))
    assert set(outcomes_of(record).values()) == {"reused"}
    configure(line, sampling={"strategy": "random"})  # its objective reads no negatives
    assert set(outcomes_of(retrain(request_of(line))).values()) == {"reused"}
    configure(line, sampling={"positives": "index"})
    changed = [
        title
        for title, outcome in outcomes_of(retrain(request_of(line))).items()
        if outcome == "done"
    ]
    assert changed[:2] == ["triplets", "fine-tune"]


def test_an_edited_row_is_planned_refreshed_and_found(line):
    old, label = first_query(line), pl.read_csv(line / "kb.csv")["label"][0]
    before = current_of(line)
    edit_kb(line, reworded)
    made = plan_of(line)
    assert made.work.kind == "refresh"
    assert made.changes.added["query"].to_list() == [NEW_QUERY]
    assert made.changes.removed["query_before"].to_list() == [old]
    record = refresh_index(request_of(line))
    after = current_of(line)
    assert (after.model_digest, after.previous) == (before.model_digest, before.id)
    assert record.release == after.id
    facts = stages_of(record)["index model, tuned"].artifact.facts
    assert (facts["encoded"], facts["added"], facts["removed"]) == (1, 1, 1)
    best = Retriever(line / "store").search(NEW_QUERY, k=1)[0]
    assert (best.query, best.label) == (NEW_QUERY, label)
    assert plan_of(line).work.kind == "nothing"
    assert refresh_index(request_of(line)) is None


@pytest.mark.slow
def test_an_edited_answer_trains_no_other_model(line):
    edit_kb(line, lambda frame: frame.with_columns(answer=pl.col("answer") + " Thank you."))
    outcomes = outcomes_of(retrain(request_of(line)))
    assert outcomes["knowledge base"] == "done"
    assert (outcomes["split"], outcomes["fine-tune"]) == ("done", "reused")
    assert Retriever(line / "store").search("order", k=1)[0].answer.endswith("Thank you.")


@pytest.mark.slow
def test_many_small_refreshes_add_up_to_a_retraining(line):
    configure(line, policy={"retrain_share": 0.05})
    retrain(request_of(line))
    for number in range(3):
        edit_kb(
            line,
            lambda frame, n=number: frame.with_columns(
                pl.when(pl.int_range(pl.len()) == n)
                .then(pl.lit(f"{NEW_QUERY} {n}"))
                .otherwise("query")
                .alias("query")
            ),
        )
        made = plan_of(line)
        if number < 1:
            assert made.work.kind == "refresh"
            refresh_index(request_of(line))
    assert made.work.kind == "retrain"


@pytest.mark.slow
def test_a_rejected_candidate_does_not_hold_back_the_knowledge_base(line):
    before = current_of(line)
    edit_kb(line, reworded)
    configure(line, gate={"min_gain": 0.9})
    record = retrain(request_of(line))
    after = current_of(line)
    assert not record.promoted
    assert after.id == record.release != before.id
    assert after.model_digest == before.model_digest
    assert Retriever(line / "store").search(NEW_QUERY, k=1)[0].query == NEW_QUERY
    assert list(record.systems) == [
        "untuned",
        "TF-IDF",
        "BM25",
        "logistic head",
        "in production",
        "tuned",
    ]


@pytest.mark.slow
def test_without_a_release_a_rejected_candidate_leaves_the_untuned_model(tmp_path):
    record = retrain(request_of(write_line(tmp_path, gate={"min_gain": 0.9}).parent))
    current = current_of(tmp_path)
    assert not record.promoted
    assert current.model is None
    assert Retriever(tmp_path / "store").search(first_query(tmp_path), k=1)[0].score > 0.99


@pytest.mark.slow
def test_a_release_chosen_by_hand_stays_until_something_changes(line):
    first = current_of(line)
    edit_kb(line, reworded)
    refresh_index(request_of(line))
    second = current_of(line)
    releases = Releases(store_of(line))
    releases.rollback()
    assert refresh_index(request_of(line)) is None
    assert current_of(line) == first
    assert "chosen by hand" in plan_of(line).work.reasons[0]
    assert refresh_index(request_of(line, force=True)).release == current_of(line).id
    assert current_of(line).index_content == second.index_content


@pytest.mark.slow
def test_a_rollback_stays_though_the_refresh_before_it_was_killed_once_promoted(line, monkeypatch):
    first = current_of(line)
    edit_kb(line, reworded)
    with monkeypatch.context() as patch:
        patch.setattr(refresh_module, "keep_record", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            refresh_index(request_of(line))
    assert current_of(line).id != first.id
    assert refresh_index(request_of(line)) is None
    Releases(store_of(line)).rollback()
    assert refresh_index(request_of(line)) is None
    assert current_of(line) == first
    assert "chosen by hand" in plan_of(line).work.reasons[0]


@pytest.mark.slow
def test_a_rollback_after_a_retraining_is_not_undone_by_the_next_check(line):
    edit_kb(line, reworded)
    record = retrain(request_of(line))
    first = Releases(store_of(line)).rollback()
    assert retrain(request_of(line)) == record
    assert current_of(line).id == first.id
    made = plan_of(line)
    assert made.work.kind == "nothing"
    assert first.id in made.work.reasons[0]
    retrain(request_of(line, force=True))
    assert current_of(line).id != first.id


@pytest.mark.slow
@pytest.mark.parametrize("flow", [retrain, refresh_index])
def test_a_rollback_made_while_a_run_is_under_way_is_not_overruled(line, monkeypatch, flow):
    edit_kb(line, reworded)
    second = refresh_index(request_of(line)).release
    edit_kb(line, lambda frame: frame.with_columns(answer=pl.lit("ask us again")))

    def roll_back_first(self, release, *, seq=None):
        self.rollback()
        return promote(self, release, seq=seq)

    promote = Releases.promote
    monkeypatch.setattr(Releases, "promote", roll_back_first)
    with pytest.raises(StoreBusyError, match=r"current meanwhile.*Run again"):
        flow(request_of(line))
    releases = Releases(store_of(line))
    assert releases.current().id == releases.get(second).previous
    assert len(releases.history()) == 2


@pytest.mark.slow
def test_inputs_that_come_back_are_put_into_production_again(line):
    original = (line / "kb.csv").read_bytes()
    edit_kb(line, reworded)
    refresh_index(request_of(line))
    (line / "kb.csv").write_bytes(original)
    record = retrain(request_of(line))
    assert set(outcomes_of(record).values()) == {"reused"}
    assert Retriever(line / "store").search(first_query(line), k=1)[0].score > 0.99


@pytest.mark.slow
def test_without_an_evaluation_file_held_out_translations_are_asked(tmp_path):
    write_line(tmp_path, evaluation={}, split={"evaluation_share": 0.3})
    record = retrain(request_of(tmp_path))
    stages = stages_of(record)
    store = store_of(tmp_path)
    questions = store.table(stages["evaluation set"].artifact)
    anchors = store.table(stages["training set"].artifact)
    assert 5 < questions.height < 30
    assert not set(questions["source_row_id"]) & set(anchors["source_row_id"])
    [warning] = stages["evaluation set"].artifact.facts["warnings"]
    assert "No evaluation file is given" in warning
    assert warning.partition(":")[0] in (store.root / record.report).read_text(encoding="utf-8")


@pytest.mark.slow
def test_without_any_question_nothing_new_goes_live(tmp_path):
    write_line(tmp_path, evaluation={}, split={"evaluation_share": 0.0})
    record = retrain(request_of(tmp_path))
    assert not record.promoted
    assert record.reasons[0].startswith("Nothing was measured")
    assert current_of(tmp_path).model is None


@pytest.mark.slow
def test_prefect_keeps_the_report(line):
    configure(line, gate={"metric": "hit@3"})
    record = retrain(request_of(line))
    with get_client(sync_client=True) as client:
        kept = client.request("POST", "/artifacts/filter", json={"sort": "CREATED_DESC"}).json()
    [report] = [it for it in kept if (it["key"] or "").startswith("report-")][:1]
    assert report["type"] == "markdown"
    assert record.reasons[0][:20] in report["data"].replace("\\", "")


@pytest.mark.slow
def test_native_queries_alone_train_a_model(tmp_path):
    write_line(tmp_path, languages=[], evaluation={}, training={"path": "queries.csv"})
    record = retrain(request_of(tmp_path))
    stages = stages_of(record)
    given = stages["queries of queries.csv"].rows
    asked, trained = stages["evaluation set"].rows, stages["training set"].rows
    assert 0 < asked < given / 2
    assert trained + asked == given


@pytest.mark.slow
def test_a_label_that_the_knowledge_base_lacks_is_warned_of_and_the_run_goes_on(tmp_path):
    write_line(tmp_path)
    questions = pl.read_csv(tmp_path / "queries.csv")
    strange = questions.head(2).with_columns(
        label=pl.lit("unheard_of"), query_id=pl.col("query_id") + "x"
    )
    pl.concat([questions, strange]).write_csv(tmp_path / "queries.csv")
    record = retrain(request_of(tmp_path))
    [warning] = stages_of(record)["evaluation set"].artifact.facts["warnings"]
    assert warning.startswith(
        "2 of 37 evaluation questions have a label that the knowledge base lacks"
    )


@pytest.fixture
def endpoint(monkeypatch):
    with LLMServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def by_llm(folder, *codes):
    languages = [{"code": code, "name": code} for code in codes]
    return write_line(folder, languages=languages, fine_tuning={"epochs": 1})


@pytest.mark.slow
@pytest.mark.parametrize("rows_per_request", [1, 7])
def test_exactly_the_changed_training_rows_are_bought(
    tmp_path, endpoint, monkeypatch, rows_per_request
):
    monkeypatch.setenv("MONOGLOT_LLM_ROWS_PER_REQUEST", str(rows_per_request))
    by_llm(tmp_path, "hi-Latn")
    planned = plan_of(tmp_path)
    retrain(request_of(tmp_path))
    store = store_of(tmp_path)
    parts = store.table(stages_of(Runs(store).last())["split"].artifact)
    training = set(parts.filter(pl.col("part").cast(pl.String) == "training")["query"])
    assert set(endpoint.rows) == training
    assert set(endpoint.rows.values()) == {1}
    assert planned.requests[0].work.rows == len(training)
    endpoint.requests.clear()

    rows = pl.read_csv(tmp_path / "kb.csv")
    edited, removed = (rows["query"].to_list().index(text) for text in sorted(training)[:2])
    changed = rows.with_columns(
        pl.when(pl.int_range(pl.len()) == edited)
        .then(pl.lit(NEW_QUERY))
        .otherwise("query")
        .alias("query")
    )
    added = rows.head(1).with_columns(query=pl.lit("a wholly new question about my order"))
    pl.concat([changed.filter(pl.int_range(pl.len()) != removed), added]).write_csv(
        tmp_path / "kb.csv"
    )
    record = retrain(request_of(tmp_path))
    parts = store.table(stages_of(record)["split"].artifact)
    now = set(parts.filter(pl.col("part").cast(pl.String) == "training")["query"])
    assert set(endpoint.rows) == now - training
    assert set(endpoint.rows) <= {NEW_QUERY, "a wholly new question about my order"}
    facts = stages_of(record)["index model"].artifact.facts
    assert facts["encoded"] == 2


@pytest.mark.slow
def test_a_language_more_costs_that_language_and_one_less_costs_nothing(tmp_path, endpoint):
    by_llm(tmp_path, "hi-Latn")
    retrain(request_of(tmp_path))
    bought = len(endpoint.rows)
    endpoint.requests.clear()
    configure(tmp_path, languages=[{"code": code, "name": code} for code in ("hi-Latn", "es")])
    record = retrain(request_of(tmp_path))
    assert {request.language for request in endpoint.requests} == {"es"}
    assert len(endpoint.rows) == bought
    assert outcomes_of(record)["translate hi-Latn"] == "reused"
    endpoint.requests.clear()
    configure(tmp_path, languages=[{"code": "es", "name": "es"}])
    retrain(request_of(tmp_path))
    assert endpoint.requests == []


@pytest.mark.slow
def test_synthetic_queries_are_trained_on(tmp_path, endpoint):
    write_line(tmp_path, generation={"synthetic_per_label": 5}, fine_tuning={"epochs": 1})
    record = retrain(request_of(tmp_path))
    stages = stages_of(record)
    anchors = store_of(tmp_path).table(stages["training set"].artifact)
    origins = dict(anchors["origin"].cast(pl.String).value_counts().iter_rows())
    assert origins["synthetic"] == stages["synthesize hi-Latn"].rows > 6
    assert origins["translated"] == 56


def test_an_endpoint_that_is_down_is_refused_before_any_work(tmp_path, endpoint, monkeypatch):
    monkeypatch.setenv("MONOGLOT_LLM_BASE_URL", "http://127.0.0.1:9/v1")
    by_llm(tmp_path, "hi-Latn")
    with pytest.raises(EndpointError, match="cannot be reached"):
        retrain(request_of(tmp_path))
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_a_check_that_finds_nothing_to_do_needs_no_endpoint(tmp_path, endpoint, monkeypatch):
    by_llm(tmp_path, "hi-Latn")
    configure(tmp_path, quality={"min_round_trip": 0.01})
    record = retrain(request_of(tmp_path))
    monkeypatch.setenv("MONOGLOT_LLM_BASE_URL", "http://127.0.0.1:9/v1")
    assert retrain(request_of(tmp_path)) == record
    with pytest.raises(EndpointError, match="cannot be reached"):
        retrain(request_of(tmp_path, force=True))


def test_nothing_to_train_on_is_refused_before_any_work(tmp_path):
    by_llm(tmp_path, "hi-Latn")
    with pytest.raises(
        ConfigError, match=r"nothing to train on for hi-Latn.*MONOGLOT_LLM_BASE_URL"
    ):
        retrain(request_of(tmp_path))
    assert not (tmp_path / "store").exists()


def test_a_second_run_on_the_same_store_is_refused_by_name(line):
    edit_kb(line, reworded)
    with store_of(line).writer(), pytest.raises(StoreBusyError, match=f"process {os.getpid()}"):
        retrain(request_of(line))


@pytest.mark.slow
def test_training_that_was_interrupted_goes_on_at_its_checkpoint(tmp_path, monkeypatch):
    from monoglot.learning import training

    write_line(tmp_path)
    monkeypatch.setattr(training, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    step, done = training._Run.step, []

    def stop_at_20(self, number):
        done.append(number)
        if len(done) == 20:
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(training._Run, "step", stop_at_20)
    with pytest.raises(KeyboardInterrupt):
        retrain(request_of(tmp_path))
    assert current_of(tmp_path) is None
    record = retrain(request_of(tmp_path))
    assert stages_of(record)["fine-tune"].artifact.facts["resumed_at"] == 19
    assert done == [*range(20), *range(19, stages_of(record)["fine-tune"].artifact.facts["steps"])]
    assert not list((tmp_path / "store/tmp").iterdir())


def test_a_knowledge_base_that_cannot_be_used_changes_nothing(line):
    before = current_of(line)
    (line / "kb.csv").write_text("question,label\nwhere is it,track\n")
    with pytest.raises(DataError, match=r"kb\.csv"):
        retrain(request_of(line))
    with pytest.raises(DataError, match=r"kb\.csv"):
        refresh_index(request_of(line))
    assert current_of(line) == before
