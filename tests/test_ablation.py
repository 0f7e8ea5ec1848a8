"""An ablation end to end: what it measures, shares, resumes and leaves alone."""

import json
import shutil

import polars as pl
import pytest
import yaml
from prefect.client.orchestration import get_client
from tiny_line import write_line

from flows.ablation import ablate
from flows.retrain import retrain
from monoglot.config_file import load_config
from monoglot.errors import ConfigError, DataError, StoreBusyError
from monoglot.forgetting import find, forget
from monoglot.knowledge.validation import is_validation
from monoglot.learning import training
from monoglot.matching import Pattern
from monoglot.store import Store
from tasks import artifacts as shown
from tasks.request import AblationRequest, RunRequest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api", "no_endpoint")]

GRID = {
    "reference": "random",
    "seeds": [0, 1],
    "base": {"fine_tuning": {"objective": "explicit", "epochs": 3}},
    "axes": {
        "strategy": {
            "random": {"sampling": {"strategy": "random"}},
            "algorithm1": {"sampling": {"strategy": "algorithm1"}},
        }
    },
    "cells": {"absent": {"base_model": "./no-such-model"}},
}


def request_of(folder, grid=GRID, **more):
    (folder / "grid.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
    return AblationRequest(
        config_file=folder / "monoglot.yaml", grid=str(folder / "grid.yaml"), **more
    )


def workshop_of(folder):
    return Store.existing(str(folder / "store/workshop"))


def artifacts(folder, stage):
    return sorted((folder / "store/workshop/artifacts" / stage).glob("*/record.json"))


@pytest.fixture(scope="module")
def measured(tmp_path_factory, prefect_api):
    """A line that was never run, and its ablation."""
    folder = tmp_path_factory.mktemp("ablation")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MONOGLOT_LLM_BASE_URL", raising=False)
        write_line(folder, fine_tuning={"epochs": 6, "batch_size": 32, "learning_rate": 0.02})
        report = ablate(request_of(folder))
    return folder, report


@pytest.fixture
def again(measured, tmp_path):
    """A copy of it, to change."""
    return shutil.copytree(measured[0], tmp_path / "again"), measured[1]


def lines_of(report):
    return {line.cell: line for line in report.lines}


def test_every_system_is_compared_with_the_reference(measured):
    _, report = measured
    lines = lines_of(report)
    assert list(lines) == ["untuned", "TF-IDF", "random", "algorithm1", "absent"]
    assert lines["random"].gain is None
    assert lines["algorithm1"].gain.low <= lines["algorithm1"].gain.mean
    assert lines["random"].seeds == lines["algorithm1"].seeds == (0, 1)
    assert lines["random"].cost.steps > 0
    assert lines["untuned"].cost is None
    assert lines["untuned"].spread["mrr"][0] == lines["untuned"].spread["mrr"][1]
    assert {line.cell for line in report.held_back} >= {"untuned", "random"}
    assert set(report.index_set) == {"untuned", "random", "algorithm1"}


def test_a_cell_that_cannot_learn_is_told_and_the_others_go_on(measured):
    line = lines_of(measured[1])["absent"]
    assert (line.seeds, line.missing) == ((), (0, 1))
    assert "no-such-model" in line.failed[0]


def test_validation_and_held_back_share_no_english_source(measured):
    folder, _ = measured
    questions = pl.read_csv(folder / "queries.csv")
    chosen = is_validation(questions, 0)
    sources = [
        set(questions.filter(side)["english"].str.to_lowercase()) for side in (chosen, ~chosen)
    ]
    assert not sources[0] & sources[1]
    store = workshop_of(folder)
    cell = artifacts(folder, "cell")[0].parent
    asked = pl.read_parquet(cell / "table.parquet").filter(~pl.col("control"))
    assert asked.height == int(chosen.sum())
    held_back = pl.read_parquet(cell / "held_back.parquet").filter(~pl.col("control"))
    assert asked.height + held_back.height == questions.height
    assert store.root.name == "workshop"


def test_no_weights_are_left_and_nothing_is_in_production(measured):
    folder, report = measured
    assert not list((folder / "store/workshop").rglob("*.safetensors"))
    assert not (folder / "store/releases").exists()
    path = folder / "store/workshop" / report.path
    page = path.read_text(encoding="utf-8")
    assert "absent" in page
    assert report.verdict in page.replace("&#39;", "'")
    record = json.loads(
        (folder / "store/workshop" / report.path).with_name("record.json").read_text()
    )
    assert record["verdict"] == report.verdict
    assert record["missing"] == {"absent": [0, 1]}


def test_the_curve_ends_where_the_training_does(measured):
    _, report = measured
    steps = report.curves["random"]["step"].to_list()
    assert steps == sorted(steps)
    assert steps[-1] == lines_of(report)["random"].cost.steps


def test_a_second_ablation_trains_nothing_and_a_renamed_cell_is_found(again, monkeypatch):
    folder, before = again
    monkeypatch.setattr(training._Run, "step", None)
    renamed = {
        **GRID,
        "axes": {
            "strategy": {
                "chance": {"sampling": {"strategy": "random"}},
                "paper": {"sampling": {"strategy": "algorithm1"}},
            }
        },
        "reference": "chance",
        "cells": {},
    }
    report = ablate(request_of(folder, renamed))
    old, new = lines_of(before), lines_of(report)
    assert new["paper"].values == old["algorithm1"].values
    assert new["paper"].cost == old["algorithm1"].cost


def test_a_killed_cell_goes_on_at_its_checkpoint_and_only_it_is_trained(again, monkeypatch):
    folder, before = again
    gone = next(path.parent for path in artifacts(folder, "cell") if "seconds" in path.read_text())
    facts = json.loads((gone / "record.json").read_text())["artifact"]["facts"]
    shutil.rmtree(gone)
    monkeypatch.setattr(training, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    step = training._Run.step

    def killed(self, number):
        if number == 4:
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(training._Run, "step", killed)
    grid = {**GRID, "cells": {}}
    with pytest.raises(KeyboardInterrupt):
        ablate(request_of(folder, grid))
    monkeypatch.setattr(training._Run, "step", step)
    report = ablate(request_of(folder, grid))
    resumed = json.loads((gone / "record.json").read_text())["artifact"]["facts"]
    assert resumed["resumed_at"] == 4
    assert resumed["seconds"] is None
    assert resumed["steps"] == facts["steps"]
    for name in ("random", "algorithm1"):
        assert lines_of(report)[name].values == lines_of(before)[name].values


def test_each_store_has_a_history_and_a_server_that_takes_none_fails_nothing(again, monkeypatch):
    folder, before = again
    ablate(request_of(folder))
    key = shown.artifact_key(workshop_of(folder), "ablation")
    with get_client(sync_client=True) as client:
        asked = {"artifacts": {"key": {"any_": [key]}}}
        [page] = client.request("POST", "/artifacts/filter", json=asked).json()
    assert "algorithm1" in page["data"]

    def refuse(*_, **__):
        raise RuntimeError("the server has no room")

    monkeypatch.setattr(shown, "create_markdown_artifact", refuse)
    assert lines_of(ablate(request_of(folder))).keys() == lines_of(before).keys()


def test_time_that_is_up_leaves_whole_seeds_and_says_what_is_missing(again):
    folder, _ = again
    more = {**GRID, "seeds": [0, 1, 2], "cells": {}}
    report = ablate(request_of(folder, more, seconds=1e-9))
    assert set(report.missing) == {"random", "algorithm1"}
    assert "Nothing can be compared yet" in report.verdict


def test_a_run_is_neither_blocked_nor_disturbed_while_cells_learn(tmp_path, monkeypatch):
    folder = tmp_path / "line"
    write_line(folder, fine_tuning={"epochs": 2, "batch_size": 32, "learning_rate": 0.02})
    ran = []
    step = training._Run.step

    def meanwhile(self, number):
        if not ran:
            ran.append(None)
            ran.append(retrain(RunRequest(config_file=folder / "monoglot.yaml")).release)
        return step(self, number)

    monkeypatch.setattr(training._Run, "step", meanwhile)
    report = ablate(request_of(folder, {**GRID, "seeds": [0], "cells": {}}))
    assert ran[1]
    assert not report.missing
    with Store.open(str(folder / "store")).writer(), pytest.raises(StoreBusyError):
        ablate(request_of(folder))


def test_forgetting_reaches_the_workshop(again):
    folder, _ = again
    config = load_config(folder / "monoglot.yaml")
    store = Store.open(config.store)
    pattern = Pattern(pl.read_csv(folder / "queries.csv")["text"][0], literal=True)
    found = find(config, store, pattern)
    assert any(path.is_relative_to(store.workshop) for path in found.files)
    with store.writer():
        forget(store, found, pattern)
    assert not find(config, store, pattern).is_in_store
    assert not lines_of(ablate(request_of(folder, {**GRID, "seeds": [0]})))["random"].missing


def test_too_few_questions_to_halve_are_refused(tmp_path):
    write_line(tmp_path)
    pl.read_csv(tmp_path / "queries.csv").head(1).write_csv(tmp_path / "queries.csv")
    with pytest.raises(DataError, match="cannot be halved"):
        ablate(request_of(tmp_path, {**GRID, "cells": {}}))


def test_a_split_that_would_change_the_questions_is_refused(tmp_path):
    write_line(tmp_path, evaluation={})
    grid = {"cells": {"more": {"split": {"index_share": 0.5}}}}
    with pytest.raises(ConfigError, match=r"cell 'more': split: can differ"):
        ablate(request_of(tmp_path, grid))
