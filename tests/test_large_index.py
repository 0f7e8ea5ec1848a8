"""An index too large for memory: its search is approximate, and as good as was measured."""

import hashlib
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import lancedb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from lancedb.index import IvfRq
from test_index import knowledge_base, open_index, set_cell

from monoglot.serving import index as index_module
from monoglot.serving import kept_rows, neighbours, syncing, tables
from monoglot.serving.index import Index
from monoglot.serving.table_search import TableSearch
from monoglot.serving.vectors import Asked


def clustered(texts):
    """Unit vectors around 200 centres, as those of real queries are; the text names its centre."""
    centres = np.random.default_rng(0).normal(size=(200, 32))
    seeds = [int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) for text in texts]
    noise = np.array([np.random.default_rng(seed).normal(size=32) for seed in seeds])
    vectors = centres[[int(text.split()[1]) for text in texts]] + 0.4 * noise.reshape(-1, 32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def large():
    return knowledge_base([f"about {number % 200} case {number}" for number in range(21_000)])


@pytest.fixture(scope="module")
def little_memory():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "EXACT_NUMBERS", 20_000 * 32)
        yield


@pytest.fixture(scope="module")
def large_table(large, little_memory, tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    result = open_index(folder, dimensions=32).sync(large, clustered)
    assert result.recall >= neighbours.ENOUGH_RECALL
    return folder


@pytest.fixture
def large_folder(large_table, tmp_path):
    return shutil.copytree(large_table, tmp_path / "large")


def exact_scores(index, queries, k):
    return -np.sort(-(queries @ index.vectors().matrix.T), axis=1)[:, :k]


def test_a_large_table_is_searched_approximately_with_the_recall_that_was_measured(
    large, large_folder
):
    index = open_index(large_folder, dimensions=32)
    assert index.effort is not None
    asked = clustered([f"about {number} never seen" for number in range(100)])
    found = index.search(asked, 10)
    assert found["question"].to_list() == [number for number in range(100) for _ in range(10)]
    scores = found["score"].to_numpy().reshape(100, 10)
    reached = exact_scores(index, asked, 10)[:, -1:]
    assert (scores >= reached - 1e-5).mean() >= 0.985
    assert index.search(asked[:1], 10).drop("question").equals(found[:10].drop("question"))


def test_rows_edited_after_the_large_index_was_built_are_found_and_deleted_ones_are_not(
    large, large_folder
):
    index = open_index(large_folder, dimensions=32)
    before = index.version
    edited = set_cell(large, "r00003", "query", "about 150 case new")
    result = index.sync(edited.filter(pl.col("row_id") != "r00004"), clustered)
    assert (result.encoded, result.updated, result.removed) == (1, 1, 1)
    asked = clustered(["about 150 case new", large["query"][3], large["query"][4]])
    first = index.search(asked, 1)
    assert first["row_id"][0] == "r00003"
    assert "r00003" not in first["row_id"][1:].to_list()
    assert "r00004" not in index.search(asked, 200)["row_id"].to_list()
    old = Index.at(str(large_folder), index.name, before)
    assert old.search(asked[2:], 1)["row_id"].to_list() == ["r00004"]


def test_many_edits_extend_the_index_and_remove_no_version(large, large_folder, monkeypatch):
    monkeypatch.setattr(syncing, "_MOST_UNMEASURED", 100)
    index = open_index(large_folder, dimensions=32)
    first = index._table.list_versions()[0]["version"]
    before = index.version
    edited = large.with_columns(
        query=pl.when(pl.int_range(pl.len()) % 100 == 0)
        .then(pl.col("query") + " edited")
        .otherwise("query")
    )
    result = index.sync(edited, clustered)
    assert (result.updated, result.recall >= neighbours.ENOUGH_RECALL) == (210, True)
    assert index._table.index_stats("vector_idx").num_unindexed_rows == 0
    asked = clustered(["about 100 case 100 edited"])
    assert index.search(asked, 1)["row_id"].to_list() == ["r00100"]
    assert index._table.list_versions()[0]["version"] == first
    old = Index.at(str(large_folder), index.name, before)
    assert old.search(clustered(["about 100 case 100"]), 1)["query"][0] == "about 100 case 100"


@pytest.fixture
def much_edited(large, large_folder):
    """What a sync after edits of a fifth of the rows left, and those rows as they were."""
    chosen = pl.int_range(pl.len()) % 5 == 0
    gone = large.filter(chosen)
    edited = large.with_columns(
        query=pl.when(chosen).then(pl.col("query") + " edited").otherwise("query")
    )
    return open_index(large_folder, dimensions=32).sync(edited.slice(10), clustered), gone


def test_deleted_rows_are_in_the_version_that_is_searched_and_in_no_answer(
    large_folder, much_edited
):
    result, gone = much_edited
    index = Index.at(str(large_folder), result.table, result.version)
    undeleted = tables.open_at(str(large_folder), result.table, index._seen.undeleted)
    assert undeleted.count_rows() > result.rows + 4_000
    asked = clustered([*gone["query"][:100], *(f"about {n} never seen" for n in range(100))])
    found = index.search(asked, 200)
    assert found.height == 200 * len(asked)
    live = index.read(("row_id", "query"))[0]
    assert found.join(live, on=["row_id", "query"], how="anti").is_empty()
    # A search that asks LanceDB to leave out the deleted ones finds what this one does.
    masked = TableSearch(str(large_folder), result.table, result.version)
    expected = masked.nearest(asked, 200, index.effort)
    reached = exact_scores(index, asked, 10)[:, -1]
    plain = index._search().nearest(asked, 200, index.effort)
    assert neighbours.recall(plain, reached) >= neighbours.recall(expected, reached) - 0.002
    assert neighbours.recall(plain, reached) >= neighbours.ENOUGH_RECALL


def test_a_sync_that_is_killed_leaves_no_deleted_row_to_the_next_one(
    large, large_folder, monkeypatch
):
    edited = some_edited(large, 0).slice(5)

    def killed(_facts):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tables, "facts_update", killed)  # after the version with deleted rows
        with pytest.raises(KeyboardInterrupt):
            open_index(large_folder, dimensions=32).sync(edited, clustered)
    index = open_index(large_folder, dimensions=32)
    assert index.sync(edited, clustered).encoded == 0
    assert index.content_of_rows() == index.content
    assert len(index) == edited.height
    asked = edited.filter(pl.col("query").str.ends_with("edited"))["query"].to_list()
    assert index.search(clustered(asked), 1)["query"].to_list() == asked


