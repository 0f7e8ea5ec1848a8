"""Runs whose LLM answers by batch: they end waiting, and a later run goes on from there."""

import json
import sys
import time

import polars as pl
import pytest
from llm_batches import BatchFault, BatchServer, HttpFault
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.sorting import FlowRunSort
from tiny_line import configure, edit_kb, store_of, write_line

from flows import cli
from flows.refresh_index import refresh_index
from flows.retrain import retrain
from monoglot import Retriever
from monoglot.errors import EndpointError
from monoglot.outstanding import Outstanding
from monoglot.runs import RunRecord, Runs
from monoglot.serving.releases import Releases
from tasks.request import RunRequest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api", "no_endpoint")]


@pytest.fixture
def endpoint(monkeypatch):
    with BatchServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def monoglot(monkeypatch, capsys):
    """Runs the command in this process: exit code, stdout, stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["monoglot", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            sys.exit(cli.main())
        return ended.value.code or 0, *capsys.readouterr()

    return run


def by_batch(folder, *codes, **settings):
    """A small line whose languages are translated by batch; its config file."""
    languages = [{"code": code, "name": code} for code in codes]
    spending, tuning = {"batch": True}, {"epochs": 1}
    return write_line(
        folder, languages=languages, spending=spending, fine_tuning=tuning, **settings
    )


def run(folder):
    return retrain(RunRequest(config_file=folder / "monoglot.yaml"))


def states_of_last_run(*titles):
    """The states of the last flow run and of some of its task runs, by name: `type name`."""
    with get_client(sync_client=True) as client:
        [flow_run] = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
        only = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
        until = time.monotonic() + 60
        shown = {}
        while set(titles) - shown.keys() and time.monotonic() < until:  # recorded later
            runs = client.read_task_runs(flow_run_filter=only)
            shown = {run.name: run.state for run in runs if run.state and run.state.is_final()}
    states = {"flow": flow_run.state} | {title: shown[title] for title in titles}
    return {title: f"{state.type.value} {state.name}" for title, state in states.items()}


def test_a_run_submits_the_next_waits_and_the_third_promotes(tmp_path, endpoint, monoglot):
    config = ("-c", by_batch(tmp_path, "hi-Latn", "es", generation={"synthetic_per_label": 5}))
    code, out, err = monoglot("run", *config)
    assert code == 0, err
    assert out.startswith("4 batches with ")
    assert out.endswith(" UTC; run again to take in the answers.\n")
    assert len(endpoint.batches) == 4  # two languages, each translated and synthesised
    assert endpoint.requests == []
    store = store_of(tmp_path)
    assert (Runs(store).last(), Releases(store).current()) == (None, None)
    with store.writer():
        pass

    requests = sum(len(endpoint.lines_of(name)) for name in endpoint.batches)
    code, out, _ = monoglot("run", *config, "--json")
    told = json.loads(out)
    assert (code, told["nothing_to_do"]) == (0, None)
    assert (told["waiting"]["batches"], told["waiting"]["requests"]) == (4, requests)
    planned = json.loads(monoglot("plan", *config, "--json")[1])
    assert planned["batches"] == told["waiting"]
    assert {it["work"]["rows"] for it in planned["requests"]} == {0}
    assert sum(it["work"]["out"] for it in planned["requests"]) == told["waiting"]["rows"]
    assert "the next run takes in the answers." in monoglot("plan", *config)[1]
    listed = json.loads(monoglot("batches", *config, "--json")[1])["batches"]
    assert {batch["id"] for batch in listed} == set(endpoint.batches)
    assert len(endpoint.batches) == 4

    endpoint.finish()
    code, out, err = monoglot("run", *config)
    assert code == 0, err
    assert "rows came back; none is out" in err
    record = Runs(store).last()
    assert Releases(store).current().id == record.release
    assert f"release {record.release}" in out
    assert len(endpoint.batches) == 4
    translated = [row for it in endpoint.requests for row in it.rows if "text" in row]
    training = store.table(next(it.artifact for it in record.stages if it.title == "split"))
    training = training.filter(pl.col("part").cast(pl.String) == "training")["query"]
    assert sorted(row["text"] for row in translated) == sorted([*training, *training])
    assert len(endpoint.requests) == requests
    facts = [stage.artifact.facts for stage in record.stages]
    assert sum(it["usage"]["requests"] for it in facts if it.get("usage")) == requests
    page = (store.root / record.report).read_text(encoding="utf-8")
    assert f"This run bought {requests} replies for unknown" in page
    assert "nothing to do" in monoglot("run", *config)[2]
    assert "No batch is out." in monoglot("batches", *config)[1]


def test_what_waits_has_not_failed(tmp_path, endpoint):
    by_batch(tmp_path, "hi-Latn")
    out = run(tmp_path)
    assert isinstance(out, Outstanding)
    assert states_of_last_run("split", "translate hi-Latn") == {
        "flow": "COMPLETED Waiting",
        "split": "COMPLETED Completed",
        "translate hi-Latn": "COMPLETED Waiting",
    }
    assert run(tmp_path) == out
    endpoint.finish()
    assert isinstance(run(tmp_path), RunRecord)
    assert states_of_last_run("take in batches", "split", "translate hi-Latn") == {
        "flow": "COMPLETED Completed",
        "take in batches": "COMPLETED Completed",
        "split": "COMPLETED Cached",
        "translate hi-Latn": "COMPLETED Completed",
    }


def test_a_release_answers_and_is_refreshed_while_a_batch_is_out(line, endpoint):
    before = Releases(store_of(line)).current()
    languages = [{"code": "hi-Latn", "name": "Hinglish"}]
    spending, tuning = {"batch": True}, {"epochs": 1}
    configure(line, languages=languages, spending=spending, fine_tuning=tuning)
    out = run(line)
    assert out.batches == 1
    assert Releases(store_of(line)).current() == before
    edit_kb(line, lambda frame: frame.with_columns(answer=pl.lit("Ask again tomorrow.")))
    refresh_index(RunRequest(config_file=line / "monoglot.yaml"))
    assert Retriever(line / "store").search("cancel my order", k=1)[0].answer.startswith("Ask")
    again = run(line)
    assert (again.rows, len(endpoint.batches)) == (out.rows, 1)
    endpoint.finish()
    assert isinstance(run(line), RunRecord)
    assert set(endpoint.rows.values()) == {1}


def test_an_edit_that_is_taken_back_leaves_its_batch_to_the_next_run(tmp_path, endpoint):
    by_batch(tmp_path, "hi-Latn")
    run(tmp_path)
    endpoint.finish()
    record = run(tmp_path)
    original = (tmp_path / "kb.csv").read_bytes()
    extra = pl.DataFrame({"query": [f"is my parcel number {n} lost for good" for n in range(20)]})
    label = pl.read_csv(tmp_path / "kb.csv")["label"][0]
    added = extra.with_columns(label=pl.lit(label))
    edit_kb(tmp_path, lambda frame: pl.concat([frame, added], how="diagonal"))
    out = run(tmp_path)
    assert 0 < out.rows < 20
    edited = (tmp_path / "kb.csv").read_bytes()

    (tmp_path / "kb.csv").write_bytes(original)
    assert run(tmp_path) == record  # nothing to do, and a batch under way hinders nobody
    endpoint.finish()
    assert run(tmp_path) == record
    (tmp_path / "kb.csv").write_bytes(edited)
    assert isinstance(run(tmp_path), RunRecord)
    assert (len(endpoint.batches), set(endpoint.rows.values())) == (2, {1})


def test_the_command_takes_in_although_there_is_nothing_else_to_do(tmp_path, endpoint, monoglot):
    config = ("-c", by_batch(tmp_path, "hi-Latn"))
    run(tmp_path)
    endpoint.finish()
    run(tmp_path)
    original = (tmp_path / "kb.csv").read_bytes()
    edit_kb(
        tmp_path, lambda frame: frame.with_columns(query=pl.col("query") + pl.lit(" right now"))
    )
    out = run(tmp_path)
    (tmp_path / "kb.csv").write_bytes(original)
    assert f"1 batch with {out.requests} requests is out since" in monoglot("plan", *config)[1]
    endpoint.finish()
    code, _, err = monoglot("run", *config)
    assert code == 0
    assert f"batches: {out.rows} rows came back; none is out" in err
    assert "nothing to do" in err


def test_cancelled_batches_are_bought_one_by_one_when_batch_is_off(tmp_path, endpoint, monoglot):
    config = ("-c", by_batch(tmp_path, "hi-Latn"))
    out = run(tmp_path)
    configure(tmp_path, spending={"batch": False})
    assert run(tmp_path) == out
    assert endpoint.requests == []
    code, said, _ = monoglot("batches", *config, "--cancel")
    assert (code, "Asked to stop: 1." in said) == (0, True)
    assert run(tmp_path) == out  # the endpoint takes its time
    endpoint.line_faults = lambda _: BatchFault("expired")
    endpoint.finish("cancelled")
    assert isinstance(run(tmp_path), RunRecord)
    assert (len(endpoint.batches), set(endpoint.rows.values())) == (1, {1})


def test_a_language_that_cannot_be_submitted_fails_the_run_and_the_rest_stays_out(
    tmp_path, endpoint
):
    by_batch(tmp_path, "hi-Latn", "es")
    endpoint.http["POST /batches"] += [HttpFault(arrives=1.0), HttpFault(status=403)]
    with pytest.raises(EndpointError, match="MONOGLOT_LLM_API_KEY"):
        run(tmp_path)
    out = run(tmp_path)
    assert (out.batches, len(endpoint.batches)) == (2, 2)
    endpoint.finish()
    assert isinstance(run(tmp_path), RunRecord)
    assert set(endpoint.rows.values()) == {2}  # in two languages
