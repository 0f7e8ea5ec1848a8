"""Tuning: candidates, halving, a test on questions nothing was chosen by, and the file."""

import json
import sys
from types import SimpleNamespace

import polars as pl
import pytest
import tiny_line
from test_comparison import cell as measured_cell
from test_comparison import outcomes
from tiny_models import static_model

from flows import cli
from flows.tuning import tune
from monoglot.config import Config
from monoglot.config_file import load_config
from monoglot.errors import RunError
from monoglot.learning import training
from monoglot.learning.comparison import compare
from monoglot.learning.search import (
    Tried,
    candidates,
    differences,
    how_many,
    shortened,
    survivors,
)
from monoglot.store import Store
from monoglot.tuning import TUNED, TuningReport
from tasks.models import base_model
from tasks.request import TuningRequest
from tasks.tuning import peak_rate

CONFIG = Config(knowledge_base={"path": "/kb.csv"}, store="/store")


def test_more_time_tries_further_candidates_after_the_same_first():
    few, many = (candidates(CONFIG, 2e-4, count, seed=3) for count in (5, 20))
    assert many[:5] == few
    assert candidates(CONFIG, 2e-4, 5, seed=4) != few
    assert [how_many(seconds, 60.0) for seconds in (1, 600, 1e9)] == [3, 30, 81]


def test_candidates_lie_in_the_space_and_are_configs():
    made = candidates(CONFIG, 2e-4, 64, seed=0)
    for changes in made:
        raw = CONFIG.model_dump()
        for section, settings in changes.items():
            raw[section] |= settings
        tuned = Config.model_validate(raw).fine_tuning
        assert 5e-5 <= tuned.learning_rate <= 8e-4
        assert 0.02 <= tuned.temperature <= 0.1
        assert tuned.epochs in {4, 7, 14}  # half of seven is rounded to even
    assert {it["fine_tuning"]["batch_size"] for it in made} == {32, 64, 128, 256}
    assert len({it["fine_tuning"]["objective"] for it in made}) > 2


@pytest.mark.parametrize(("lora_rank", "times"), [(0, 1), (8, 10)])
def test_the_search_goes_about_the_rate_that_the_recipe_trains_at(tmp_path, lora_rank, times):
    base = base_model(str(static_model(tmp_path / "base", ["a text"], dimensions=384)))
    recipe = CONFIG.fine_tuning.model_copy(update={"lora_rank": lora_rank})
    config = CONFIG.model_copy(update={"fine_tuning": recipe})
    store = Store.open(str(tmp_path / "store"))
    assert peak_rate(store, config, base) == pytest.approx(times * 2e-4)
    given = recipe.model_copy(update={"learning_rate": 3e-5})
    assert peak_rate(store, config.model_copy(update={"fine_tuning": given}), base) == 3e-5


def test_settings_that_contradict_one_another_are_not_tried():
    none = CONFIG.model_copy(
        update={
            "sampling": CONFIG.sampling.model_copy(
                update={"random_negatives": 0, "hard_negatives": 0}
            )
        }
    )
    tried = {it["fine_tuning"]["objective"] for it in candidates(none, 2e-4, 64, seed=0)}
    assert "explicit" not in tried
    assert "in_batch" in tried


def test_the_best_third_goes_on_in_its_own_length():
    scores = [0.5, None, 0.7, 0.6, 0.7, 0.1]
    rung = [
        Tried(0, {"fine_tuning": {"epochs": number}}, score) for number, score in enumerate(scores)
    ]
    assert [it["fine_tuning"]["epochs"] for it in survivors(rung)] == [2, 4]
    assert survivors([Tried(0, {}, None)]) == []
    assert shortened({"fine_tuning": {"epochs": 20}}, 1 / 9)["fine_tuning"]["epochs"] == 2
    assert shortened({"fine_tuning": {"epochs": 3}}, 1 / 9)["fine_tuning"]["epochs"] == 1


def test_what_a_candidate_leaves_as_it_is_is_no_change():
    changes = {
        "fine_tuning": {"epochs": CONFIG.fine_tuning.epochs, "batch_size": 7},
        "sampling": {"strategy": CONFIG.sampling.strategy},
    }
    assert differences(CONFIG, changes) == {"fine_tuning": {"batch_size": 7}}


