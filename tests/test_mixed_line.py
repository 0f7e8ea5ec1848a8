"""The whole line with renderings: planned as bought, held out together, measured and reported."""

import re

import polars as pl
import pytest
from llm_server import LLMServer
from tiny_line import configure, request_of, write_line

from flows.retrain import retrain
from monoglot.identity import normalised
from monoglot.planning import make_plan
from monoglot.standing import Inputs
from monoglot.store import Store
from tasks.versions import versions

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api", "no_endpoint")]

MIXING = {"renderings": 3, "shares": {"light": 1, "balanced": 1, "heavy": 1}}


@pytest.fixture
def endpoint(monkeypatch):
    with LLMServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def mixed_line(folder, **changes):
    language = {"code": "hi-Latn", "name": "Hinglish", "mixing": MIXING} | changes
    write_line(
        folder, languages=[language], evaluation={}, fine_tuning={"epochs": 1, "batch_size": 32}
    )


def planned(folder):
    config, settings = request_of(folder).read()
    inputs = Inputs.of(config, settings, versions())
    [request] = make_plan(inputs, config, settings, Store.if_any(config.store)).requests
    return request


def tables(folder, record):
    store = Store.existing(str(folder / "store"))
    stages = {stage.title: stage for stage in record.stages}
    return lambda title: store.table(stages[title].artifact), stages


def test_renderings_from_plan_to_report(tmp_path, endpoint):
    mixed_line(tmp_path)
    expected = planned(tmp_path)
    assert expected.purpose == "translate, 3 renderings"
    record = retrain(request_of(tmp_path))
    assert endpoint.rows.total() == expected.work.rows
    assert len(endpoint.requests) == expected.work.requests
    assert set(endpoint.rows.values()) == {3}
    assert planned(tmp_path).work.rows == 0

    table, stages = tables(tmp_path, record)
    renderings, split = table("translate hi-Latn"), table("split")
    translated = stages["translate hi-Latn"].artifact.facts
    assert renderings.height + translated["rejected"] == expected.work.rows
    assert renderings["query_id"].n_unique() == renderings.height

    # All that was rendered from a held-out row is asked, nothing of it is trained on.
    rendered = table("check hi-Latn")
    held_out = set(split.filter(pl.col("part") == "held_out")["row_id"])
    questions, anchors = table("evaluation set"), table("training set")
    assert held_out
    assert set(questions["query_id"]) == set(
        rendered.filter(pl.col("source_row_id").is_in(list(held_out)))["query_id"]
    )
    assert questions.group_by("source_row_id").len()["len"].max() == 3
    assert not held_out & set(anchors["source_row_id"])
    assert anchors.group_by("source_row_id").len()["len"].max() == 3
    for column in ("text", "english"):
        asked = {normalised(text) for text in questions[column]}
        assert not asked & {normalised(text) for text in anchors[column]}
    outcomes = Store.existing(str(tmp_path / "store")).table(record.systems["tuned"])
    assert outcomes["group"].n_unique() == len(held_out)

    mixture = translated["mixing"]
    assert mixture["renderings"] == renderings.height
    assert 15 < mixture["mean_cmi"] < 45
    assert sum(mixture["asked"].values()) == pytest.approx(1, abs=0.001)
    assert sum(mixture["measured"].values()) == pytest.approx(1, abs=0.001)
    assert "mean Code-Mixing Index" in stages["translate hi-Latn"].line()
    report = (tmp_path / "store" / record.report).read_text(encoding="utf-8")
    row = re.search(r"<h3>Code-mixing</h3>.*?<tr><td>hi-Latn</td>(.*?)</tr>", report, re.DOTALL)[1]
    assert f"{mixture['mean_cmi']:.1f}" in row
    assert f"({mixture['asked']['heavy']:.0%})" in row


def test_a_translator_that_does_not_mix_is_warned_of_in_the_run_and_its_repeat(
    tmp_path, endpoint, monkeypatch
):
    import llm_server

    def monolingual(text, language, mix, keep=()):
        words = (llm_server._matrix_word(word, language) for word in text.split())
        return " ".join(words) + f" {mix[2]}na"

    monkeypatch.setattr(llm_server, "rendering_of", monolingual)
    mixed_line(tmp_path)
    for _ in range(2):
        record = retrain(request_of(tmp_path))
        report = (tmp_path / "store" / record.report).read_text(encoding="utf-8")
        assert "renderings are not mixed at all" in report
        configure(tmp_path, gate={"min_gain": 0.001})  # a second run, whose translations are reused
    stages = {stage.title: stage for stage in record.stages}
    assert stages["translate hi-Latn"].outcome == "reused"
