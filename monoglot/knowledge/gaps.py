"""What users ask that the knowledge base does not answer, put together for its editor."""

import polars as pl

from monoglot.knowledge.duplicates import groups_of

_SHOWN = 3


def grouped(gaps: pl.DataFrame) -> pl.DataFrame:
    """Gaps that ask the same in one line, the most often asked first.

    They are compared by their English wording, so that one gap is one line in all languages, and
    by their text where there is none.

    Args:
        gaps: `contracts.Gaps`.

    Returns:
        Columns wording (of the most often asked), times, queries (number of distinct ones),
        languages (list) and texts (the first three, the most often asked first).
    """
    ordered = gaps.sort("times", "query_id", descending=[True, False])
    wording = pl.coalesce("english", "text")
    words = ordered.select(wording.alias("wording"))["wording"]
    groups = groups_of(words.to_list())
    return (
        ordered.with_columns(wording=words, group=pl.Series(groups, dtype=pl.Int64))
        .group_by("group", maintain_order=True)
        .agg(
            pl.col("wording").first(),
            pl.col("times").sum(),
            pl.len().alias("queries"),
            pl.col("language").unique().sort().alias("languages"),
            pl.col("text").head(_SHOWN).alias("texts"),
        )
        .sort("times", descending=True, maintain_order=True)
        .drop("group")
    )
