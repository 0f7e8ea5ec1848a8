"""The whole line with an LLM, users and files that give the evaluation away: nothing of it trains.

Also what becomes of user queries on the way: labels, hard negatives, gaps, and what they cost.
"""

import polars as pl
import pytest
import yaml
from llm_server import Fault, LLMServer, answer_to
from test_flows import outcomes_of, plan_of, request_of, stages_of, store_of
from test_training_set import MADE, assert_clean
from tiny_line import edit_kb, write_line

from flows.retrain import retrain
from monoglot.contracts import Gaps, Proposals, Triplets
from monoglot.identity import normalised

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api", "no_endpoint")]

HINGLISH = {"code": "hi-Latn", "name": "Hinglish"}


@pytest.fixture
def serve(monkeypatch):
    """Starts the endpoint with some faults and leads this process to it."""
    servers = []

    def start(faults=()):
        servers.append(LLMServer(faults=faults).__enter__())
        for name, value in servers[-1].environment.items():
            monkeypatch.setenv(name, value)
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__()


def read(folder, name="queries"):
    return pl.read_csv(folder / f"{name}.csv")


def with_users(folder, texts, **settings):
    write_line(folder, user_queries={"path": "users.csv"}, fine_tuning={"epochs": 2}, **settings)
    pl.DataFrame({"text": texts}).write_csv(folder / "users.csv")


def leaky(asked):
    """A model that answers with the evaluation: its texts, near copies, and its English."""

    def leak(request, row, number):
        answer = answer_to(row, request.language)
        text, english = asked.row(number % asked.height)
        if "queries" in answer:
            answer["queries"][:4] = [text, text.upper() + "!", f"{text}n", english]
        elif "fits" in answer:
            answer["wording"] = english if number % 2 else answer["wording"]
        elif number % 3 == 0:
            answer["text"] = text
        return answer

    def fault_of(request):
        start = request.number * 10
        rows = [leak(request, row, start + n) for n, row in enumerate(request.rows)]
        return Fault("leaky", rows=lambda _rows: rows)

    return fault_of


def test_no_leak_of_model_users_or_files_reaches_a_training_table(tmp_path, serve):
    write_line(tmp_path)
    asked, rows = read(tmp_path), read(tmp_path, "kb")
    texts, english = asked["text"].to_list(), asked["english"].to_list()
    users = [
        *texts[:5],
        *(text.upper() + " ?" for text in texts[5:10]),
        *(f"{text}n" for text in texts[10:15]),
        *english[15:20],
        *(f"bhai zara suno {query} batao mujhe" for query in rows["query"].head(12)),
    ]
    with_users(
        tmp_path,
        users,
        languages=[HINGLISH],
        generation={"synthetic_per_label": 10},
        training={"path": "native.csv"},
    )
    edit_kb(  # rows that are questions in English: shown to nobody, trained on by nobody
        tmp_path,
        lambda kb: pl.concat(
            [
                kb,
                asked.head(6)
                .select(query="english", label="label")
                .join(kb.unique("label").drop("query"), on="label")
                .select(kb.columns),
            ]
        ),
    )
    asked[20:25].with_columns(text=pl.format("{}!!", "text")).write_csv(tmp_path / "native.csv")
    serve(leaky(asked.select("text", "english")))
    stages = stages_of(retrain(request_of(tmp_path)))
    store = store_of(tmp_path)
    anchors = store.table(stages["training set"].artifact)
    questions = store.table(stages["evaluation set"].artifact)
    kb = store.table(stages["knowledge base"].artifact)
    assert_clean(anchors, questions, kb)
    assert {*anchors["origin"]} == {"translated", "synthetic", "user"}
    dropped = stages["training set"].artifact.facts["dropped"]
    assert {"evaluation_text", "evaluation_source", "near_evaluation"} <= set(dropped)
    unasked = store.table(stages["user queries of users.csv"].artifact, "rejects.parquet")
    assert {"evaluation_text", "near_evaluation"} <= set(unasked["rule"])
    triplets = store.table(stages["triplets"].artifact)
    Triplets.validate(triplets)
    used = set(triplets["positive_row"]) | set(triplets["negative_rows"].explode())
    known = {normalised(text) for text in [*texts, *english]}
    by_row = dict(kb.select("row_id", "query").rows())
    assert not [by_row[row] for row in used if normalised(by_row[row]) in known]
    assert set(triplets["anchor"]) <= set(anchors["query_id"])


