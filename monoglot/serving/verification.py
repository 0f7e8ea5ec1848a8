"""Ask an index for its own rows before anyone else may."""

import polars as pl

from monoglot.errors import RunError
from monoglot.serving.index import Index
from monoglot.serving.manifest import Release
from monoglot.serving.vectors import Vectors

_SAMPLE = 100
_EQUALS = 10  # so many rows of one vector may come before a row that is looked for
_SAME_SCORE = 1e-5
_SCORE_OF_ITSELF = 1 - 1e-3


def check_index(index: Index, release: Release) -> None:
    """The index holds the rows that the release names, and a sample of them finds itself.

    A row finds itself if it comes first, or after rows of an equal vector only. Where search is
    approximate, as many rows must as its recall promises.

    Raises:
        RunError: rows are missing or others, or do not find themselves.
    """
    same = release.index_content == index.content == index.content_of_rows()
    if len(index) != release.rows or not same:
        raise RunError(
            f"release {release.id}: version {release.index_version} of its index "
            f"{release.index_table} holds {len(index):,} rows and not the {release.rows:,} "
            "that the release names, or others. Run again."
        )
    sample = index.sample(_SAMPLE)
    lost = sample.row_ids.filter(~_find_themselves(index, sample))
    if len(lost) > len(sample.row_ids) * (1 - index.promised_recall):
        raise RunError(
            f"release {release.id}: {len(lost)} of {len(sample.row_ids)} rows do not find "
            f"themselves, the first: {lost[0]}. The table {release.index_table} is damaged: remove "
            "its folder under the store's index/ and run again."
        )


def _find_themselves(index: Index, sample: Vectors) -> pl.Series:
    """Whether a search for each row's vector gives that row first, or among its equals."""
    found = index.search(sample.matrix, _EQUALS)
    equals = found.filter(pl.col("score") >= pl.col("score").max().over("question") - _SAME_SCORE)
    ids = pl.DataFrame({"question": range(len(sample.row_ids)), "own": sample.row_ids})
    return (
        ids.cast({"question": pl.UInt32})
        .join(equals, on="question", how="left")
        .group_by("question", maintain_order=True)
        .agg(
            itself=(pl.col("own") == pl.col("row_id")).any() | (pl.len() == _EQUALS),
            best=pl.col("score").max(),
        )
        .select(found=pl.col("itself") & (pl.col("best") >= _SCORE_OF_ITSELF))["found"]
        .fill_null(value=False)
    )
