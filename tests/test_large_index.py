"""An index too large for memory: its search is approximate, and as good as was measured."""

import subprocess
import sys
from pathlib import Path

import lancedb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from large_table import clustered, exact_scores, files_of, some_edited
from test_index import open_index, set_cell

from monoglot.serving import approximate, neighbours, tables
from monoglot.serving.index import Index
from monoglot.serving.vectors import Asked


def test_a_large_table_is_searched_approximately_with_the_recall_that_was_measured(
    large, large_folder
):
    index = open_index(large_folder, dimensions=32)
    assert index.effort is not None
    assert len(files_of(index)) <= 9  # of the eight, the last chunk's is another
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
    monkeypatch.setattr(approximate, "_MOST_UNMEASURED", 100)
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
    measure = approximate._effort_for
    monkeypatch.setattr(
        approximate, "_effort_for", lambda *given: times.append(1) or measure(*given)
    )
    return times


@pytest.mark.parametrize(("most", "expected"), [(100, [0, 1, 1, 2, 2]), (5_000, [0, 0, 0, 1, 1])])
def test_rows_that_are_added_to_the_index_have_it_measured_again_once_they_are_many(
    large, large_folder, monkeypatch, measured, most, expected
):
    monkeypatch.setattr(approximate, "_MOST_UNMEASURED", most)
    seen = []
    for number in range(5):
        large = some_edited(large, number)
        index = open_index(large_folder, dimensions=32)
        index.sync(large, clustered)
        seen.append(len(measured))
        stats = index._table.index_stats("vector_idx")
        assert (stats.num_unindexed_rows, stats.num_indices) == (0, 1)
    # 60 are edited each time: once there are more than `most`, or than one in a hundred.
    assert seen == expected
    assert index.effort.recall >= neighbours.ENOUGH_RECALL


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