def test_rows_are_found_after_two_syncs_that_were_cut_off_came_back_to_the_same_rows(
    large, large_folder, monkeypatch
):
    first = some_edited(large, 0)
    open_index(large_folder, dimensions=32).sync(first, clustered)
    with monkeypatch.context() as patch:
        patch.setattr(syncing, "add_to_index", lambda _: pytest.fail("killed"))
        for rows in (some_edited(large, 1), first):
            with pytest.raises(pytest.fail.Exception, match="killed"):
                open_index(large_folder, dimensions=32).sync(rows, clustered)
    open_index(large_folder, dimensions=32).sync(first, clustered)
    index = open_index(large_folder, dimensions=32)
    asked = first["query"][:120].to_list()
    assert index.search(clustered(asked), 1)["query"].to_list() == asked
    poor = index._search()._at_hand(clustered(asked), 200, lambda query: query.nprobes(300))
    assert np.bincount(poor.question).min() >= 200


def test_an_index_names_no_file_of_which_no_row_is_left(large, large_folder):
    """Or else a search would ask of each code whether its row is deleted."""
    for number in range(3):
        index = open_index(large_folder, dimensions=32)
        index.sync(set_cell(large, "r00003", "query", f"about 150 case new {number}"), clustered)
        there = {it.fragment_id for it in files_of(index)}
        (segment,) = index._table.to_lance().describe_indices()[0].segments
        assert set(segment.fragment_ids) == there
    assert index.search(clustered(["about 150 case new 2"]), 1)["row_id"].to_list() == ["r00003"]


def test_where_what_is_near_was_deleted_more_is_read(large, large_folder, monkeypatch):
    topic = pl.int_range(pl.len()) % 200 == 7
    edited = large.with_columns(
        query=pl.when(topic).then(pl.col("query") + " edited").otherwise("query")
    )
    result = open_index(large_folder, dimensions=32).sync(edited, clustered)
    index = Index.at(str(large_folder), result.table, result.version)
    read = []
    found = TableSearch._found
    monkeypatch.setattr(
        TableSearch, "_found", lambda *given: read.append(given[3]) or found(*given)
    )
    asked = clustered(["about 7 case new", "about 8 case new"])
    rows = index.nearest(asked, 200)
    assert rows.group_by("question").len()["len"].to_list() == [200, 200]
    assert len(read) == 2  # and not a third time, with all partitions
    live = index.vectors()
    reached = exact_scores(index, asked, 200)
    scores = rows["score"].to_numpy().reshape(2, 200)
    assert np.isclose(scores, reached, atol=1e-5).mean() > 0.5
    assert len(live.row_ids) == large.height


def test_no_two_worn_files_beside_each_other_are_rewritten_at_a_time():
    def file(number, rows, gone):
        return SimpleNamespace(fragment_id=number, physical_rows=rows, num_deletions=gone)

    shares = (0.2, 0.3, 0.29, 0.05, 0.19, 0.28, 0.0, 0.25)
    files = [file(10 + n, 1_000, int(1_000 * share)) for n, share in enumerate(shares)]
    assert syncing._most_worn(files, rows=8_000) == {11, 15}
    assert syncing._most_worn(files, rows=1_000) == {11}
    assert syncing._most_worn(files[3:4], rows=8_000) == set()


