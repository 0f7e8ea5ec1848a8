"""Choosing by the split: whose translations train, what is held out, what a label is about."""

from collections.abc import Sequence

import polars as pl

from monoglot.config import SplitConfig
from monoglot.contracts import Queries, empty
from monoglot.identity import text_digest
from monoglot.knowledge.split import leaking_rows


def of_part(
    translations: Sequence[pl.DataFrame], parts: pl.DataFrame, *wanted: str
) -> pl.DataFrame:
    """The translations (`contracts.Queries`) whose source row has a wanted part in the split.

    Args:
        translations: of knowledge-base rows, one table a language.
        parts: `contracts.Split`.
        wanted: of index, training, held_out and untrained.
    """
    sources = parts.filter(pl.col("part").cast(pl.String).is_in(wanted)).select("row_id")
    rows = pl.concat([empty(Queries), *translations])
    chosen = rows.join(sources, left_on="source_row_id", right_on="row_id", how="semi")
    return chosen.sort("query_id")


def to_translate(parts: pl.DataFrame) -> pl.DataFrame:
    """The rows whose translations train or are evaluated on.

    Args:
        parts: `contracts.Split`.
    """
    return parts.filter(pl.col("part").cast(pl.String).is_in(["training", "held_out"]))


def untrained_labels(parts: pl.DataFrame) -> pl.Series:
    """The labels that nothing is trained on; at least one row of each is `untrained`."""
    return parts.filter(pl.col("part").cast(pl.String) == "untrained")["label"].unique()


def held_out_share(native: pl.DataFrame, config: SplitConfig) -> pl.DataFrame:
    """The share of native queries that is evaluated on where there is no evaluation file.

    A threshold on the hash of text and seed: a repeated query is on one side with all its copies.
    """
    places = [int(text_digest(text, str(config.seed)), 16) / 16**16 for text in native["text"]]
    return native.filter(pl.Series(places, dtype=pl.Float64) < config.evaluation_share)


def topics_of(rows: pl.DataFrame, parts: pl.DataFrame, evaluation: pl.DataFrame) -> pl.DataFrame:
    """One row a label that is trained on: label, label_text, label_path, queries as `examples`.

    Held-out rows, and rows that are an evaluation question in English, are no examples: what is
    written after them would give the evaluation away.

    Args:
        rows: `contracts.KnowledgeBase`.
        parts: `contracts.Split` of it.
        evaluation: `contracts.Queries` to evaluate on.
    """
    hidden = parts.filter(pl.col("part").cast(pl.String) == "held_out")["row_id"].implode()
    shown = ~pl.col("row_id").is_in(hidden) & ~leaking_rows(rows, evaluation)
    return (
        rows.with_columns(shown=shown)
        .filter(~pl.col("label").is_in(untrained_labels(parts).implode()))
        .sort("row_id")
        .group_by("label")
        .agg(
            pl.col("label_text", "label_path").filter(pl.col("shown")).drop_nulls().first(),
            pl.col("query").filter(pl.col("shown")).alias("examples"),
        )
        .sort("label")
    )
