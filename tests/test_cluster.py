"""The fan-out stages on a Dask cluster: a real scheduler and real worker processes on loopback."""

import os
import pickle
import threading
import time

import numpy as np
import polars as pl
import pytest
from llm_server import Fault, LLMServer
from parcels import CONFIG, HINGLISH, kb
from prefect.client.orchestration import get_client
from pydantic import SecretStr
from test_remining_stages import made
from tiny_line import SAMPLE, configure, request_of, write_line
from tiny_models import static_model

from benchmarks.dask_cluster import DaskCluster
from benchmarks.loopback_llm import LoopbackLLM
from flows.retrain import retrain
from monoglot.errors import BudgetError, ConfigError, EndpointError
from monoglot.generation import senders
from monoglot.generation.ledger import Ledger
from monoglot.generation.spending import Budget
from monoglot.generation.translation import translate
from monoglot.generation_config import SpendingConfig
from monoglot.learning import mined, mining
from monoglot.learning.distributions import Pool
from monoglot.settings import Settings
from monoglot.store import Store
from tasks import cluster as stages
from tasks import parts
from tasks.cluster import require_cluster, search_of
from tasks.index import build_index, vectors_of
from tasks.models import base_model
from tasks.versions import versions
from tasks.workplace import Job, Workplace

# A worker loads its libraries once, which takes a minute where all cores are busy.
pytestmark = [pytest.mark.usefixtures("no_endpoint"), pytest.mark.timeout(900)]

EACH = 3  # requests in flight on a worker
KEY = "of-the-workers"


@pytest.fixture(scope="module")
def environment():
    own = {k: v for k, v in os.environ.items() if not k.startswith("MONOGLOT_")}
    return own | {"MONOGLOT_LLM_API_KEY": KEY}


@pytest.fixture(scope="module")
def cluster(environment):
    with DaskCluster(2, environment) as running:
        yield running


@pytest.fixture
def dying(environment):
    """A cluster of its own, to kill workers of."""
    with DaskCluster(2, environment) as running:
        yield running


def bought(rows, settings, ledger, **more):
    changed = settings.model_copy(update={"llm_concurrency": EACH})
    return translate(
        rows, HINGLISH, CONFIG, kb_language="en", settings=changed, ledger=ledger, **more
    )


def test_two_workers_buy_what_one_machine_buys(cluster, ledger, tmp_path):
    with LoopbackLLM(0.2) as llm:
        with Ledger(tmp_path / "here.sqlite") as other:
            here = bought(kb(200), llm.settings(), other)
        assert llm.counts()["most_at_once"] == EACH
        far = bought(kb(200), llm.settings(cluster=cluster.address), ledger)
        assert llm.counts()["most_at_once"] == 2 * EACH
        again = bought(kb(200), llm.settings(cluster="tcp://127.0.0.1:1"), ledger)
    assert far.rows.equals(here.rows)
    assert again.rows.equals(here.rows)  # all is in the ledger: no cluster is asked
    assert (far.usage, far.from_ledger) == (here.usage, 0)


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_costs_what_it_had_in_flight(dying, ledger):
    with LoopbackLLM(0.2) as llm:

        def kill() -> None:
            while llm.counts()["most_at_once"] < 2 * EACH:
                time.sleep(0.05)
            dying.kill_worker()

        killer = threading.Thread(target=kill)
        killer.start()
        done = bought(kb(600), llm.settings(cluster=dying.address), ledger)
        killer.join()
        counts = llm.counts()
    assert done.rows.height == 600
    assert 0 < done.usage.lost <= EACH
    assert done.usage.requests == 60  # those whose answers arrived
    assert 60 <= counts["requests"] <= 60 + EACH
    with LoopbackLLM() as llm:
        assert bought(kb(600), llm.settings(), ledger).rows.equals(done.rows)
        assert llm.counts()["requests"] == 0  # nothing is left to buy