def test_user_queries_are_labelled_and_gaps_are_reported(tmp_path, serve):
    rows = read(tmp_path, "kb") if write_line(tmp_path) else None
    known = [f"suno {query} batao" for query in rows["query"].gather_every(9)]
    gaps = ["drone delivery sunday midnight", "drone delivery sunday midnight!", "zebra unicorn"]
    with_users(tmp_path, [*known, *gaps, "namaste ji"])
    server = serve()
    assert [(it.purpose, it.work.rows) for it in plan_of(tmp_path).requests] == [
        ("label", len(known) + 3)
    ]
    record = retrain(request_of(tmp_path))
    stages, store = stages_of(record), store_of(tmp_path)
    first = stages["label user queries hi-Latn"].artifact
    second = stages["label gaps again hi-Latn"].artifact
    labelled = store.table(first)
    assert labelled["english"].null_count() == 0
    right = labelled.join(rows, on="label").filter(
        pl.format("suno {} batao", "query") == pl.col("text")
    )
    assert right.height == labelled.height == len(known)
    proposals = store.table(first, "proposals.parquet")
    Proposals.validate(proposals)
    left = store.table(second, "gaps.parquet")
    Gaps.validate(left)
    assert dict(left.select("text", "times").sort("text").rows()) == {gaps[0]: 2, gaps[2]: 1}
    rejects = store.table(first, "rejects.parquet")
    assert rejects.select("value", "rule").rows() == [("namaste ji", "no_question")]

    anchors = store.table(stages["training set"].artifact)
    assert set(labelled["query_id"]) <= set(anchors["query_id"])
    assert not {*left["query_id"]} & {*anchors["query_id"]}
    triplets = store.table(stages["triplets"].artifact).join(
        proposals, left_on="anchor", right_on="query_id"
    )
    assert triplets.height == 2 * proposals.height > 0
    assert (triplets["negative_rows"].list.first() == triplets["negative_row"]).all()
    assert (triplets["probabilities"].list.first() == 1.0).all()

    page = (store.root / record.report).read_text(encoding="utf-8")
    assert "What users ask that the knowledge base does not answer" in page
    assert gaps[2] in page
    assert "label user queries hi-Latn" in page
    assert stages["label user queries hi-Latn"].artifact.facts["usage"]["requests"] > 0
    assert [(it.work.rows, it.work.from_ledger) for it in plan_of(tmp_path).requests] == [
        (0, len(known) + 3)
    ]

    # One query more is one question more, and a new row asks again what it is a candidate of.
    server.requests.clear()
    newer = f"arre {rows['query'][1]}"
    texts = [*known, *gaps, "namaste ji", newer]
    pl.DataFrame({"text": texts}).write_csv(tmp_path / "users.csv")
    assert plan_of(tmp_path).requests[0].work.rows == 1
    retrain(request_of(tmp_path))
    assert [row["text"] for it in server.requests for row in it.rows] == [newer]
    server.requests.clear()
    edit_kb(
        tmp_path,
        lambda kb: pl.concat(
            [kb, kb.head(1).with_columns(query=pl.lit("Can a zebra or unicorn deliver it?"))]
        ),
    )
    retrain(request_of(tmp_path))
    assert "zebra unicorn" in server.rows
    assert sum(server.rows.values()) < len(known)


def test_without_an_endpoint_user_queries_are_warned_of_and_change_nothing(tmp_path):
    with_users(tmp_path, ["kuch bhi poochho"])
    first = retrain(request_of(tmp_path))
    assert "user queries of users.csv" not in stages_of(first)
    (tmp_path / "users.csv").write_text("text\nkuch aur\n")
    assert retrain(request_of(tmp_path)) == first
    assert set(outcomes_of(first).values()) == {"done"}


def test_a_file_of_user_queries_needs_a_language(tmp_path, monkeypatch):
    from monoglot.errors import ConfigError

    path = write_line(tmp_path, training={"path": "queries.csv"})
    config = yaml.safe_load(path.read_text()) | {"languages": [], "user_queries": {"path": "u.csv"}}
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match=r"user_queries: .*list it under languages"):
        retrain(request_of(tmp_path))


def test_made_is_what_the_gate_calls_made():
    from monoglot.knowledge import training_set

    assert training_set._MADE == MADE
