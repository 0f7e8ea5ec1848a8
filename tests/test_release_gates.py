"""Abstention and guards in the whole line: calibrated, shown, kept with the release, refreshed."""

import json
import shutil

import polars as pl
import pytest
import yaml
from tiny_line import SAMPLE, edit_kb, store_of, write_line

from flows.refresh_index import refresh_index
from flows.retrain import retrain
from monoglot import Retriever
from monoglot.config_file import load_config
from monoglot.errors import ConfigError, DataError
from monoglot.knowledge.queries import load_out_of_scope
from monoglot.learning.votes import TEMPERATURES
from monoglot.learning_config import OutOfScopeFile
from monoglot.runs import Runs
from monoglot.serving import drift
from monoglot.serving.releases import Releases
from monoglot.serving.vectors import Asked
from tasks.request import RunRequest

pytestmark = pytest.mark.slow

UNTRAINED, TRAINED = "cancel_order", "download_invoice"


def write_files(folder):
    """Beside the small line: out-of-scope queries, a guard with rows of its own, and one without.

    The rows and questions of the former are labels of the sample that the line leaves out.
    """
    kb, questions = (pl.read_csv(SAMPLE / name) for name in ("kb.csv", "queries.csv"))
    labels = kb["label"].unique(maintain_order=True)
    others, far = labels[6:10].implode(), labels[10:14].implode()
    kb.filter(pl.col("label").is_in(others)).write_csv(folder / "other_kb.csv")
    asked = questions.filter(pl.col("label").is_in(others)).select("label", ask="english")
    asked.write_csv(folder / "other.csv")
    questions.filter(pl.col("label").is_in(far)).select("text", "language").write_csv(
        folder / "out.csv"
    )
    near = questions.filter(pl.col("label").is_in(labels[:6].implode()))
    [source, *_] = kb.filter(label=TRAINED)["query"]
    learned = pl.read_csv(folder / "hinglish.csv").filter(source=source)
    pl.concat(
        [
            near.select(text="english", label="label"),
            learned.select(text="translation", label=pl.lit(TRAINED)),
        ]
    ).write_csv(folder / "english.csv")


SECTIONS = {
    "abstention": {"max_wrong": 0.2, "out_of_scope": {"path": "out.csv", "share": 0.2}},
    "split": {"untrained_labels": [UNTRAINED]},
    "guards": [
        {
            "name": "other shop",
            "path": "other.csv",
            "columns": {"text": "ask"},
            "language": "en",
            "knowledge_base": {"path": "other_kb.csv"},
            "max_loss": 1.0,
        },
        {"name": "english", "path": "english.csv", "language": "en"},
    ],
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, prefect_api):
    """A small line with guards and out-of-scope queries after one run; read only."""
    folder = tmp_path_factory.mktemp("guarded")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MONOGLOT_LLM_BASE_URL", raising=False)
        path = write_line(folder, **SECTIONS)
        write_files(folder)
        return folder, retrain(RunRequest(config_file=path))


@pytest.fixture
def copy(guarded, tmp_path, no_endpoint):
    return shutil.copytree(guarded[0], tmp_path / "line")


def current_of(folder):
    return Releases(store_of(folder)).current()


def stages_of(record):
    return {stage.key.stage: stage for stage in record.stages}


def configure(folder, **settings):
    path = folder / "monoglot.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | settings))
    return RunRequest(config_file=path)


def test_the_release_keeps_thresholds_and_what_they_rest_on(guarded):
    folder, record = guarded
    found, store = current_of(folder), store_of(folder)
    kept = found.abstention
    assert (kept.max_wrong, kept.out_of_scope_share) == (0.2, 0.2)
    assert set(kept.languages) == {"hi-Latn", "en"}
    assert kept.overall.questions == found.questions.rows > 20
    assert (
        kept.overall.out_of_scope
        == found.out_of_scope.rows
        == pl.read_csv(folder / "out.csv")["text"].n_unique()
    )
    curve = store.table(stages_of(record)["calibration"].artifact)
    assert set(curve["language"]) == {"hi-Latn", "en", "all"}
    least = kept.score_of("hi-Latn")
    retriever = Retriever(store.root, device="cpu")
    texts = pl.read_csv(folder / "queries.csv")["text"].to_list()
    best = [answers[0] for answers in retriever.search_many(texts, language="hi-Latn")]
    assert [it.confident for it in best] == [least is not None and it.score >= least for it in best]