def test_where_the_version_with_deleted_rows_was_removed_searches_go_on_and_it_is_said(
    large_folder, much_edited, caplog
):
    result, gone = much_edited
    index = Index.at(str(large_folder), result.table, result.version)
    asked = clustered(gone["query"][:20].to_list())
    expected = index.search(asked, 10)
    versions = large_folder / f"{result.table}.lance" / "_versions"
    (versions / f"d{index._seen.undeleted}.manifest").unlink()
    again = Index.at(str(large_folder), result.table, result.version)
    found = again.search(asked, 10)
    assert found["row_id"].to_list() == expected["row_id"].to_list()
    (said,) = [record.getMessage() for record in caplog.records]
    assert "until rows of the index change" in said


HOLD_THE_IDS = """
import resource
import sys
from pathlib import Path
from monoglot.serving import tables

def held():
    return int(Path("/proc/self/statm").read_text().split()[1])

table = tables.open_at(sys.argv[1], "many", 1)
before = held()
ids = [texts for texts, _ in tables.blocks_of(table, ("row_id",))]
print((held() - before) * resource.getpagesize())
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no Linux")
def test_texts_that_are_kept_of_all_blocks_do_not_hold_the_vectors(tmp_path):
    rows, dimensions = 400_000, 128
    flat = pa.array(np.ones(rows * dimensions, np.float32))
    vectors = pa.FixedSizeListArray.from_arrays(flat, dimensions)
    ids = [f"the id of row number {number}" for number in range(rows)]
    lancedb.connect(tmp_path).create_table("many", pa.table({"row_id": ids, "vector": vectors}))
    asked = [sys.executable, "-c", HOLD_THE_IDS, str(tmp_path)]
    grown = int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    # The ids and what LanceDB reads ahead: 70 to 90 MB. The vectors alone are 205.
    assert grown < 0.75 * flat.nbytes


@pytest.fixture
def measured(monkeypatch):
    """A list that grows with each measurement of what an index finds."""
    times = []
    measure = syncing._effort_for
    monkeypatch.setattr(syncing, "_effort_for", lambda *given: times.append(1) or measure(*given))
    return times


def some_edited(large, number):
    """60 rows with another text, each time others."""
    chosen = pl.int_range(pl.len()) // 60 == number
    return large.with_columns(
        query=pl.when(chosen).then(pl.col("query") + " edited").otherwise("query")
    )


def test_rows_that_are_added_to_the_index_have_it_measured_again_once_they_are_many(
    large, large_folder, monkeypatch, measured
):
    monkeypatch.setattr(syncing, "_MOST_UNMEASURED", 200)
    seen = []
    for number in range(5):
        large = some_edited(large, number)
        index = open_index(large_folder, dimensions=32)
        index.sync(large, clustered)
        seen.append(len(measured))
        stats = index._table.index_stats("vector_idx")
        assert (stats.num_unindexed_rows, stats.num_indices) == (0, 1)
    # Once it has 240 rows that it was measured without.
    assert seen == [0, 0, 0, 1, 1]
    assert index.effort.recall >= neighbours.ENOUGH_RECALL


def files_of(index):
    return index._table.to_lance().get_fragments()


def test_small_files_are_merged_once_they_are_many_and_a_large_one_stays_until_it_is_worn(
    large, large_folder, monkeypatch
):
    monkeypatch.setattr(syncing, "_MOST_SMALL_FILES", 4)
    first = {it.fragment_id for it in files_of(open_index(large_folder, dimensions=32))}
    rewritten, most = [], 0
    for number in range(45):  # 60 rows each
        large = some_edited(large, number)
        index = open_index(large_folder, dimensions=32)
        index.sync(large, clustered)
        files = files_of(index)
        most = max(most, len(files))
        rewritten.append(len(first - {it.fragment_id for it in files}))
    assert most < len(first) + 4 + 1
    # None but the last, which was small, in the 34 syncs until a tenth of its rows is gone; then
    # no more than two of eight at a time, and each by itself.
    assert max(rewritten[:34]) <= 1
    assert np.diff(rewritten).max() == 2
    assert max(it.num_deletions / it.physical_rows for it in files) < 0.15
    assert max(it.physical_rows for it in files) <= large.height / 8
    assert index.content_of_rows() == index.content
    assert len(index) == large.height
    asked = large["query"][:100].to_list()
    assert index.search(clustered(asked), 1)["query"].to_list() == asked


def test_a_sync_killed_before_its_last_commit_leaves_no_effort_to_an_index_made_since(
    large, large_folder, monkeypatch, measured
):
    index = open_index(large_folder, dimensions=32)
    facts = tables.facts_of(index._table.schema)
    effort = {"nprobes": 1, "refine": 1, "recall": 1.0}
    wrong = facts | {"effort": effort, "version": index.version + 1}
    index._table.update_field_metadata(tables.facts_update(wrong))

    def killed(_facts):
        raise KeyboardInterrupt

    edited = some_edited(large, 0)
    with monkeypatch.context() as patch:
        patch.setattr(tables, "facts_update", killed)
        with pytest.raises(KeyboardInterrupt):
            open_index(large_folder, dimensions=32).sync(edited, clustered)
    again = open_index(large_folder, dimensions=32)
    assert again.sync(edited, clustered).encoded == 0
    assert (measured, again.effort.nprobes > 1) == ([1], True)


def test_a_table_of_before_edits_were_counted_is_measured_once(large, large_folder, measured):
    index = open_index(large_folder, dimensions=32)
    facts = tables.facts_of(index._table.schema)
    assert facts.pop("unmeasured") == 0
    index._table.update_field_metadata(tables.facts_update(facts))
    old = open_index(large_folder, dimensions=32)
    assert old.effort == index.effort
    for number in (0, 1):
        open_index(large_folder, dimensions=32).sync(some_edited(large, number), clustered)
        assert measured == [1]


def least_effort_where(found_of_1000):
    """The effort that is chosen where a search finds so many of a thousand true neighbours."""

    def search(effort):
        row = np.arange(1_000)
        score = (row < found_of_1000(effort)).astype(np.float32)
        return neighbours.Hits(row // 10, row.astype(np.uint64), score)

    return neighbours.least_effort(search, np.ones(100, np.float32))


@pytest.mark.parametrize("enough", [10, 20, 80, 100, 300, 640])
def test_the_effort_is_the_least_that_finds_more_than_what_is_promised(enough):
    """What is measured on a sample may come out a little lower for other queries."""
    effort = least_effort_where(lambda it: 994 if it.nprobes >= enough else 993)
    assert (effort.recall, effort.refine) == (0.994, 1)
    assert effort.nprobes == min(it for it in neighbours._PROBES if it >= enough)


def test_where_codes_lose_too_much_more_is_scored_and_else_the_best_is_taken():
    def found(effort):
        return min(effort.nprobes, 700) + effort.refine

    assert least_effort_where(lambda it: 994 if it.refine > 1 else 980).nprobes == 160
    best = least_effort_where(found)
    assert (best.nprobes, best.refine, best.recall) == (1_000_000, 20, 0.72)


def test_where_approximate_search_finds_too_little_it_is_exact(large_folder):
    index = open_index(large_folder, dimensions=32)
    asked = clustered([f"about {number} never seen" for number in range(100)])
    reached = exact_scores(index, asked, 10)

    def search_as_if(recall):
        index._seen = index._seen._replace(effort=neighbours.Effort(1, 1, recall))
        return index.search(asked, 10)["score"].to_numpy().reshape(100, 10)

    assert (search_as_if(recall=0.99) < reached - 1e-5).any()  # so little effort does lose rows
    np.testing.assert_allclose(search_as_if(recall=0.989), reached, atol=1e-5)


def test_the_temperature_is_kept_until_many_rows_changed_and_measured_after_a_cut_off_sync(
    large, large_folder, monkeypatch
):
    asked = []
    measure = Asked.temperature
    monkeypatch.setattr(Asked, "temperature", lambda self: asked.append(1) or measure(self))
    index = open_index(large_folder, dimensions=32)
    before = index.temperature
    number = pl.int_range(pl.len())

    def edited(share):
        reworded = pl.when(number < share * large.height).then(pl.col("query") + f" {share}")
        return large.with_columns(query=reworded.otherwise("query"))

    index.sync(edited(0.006), clustered)
    assert (asked, index.temperature) == ([], before)
    index.sync(edited(0.005), clustered)  # again .6 %: 1.2 % since it was measured
    assert asked == [1]
    index.sync(edited(0.004), clustered)
    assert asked == [1]

    def killed(*_given, **_named):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.sync(edited(0.003), killed)
    assert asked == [1]
    with monkeypatch.context() as patch:  # all rows written, and killed before the last commit
        patch.setattr(Index, "_finish", killed)
        with pytest.raises(KeyboardInterrupt):
            index.sync(edited(0.002), clustered)
    open_index(large_folder, dimensions=32).sync(edited(0.002), clustered)
    assert asked == [1, 1]


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
    # The last of a query may be another: by rounding, and by a few codes more that are scored.
    assert both.height >= 0.999 * found.height
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
    poor = index._search()._at_hand(gone, 200, lambda query: query.nprobes(1))
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
