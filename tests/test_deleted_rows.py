"""Deleted rows stay in the version that a large index is searched by, and in no answer."""

import numpy as np
import polars as pl
import pytest
from large_table import clustered, exact_scores, files_of, some_edited
from test_index import open_index, set_cell

from monoglot.serving import approximate, neighbours, tables
from monoglot.serving.index import Index
from monoglot.serving.table_search import TableSearch


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
        patch.setattr(approximate, "extend", lambda _: pytest.fail("killed"))
        for rows in (some_edited(large, 1), first):
            with pytest.raises(pytest.fail.Exception, match="killed"):
                open_index(large_folder, dimensions=32).sync(rows, clustered)
    open_index(large_folder, dimensions=32).sync(first, clustered)
    index = open_index(large_folder, dimensions=32)
    asked = first["query"][:120].to_list()
    assert index.search(clustered(asked), 1)["query"].to_list() == asked
    poor = index._search()._at_hand(clustered(asked), 200, nprobes=300)
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
        TableSearch,
        "_found",
        lambda *given, **how: read.append(given[1]) or found(*given, **how),
    )
    asked = clustered(["about 7 case new", "about 8 case new"])
    rows = index.nearest(asked, 200)
    assert rows.group_by("question").len()["len"].to_list() == [200, 200]
    assert read == 2 * [index._search()._undeleted.data]  # and never all partitions
    reached = exact_scores(index, asked, 10)[:, -1]
    hits = neighbours.Hits(*(rows[it].to_numpy() for it in ("question", "row", "score")))
    assert neighbours.recall(hits, reached) >= 0.95


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
