"""Knowledge bases where they live: SQL databases, web servers and object stores, all real."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_server

import polars as pl
import pytest
import yaml
from s3_server import KEY, environment, put, s3_server
from test_cli import apart

from flows import announcing
from monoglot.config import Config, KnowledgeBaseConfig
from monoglot.config_file import load_config
from monoglot.errors import ConfigError, DataError, InputError, MonoglotError, SourceError
from monoglot.forgetting import find, forget
from monoglot.identity import identity_of
from monoglot.knowledge.knowledge_base import load_knowledge_base
from monoglot.knowledge.sources import count_rows, fetched
from monoglot.matching import Pattern
from monoglot.serving.releases import Releases
from monoglot.settings import Settings
from monoglot.store import Store
from tasks.request import RunRequest

# An id that is a number, an answer with two lines and quotes, two scripts, and what is rejected.
ROWS = [
    (1, "where is my parcel?", "track", 'Say "hello",\nthen wait.'),
    (2, "मेरा पार्सल कहाँ है", "track", None),
    (3, "refund", "money", "In 5 days; at 100%: sure."),
    (4, None, "money", None),
    (5, "refund", "money", None),
    (6, "refund", "track", None),
    (7, "pay\x07ment", "money", None),
]
NAMES = ("row_id", "query", "label", "answer")
QUERY = "SELECT row_id, query, label, answer, 'x' AS other FROM kb ORDER BY row_id"
SECRET = KEY
QUOTED = "hunter2%25%2F%40%21"
MANY = {"max_reject_share": 1.0}


def write_csv(path):
    pl.DataFrame(ROWS, schema=NAMES, orient="row").write_csv(path)
    return path


@pytest.fixture
def from_file(tmp_path):
    return load_knowledge_base(KnowledgeBaseConfig(path=write_csv(tmp_path / "file.csv"), **MANY))


@pytest.fixture
def fetch(tmp_path):
    """Fetch and load a knowledge base, under settings."""

    def load(settings=None, **base):
        config = Config(knowledge_base={**MANY, **base}, store=str(tmp_path / "store"))
        config = fetched(config, Settings(**(settings or {})))
        return config.knowledge_base, load_knowledge_base(config.knowledge_base)

    return load


@pytest.fixture
def sqlite(tmp_path, monkeypatch):
    path = tmp_path / "shop.db"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE kb (row_id INTEGER, query TEXT, label TEXT, answer TEXT)")
        db.executemany("INSERT INTO kb VALUES (?, ?, ?, ?)", ROWS)
    monkeypatch.setenv("MONOGLOT_KB_URL", f"sqlite:///{path}")
    return path


def same_but_for_the_place(loaded, from_file, shown):
    """The same rows, the same rejects; a row of a query is one less than a line of the file."""
    assert loaded.rows.equals(from_file.rows)
    assert loaded.digest == from_file.digest
    what = ("column", "value", "rule")
    assert loaded.rejects.select(what).equals(from_file.rejects.select(what))
    assert set(loaded.rejects["file"]) == {shown}


def test_a_query_is_the_same_knowledge_base_as_the_file(fetch, sqlite, from_file):
    base, loaded = fetch(sql=QUERY, url_env="MONOGLOT_KB_URL")
    same_but_for_the_place(loaded, from_file, "the query to MONOGLOT_KB_URL")
    assert loaded.rejects["row"].to_list() == [4, 5, 6, 7]
    again, _ = fetch(sql=QUERY, url_env="MONOGLOT_KB_URL")
    assert identity_of(again) == identity_of(base)
    with contextlib.closing(sqlite3.connect(sqlite)) as db, db:
        db.execute("UPDATE kb SET answer = 'other' WHERE row_id = 2")
    changed, _ = fetch(sql=QUERY, url_env="MONOGLOT_KB_URL")
    assert identity_of(changed) != identity_of(base)


def test_what_is_not_selected_changes_nothing_and_columns_are_mapped(fetch, sqlite):
    mapped = {"query": "q", "label": "l"}
    base, loaded = fetch(
        sql="SELECT query AS q, label AS l, x'00ff' AS blob, 1 AS n FROM kb ORDER BY row_id",
        url_env="MONOGLOT_KB_URL",
        columns=mapped,
    )
    other, _ = fetch(
        sql="SELECT query AS q, label AS l, x'00ff' AS blob, 1 AS n FROM kb ORDER BY row_id -- ?",
        url_env="MONOGLOT_KB_URL",
        columns=mapped,
    )
    assert loaded.rows["query"].sort().to_list() == sorted(
        ["where is my parcel?", "मेरा पार्सल कहाँ है", "refund"]
    )
    assert identity_of(other) == identity_of(base)


@pytest.mark.parametrize(
    ("query", "kind", "said"),
    [
        ("SELEC 1", DataError, 'the database refuses it: near "SELEC": syntax error'),
        ("SELECT * FROM shops", DataError, "no such table: shops"),
        ("DELETE FROM kb RETURNING *", DataError, "attempt to write a readonly database"),
        ("SELECT query FROM kb", DataError, "has no column label (found: query)"),
        ("SELECT query, label, query FROM kb", DataError, "column query is there twice"),
        (
            "SELECT query, label, CASE row_id WHEN 3 THEN x'00' END AS answer FROM kb",
            DataError,
            "row 3, column answer: is no text but bytes",
        ),
        ("SELECT query, label FROM kb WHERE 0", DataError, "is empty"),
        ("PRAGMA foreign_keys = ON", DataError, "gives no rows. Write a SELECT."),
        ("SELECT 'a' AS query, 'b' AS label", DataError, "all rows have one label"),
    ],
)
def test_a_wrong_query_is_refused_with_its_reason(fetch, sqlite, query, kind, said):
    before = sqlite.read_bytes()
    with pytest.raises(kind) as caught:
        fetch(sql=query, url_env="MONOGLOT_KB_URL")
    assert str(caught.value).startswith("the query to MONOGLOT_KB_URL: ")
    assert said in str(caught.value)
    assert sqlite.read_bytes() == before


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("", ConfigError, "knowledge_base.url_env: the environment variable MONOGLOT_KB_URL is"),
        (f"shop:{QUOTED}", ConfigError, "the variable holds no SQLAlchemy URL"),
        (f"postgresql+nix://u:{QUOTED}@h/d", ConfigError, "SQLAlchemy knows no such database"),
        (f"mssql+pymssql://u:{QUOTED}@h/d", ConfigError, "driver pymssql is not installed"),
        (f"sqlite+aiosqlite:///{__file__}?k={QUOTED}", ConfigError, "is an asynchronous driver"),
        ("sqlite:////nowhere/shop.db", ConfigError, "/nowhere/shop.db: no such database file"),
        (f"sqlite:///{__file__}", DataError, "file is not a database"),
    ],
)
def test_a_wrong_database_is_refused_without_its_password(fetch, monkeypatch, url, kind, said):
    monkeypatch.setenv("MONOGLOT_KB_URL", url)
    with pytest.raises(kind) as caught:
        fetch(sql="SELECT query, label FROM kb", url_env="MONOGLOT_KB_URL")
    assert said in str(caught.value)
    no_secret(str(caught.value))


def no_secret(*texts):
    for text in texts:
        assert SECRET not in text
        assert QUOTED not in text
        assert "hunter2" not in text


def test_a_surprise_of_gigabytes_is_bounded_and_leaves_nothing(fetch, sqlite, tmp_path):
    endless = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
        "SELECT 'query ' || i AS query, 'label' AS label FROM n"
    )
    with pytest.raises(DataError, match=r"has more than 1 MB by row 2\d,\d{3}"):
        fetch({"source_max_mb": 1.0}, sql=endless, url_env="MONOGLOT_KB_URL")
    assert list((tmp_path / "store/sources").iterdir()) == []


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """SQLAlchemy URL of a real PostgreSQL with a password, and rights on the table `kb`."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (pip install 'monoglot[sql]')")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    folder = found[-1] if found else Path(shutil.which("initdb") or "").parent
    if not (folder / "initdb").exists():
        pytest.skip("no PostgreSQL server on this machine (apt-get install postgresql)")
    with tempfile.TemporaryDirectory() as home:  # a socket's path must be short
        yield from _serving(folder, Path(home))