@pytest.fixture
def untrained(tmp_path, monkeypatch, prefect_api, no_endpoint):
    """A line whose present recipe learns next to nothing, so that any other is better."""
    monkeypatch.setattr(tiny_line, "LABELS", 18)  # questions enough for an interval above 0
    return tiny_line.write_line(
        tmp_path,
        fine_tuning={"epochs": 36, "batch_size": 256, "learning_rate": 1e-9},
        merging={"base_weight": 0.0},
    )


def only(monkeypatch, *rates):
    """Candidates of these learning rates alone."""
    made = [
        {"fine_tuning": {"learning_rate": rate, "batch_size": 32, "objective": "in_batch"}}
        | {"sampling": {"strategy": "random"}}
        for rate in rates
    ]
    for changes in made:
        changes["fine_tuning"]["epochs"] = 36
    monkeypatch.setattr("flows.tuning.candidates", lambda *_: made)


@pytest.mark.slow
def test_a_better_recipe_is_written_and_found_again(untrained, monkeypatch, capsys):
    only(monkeypatch, 1e-9, 0.02, 1e-8)
    text = untrained.read_text() + "# the end\n"
    untrained.write_text(text)

    def tuned(*more):
        monkeypatch.setattr(
            sys, "argv", ["monoglot", "tune", "-c", str(untrained), "--json", *more]
        )
        with pytest.raises(SystemExit) as ended:
            sys.exit(cli.main())
        assert not ended.value.code
        return json.loads(capsys.readouterr().out)

    dry = tuned("--dry-run")
    assert dry["adopted"], dry["reason"]
    assert dry["backup"] is None
    assert untrained.read_text() == text
    assert [it["rung"] for it in dry["tried"]] == [0, 0, 0, 1, 2]

    monkeypatch.setattr(training._Run, "step", None)  # all that is needed is found
    told = tuned()
    assert told["changes"] == dry["changes"]
    config = load_config(untrained)
    assert config.fine_tuning.learning_rate == 0.02
    assert config.sampling.strategy == "random"
    assert "# monoglot tune: mrr 0." in untrained.read_text()
    assert "# the end\n" in untrained.read_text()
    assert not (Store.open(config.store).root / "releases").exists()


@pytest.mark.slow
def test_a_recipe_that_is_no_better_is_refused(untrained, monkeypatch):
    only(monkeypatch, 1e-8, 2e-8, 3e-8)
    report = tune(TuningRequest(config_file=untrained, seconds=30))
    assert not report.adopted
    assert report.reason.startswith("Nothing is adopted")


@pytest.mark.slow
def test_where_no_candidate_can_be_trained_nothing_is_adopted(untrained, monkeypatch):
    def failing(self, number):
        if self.config.batch_size == 32:
            raise RunError("the loss is nan")
        return step(self, number)

    step = training._Run.step
    monkeypatch.setattr(training._Run, "step", failing)
    only(monkeypatch, 0.01, 0.02, 0.03)
    report = tune(TuningRequest(config_file=untrained, seconds=30))
    assert [it.score for it in report.tried] == [None] * 3
    assert not report.adopted


def judged(sources, english, *, max_english_loss=0.01):
    """A tuning whose recipe finds every question first, which the present one finds second."""

    def asked(rank, control):
        return outcomes([rank] * sources).with_columns(control=pl.lit(control))

    def cell(native, english):
        return measured_cell(*[pl.concat([asked(native, False), asked(english, True)])] * 3)

    cells = {"present recipe": cell(2, 1), TUNED: cell(1, english)}
    lines = compare(cells, "present recipe", (0, 1, 2), "mrr")
    ablation = SimpleNamespace(held_back=lines, reference="present recipe", metric="mrr")
    return TuningReport(ablation, (), {}, max_english_loss)


def test_a_recipe_is_adopted_for_what_is_certain_and_keeps_english():
    assert judged(40, english=1).adopted
    few = judged(5, english=1)
    assert not few.adopted
    assert "not surely above 0" in few.reason
    forgets = judged(40, english=3)
    assert not forgets.adopted
    assert "loses 0.667 of their English wordings, and the gate allows 0.010" in forgets.reason
    assert judged(40, english=3, max_english_loss=0.7).adopted
