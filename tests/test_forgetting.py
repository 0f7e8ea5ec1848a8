"""`monoglot forget`: after it no byte of the store tells, and what must go on goes on."""

import json
import sqlite3
import sys
import time
from pathlib import Path

import lancedb
import polars as pl
import pytest
import yaml
from llm_server import Fault, LLMServer
from test_index import DIMENSIONS, encode, knowledge_base, set_cell
from tiny_line import edit_kb, write_line

from flows import cli
from flows.refresh_index import refresh_index
from flows.retrain import retrain
from monoglot import Retriever
from monoglot.config import LanguageConfig
from monoglot.errors import InputError, RunError, StoreBusyError, StoreError
from monoglot.forgetting import find, forget
from monoglot.generation import forgetting
from monoglot.generation.batch_records import BatchRecords
from monoglot.generation.forgetting import find_in_ledger, forget_in_ledger
from monoglot.generation.ledger import Ledger
from monoglot.generation.replies import Usage
from monoglot.generation.translation import translate
from monoglot.generation_config import GenerationConfig
from monoglot.identity import frame_digest
from monoglot.knowledge.knowledge_base import load_knowledge_base
from monoglot.matching import Pattern
from monoglot.runs import Runs
from monoglot.serving import index as index_module
from monoglot.serving import pruning
from monoglot.serving.forgetting import find_in_index
from monoglot.serving.index import Index
from monoglot.serving.releases import Releases
from monoglot.store import Store
from tasks.request import RunRequest

SECRET = "zebulon.quux@example.org"
PATTERN = Pattern(SECRET, literal=True)
HINGLISH = LanguageConfig(code="hi-Latn", name="Hinglish")


# --- the whole store


