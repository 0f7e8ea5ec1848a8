"""Baselines in whole runs: all are in the report, and none is trained, or paid for, twice."""

import polars as pl
import pytest
from llm_server import LLMServer
from tiny_line import configure, request_of, write_line

from flows.retrain import retrain
from monoglot.contracts import Findings, Outcomes
from monoglot.errors import ConfigError
from monoglot.learning.metrics import asked
from monoglot.planning import make_plan, refuse_unready
from monoglot.standing import Inputs
from monoglot.store import Store
from tasks.versions import versions

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api", "no_endpoint")]

EVERY = ["translate_query", "random_negatives", "st_mined", "distillation", "classifier"]
NAMES = [
    "untuned", "TF-IDF", "BM25", "logistic head", "translated query", "random negatives",
    "ST-mined negatives", "MSE distillation", "classifier", "tuned",
]  # fmt: skip
SHORT = {"epochs": 20, "batch_size": 32, "learning_rate": 0.02}


def trained_by(record):
    return [stage.title for stage in record.stages if stage.outcome == "done"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory, prefect_api):
    """A line run with every baseline; one question has a label, and a language, of its own."""
    folder = tmp_path_factory.mktemp("compared")
    lexicon = {"also": EVERY, "lexicon": "words.csv"}
    write_line(folder, baselines=lexicon, fine_tuning=SHORT)
    alone = {"text": "dónde está mi loro", "language": "es", "label": "parrots", "english": None}
    questions = pl.read_csv(folder / "queries.csv")
    more = pl.DataFrame([alone], schema_overrides={"english": pl.String})
    pl.concat([questions, more], how="diagonal").write_csv(folder / "queries.csv")
    (folder / "words.csv").write_text("source,target\nmera,my\nkahan,where\nhai,is\ndónde,where\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MONOGLOT_LLM_BASE_URL", raising=False)
        return folder, retrain(request_of(folder))


def test_every_baseline_answers_the_same_questions(compared):
    folder, record = compared
    store = Store.existing(str(folder / "store"))
    assert list(record.systems) == NAMES
    tables = {name: store.table(outcomes) for name, outcomes in record.systems.items()}
    ids = tables["untuned"].filter(~pl.col("control"))["query_id"].sort()
    for name, table in tables.items():
        assert Outcomes.is_valid(table), name
        assert asked(table)["query_id"].sort().equals(ids), name
        lacking = asked(table).filter(label="parrots")
        assert lacking.select("rank", "known", "language").rows() == [(0, False, "es")], name
        assert asked(table, control=True).height == (
            0 if name == "translated query" else len(ids) - 1
        )
    page = (folder / "store" / record.report).read_text(encoding="utf-8")
    assert all(f"<td>{name}</td>" in page for name in NAMES)


def test_what_is_learnt_is_learnt_by_them(compared):
    folder, record = compared
    store = Store.existing(str(folder / "store"))
    right = {
        name: (asked(store.table(outcomes))["rank"] == 1).mean()
        for name, outcomes in record.systems.items()
    }
    for name in ("logistic head", "random negatives", "classifier"):
        assert right[name] > right["untuned"], (name, right)
    facts = {stage.title: stage.artifact.facts for stage in record.stages}
    mined = facts["ST-mined negatives: mine negatives as sentence-transformers does"]
    assert 0 <= mined["same_label"] <= 1
    words = facts["translated query: translate questions by words.csv"]
    assert 0 < words["known"] < words["words"]
    steps = {title: each.get("steps") for title, each in facts.items() if each.get("steps")}
    assert steps["fine-tune"] == steps["random negatives: fine-tune"]
    assert steps["fine-tune"] == steps["MSE distillation: distil"]
    assert steps["fine-tune"] == steps["classifier: fine-tune a classifier"]
    assert steps["ST-mined negatives: fine-tune"] == pytest.approx(steps["fine-tune"], abs=3)


def test_diagnostics_are_a_stage_and_a_section(compared):
    folder, record = compared
    store = Store.existing(str(folder / "store"))
    [stage] = [stage for stage in record.stages if stage.title == "diagnose"]
    findings = store.table(stage.artifact)
    assert Findings.is_valid(findings)
    verdicts = dict(findings.select("check", "verdict").iter_rows())
    assert verdicts["Translations to es"] == "not checked"
    assert verdicts["Where es lies"] == "not checked"
    assert verdicts["Hardest negatives against random ones"] in ("found", "fine")
    page = (folder / "store" / record.report).read_text(encoding="utf-8")
    assert '<section id="diagnostics">' in page


def test_a_second_run_trains_nothing_and_less_is_shown_when_less_is_asked_for(compared):
    folder, _ = compared
    record = retrain(request_of(folder, force=True))
    assert trained_by(record) == []
    configure(folder, baselines={})
    record = retrain(request_of(folder))
    assert trained_by(record) == ["diagnose"]  # without random negatives to compare with
    assert list(record.systems)[:4] == NAMES[:4]
    assert not set(record.systems) & set(NAMES[4:9])


def test_questions_are_translated_by_llm_planned_and_paid_once(tmp_path, monkeypatch):
    write_line(tmp_path, baselines={"also": ["translate_query"]}, fine_tuning=SHORT)
    with LLMServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        config, settings = request_of(tmp_path).read()
        [planned] = make_plan(
            Inputs.of(config, settings, versions()), config, settings, None
        ).requests
        assert (planned.language, planned.purpose) == ("hi-Latn", "translate questions")
        record = retrain(request_of(tmp_path))
        assert server.rows.total() == planned.work.rows > 0
        assert {request.language for request in server.requests} == {"en"}
        store = Store.existing(str(tmp_path / "store"))
        told = store.table(record.systems["translated query"])
        assert told.height == asked(store.table(record.systems["untuned"])).height
        requests = len(server.requests)
        retrain(request_of(tmp_path, force=True))
        assert len(server.requests) == requests
        page = (tmp_path / "store" / record.report).read_text(encoding="utf-8")
        assert "translated query: translate questions hi-Latn" in page


def test_nothing_to_translate_with_is_refused_before_any_work(tmp_path):
    write_line(tmp_path, baselines={"also": ["translate_query"]})
    config, settings = request_of(tmp_path).read()
    with pytest.raises(ConfigError, match=r"translate_query needs something.*baselines\.lexicon"):
        refuse_unready(config, settings, None)
    configure(tmp_path, baselines={"also": ["classifier"], "lexicon": "words.csv"})
    with pytest.raises(ConfigError, match=r"baselines\.lexicon: only translate_query reads it"):
        request_of(tmp_path).read()


def test_tf_idf_is_left_out_of_a_large_knowledge_base_and_the_report_says_so(tmp_path, monkeypatch):
    write_line(tmp_path, fine_tuning=SHORT)
    monkeypatch.setattr("tasks.comparison.MOST_ROWS", 3)
    record = retrain(request_of(tmp_path))
    assert list(record.systems) == [name for name in NAMES[:4] if name != "TF-IDF"] + ["tuned"]
    page = (tmp_path / "store" / record.report).read_text(encoding="utf-8")
    assert "Baseline left out: TF-IDF: the knowledge base has" in page
