"""Where a system is wrong: by label, by pair of labels, and question by question.

All of it about the first label, which is the one a user is answered with.
"""

import polars as pl

from monoglot.learning.metrics import asked, values_of

_ANSWERED = pl.col("top_labels").list.get(0, null_on_oob=True)
_RIGHT = pl.col("rank") == 1
_PLACES = ("rank_before", "rank_after")


def per_label(outcomes: pl.DataFrame) -> pl.DataFrame:
    """Scores of each label, the one with the most wrongly answered questions first.

    Returns:
        label, known, questions, wrong (first label is another), hit@1, hit@3, mrr.
    """
    return (
        asked(outcomes)
        .group_by("label", "known")
        .agg(
            questions=pl.len().cast(pl.Int64),
            wrong=(~_RIGHT).sum().cast(pl.Int64),
            **{name: values_of(name).mean() for name in ("hit@1", "hit@3", "mrr")},
        )
        .sort("wrong", "hit@1", "label", descending=[True, False, False])
    )


def confusions(outcomes: pl.DataFrame) -> pl.DataFrame:
    """Pairs of the asked label and the wrong label that came first, the most frequent pair first.

    The example is the question answered with the greatest confidence, since that is the one which
    no threshold would have held back.

    Returns:
        label, answered (null: no row was found), questions, share (of the label's questions),
        example, nearest (the query of the row that misled).
    """
    surest = pl.col("top_score").fill_null(float("-inf"))
    wrong = (
        asked(outcomes)
        .with_columns(of_label=pl.len().over("label"))
        .filter(~_RIGHT)
        .sort(surest, "query_id", descending=[True, False])
    )
    return (
        wrong.group_by("label", _ANSWERED.alias("answered"))
        .agg(
            questions=pl.len().cast(pl.Int64),
            share=pl.len() / pl.col("of_label").first(),
            example=pl.col("text").first(),
            nearest=pl.col("top_query").first(),
        )
        .sort("questions", "share", "label", "answered", descending=[True, True, False, False])
    )


def won_and_lost(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Questions that one of two systems answers rightly and the other does not.

    In an order that shows much in few rows: one question of every label, then a second of each,
    and so on; within that, the greatest change of place first.

    Returns:
        won (the second system is right), language, text, english (null where unknown), label,
        answered_before, answered_after (null: no row was found), rank_before, rank_after.
    """
    english = asked(before, control=True).select("query_id", english="text")
    second = asked(after).select("query_id", answered_after=_ANSWERED, rank_after="rank")
    changed = (
        asked(before)
        .join(second, on="query_id", validate="1:1")
        .join(english, on="query_id", how="left")
        .select(
            "query_id",
            (pl.col("rank_after") == 1).alias("won"),
            "language",
            "text",
            "english",
            "label",
            _ANSWERED.alias("answered_before"),
            "answered_after",
            pl.col("rank").alias("rank_before"),
            "rank_after",
        )
        .filter((pl.col("rank_before") == 1) != pl.col("won"))
    )
    place = {name: pl.when(pl.col(name) > 0).then(name).otherwise(11) for name in _PLACES}
    moved = (place["rank_before"] - place["rank_after"]).abs()
    return (
        changed.with_columns(moved=moved)
        .sort("won", "moved", "query_id", descending=[True, True, False])
        .with_columns(turn=pl.col("query_id").cum_count().over("won", "label"))
        .sort("won", "turn", "moved", "query_id", descending=[True, False, True, False])
        .drop("query_id", "moved", "turn")
    )
