"""Anchors, positives and triplets: who is paired with whom."""

# ruff: noqa: F811  fixtures are imported

import polars as pl
import pytest
from small_corpus import anchors, rows, similarity, triplets_of  # noqa: F401

from monoglot.errors import DataError


def test_positives_keep_the_label_and_the_paper_takes_them_from_the_index_set(
    anchors, rows, similarity
):
    label_of = dict(rows.select("row_id", "label").iter_rows())
    wide = triplets_of(anchors, rows, similarity, epochs=20, own_source_share=0.0)
    paper = triplets_of(anchors, rows, similarity, epochs=20, positives="index", hard_negatives=1)
    for table in (wide, paper):
        named = table.join(anchors, left_on="anchor", right_on="query_id")
        assert [label_of[row] for row in named["positive_row"]] == named["label"].to_list()
    assert set(paper["positive_row"]) == {"alarm-0", "music-0", "weather-0"}
    assert set(wide["positive_row"]) == set(rows["row_id"])


def test_a_given_translation_of_an_index_row_is_learned_from_but_not_by_the_paper(
    anchors, rows, similarity
):
    of_index = anchors.head(1).with_columns(
        query_id=pl.lit("extra"), source_row_id=pl.lit("alarm-0")
    )
    native = of_index.with_columns(query_id=pl.lit("native"), origin=pl.lit("native"))
    more = pl.concat([anchors, of_index, native])
    wide = triplets_of(more, rows, similarity)["anchor"]
    paper = triplets_of(more, rows, similarity, positives="index", hard_negatives=1)["anchor"]
    assert set(wide) == set(more["query_id"])
    assert set(paper) == set(more["query_id"]) - {"extra"}


def test_held_out_rows_take_no_part(anchors, rows, similarity):
    held = rows.with_columns(
        part=pl.when(pl.col("row_id") == "alarm-0")
        .then(pl.lit("held_out"))
        .otherwise(pl.lit("training"))
    )
    table = triplets_of(anchors, held, similarity, epochs=20)
    used = set(table["positive_row"]) | set(table["negative_rows"].explode())
    assert used == set(rows["row_id"]) - {"alarm-0"}


def test_own_source_share_of_one_pairs_each_anchor_with_its_source(anchors, rows, similarity):
    table = triplets_of(anchors, rows, similarity, own_source_share=1.0)
    named = table.join(anchors, left_on="anchor", right_on="query_id")
    assert named["positive_row"].to_list() == named["source_row_id"].to_list()


def test_triplets_repeat_for_a_seed_and_differ_between_epochs(anchors, rows, similarity):
    first = triplets_of(anchors, rows, similarity, epochs=2)
    assert first.equals(triplets_of(anchors.reverse(), rows.reverse(), similarity, epochs=2))
    halves = [first.filter(pl.col("epoch") == epoch).drop("epoch") for epoch in (0, 1)]
    assert not halves[0].equals(halves[1])


def test_without_anchors_the_error_points_to_the_rejects(anchors, rows, similarity):
    with pytest.raises(DataError, match="rejects"):
        triplets_of(anchors.clear(), rows, similarity)
