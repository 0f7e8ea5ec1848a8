"""Rows that a serving process keeps at hand: the same answers, and no harm where it cannot."""

import shutil
import subprocess
import sys
import threading

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from lancedb.index import IvfRq
from large_table import clustered, some_edited
from test_index import open_index

from monoglot.serving import index as index_module
from monoglot.serving import kept_rows, neighbours, tables
from monoglot.serving.index import Index


def kept(index):
    """The index after so many queries that its rows were read into files."""
    index.load()
    index.nearest(clustered([f"about {n} warm" for n in range(kept_rows.WORTH_KEEPING)]), 1)
    index.finish_loading()
    assert index._search().keeping.kept is not None
    return index


@pytest.mark.parametrize("refine", [1, 5])
def test_an_index_that_keeps_its_rows_finds_the_same_of_edited_ones_too(
    large, large_folder, refine
):
    edited = some_edited(large, 3).slice(100)  # some rows the index lacks, some it must not find
    result = open_index(large_folder, dimensions=32).sync(edited, clustered)
    plain, keeping = (Index.at(str(large_folder), result.table, result.version) for _ in range(2))
    for index in (plain, keeping):
        index._seen = index._seen._replace(effort=neighbours.Effort(30, refine, 0.99))
    asked = clustered([*(f"about {n} never seen" for n in range(60)), *edited["query"][50:110]])
    expected, found = plain.nearest(asked, 200), kept(keeping).nearest(asked, 200)
    both = expected.join(found, on=["question", "row", "label"], suffix="_kept")
    assert expected.height == found.height == 200 * len(asked)
    assert both.height >= found.height - 2  # the last of a query may be another by rounding alone
    np.testing.assert_allclose(both["score_kept"], both["score"], atol=1e-6)
    rising = pl.col("score").diff().over("question") > 0
    assert found.filter(rising).is_empty()
    rows = found["row"].unique().shuffle(seed=0)
    texts = keeping.rows_at(rows)
    assert texts.sort("row").equals(plain.rows_at(rows).sort("row").select(texts.columns))
    one = keeping.nearest(asked[70:71], 200)
    assert one["row"].equals(found.filter(pl.col("question") == 70)["row"])


def test_rows_are_read_once_and_only_by_who_asks_often(large_folder, monkeypatch):
    reads = []
    read = kept_rows.KeptRows.read
    monkeypatch.setattr(
        kept_rows.KeptRows, "read", lambda *given: reads.append(given) or read(*given)
    )
    asked = clustered([f"about {n} asked" for n in range(kept_rows.WORTH_KEEPING - 1)])
    index = open_index(large_folder, dimensions=32)
    for _ in range(2):  # as a run does, which checks its index and serves nobody
        index.nearest(asked, 1)
    index.load()
    index.nearest(asked, 1)
    index.finish_loading()
    assert reads == []
    for _ in range(2):
        index.nearest(asked[:1], 1)
        index.finish_loading()
    assert [given[:3] for given in reads] == [(str(large_folder), index.name, index.version)]


def test_without_room_for_the_rows_searches_go_on_and_it_is_said_once(
    large_folder, monkeypatch, caplog
):
    index = open_index(large_folder, dimensions=32)
    index.load()
    asked = clustered([f"about {n} asked" for n in range(200)])
    expected = index.nearest(asked[:50], 10)
    usage = shutil.disk_usage(large_folder)._replace(free=2 * 21_000 * 32 * 4 - 1)
    monkeypatch.setattr(kept_rows.shutil, "disk_usage", lambda _: usage)
    for _ in range(2):
        index.nearest(asked, 10)
        index.finish_loading()
    assert index.nearest(asked[:50], 10).equals(expected)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "TMPDIR" in said
    assert "searches go on" in said


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_query_whose_partition_was_emptied_is_answered_from_others(
    large, large_folder, is_kept, monkeypatch
):
    index = open_index(large_folder, dimensions=32)
    many = IvfRq(distance_type="cosine", num_partitions=100)
    index._table.create_index("vector", config=many, replace=True)
    topic = pl.int_range(pl.len()) % 200  # the index keeps the partitions of those that go
    result = index.sync(large.filter(topic < 20), clustered)
    index = Index.at(str(large_folder), result.table, result.version)
    monkeypatch.setattr(index_module, "EXACT_NUMBERS", 0)
    index._seen = index._seen._replace(effort=neighbours.Effort(1, 1, 0.99))
    if is_kept:
        kept(index)
    gone = clustered([f"about {number} case gone" for number in range(20, 200)])
    poor = index._search()._at_hand(gone, 200, nprobes=1)
    counts = np.bincount(poor.question, minlength=len(gone))
    assert counts.min() < 50  # else this test would show nothing
    known = clustered(["about 3 case new", "about 4 case new"])
    asked = np.stack([known[0], gone[counts.argmin()], known[1]])
    found = index.nearest(asked, 50)
    assert found["question"].to_list() == [number for number in range(3) for _ in range(50)]
    one = index.nearest(asked[1:2], 50)
    assert one["row"].equals(found.filter(pl.col("question") == 1)["row"])