def test_a_budget_holds_over_all_workers(cluster, ledger):
    budget = Budget(SpendingConfig(max_requests=7))
    with LoopbackLLM(0.05) as llm:
        with pytest.raises(BudgetError, match="max_requests = 7"):
            bought(kb(200), llm.settings(cluster=cluster.address), ledger, budget=budget)
        assert llm.counts()["requests"] == 7


def test_faults_are_retried_with_the_key_of_the_workers(cluster, ledger):
    faults = [Fault.status(429, retry_after="0.05"), Fault.dropped(), Fault.lose(1)]
    with LLMServer(faults=faults) as server:
        settings = server.settings(cluster=cluster.address, llm_api_key=SecretStr("of-the-run"))
        done = bought(kb(40), settings, ledger)
        assert {request.authorization for request in server.requests} == {f"Bearer {KEY}"}
    assert done.rows.height == 40
    assert b"of-the-run" not in pickle.dumps(senders._without_secrets(settings))


def test_a_refusal_of_the_endpoint_names_the_worker(cluster, ledger):
    with LLMServer(faults=[Fault.status(401)] * 9) as server:
        settings = server.settings(cluster=cluster.address)
        with pytest.raises(EndpointError, match=r"worker tcp://127.*MONOGLOT_LLM_API_KEY"):
            bought(kb(40), settings, ledger)


def test_a_cluster_that_is_not_there_is_refused(ledger, tmp_path, monkeypatch):
    monkeypatch.setattr(senders, "PATIENCE_S", 1.0)
    monkeypatch.setattr(stages, "PATIENCE_S", 1.0)
    settings = Settings(cluster="tcp://127.0.0.1:1", llm_base_url="http://127.0.0.1:1/v1")
    with pytest.raises(ConfigError, match=r"MONOGLOT_CLUSTER=tcp://127\.0\.0\.1:1: no Dask"):
        bought(kb(5), settings, ledger)
    with pytest.raises(ConfigError, match="no Dask scheduler"):
        require_cluster(Workplace(Store.open(str(tmp_path / "store")), settings))


def test_a_cluster_without_workers_is_waited_for_and_then_given_up(
    environment, ledger, monkeypatch
):
    monkeypatch.setattr(senders, "_WORKER_S", 1.0)
    with DaskCluster(0, environment) as empty:
        settings = Settings(cluster=empty.address, llm_base_url="http://127.0.0.1:1/v1")
        with pytest.raises(EndpointError, match="no worker for 1 s"):
            bought(kb(5), settings, ledger)


def test_workers_that_cannot_do_the_work_are_refused(cluster, tmp_path, monkeypatch):
    store = Store.open(str(tmp_path / "store"))
    place = Workplace(store, Settings(cluster=cluster.address))
    require_cluster(place)
    assert list((store.root / "tmp").iterdir()) == []
    assert parts.look_around(store.root / "none") == (False, versions())
    assert stages._problem((False, versions())).startswith("does not see the store")
    monkeypatch.setattr(stages, "versions", lambda: versions() | {"index": 99})
    with pytest.raises(ConfigError, match=r"(worker tcp://127\S+ has another version.*){2}"):
        require_cluster(place)


def indexed(store, base, rows, settings):
    """The index stage's vectors, worked out in a store."""
    knowledge_base = made(store, "knowledge_base", lambda job: job.write(rows))

    def fill(job):
        changed = Job(store, settings, job.key, job.draft, job.on_progress)
        build_index.__wrapped__(changed, knowledge_base, base)

    return vectors_of(store, made(store, "index", fill))


@pytest.fixture
def rows():
    kb_rows = pl.read_csv(SAMPLE / "kb.csv").unique("query", maintain_order=True)
    return kb_rows.with_row_index("row_id").select(
        pl.col("row_id").cast(pl.String),
        "query",
        "label",
        label_path=pl.lit(None, pl.String),
        label_text=pl.lit(None, pl.String),
        answer=pl.lit(None, pl.String),
    )