def _serving(folder, home):
    user = "postgres" if os.getuid() == 0 else None  # which refuses to run as root
    (home / "password").write_text(SECRET)
    if user:
        shutil.chown(home, user)
        shutil.chown(home / "password", user)
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    init = [folder / "initdb", "-D", home / "data", "-U", "shop", "-A", "scram-sha-256", "-N"]
    subprocess.run(
        [*init, "-E", "UTF8", "--pwfile", home / "password"],
        check=True, capture_output=True, user=user, cwd=home,
    )  # fmt: skip
    options = {"listen_addresses": "127.0.0.1", "port": port, "fsync": "off"}
    server = subprocess.Popen(
        [folder / "postgres", "-D", home / "data", "-k", home,
         *(f"--{name}={value}" for name, value in options.items())],
        stderr=subprocess.DEVNULL, user=user, cwd=home,
    )  # fmt: skip
    try:
        yield _filled(f"postgresql+psycopg://shop:{QUOTED}@127.0.0.1:{port}/postgres")
    finally:
        server.terminate()
        server.wait(30)


def _filled(url):
    import psycopg

    for _ in range(100):
        with contextlib.suppress(psycopg.OperationalError):
            with psycopg.connect(url.replace("+psycopg", "")) as db:
                db.execute("CREATE TABLE kb (row_id bigint, query text, label text, answer text)")
                db.execute(
                    "CREATE FUNCTION spoil() RETURNS text LANGUAGE sql AS "
                    "$$ DELETE FROM kb RETURNING query $$"
                )
                db.cursor().executemany("INSERT INTO kb VALUES (%s, %s, %s, %s)", ROWS)
            return url
        time.sleep(0.1)
    raise AssertionError("PostgreSQL does not answer")