def test_rows_are_kept_in_whatever_order_they_were_read():
    rng = np.random.default_rng(0)
    ids = rng.permutation(np.arange(100, 140, dtype=np.uint64))
    matrix = rng.normal(size=(40, 8)).astype(np.float32)
    texts = pa.table({"query": [f"text {number}" for number in ids]})
    rows = kept_rows.KeptRows(ids, matrix, texts.to_batches(max_chunksize=7))
    asked = rng.normal(size=(2, 8)).astype(np.float32)
    places = rng.integers(0, 40, 30)
    question = rng.integers(0, 2, 30)
    hits = neighbours.Hits(question, ids[places], np.zeros(30, np.float32))
    expected = (matrix[places] * asked[question]).sum(axis=1)
    np.testing.assert_allclose(rows.scored(hits, asked).score, expected, rtol=1e-5)
    found = rows.texts_of(ids[places])
    assert found["row"].to_list() == ids[places].tolist()
    assert found["query"].to_list() == [f"text {number}" for number in ids[places]]


def test_a_version_that_is_searched_no_more_is_read_no_further(large_folder, monkeypatch):
    read = threading.Event()
    parts = []
    blocks = tables.blocks_of

    def slow(*given, **named):
        for number, block in enumerate(blocks(*given, **named)):
            parts.append(number)
            yield block
            read.wait(10)

    monkeypatch.setattr(tables, "_ROWS_PER_BLOCK", 1_000)
    monkeypatch.setattr(tables, "blocks_of", slow)
    index = open_index(large_folder, dimensions=32)
    index.load()
    index.nearest(clustered([f"about {n} asked" for n in range(100)]), 1)
    index.stop_loading()
    read.set()
    index.finish_loading()
    assert len(parts) < 3
    assert index._search().keeping.after(1_000) is None


def test_where_no_thread_can_be_had_searches_go_on(large_folder, monkeypatch, caplog):
    index = open_index(large_folder, dimensions=32)
    index.load()
    asked = clustered([f"about {n} asked" for n in range(200)])
    expected = index.nearest(asked[:50], 10)

    def refused(_self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    for _ in range(2):
        index.nearest(asked, 10)
        index.finish_loading()
    assert index.nearest(asked[:50], 10).equals(expected)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "can't start new thread" in said


END_WHILE_READING = """
import sys
import numpy as np
from monoglot.serving import index, kept_rows, tables
index.EXACT_NUMBERS = 0
blocks = tables.blocks_of

def endless(*given, **named):
    while True:
        yield from blocks(*given, **named)

tables.blocks_of = endless
searched = index.Index.at(sys.argv[1], sys.argv[2], int(sys.argv[3]))
searched.load()
asked = np.eye(32, dtype=np.float32)[[0] * kept_rows.WORTH_KEEPING]
print(searched.nearest(asked, 1).height, searched._search().keeping._reader.is_alive())
"""


def test_a_process_ends_at_once_while_its_rows_are_being_read(large_folder):
    index = open_index(large_folder, dimensions=32)
    asked = [sys.executable, "-c", END_WHILE_READING, str(large_folder), index.name]
    done = subprocess.run(
        [*asked, str(index.version)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "100 True\n", "")