def test_the_gate_and_the_report_tell_of_every_guard(guarded):
    folder, record = guarded
    guards = [reason for reason in record.reasons if reason.startswith("Guard ")]
    assert [reason.partition(" over ")[0] for reason in guards] == [
        "Guard other shop",
        "Guard english",
        "Guard untrained labels",
        "Guard untrained labels, in English",
    ]
    page = (store_of(folder).root / record.report).read_text(encoding="utf-8")
    for words in (
        "What must not get worse",
        "other shop",
        "When it does not know",
        "asked for: 0.2",
    ):
        assert words in page, words
    titles = [stage.title for stage in record.stages]
    assert sum(title.endswith("other rows by model") for title in titles) == 1
    assert sum(title.endswith("on other shop") for title in titles) == 2  # untuned and tuned
    assert len(set(titles)) == len(titles)  # nothing is read twice


def test_nothing_is_trained_on_that_a_guard_asks(guarded):
    folder, record = guarded
    anchors = stages_of(record)["anchors"].artifact
    asked = set(pl.read_csv(folder / "english.csv")["text"])
    assert not asked & set(store_of(folder).table(anchors)["text"])
    assert anchors.facts["dropped"]["guarded_text"] == 1


def test_nothing_is_trained_on_an_untrained_label(guarded):
    folder, record = guarded
    store, stages = store_of(folder), stages_of(record)
    anchors = store.table(stages["anchors"].artifact)
    triplets = store.table(stages["triplets"].artifact)
    rows = store.table(Runs(store).last().knowledge_base)
    untrained = set(rows.filter(label=UNTRAINED)["row_id"])
    used = set(triplets["positive_row"]) | set(triplets["negative_rows"].explode())
    assert len(untrained) == 12
    assert not used & untrained
    assert UNTRAINED not in set(anchors["label"])
    assert len(Releases(store).index(current_of(folder))) == rows.height
    asked = store.table(stages["questions"].artifact)
    assert UNTRAINED in set(asked["label"])


def test_a_candidate_below_a_floor_is_not_promoted(copy):
    """A guard asked of rows that it does not know: what it knew before cannot be kept."""
    before = current_of(copy)
    [other, _] = SECTIONS["guards"]
    request = configure(
        copy,
        guards=[other | {"max_loss": 0.0}],
        fine_tuning={"epochs": 20, "learning_rate": 5.0, "english_replay": False},
        merging={"base_weight": 0.0},
    )
    record = retrain(request)
    assert not record.promoted
    assert any("Guard other shop" in it and "and lost more" in it for it in record.reasons)
    assert current_of(copy).model_digest == before.model_digest


def test_another_rate_is_another_release_of_the_same_model(copy):
    before = current_of(copy)
    abstention = SECTIONS["abstention"] | {"max_wrong": 0.4}
    record = retrain(configure(copy, abstention=abstention))
    after = current_of(copy)
    assert (after.model_digest, after.previous) == (before.model_digest, before.id)
    assert after.abstention.max_wrong == 0.4
    done = [stage.key.stage for stage in record.stages if stage.outcome == "done"]
    assert done == ["calibration"]
    Releases(store_of(copy)).rollback()
    assert current_of(copy).abstention == before.abstention


def test_a_refresh_calibrates_on_the_same_questions(copy):
    before = current_of(copy)
    edit_kb(copy, lambda frame: frame.filter(pl.col("label") != frame["label"][-1]))
    record = refresh_index(RunRequest(config_file=copy / "monoglot.yaml"))
    after = current_of(copy)
    assert after.id != before.id
    assert (after.model_digest, after.questions) == (before.model_digest, before.questions)
    assert after.abstention.overall.questions == before.abstention.overall.questions
    assert after.abstention.max_wrong == before.abstention.max_wrong
    # A label is gone, so that its questions are now answered wrongly.
    assert after.abstention != before.abstention
    assert after.metrics["hit@1"] < before.metrics["hit@1"]
    assert [stage.key.stage for stage in record.stages][-2:] == ["probe", "calibration"]


def test_a_refresh_without_its_questions_keeps_the_thresholds_and_says_so(copy, caplog):
    store, before = store_of(copy), current_of(copy)
    shutil.rmtree(store.folder(before.questions))
    edit_kb(copy, lambda frame: frame.with_columns(answer=pl.lit("Changed.")))
    with caplog.at_level("WARNING"):
        refresh_index(RunRequest(config_file=copy / "monoglot.yaml"))
    assert current_of(copy).abstention == before.abstention
    assert "keeps its thresholds" in caplog.text