@pytest.mark.slow
def test_an_index_encoded_by_workers_has_the_same_vectors(
    cluster, prefect_api, tmp_path, rows, monkeypatch
):
    monkeypatch.setattr(stages, "PIECE", 50)
    base = base_model(str(static_model(tmp_path / "base", rows["query"].to_list())))
    here, far = (
        indexed(Store.open(str(tmp_path / name)), base, rows, settings)
        for name, settings in (("here", Settings()), ("far", Settings(cluster=cluster.address)))
    )
    assert far.row_ids.equals(here.row_ids)
    assert np.allclose(far.matrix, here.matrix, atol=1e-6)
    parts_made = list((tmp_path / "far/tmp").glob("resume-*/*.npy"))
    assert len(parts_made) == -(-rows.height // 50)


@pytest.mark.slow
def test_encoding_goes_on_where_a_killed_worker_was(
    dying, prefect_api, tmp_path, rows, monkeypatch
):
    monkeypatch.setattr(stages, "PIECE", 25)
    base = base_model(str(static_model(tmp_path / "base", rows["query"].to_list())))
    store = Store.open(str(tmp_path / "store"))

    def kill() -> None:
        while len(list((store.root / "tmp").glob("resume-*/*.npy"))) < 3:
            time.sleep(0.01)
        dying.kill_worker()

    killer = threading.Thread(target=kill)
    killer.start()
    far = indexed(store, base, rows, Settings(cluster=dying.address))
    killer.join()
    here = indexed(Store.open(str(tmp_path / "here")), base, rows, Settings())
    assert np.allclose(far.matrix, here.matrix, atol=1e-6)


@pytest.mark.parametrize("kind", ["by_score", "below", "above", "around"])
def test_workers_mine_what_one_machine_mines(cluster, prefect_api, tmp_path, kind, monkeypatch):
    monkeypatch.setattr(stages, "ANCHORS", 32)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((400, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pool = Pool.of(rng.integers(0, 6, 300), 6)
    labels, none = rng.integers(0, 6, 100), np.full(100, -1)
    border = rng.uniform(0.0, 0.5, 100)
    rank = {
        "by_score": mined.ByScore(),
        "below": mined.Below(border),
        "above": mined.Above(border.astype(np.float32)),
        "around": mined.Around(border, 0.3),
    }[kind]
    space = mining.Space(vectors[300:], vectors[:300], labels, none, pool)
    found = []

    def fill(job):
        changed = Job(
            job.store, Settings(cluster=cluster.address), job.key, job.draft, job.on_progress
        )
        found.append(search_of(changed)(space, 7, rank))

    made(Store.open(str(tmp_path / "store")), "mined", fill)
    wanted = mining.search_here(space, 7, rank)
    assert (found[0].rows == wanted.rows).all()
    assert np.allclose(found[0].scores, wanted.scores, atol=1e-5)


@pytest.mark.slow
def test_a_whole_run_on_a_cluster_gives_the_same_tables(
    cluster, prefect_api, tmp_path, monkeypatch
):
    """The translations bought, the index encoded and the negatives mined by two workers."""
    monkeypatch.setattr(stages, "PIECE", 10)
    monkeypatch.setattr(stages, "ANCHORS", 10)
    languages = [{"code": "hi-Latn", "name": "Hinglish"}]
    records = {}
    with LLMServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        for where, address in (("here", ""), ("far", cluster.address)):
            monkeypatch.setenv("MONOGLOT_CLUSTER", address)
            write_line(tmp_path / where)
            configure(
                tmp_path / where,
                languages=languages,
                sampling={"strategy": "positive_aware"},
                fine_tuning={"objective": "both", "epochs": 2, "batch_size": 32},
            )
            records[where] = retrain(request_of(tmp_path / where))
    here, far = (
        {stage.title: stage.artifact for stage in records[where].stages}
        for where in ("here", "far")
    )
    assert far.keys() == here.keys()
    for title in ("translate hi-Latn", "check hi-Latn", "triplets"):
        assert far[title].digest == here[title].digest, title
    assert far["translate hi-Latn"].facts["usage"]["requests"] > 0
    with get_client(sync_client=True) as client:  # in the UI, under the run
        names = {run.name.split()[0] for run in client.read_task_runs() if run.flow_run_id}
    assert {"encode", "mine"} <= names
