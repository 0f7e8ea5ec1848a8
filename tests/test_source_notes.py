"""What was fetched of a knowledge base is kept for three days after its last fetch, no longer."""

import contextlib
import os
import sqlite3
import time

import pytest

from monoglot.config import Config
from monoglot.knowledge import sources
from monoglot.knowledge.downloads import Download
from monoglot.knowledge.sources import fetched
from monoglot.settings import Settings

DAY_S = 86_400
ROWS = "SELECT query, label FROM kb"


@pytest.fixture
def fetch(tmp_path, monkeypatch):
    """Fetch a knowledge base; its local file."""
    path = tmp_path / "shop.db"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE kb (query TEXT, label TEXT)")
        db.executemany("INSERT INTO kb VALUES (?, ?)", [("refund", "money"), ("where", "track")])
    monkeypatch.setenv("SHOP_DB", f"sqlite:///{path}")

    def run(**base):
        config = Config(knowledge_base=base, store=str(tmp_path / "store"))
        return fetched(config, Settings()).knowledge_base.file

    return run


def age(folder, days):
    """Let all that was fetched be so much older."""
    for path in folder.iterdir():
        then = path.stat().st_mtime - days * DAY_S
        os.utime(path, (then, then))


def test_the_table_of_an_edited_query_goes_after_three_days_with_its_note(fetch):
    old = fetch(sql=ROWS, url_env="SHOP_DB")
    age(old.parent, 2)
    new = fetch(sql=f"{ROWS} ORDER BY query", url_env="SHOP_DB")
    assert old.exists()  # a run may be reading it
    age(old.parent, 1.5)
    assert fetch(sql=f"{ROWS} ORDER BY query", url_env="SHOP_DB") == new
    assert sorted(it.name for it in new.parent.iterdir()) == sorted(
        (new.name, f"{new.name.partition('-')[0]}.json")
    )


def test_what_does_not_change_at_its_place_stays_and_what_is_beside_it_goes(fetch, monkeypatch):
    """A file that its server says is unchanged is still fetched from there each day."""

    def serve(address, target, limits, *, known, shown):
        if not known:
            target.write_text("query,label\nrefund,money\nwhere,track\n")
        return Download("" if known else ".csv", {"ETag": "1"}, is_unchanged=bool(known))

    monkeypatch.setattr(sources, "download", serve)
    old = fetch(sql=ROWS, url_env="SHOP_DB")
    new = fetch(url="https://example.org/kb.csv")
    for _ in range(3):
        age(new.parent, 2)
        begun = time.time() - 60
        assert fetch(url="https://example.org/kb.csv") == new
        assert min(it.stat().st_mtime for it in _of(new)) > begun
    assert sorted(new.parent.iterdir()) == sorted(_of(new))
    assert not old.exists()


def _of(file):
    return [file, file.with_name(f"{file.name.partition('-')[0]}.json")]