@pytest.fixture
def monoglot(monkeypatch, capsys, no_endpoint):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["monoglot", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            sys.exit(cli.main())
        return ended.value.code or 0, *capsys.readouterr()

    return run


def plant(folder: Path) -> None:
    """The secret in every file: in rows that train, in an answer, in translations, in questions."""

    def planted(frame):
        place = pl.int_range(pl.len())
        told = pl.format("{} from {}", "query", pl.lit(SECRET))
        return frame.with_columns(
            query=pl.when(place % 12 == 5).then(told).otherwise("query"),
            answer=pl.when(place == 0).then(pl.lit(f"Write to {SECRET}")).otherwise("answer"),
        )

    before = pl.read_csv(folder / "kb.csv")
    edit_kb(folder, planted)
    now = dict(zip(before["query"], pl.read_csv(folder / "kb.csv")["query"], strict=True))
    translations = pl.read_csv(folder / "hinglish.csv")
    translations.with_columns(
        pl.col("source").replace(now),
        translation=pl.when(pl.col("source").replace(now).str.contains(SECRET, literal=True))
        .then(pl.format("{} {}", "translation", pl.lit(SECRET)))
        .otherwise("translation"),
    ).write_csv(folder / "hinglish.csv")
    questions = pl.read_csv(folder / "queries.csv")
    questions.with_columns(
        pl.when(pl.int_range(pl.len()) == 1)
        .then(pl.format("{} {}", "text", pl.lit(SECRET.upper())))
        .otherwise("text")
        .alias("text")
    ).write_csv(folder / "queries.csv")


@pytest.fixture(scope="module")
def planted_line(tmp_path_factory, prefect_api):
    """A finished line, one language by file and one by LLM, with the secret everywhere."""
    folder = tmp_path_factory.mktemp("planted")
    path = write_line(
        folder,
        fine_tuning={"epochs": 3, "batch_size": 32, "learning_rate": 0.02},
        gate={"min_gain": -1.0, "certain": False, "max_english_loss": 1.0},
    )
    plant(folder)
    config = yaml.safe_load(path.read_text())
    config["languages"].append({"code": "es", "name": "Spanish"})
    path.write_text(yaml.safe_dump(config))
    with LLMServer() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        retrain(RunRequest(config_file=path))
        edit_kb(folder, lambda frame: frame.with_columns(answer=pl.lit("See the help page")))
        edit_kb(folder, lambda frame: frame.head(frame.height - 1))
        refresh_index(RunRequest(config_file=path))
    store = Store.existing(str(folder / "store"))
    home = store.root / ".prefect"
    home.mkdir()
    (home / "run.log").write_text(f"something about {SECRET}")
    (home / "server.log").write_text("nothing")
    left = store.root / "tmp/resume-training-0123456789abcdef0123"
    left.mkdir(parents=True)
    (left / "batch.json").write_text(json.dumps({"text": SECRET}))
    return folder


@pytest.fixture
def planted(planted_line, tmp_path, no_endpoint):
    import shutil

    return shutil.copytree(planted_line, tmp_path / "line")


def places_of(root: Path) -> set[str]:
    """Where in a folder the secret can be read, by bytes or by columns; not by our own search."""
    found = set()
    for path in (path for path in root.rglob("*") if path.is_file()):
        raw = path.read_bytes().lower()
        if SECRET.encode() in raw:
            found.add(str(path.relative_to(root)))
        if path.suffix == ".parquet":
            table = pl.read_parquet(path, glob=False)
            if any(SECRET in str(row).lower() for row in table.rows()):
                found.add(str(path.relative_to(root)))
    for folder in (root / "index").glob("*.lance"):
        table = lancedb.connect(root / "index").open_table(folder.stem)
        for version in table.list_versions():
            table.checkout(version["version"])
            if SECRET in str(table.to_arrow().drop_columns("vector").to_pylist()).lower():
                found.add(f"index/{folder.stem}")
    return found


def test_a_deleted_row_is_found_in_the_version_that_is_searched(tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "EXACT_NUMBERS", 0)
    store = Store.open(str(tmp_path))
    rows = knowledge_base([f"question {number}" for number in range(300)])
    for query in (SECRET, "question 7"):
        index = Index.of_model(store.index_uri, "a" * 64, DIMENSIONS)
        done = index.sync(set_cell(rows, "r00007", "query", query), encode)
    pruning.prune(store, done.table, {done.version}, time.time())
    (found,) = find_in_index(store, PATTERN)
    assert found.rows == ("r00007",)


def test_a_planted_address_is_everywhere_and_then_nowhere(planted, monoglot):
    root = planted / "store"
    before = {path.split("/")[0] for path in places_of(root)}
    assert before >= {"artifacts", "index", "ledger.sqlite", ".prefect", "tmp"}
    code, out, _ = monoglot(
        "forget", SECRET, "--literal", "--yes", "--json", "-c", planted / "monoglot.yaml"
    )
    assert code == 0
    assert places_of(root) == set()
    told = json.loads(out)
    assert told["removed"]
    assert SECRET not in json.dumps(told)
    assert all(told["found"][place] for place in ("rows in the ledger", "rows in the index"))
    assert sorted(Path(path).name for path in told["your_files"]) == [
        "hinglish.csv",
        "kb.csv",
        "queries.csv",
    ]
    lines = (planted / "kb.csv").read_text().splitlines()
    assert told["your_files"][str(planted.resolve() / "kb.csv")] == [
        number for number, line in enumerate(lines, 1) if SECRET in line
    ]
    assert (root / ".prefect/server.log").exists()


def test_production_goes_on_without_the_rows_and_every_release_can_be_had_back(planted):
    config, _ = RunRequest(config_file=planted / "monoglot.yaml").read()
    store = Store.existing(str(planted / "store"))
    releases = Releases(store)
    before, history = releases.current(), releases.history()
    service = Retriever(store.root)
    vectors = Index.at(store.index_uri, before.index_table, before.index_version).vectors()
    kept = load_knowledge_base(config.knowledge_base).rows
    kept = kept.filter(~kept["query"].str.contains(SECRET, literal=True))
    with store.writer():
        now = forget(store, find(config, store, PATTERN), PATTERN)
    assert now == releases.current() != before
    assert (now.id, now.model_digest) == (before.id, before.model_digest)
    assert 0 < now.rows == kept.height < before.rows
    assert now.knowledge_base.digest == frame_digest(kept)
    assert (now.evaluation, now.measured_on) == (None, None)  # the next refresh measures again
    assert service.refresh()
    row = kept.row(3, named=True)
    (answer,) = service.search(row["query"], k=1)
    assert (answer.row_id, answer.score) == (row["row_id"], pytest.approx(1, abs=1e-4))
    assert all(SECRET not in found.query for found in service.search(SECRET, k=10))

    # The vectors are those of before: nothing was encoded anew.
    after = releases.index(now).vectors()
    old = dict(zip(vectors.row_ids, vectors.matrix.tolist(), strict=True))
    assert [old[row_id] for row_id in after.row_ids] == after.matrix.tolist()

    for release in history:
        assert releases.rollback(release.id).id == release.id
        assert Retriever(store.root).search("where is my parcel", k=1)
    # With the rows taken out of the file, too, there is nothing to refresh.
    edit_kb(planted, lambda frame: frame.filter(~frame["query"].str.contains(SECRET, literal=True)))
    releases.rollback(now.id)
    assert refresh_index(RunRequest(config_file=planted / "monoglot.yaml")) is None


def test_models_that_learned_it_are_named_and_the_next_run_trains_anew(planted, monkeypatch):
    request = RunRequest(config_file=planted / "monoglot.yaml")
    config, _ = request.read()
    store = Store.existing(str(planted / "store"))
    trained = Runs(store).last_retrain()
    found = find(config, store, PATTERN)
    models = {s.key.stage: s.artifact.digest for s in trained.stages if s.title != "merge"}
    assert models["training"] in found.models
    assert Releases(store).current().id in found.releases
    with store.writer():
        forget(store, found, PATTERN)
    for name in ("kb", "hinglish", "queries"):
        path = planted / f"{name}.csv"
        frame = pl.read_csv(path)
        holds = pl.any_horizontal(
            pl.col(pl.String).str.to_lowercase().str.contains(SECRET, literal=True)
        )
        frame.filter(~holds.fill_null(value=False)).write_csv(path)
    with LLMServer() as server:
        for variable, value in server.environment.items():
            monkeypatch.setenv(variable, value)
        record = retrain(request)
        asked = sum(server.rows.values())
    outcomes = {stage.key.stage: stage.outcome for stage in record.stages}
    assert outcomes["training"] == "done"
    assert asked == 0  # what else was paid for stays paid for
    assert places_of(store.root) == set()
    again = find(config, store, PATTERN)
    assert not again.is_in_store
    assert not again.models


def test_what_does_not_hold_it_is_left_as_it_is(planted, monoglot):
    config = planted / "monoglot.yaml"

    def state():
        files = (path for path in (planted / "store").rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files if path.suffix != ".lock"}

    before = state()
    code, out, _ = monoglot("forget", "nobody@example.org", "--literal", "--yes", "-c", config)
    assert (code, "does not hold it" in out) == (0, True)
    assert state().keys() == before.keys()

    found = find(RunRequest(config_file=config).read()[0], Store(planted / "store"), PATTERN)
    others = {
        path: raw
        for path, raw in before.items()
        if "/artifacts/" in str(path)
        and not any(f"/{location}/" in str(path) for location in found.artifacts)
    }
    assert others
    monoglot("forget", SECRET, "--literal", "--yes", "-c", config)
    after = state()
    assert {path: after[path] for path in others} == others


def test_without_yes_it_asks_and_shows_no_secret(planted, monoglot, monkeypatch):
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    before = places_of(planted / "store")
    code, out, err = monoglot("forget", SECRET, "--literal", "-c", planted / "monoglot.yaml")
    assert code == 0
    assert SECRET not in out.lower() + err.lower()
    assert "ze***" in out.lower()
    assert places_of(planted / "store") == before
    _, out, _ = monoglot("forget", SECRET, "--json", "-c", planted / "monoglot.yaml")
    assert not json.loads(out)["removed"]
    assert places_of(planted / "store") == before


def test_a_pattern_that_would_take_everything_is_refused(planted, monoglot):
    config = planted / "monoglot.yaml"
    assert monoglot("forget", ".*", "-c", config)[0] == 2
    assert monoglot("forget", "[", "-c", config)[0] == 2
    current = Releases(Store(planted / "store")).current()
    code, _, err = monoglot("forget", "[a-z]", "--yes", "-c", config)
    assert (code, "every row of a release matches" in " ".join(err.split())) == (2, True)
    assert Releases(Store(planted / "store")).current() == current
    assert Retriever(planted / "store").search("parcel", k=1)


def test_it_waits_for_no_one(planted, monoglot):
    import subprocess

    lock = planted / "store/lock"
    holder = subprocess.Popen(["flock", lock, "sleep", "60"])
    try:
        while subprocess.run(["flock", "-n", lock, "true"], check=False).returncode == 0:
            pass
        config, _ = RunRequest(config_file=planted / "monoglot.yaml").read()
        with pytest.raises(StoreBusyError), Store.open(config.store).writer():
            pass
        code, _, err = monoglot("forget", SECRET, "--literal", "--yes", "-c", config_of(planted))
        assert (code, "another run is writing" in " ".join(err.split())) == (1, True)
    finally:
        holder.kill()
        holder.wait()


def config_of(folder):
    return folder / "monoglot.yaml"


# --- the ledger alone


def kb(*queries):
    ids = [f"row-{n}" for n in range(len(queries))]
    return pl.DataFrame({"row_id": ids, "query": queries, "label": ["x"] * len(queries)})


QUERIES = kb("where is my parcel", f"mail {SECRET} about it", "is it free", f"for {SECRET}")


def bought(server, path, rows=QUERIES):
    with Ledger(path) as ledger:
        return translate(
            rows,
            HINGLISH,
            GenerationConfig(model="toy"),
            kb_language="en",
            settings=server.settings(),
            ledger=ledger,
        )


def test_the_other_rows_of_a_reply_stay_paid_for(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with LLMServer() as server:
        first = bought(server, path)
        found = find_in_ledger(path, PATTERN)
        assert (len(found.bodies), len(found.rows)) == (1, 2)
        forget_in_ledger(path, found)
        again = bought(server, path)
        assert server.rows == {query: 1 + (SECRET in query) for query in QUERIES["query"]}
    assert again.rows.equals(first.rows)
    assert again.from_ledger == 2


def test_no_page_of_the_file_keeps_it(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with LLMServer() as server:
        bought(server, path, kb(*(f"{n} is {SECRET}, {'x' * n}" for n in range(300))))
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("ledger*"))
    assert kept.count(SECRET.encode()) >= 300
    forget_in_ledger(path, find_in_ledger(path, PATTERN))
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("ledger*"))
    assert SECRET.encode() not in kept
    with sqlite3.connect(path) as database:
        spent = database.execute("SELECT count(*), min(prompt_tokens) > 0 FROM replies").fetchone()
    database.close()
    assert spent == (30, 1)  # what was spent is still known
    assert not find_in_ledger(path, PATTERN)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("prose", text=lambda text: f"For {SECRET}:\n```json\n{text}\n```\nBye {SECRET}."),
        Fault("escaped", text=lambda text: text.replace("@", "\\u0040")),
        Fault("cut", text=lambda text: text[:-6]),
        Fault("thinking", text=lambda text: f'<think>{{"id": "r1"}} {SECRET}</think>{text}'),
        Fault.refused(f"I cannot write to {SECRET}."),
        Fault.body(json.dumps({"error": {"message": f"bad {SECRET}", "code": "content_filter"}})),
        Fault.body(f"<html>{SECRET}"),
    ],
    ids=lambda fault: fault.name,
)
def test_whatever_the_reply_looks_like(tmp_path, fault):
    path = tmp_path / "ledger.sqlite"
    with LLMServer([fault]) as server:
        first = bought(server, path)
        requests = len(server.requests)
        forget_in_ledger(path, find_in_ledger(path, PATTERN))
        kept = b"".join(file.read_bytes() for file in tmp_path.glob("ledger*"))
        for written in (SECRET, SECRET.replace("@", "\\u0040"), SECRET.replace("@", "\\\\u0040")):
            assert written.encode() not in kept
        again = bought(server, path)
        later = [text for request in server.requests[requests:] for text in request.texts]
    assert again.rows.equals(first.rows)
    assert set(later) == {query for query in QUERIES["query"] if SECRET in query}