def test_postgresql_gives_the_same_and_is_only_read(fetch, postgres, from_file, monkeypatch):
    monkeypatch.setenv("SHOP_DB", postgres)
    _, loaded = fetch(sql=QUERY.replace("'x'", "'100%'::text"), url_env="SHOP_DB")
    same_but_for_the_place(loaded, from_file, "the query to SHOP_DB")
    for writes, said in {
        "SELECT spoil() AS query, 'x' AS label": "cannot execute DELETE in a read-only transaction",
        "SELECT 1; DROP TABLE kb": "cannot insert multiple commands",
    }.items():
        with pytest.raises(DataError, match=said):
            fetch(sql=writes, url_env="SHOP_DB")
    with pytest.raises(DataError, match='column "missing" does not exist'):
        fetch(sql="SELECT missing FROM kb", url_env="SHOP_DB")
    assert fetch(sql=QUERY, url_env="SHOP_DB")[1].rows.equals(from_file.rows)


def test_postgresql_s_password_is_in_no_error_and_no_file(fetch, postgres, tmp_path, monkeypatch):
    monkeypatch.setenv("SHOP_DB", postgres)
    config = Config(
        knowledge_base={"sql": QUERY, "url_env": "SHOP_DB", **MANY}, store=str(tmp_path / "store")
    )
    no_secret(repr(fetched(config, Settings())))
    wrong = [
        postgres.replace("shop:", "nobody:"),
        postgres.replace("127.0.0.1", "127.0.0.2"),
        postgres.replace("/postgres", "/elsewhere"),
        f"{postgres}?sslmode={QUOTED}",
    ]
    for url in wrong:
        monkeypatch.setenv("SHOP_DB", url)
        with pytest.raises(SourceError, match="the database cannot be reached") as caught:
            fetched(config, Settings(source_timeout_s=3))
        assert caught.value.__cause__ is None
        no_secret(str(caught.value))
    for path in (tmp_path / "store").rglob("*"):
        no_secret(path.name, path.read_text() if path.is_file() else "")