def refreshed_after_an_edit(copy, number):
    """The names of the stages of a refresh after a row was reworded, and the release it made."""
    text = f"where did you leave my parcel number {number}"
    at = pl.int_range(pl.len()) == number
    reworded = pl.when(at).then(pl.lit(text)).otherwise("query").alias("query")
    edit_kb(copy, lambda frame: frame.with_columns(reworded))
    record = refresh_index(RunRequest(config_file=copy / "monoglot.yaml"))
    assert Retriever(copy / "store").search(text)[0].query == text
    return {stage.key.stage for stage in record.stages}, current_of(copy)


@pytest.fixture
def many(monkeypatch):
    """As if 72 rows were very many: three edits, each a row gone and one added, are few."""
    monkeypatch.setattr(drift, "_FEW", 0)
    monkeypatch.setattr(drift, "_SHARE", 0.1)


@pytest.mark.usefixtures("many")
def test_a_few_of_very_many_rows_are_not_measured_again_until_they_add_up(copy):
    first = current_of(copy)
    for number in range(3):
        stages, release = refreshed_after_an_edit(copy, number)
        assert "evaluation" not in stages
        assert release.measured_on == first.knowledge_base
        assert (release.evaluation, release.metrics) == (first.evaluation, first.metrics)
        assert (release.abstention, release.questions) == (first.abstention, first.questions)
    stages, last = refreshed_after_an_edit(copy, 3)
    assert "evaluation" in stages
    assert last.measured_on is None
    assert last.evaluation != first.evaluation
    assert last.abstention is not None


@pytest.mark.usefixtures("many")
def test_another_temperature_of_the_votes_is_measured_however_few_rows_changed(copy, monkeypatch):
    before = current_of(copy)
    index = Releases(store_of(copy)).index(before)
    other = next(it for it in TEMPERATURES if it != index.temperature)
    monkeypatch.setattr(Asked, "temperature", lambda _: other)
    monkeypatch.setattr("monoglot.serving.index.has_drifted", lambda *_: True)
    stages, release = refreshed_after_an_edit(copy, 0)
    assert "evaluation" in stages
    assert (release.measured_on, release.questions) == (None, before.questions)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("part", ["evaluation", "knowledge_base"])
def test_what_a_release_was_measured_by_is_gone_and_is_measured_again(copy, part):
    before = current_of(copy)
    shutil.rmtree(store_of(copy).folder(getattr(before, part)))
    stages, release = refreshed_after_an_edit(copy, 0)
    assert "evaluation" in stages
    assert release.abstention is not None
    assert (release.measured_on, release.questions) == (None, before.questions)


def test_out_of_scope_queries_are_read_with_their_rejects(tmp_path):
    path = tmp_path / "out.csv"
    text = "query,language\nwho won,en\nwho won,en\n,en\nraat ko,\nwho lost,en\n"
    path.write_text(text, encoding="utf-8")
    loaded = load_out_of_scope(OutOfScopeFile(path=path, columns={"text": "query"}))
    assert loaded.rows.select("text", "language", "label").rows() == [
        ("who won", "en", ""),
        ("raat ko", "und", ""),
        ("who lost", "en", ""),
    ]
    assert loaded.rejects["rule"].to_list() == ["duplicate", "empty"]
    with pytest.raises(DataError, match="has no column text"):
        load_out_of_scope(OutOfScopeFile(path=path))


@pytest.mark.parametrize(
    ("guards", "message"),
    [
        ([{"name": "a", "path": "a.csv"}] * 2, "guards: a is the name of two"),
        ([{"name": "a"}], "guards.0.path: is required"),
        ([{"name": "a", "path": "a.csv", "floor": 1}], "guards.0.floor: unknown setting"),
    ],
)
def test_a_wrong_guard_is_told_in_the_words_of_the_file(tmp_path, guards, message):
    path = tmp_path / "monoglot.yaml"
    path.write_text(json.dumps({"knowledge_base": {"path": "kb.csv"}, "guards": guards}))
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_a_guard_whose_labels_nobody_has_guards_nothing(copy, prefect_api):
    [other, english] = SECTIONS["guards"]
    lost = {name: value for name, value in other.items() if name != "knowledge_base"}
    before = Runs(store_of(copy)).last()
    message = r"^guards: other shop: .*/other\.csv: guards nothing: .*100%"
    with pytest.raises(DataError, match=message):
        retrain(configure(copy, guards=[lost, english]))
    assert Runs(store_of(copy)).last() == before


def test_files_of_guards_are_seen_from_the_configs_folder(tmp_path):
    path = write_line(tmp_path, **SECTIONS)
    config = load_config(path)
    assert config.guards[0].path == tmp_path / "other.csv"
    assert config.guards[0].knowledge_base.path == tmp_path / "other_kb.csv"
    assert config.guards[1].knowledge_base is None
    assert config.abstention.out_of_scope.path == tmp_path / "out.csv"