def test_another_table_of_the_file_is_cleaned_too(tmp_path):
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, request TEXT)")
        request = json.dumps({"custom_id": "k", "text": f"mail {SECRET}"})
        database.execute("INSERT INTO notes VALUES (1, ?), (2, 'other')", (request,))
    database.close()
    forget_in_ledger(path, find_in_ledger(path, PATTERN))
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT * FROM notes").fetchall()
    database.close()
    assert rows == [(1, '{"custom_id": "k", "text": "mail [forgotten]"}'), (2, "other")]


def test_pages_that_were_given_up_before_are_cleaned(tmp_path):
    """Text that an earlier version deleted and SQLite left in the file."""
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA secure_delete = OFF")
        text = f"{SECRET} {'x' * 9000}"
        database.execute("INSERT INTO replies (created, model, body) VALUES ('', '', ?)", (text,))
        database.commit()
        database.execute("DELETE FROM replies")
    database.close()
    assert SECRET.encode() in path.read_bytes()
    found = find_in_ledger(path, PATTERN)
    assert found
    assert not found.bodies
    forget_in_ledger(path, found)
    assert SECRET.encode() not in path.read_bytes()


def test_while_a_batch_is_out_nothing_is_forgotten(tmp_path):
    """Its answers would bring the text back."""
    store = Store.open(str(tmp_path / "store"))
    config = RunRequest(config_file=write_line(tmp_path)).read()[0]
    with Ledger(store.ledger_path) as ledger:
        records = BatchRecords(ledger)
        sent, expected = {"r": {"k": "rk"}}, {"r": Usage()}
        assert records.put_out("b", "http://x", "m", sent, {"k": 0}, kind="", expected=expected)
        found = find(config, store, PATTERN)
        with pytest.raises(RunError, match=r"may hold the text again.*--cancel"):
            forget(store, found, PATTERN)
        records.end("b")
        assert forget(store, found, PATTERN) is None


def test_a_ledger_in_use_is_said_and_the_next_time_it_is_cleaned(tmp_path, monkeypatch):
    monkeypatch.setattr(forgetting, "_PATIENCE_S", 0.1)
    path = tmp_path / "ledger.sqlite"
    with LLMServer() as server:
        bought(server, path)
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM replies").fetchone()
    try:
        with pytest.raises(StoreError, match=r"another process|cannot be rewritten"):
            forget_in_ledger(path, find_in_ledger(path, PATTERN))
    finally:
        reader.close()
    forget_in_ledger(path, find_in_ledger(path, PATTERN))
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("ledger*"))
    assert SECRET.encode() not in kept


@pytest.mark.parametrize("pattern", ["", ".*", "a?", "("])
def test_a_useless_pattern_is_refused(pattern):
    with pytest.raises(InputError):
        Pattern(pattern)


def test_case_and_unicode_form_do_not_matter():
    assert Pattern("JOSÉ", literal=True).is_in("jose\u0301 was here")
    assert Pattern("a.b", literal=True).example("call a.b or A.B") == "call a.*** or ***"