class Shop(BaseHTTPRequestHandler):
    """A web server whose paths misbehave in their own ways."""

    bodies: dict[str, bytes]
    asked: Counter

    def do_GET(self):
        path = self.path.partition("?")[0]
        body, kind = self.bodies.get(path), "application/octet-stream"
        if path == "/slow.csv":
            time.sleep(3)
        if path == "/moved.csv":
            self.answer(302, Location="/kb.csv")
        elif path == "/private.csv" and "Authorization" not in self.headers:
            self.answer(401)
        elif path == "/broken.csv":
            self.answer(503)
        elif body is None:
            self.answer(404)
        elif self.headers.get("If-None-Match") == self.tag(body):
            self.asked[path, 304] += 1
            self.answer(304)
        else:
            self.asked[path, 200] += 1
            told = len(body) + (1000 if path == "/cut.csv" else 0)
            kind = {"/export": "text/csv; charset=utf-8", "/login": "text/html"}.get(path, kind)
            mark = {"ETag": self.tag(body)} if path == "/kb.csv" else {}
            self.answer(200, **mark, **{"Content-Length": told, "Content-Type": kind})
            with contextlib.suppress(OSError):
                self.wfile.write(body)

    @staticmethod
    def tag(body):
        return f'"{len(body)}"'

    def answer(self, code, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def web(tmp_path):
    """(address, bodies by path, count of answers by path and code)"""
    whole = write_csv(tmp_path / "web.csv").read_bytes()
    page = b"\n<!DOCTYPE html><html><body>Sign in</body></html>"
    paths = ("kb.csv", "export", "private.csv", "slow.csv", "cut.csv", "kb.xlsx", "big.csv")
    bodies = {f"/{name}": whole for name in paths} | {"/page.csv": page, "/login": page}
    bodies["/big.csv"] += b"8,much,money," + b"x" * 2_000_000
    handler = type("Handler", (Shop,), {"bodies": bodies, "asked": Counter()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", bodies, handler.asked
        server.shutdown()
        thread.join()


def test_a_web_file_is_the_same_and_not_downloaded_twice(fetch, web, from_file):
    address, bodies, asked = web
    base, loaded = fetch(url=f"{address}/kb.csv")
    assert loaded.rows.equals(from_file.rows)
    same_but_for_the_place(loaded, from_file, f"{address}/kb.csv")
    assert loaded.rejects["row"].equals(from_file.rejects["row"])
    again, _ = fetch(url=f"{address}/kb.csv")
    assert (again, asked["/kb.csv", 200], asked["/kb.csv", 304]) == (base, 1, 1)
    bodies["/kb.csv"] += b"8,one more,money,\n"
    assert fetch(url=f"{address}/kb.csv")[1].rows.height == loaded.rows.height + 1
    again.file.unlink()  # forgotten, or by hand: what is gone is no reason not to download
    bodies["/kb.csv"] = bodies["/export"]
    assert fetch(url=f"{address}/kb.csv")[1].rows.equals(from_file.rows)
    for path in ("moved.csv", "export"):  # the kind by the address, and by the server
        assert fetch(url=f"{address}/{path}")[1].rows.equals(from_file.rows)


@pytest.mark.parametrize(
    ("path", "kind", "said"),
    [
        ("none.csv", DataError, "HTTP 404 Not Found: there is no such file"),
        ("private.csv", DataError, "HTTP 401 Unauthorized: one may not read it"),
        ("broken.csv", SourceError, "HTTP 503 Service Unavailable: the server is not well"),
        ("slow.csv", SourceError, "no answer within 0.5 s"),
        ("cut.csv", SourceError, "the download broke off before its end"),
        ("page.csv", DataError, "is an HTML or XML page, not a table"),
        ("login", DataError, "is an HTML or XML page, not a table"),
        ("kb.xlsx", DataError, "unknown kind of file (the server says application/octet-stream)"),
        ("big.csv", DataError, "is larger than 1 MB"),
    ],
)
def test_what_is_no_whole_table_is_refused_and_not_kept(fetch, web, tmp_path, path, kind, said):
    settings = {"source_timeout_s": 0.5, "source_max_mb": 1.0}
    with pytest.raises(kind) as caught:
        fetch(settings, url=f"{web[0]}/{path}?token=hunter2")
    assert str(caught.value).startswith(f"{web[0]}/{path}: ")
    assert said in str(caught.value)
    no_secret(str(caught.value))
    assert list((tmp_path / "store/sources").iterdir()) == []


def test_user_and_password_come_from_the_environment(fetch, web, from_file, monkeypatch, tmp_path):
    address = web[0].replace("://", f"://shop:{QUOTED}@") + "/private.csv"
    monkeypatch.setenv("KB", address)
    base, loaded = fetch(url_env="KB")
    same_but_for_the_place(loaded, from_file, f"{web[0]}/private.csv")
    no_secret(repr(base), *(path.read_text() for path in (tmp_path / "store/sources").iterdir()))
    with pytest.raises(ValueError, match="url: holds a user name or password") as caught:
        KnowledgeBaseConfig(url=address)
    path = tmp_path / "monoglot.yaml"
    path.write_text(json.dumps({"knowledge_base": {"url": address}}))
    with pytest.raises(ConfigError, match=r"knowledge_base\.url: holds") as caught:
        load_config(path)
    no_secret(str(caught.value))
    with pytest.raises(SourceError, match="cannot be reached"):
        fetch(url="http://127.0.0.1:9/kb.csv")
    with pytest.raises(ConfigError, match="is no address that can be read"):
        fetch(url="ftp://127.0.0.1/kb.csv")


@pytest.fixture(scope="module")
def s3():
    """URL of a real S3 server with an empty bucket `shop`."""
    with s3_server() as url:
        yield url


def test_an_object_store_gives_the_same(fetch, s3, from_file, tmp_path, monkeypatch):
    for name, value in environment(s3).items():
        monkeypatch.setenv(name, value)
    put(f"{s3}/shop/a/kb.csv", write_csv(tmp_path / "s3.csv").read_bytes())
    _, loaded = fetch(url="s3://shop/a/kb.csv")
    same_but_for_the_place(loaded, from_file, "s3://shop/a/kb.csv")
    put(f"{s3}/shop/a/kb.csv", (tmp_path / "s3.csv").read_bytes() + b"8,more,money,\n")
    assert fetch(url="s3://shop/a/kb.csv")[1].rows.height == loaded.rows.height + 1
    with pytest.raises(DataError, match=r"s3://shop/a/none.csv: no such object"):
        fetch(url="s3://shop/a/none.csv")
    with pytest.raises(DataError, match="is larger than"):
        fetch({"source_max_mb": 1e-4}, url="s3://shop/a/kb.csv")
    with pytest.raises((DataError, SourceError)) as caught:
        fetch(url="s3://nobodys/kb.csv")
    no_secret(str(caught.value))


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ({"path": "kb.csv", "sql": "SELECT 1"}, "sql: path is given as well"),
        ({"sql": "SELECT 1"}, "url_env: is required with sql"),
        ({"path": "kb.csv", "url_env": "KB"}, "url_env: path is given as well"),
        ({"url": "https://x/kb.csv", "url_env": "KB"}, "url_env: url is given as well"),
    ],
)
def test_a_knowledge_base_lives_in_one_place(base, said):
    with pytest.raises(ValueError, match=said):
        KnowledgeBaseConfig(**base)


def test_guards_are_fetched_as_well_and_files_stay_as_they_are(sqlite, tmp_path):
    file = write_csv(tmp_path / "kb.csv")
    guard = {"name": "other", "path": file}
    config = Config(knowledge_base={"path": file}, guards=[guard], store=str(tmp_path / "store"))
    assert fetched(config, Settings()) is config
    assert not (tmp_path / "store").exists()
    guard["knowledge_base"] = {"sql": QUERY, "url_env": "MONOGLOT_KB_URL", **MANY}
    config = config.model_copy(
        update={"guards": Config(**{**config.model_dump(), "guards": [guard]}).guards}
    )
    there = fetched(config, Settings()).guards[0].knowledge_base
    assert load_knowledge_base(there).rows.height == 3
    assert there.shown == "the query to MONOGLOT_KB_URL"
    again = Config.model_validate(fetched(config, Settings()).model_dump())  # as a grid's cells are
    assert again.guards[0].knowledge_base.file == there.file


def test_a_watcher_reads_a_database_again_and_again(sqlite, tmp_path, monkeypatch):
    config, told, said, stop = tmp_path / "monoglot.yaml", [], [], threading.Event()
    base = {"sql": QUERY, "url_env": "MONOGLOT_KB_URL", **MANY}
    config.write_text(json.dumps({"knowledge_base": base, "store": "store"}))
    monkeypatch.setattr(announcing, "_ELSEWHERE_S", 0.05)
    monkeypatch.setattr(announcing, "announce", lambda _, changes: told.append(changes.count))

    def say(line):
        said.append(line)
        with contextlib.closing(sqlite3.connect(sqlite)) as db, db:
            if len(said) == 2:
                db.execute("INSERT INTO kb VALUES (8, 'one more', 'money', NULL)")
            if len(said) == 3:
                db.execute("ALTER TABLE kb RENAME TO gone")
            if len(said) == 4:
                stop.set()

    request = RunRequest(config_file=config)
    announcing.watch(request, say, every=0.0, quiet=3.0, stop=stop)
    assert said[0] == "reading the query to MONOGLOT_KB_URL every 0.05 s"
    assert told == [3, 4]
    assert said[3].startswith("waiting: the query to MONOGLOT_KB_URL: the database refuses it")


def test_doctor_s_look_counts_rows_and_keeps_nothing(sqlite, monkeypatch):
    base = KnowledgeBaseConfig(sql=QUERY, url_env="MONOGLOT_KB_URL", **MANY)
    assert count_rows(base, "knowledge_base", Settings()) == 3
    monkeypatch.delenv("MONOGLOT_KB_URL")
    with pytest.raises(MonoglotError, match="MONOGLOT_KB_URL is not set"):
        count_rows(base, "knowledge_base", Settings())


def test_what_was_fetched_is_forgotten_and_the_place_is_told(fetch, sqlite, tmp_path):
    base, _ = fetch(sql=QUERY, url_env="MONOGLOT_KB_URL")
    config = Config(
        knowledge_base={"sql": QUERY, "url_env": "MONOGLOT_KB_URL"}, store=str(tmp_path / "store")
    )
    store, sought = Store.existing(config.store), Pattern("my parcel", literal=True)
    found = find(config, store, sought)
    assert (list(found.files), found.own) == ([base.file], {})
    assert found.elsewhere == {"the query to MONOGLOT_KB_URL": [1]}
    forget(store, found, sought)
    assert not base.file.exists()
    assert isinstance(fetch(sql=QUERY, url_env="MONOGLOT_KB_URL")[0], KnowledgeBaseConfig)
    assert issubclass(DataError, InputError)


def into_sqlite(file, path):
    """The rows of a CSV file as the table `kb` of a database."""
    kb = pl.read_csv(file, infer_schema=False)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(f"CREATE TABLE kb ({', '.join(kb.columns)})")
        db.executemany(f"INSERT INTO kb VALUES ({', '.join('?' * kb.width)})", kb.rows())


@pytest.mark.slow
def test_a_knowledge_base_that_moves_into_a_database_costs_nothing(line):
    into_sqlite(line / "kb.csv", line / "shop.db")
    (line / "kb.csv").unlink()
    config, url = line / "monoglot.yaml", f"sqlite:///{line}/shop.db?timeout=17.25"
    wanted = yaml.safe_load(config.read_text())
    wanted["knowledge_base"] = {"sql": "SELECT * FROM kb ORDER BY rowid", "url_env": "SHOP_DB"}
    config.write_text(yaml.safe_dump(wanted))
    release = Releases(Store.existing(str(line / "store"))).current()

    unset = apart("plan", "-c", config)
    assert (unset.returncode, "SHOP_DB is not set" in unset.stderr) == (2, True), unset.stderr
    moved = apart("run", "-c", config, "--json", SHOP_DB=url)
    assert moved.returncode == 0, moved.stderr
    outcomes = {stage["title"]: stage["outcome"] for stage in json.loads(moved.stdout)["stages"]}
    done = {title for title, outcome in outcomes.items() if outcome == "done"}
    assert done == {"knowledge base"}
    assert Releases(Store.existing(str(line / "store"))).current().knowledge_base.digest == (
        release.knowledge_base.digest
    )

    again = apart("run", "-c", config, SHOP_DB=url)
    assert (again.returncode, "LOADED []" in again.stderr) == (0, True), again.stderr
    assert "nothing to do: files, config and code are those of run" in again.stderr
    with contextlib.closing(sqlite3.connect(line / "shop.db")) as db, db:
        db.execute("UPDATE kb SET answer = 'Another.' WHERE rowid = 3")
    planned = apart("plan", "-c", config, SHOP_DB=url)
    assert "Decision: refresh" in planned.stdout, planned.stdout
    refreshed = apart("refresh", "-c", config, SHOP_DB=url)
    assert refreshed.returncode == 0, refreshed.stderr
    doctor = apart("doctor", "-c", config, SHOP_DB=url)
    assert "the query to SHOP_DB: 72 rows" in " ".join(doctor.stdout.split())
    for path in line.rglob("*"):  # the address went into no log, record, or database of Prefect
        assert not path.is_file() or b"timeout=17.25" not in path.read_bytes(), path


def test_numbers_of_a_database_are_those_of_a_file(fetch, tmp_path, monkeypatch):
    path = tmp_path / "numbers.db"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE kb (query TEXT, label REAL)")
        db.executemany("INSERT INTO kb VALUES (?, ?)", [("a", 1.0), ("b", 2.5), ("c", 3.0)])
    monkeypatch.setenv("MONOGLOT_KB_URL", f"sqlite:///{path}")
    _, loaded = fetch(sql="SELECT query, label FROM kb", url_env="MONOGLOT_KB_URL")
    assert loaded.rows.sort("query")["label"].to_list() == ["1", "2.5", "3"]
