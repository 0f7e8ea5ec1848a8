"""A candidate that awaits approval is seen wherever one looks, and its figures are called its."""

import html
import json

import pytest
from tiny_line import configure, edit_kb, store_of, write_line
from typer.testing import CliRunner

from flows.cli import app
from flows.show import _told_apart
from monoglot.runs import Runs
from monoglot.serving.approval import Approval
from monoglot.serving.releases import Releases

pytestmark = pytest.mark.usefixtures("no_endpoint")

# Any other model passes, and waits.
EASY = {"approval": True, "certain": False, "min_gain": -1.0, "max_english_loss": 1.0}


def told(folder, *arguments):
    """What a command says, on one line."""
    ran = CliRunner().invoke(app, [*arguments, "-c", str(folder / "monoglot.yaml")])
    assert ran.exit_code == 0, ran.output
    return " ".join(ran.output.split())


def held(folder, *, compared_with=""):
    """Have a candidate wait, compared with the model in production or another one; its id."""
    now = Releases(store_of(folder)).current()
    candidate = now.model_copy(update={"id": "20261127T120000.000-cafe"})
    Approval(store_of(folder)).keep(candidate, compared_with=compared_with or now.model_digest)
    return candidate.id


def test_plan_and_doctor_tell_how_to_approve_what_waits(line):
    assert told(line, "plan").endswith("Nothing to do.")
    assert json.loads(told(line, "plan", "--json"))["candidate"] is None
    assert "ok candidate: none awaits approval" in told(line, "doctor")
    candidate = held(line)
    said = f"candidate {candidate} awaits approval: `monoglot promote {candidate}`"
    assert told(line, "plan").endswith(f"{said} Nothing else to do.")
    shown = json.loads(told(line, "plan", "--json"))["candidate"]
    assert shown == {"id": candidate, "overtaken": None}
    assert f"warning candidate: {said}" in told(line, "doctor")


def test_plan_and_doctor_tell_why_what_waits_can_be_approved_no_more(line):
    candidate = held(line, compared_with="f" * 64)
    why = f"candidate {candidate} was compared with another model"
    assert why in told(line, "plan")
    assert json.loads(told(line, "plan", "--json"))["candidate"]["overtaken"].startswith(why)
    assert f"warning candidate: {why}" in told(line, "doctor")


def test_a_candidate_that_cannot_be_read_is_a_problem(line):
    (store_of(line).releases / "candidate.json").write_text("{")
    ran = CliRunner().invoke(app, ["doctor", "-c", str(line / "monoglot.yaml"), "--json"])
    states = {it["what"]: it["state"] for it in json.loads(ran.stdout)}
    assert (ran.exit_code, states["candidate"]) == (1, "problem")


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_api")
def test_a_first_run_that_awaits_approval_says_whose_figures_are_whose(tmp_path):
    """The untuned model answers meanwhile: neither its release nor its thresholds are the tuned."""
    write_line(tmp_path, gate=EASY)
    said = told(tmp_path, "run")
    assert "gate: passed. MRR over" in said
    assert "gate: promoted" not in said
    record = Runs(store_of(tmp_path)).last()
    page = html.unescape((store_of(tmp_path).root / record.report).read_text(encoding="utf-8"))
    assert '<li dir="auto">The candidate: Abstention, hi-Latn: ' in page
    assert '<li dir="auto">The model in production: Abstention, hi-Latn: ' in page
    assert ">Abstention, " not in page

    listed = told(tmp_path, "releases")
    assert listed.count("candidate not promoted: MRR over") == 1
    [untuned] = json.loads(told(tmp_path, "releases", "--json"))["releases"]
    assert (untuned["candidate_not_promoted"], untuned["model"]) == (True, None)
    told(tmp_path, "promote")
    after = json.loads(told(tmp_path, "releases", "--json"))
    unpromoted = {it["id"]: it["candidate_not_promoted"] for it in after["releases"]}
    assert unpromoted == {untuned["id"]: True, after["current"]: False}


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_api")
def test_a_rejected_candidates_figures_are_not_those_of_the_old_model_over_new_rows(line):
    before = Releases(store_of(line)).current()
    configure(line, gate={"min_gain": 0.9}, fine_tuning={"epochs": 1})
    edit_kb(line, lambda rows: rows.head(rows.height - 1))
    assert "gate: rejected. " in told(line, "run")
    now = Releases(store_of(line)).current()
    assert (now.model_digest, now.rows) == (before.model_digest, before.rows - 1)
    listed = json.loads(told(line, "releases", "--json"))["releases"]
    unpromoted = {it["id"]: it["candidate_not_promoted"] for it in listed}
    assert unpromoted == {now.id: True, before.id: False}


def test_figures_are_told_with_as_many_digits_as_differ():
    assert _told_apart(0.35, 0.39) == ("0.35", "0.39")
    assert _told_apart(0.3896, 0.3901) == ("0.3896", "0.3901")
