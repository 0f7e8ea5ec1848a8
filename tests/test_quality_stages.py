"""The gates as stages of a run, and `monoglot quality` on what the run left."""

import json
import re
import sys
from functools import partial

import polars as pl
import pytest
import yaml
from llm_server import LLMServer
from tiny_line import write_line

from flows import cli
from flows.retrain import retrain
from monoglot.config import UserQueriesFile
from monoglot.config_file import load_config
from monoglot.errors import ConfigError, EndpointError
from monoglot.generation_config import QualityConfig, SpendingConfig
from monoglot.learning.encoder import Encoder
from monoglot.planning import make_plan, refuse_unready
from monoglot.runs import Runs
from monoglot.standing import Inputs
from monoglot.store import Store
from tasks.request import RunRequest
from tasks.versions import versions
from tasks.workplace import REJECTS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api")]

RANK = 1


def run(folder, monkeypatch, server, **quality):
    """A retraining whose queries the LLM writes; the stages by title, without digests."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    write_line(
        folder,
        languages=[{"code": "hi-Latn", "name": "Hinglish"}],
        fine_tuning={"epochs": 1},
        quality=quality,
    )
    return stages_of(retrain(RunRequest(config_file=folder / "monoglot.yaml")))


def stages_of(record):
    return {re.sub(r"(tuned) [0-9a-f]{8}$", r"\1", it.title): it for it in record.stages}


@pytest.fixture(scope="module")
def checked(tmp_path_factory, prefect_api):
    """A folder with a run whose labels were checked, its stages, and what the server was asked."""
    folder = tmp_path_factory.mktemp("checked")
    with pytest.MonkeyPatch.context() as patch, LLMServer() as server:
        stages = run(folder, patch, server, max_label_rank=RANK)
    return folder, stages, Store.existing(str(folder / "store"))


def doubted_by_hand(folder, queries):
    """Ids of the queries whose nearest row, but for their source, has another label."""
    encoder = Encoder.load(str(folder / "model"))
    kb = pl.read_csv(folder / "kb.csv")
    rows = encoder.encode(kb["query"].to_list())
    found = set()
    for query in queries.iter_rows(named=True):
        scores = rows @ encoder.encode([query["text"]])[0]
        order = [n for n in (-scores).argsort().tolist() if kb["query"][n] != query["english"]]
        if kb["label"][order[0]] != query["label"]:
            found.add(query["query_id"])
    return found


def test_rows_that_do_not_find_their_label_are_rejected_exactly(checked):
    folder, stages, store = checked
    before = store.table(stages["check hi-Latn"].artifact)
    after = store.table(stages["check labels hi-Latn"].artifact)
    rejects = store.table(stages["check labels hi-Latn"].artifact, REJECTS)
    doubted = doubted_by_hand(folder, before)
    assert 0 < len(doubted) < before.height
    assert after.equals(before.filter(~pl.col("query_id").is_in(doubted)))
    assert set(rejects["rule"]) == {"label_inconsistent"}
    dropped = before.filter(pl.col("query_id").is_in(doubted))
    assert rejects["value"].to_list() == dropped["text"].to_list()
    assert rejects["reason"][0].startswith(f"its label {dropped['label'][0]} is ")
    facts = stages["check labels hi-Latn"].artifact.facts
    assert (facts["checked"], facts["rejected"]) == (before.height, len(doubted))


def test_the_index_it_needs_is_the_one_that_is_evaluated(checked):
    _, stages, _ = checked
    assert stages["index model"].outcome == "reused"  # the later of two uses


def test_the_judge_is_asked_about_the_doubted_alone_and_clears_some(checked, tmp_path, monkeypatch):
    _, strict, store = checked
    with LLMServer() as server:
        stages = run(tmp_path, monkeypatch, server, max_label_rank=RANK, judge=True)
    doubted = store.table(strict["check labels hi-Latn"].artifact, REJECTS)["value"].to_list()
    asked = [row for request in server.requests for row in request.rows if "labels" in row]
    assert sorted(row["text"] for row in asked) == sorted(set(doubted))
    new = Store.existing(str(tmp_path / "store"))
    rejects = new.table(stages["check labels hi-Latn"].artifact, REJECTS)
    assert set(rejects["value"]) < set(doubted)
    assert all("; the judge says " in reason for reason in rejects["reason"])
    facts = stages["check labels hi-Latn"].artifact.facts
    assert (facts["doubted"], facts["from_ledger"]) == (len(doubted), 0)
    assert facts["usage"]["requests"] > 0


def test_what_depends_on_answers_is_named_by_the_plan_and_checked_before_any_work(checked):
    folder, _, store = checked
    with LLMServer() as server:
        settings = server.settings()
        config = settings.applied_to(load_config(folder / "monoglot.yaml"))
        refuse = partial(refuse_unready, settings=settings, store=store)
        dear = {"spending": SpendingConfig(max_usd=1.0)}
        judged = {"quality": config.quality.model_copy(update={"judge": True})}
        back = {"quality": QualityConfig(min_round_trip=0.5)}
        unused = {"quality": QualityConfig(judge=True)}  # nothing is doubted without a rank
        users = {"user_queries": UserQueriesFile(path=folder / "users.csv")}
        pl.DataFrame({"text": ["kahan hai"]}).write_csv(folder / "users.csv")
        names = ("the judge", "the round trip", "a second look at gaps")
        for changes, said in (({}, []), (unused, []), (judged, names[:1]), (back, names[1:2])):
            changed = config.model_copy(update=dear | changes)
            assert _named(changed, settings, store, names) == list(said)
            if said:
                with pytest.raises(ConfigError, match="price of model"):
                    refuse(changed)
            else:
                refuse(changed)
        every = config.model_copy(update=judged | users)
        assert _named(every, settings, store, names) == [names[0], names[2]]
        assert server.requests == []
    refuse(config)  # all it asks is paid for, so the endpoint may be gone
    with pytest.raises(EndpointError, match="cannot be reached"):
        refuse(config.model_copy(update=judged))


def _named(config, settings, store, names):
    """What a plan says it leaves out; that it warns of a limit without price just as well."""
    made = make_plan(Inputs.of(config, settings, versions()), config, settings, store)
    left_out = [text for text in made.warnings if text.startswith("The plan leaves out ")]
    unpriced = any("a run is refused" in text for text in made.warnings)
    assert unpriced == bool(left_out and config.spending.max_usd)
    return [name for name in names if any(name in text for text in left_out)]


def test_a_round_trip_is_a_stage_of_its_own(tmp_path, monkeypatch):
    with LLMServer() as server:
        stages = run(tmp_path, monkeypatch, server, min_round_trip=0.8)
        assert {"hi-Latn", "en"} == {request.language for request in server.requests}
    store = Store.existing(str(tmp_path / "store"))
    stage = stages["translate back hi-Latn"]
    rejects = store.table(stage.artifact, REJECTS)
    before = store.table(stages["check hi-Latn"].artifact)
    assert 0 < rejects.height < before.height == stage.rows + rejects.height
    assert set(rejects["rule"]) == {"round_trip"}
    assert stages["training set"].rows == stage.rows


@pytest.fixture
def monoglot(monkeypatch, capsys, no_endpoint):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["monoglot", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            sys.exit(cli.main())
        return ended.value.code or 0, *capsys.readouterr()

    return call


def test_quality_prints_kept_and_dropped_of_the_last_run(checked, monoglot):
    folder, stages, store = checked
    code, out, _ = monoglot("quality", "-c", folder / "monoglot.yaml", "--json")
    form, labels = json.loads(out)["checks"]
    assert code == 0
    assert form == {
        "language": "hi-Latn",
        "origin": "translated",
        "stage": "quality",
        "checked": 56,
        "kept": 56,
        "dropped": 0,
        "gates": [],
        "bad": None,
        "good": None,
        "bad_kept": None,
    }
    rejects = store.table(stages["check labels hi-Latn"].artifact, REJECTS)
    assert (labels["stage"], labels["kept"]) == ("consistency", 56 - rejects.height)
    [gate] = labels["gates"]
    assert (gate["rule"], gate["dropped"]) == ("label_inconsistent", rejects.height)
    assert gate["examples"] == [
        {"text": text, "reason": reason}
        for text, reason in rejects.select("value", "reason").head(3).iter_rows()
    ]
    code, out, _ = monoglot("quality", "-c", folder / "monoglot.yaml")
    assert code == 0
    assert f"label_inconsistent: {rejects.height} dropped" in out
    assert rejects["value"][0] in out


def test_quality_of_a_run_without_generated_queries_says_so(finished_line, monoglot):
    code, out, _ = monoglot("quality", "-c", finished_line / "monoglot.yaml")
    assert code == 0
    assert "none were written by an LLM" in out


LABELLED = [
    ("mera parcel kahan hai", "where is my parcel", "yes"),
    ("Where is my parcel", "where is my parcel", "no"),
    ("pon la alarma a las seis", "set an alarm for six", "no"),
    ("Here is the translation: haan", "yes", "no"),
    ("mera order", "my order of shoes", "no"),  # incomplete, which no gate sees
    ("mera parcel (urgent)", "my parcel", "yes"),  # good, and rejected
    ("paise wapas karo", "refund me", ""),
]


def test_gates_are_measured_on_a_file_that_somebody_marked(tmp_path, monoglot):
    write_line(tmp_path)
    columns = ("text", "english", "ok")
    pl.DataFrame(LABELLED, schema=list(columns), orient="row").with_columns(
        language=pl.lit("hi-Latn")
    ).write_csv(tmp_path / "marked.csv")
    where = ("-c", tmp_path / "monoglot.yaml")
    code, out, _ = monoglot("quality", "--labelled", tmp_path / "marked.csv", *where, "--json")
    [check] = json.loads(out)["checks"]
    assert code == 0
    assert (check["checked"], check["kept"], check["bad"], check["good"], check["bad_kept"]) == (
        7,
        3,
        4,
        2,
        1,
    )
    precision = {gate["rule"]: gate["precision"] for gate in check["gates"]}
    assert precision == {"copy_of_source": 1.0, "wrong_language": 1.0, "meta_text": 0.5}
    code, out, _ = monoglot("quality", "--labelled", tmp_path / "marked.csv", *where)
    assert (code, "meta_text: 2 dropped, 50% of the marked ones bad" in out) == (0, True)
    assert "1 of 4" in out
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text,language,ok\nhaan,hi-Latn,perhaps\n", "row 2, column ok: 'perhaps' is no mark"),
        ("text,ok\nhaan,yes\n", "has no column language"),
    ],
)
def test_a_file_that_cannot_be_used_is_bad_input(tmp_path, monoglot, content, said):
    write_line(tmp_path)
    (tmp_path / "marked.csv").write_text(content)
    code, _, err = monoglot(
        "quality", "--labelled", tmp_path / "marked.csv", "-c", tmp_path / "monoglot.yaml"
    )
    assert (code, said in " ".join(err.split())) == (2, True)


def test_a_gate_is_named_in_yaml_by_its_rule(tmp_path):
    path = write_line(tmp_path, quality={"skipped": ["wrong_language"]})
    assert yaml.safe_load(path.read_text())["quality"] == {"skipped": ["wrong_language"]}
    config, _ = RunRequest(config_file=path).read()
    assert config.quality == QualityConfig(skipped=("wrong_language",))


def test_a_refresh_does_not_hide_the_last_retraining(checked):
    _, stages, store = checked
    assert stages_of(Runs(store).last_retrain()) == stages
