"""Index set and training set (arXiv 2506.02527, section 3.1), and no leak into the evaluation.

A row's part is a threshold on a hash of its id, so that no other row moves when one is added or
removed; only the seat of the lowest hash, which keeps every label in the index set, can change
hands.
"""

import hashlib

import polars as pl

from monoglot.config import SplitConfig
from monoglot.contracts import Rejects, Split
from monoglot.identity import all_normalised

_HEX = 13  # digits: 52 bits, as many as a double holds exactly


def split_rows(rows: pl.DataFrame, config: SplitConfig, *, hold_out: bool) -> pl.DataFrame:
    """Give every row of a knowledge base its part.

    Args:
        rows: `contracts.KnowledgeBase`.
        config: shares and seed.
        hold_out: keep the translations of some training rows for evaluation, because no evaluation
            file is given; of labels that nothing is trained on, of the same share of all rows.

    Returns:
        `contracts.Split`, sorted by row id.
    """
    ids = rows["row_id"].to_list()
    placed = rows.select("row_id", "query", "label").with_columns(
        place=pl.Series(places(ids, f"{config.seed}"), dtype=pl.Float64),
        other=pl.Series(places(ids, f"{config.seed}/held_out"), dtype=pl.Float64),
    )
    lowest = pl.col("place") == pl.col("place").min().over("label")
    index = lowest | (pl.col("place") < config.index_share)
    held_out = pl.lit(hold_out) & (pl.col("other") < config.evaluation_share)
    untrained = pl.col("label").is_in(config.untrained_labels)
    part = (
        pl.when(untrained & (lowest | ~held_out))
        .then(pl.lit("untrained"))
        .when(index & ~untrained)
        .then(pl.lit("index"))
        .when(held_out)
        .then(pl.lit("held_out"))
        .otherwise(pl.lit("training"))
    )
    split = placed.select("row_id", "query", "label", part=part).sort("row_id")
    return pl.DataFrame(Split.validate(split, cast=True))


def places(ids: list[str], salt: str) -> list[float]:
    """A number in [0, 1) for each id, evenly spread; another salt gives other numbers."""
    start = hashlib.sha256(f"{salt}\x1f".encode())
    places = []
    for row_id in ids:
        sha = start.copy()
        sha.update(row_id.encode())
        places.append(int(sha.hexdigest()[:_HEX], 16) / 16**_HEX)
    return places


def without_leaks(
    anchors: pl.DataFrame, evaluation: pl.DataFrame, rows: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Anchors that give nothing of the evaluation away, and the others as rejects.

    An anchor leaks if its text, or its English source, is the text or the English source of an
    evaluation question, compared without case and punctuation. Its English source is its wording
    in `english`, and the row that it names as its source.

    Args:
        anchors: `contracts.Queries` to train on.
        evaluation: `contracts.Queries` to evaluate on.
        rows: the knowledge base (row_id, query), for anchors whose `english` is not the text of
            their row; None: there are none.
    """
    asked = evaluated_texts(evaluation)
    by_wording = _is_among(anchors["english"], asked)
    by_row = _sources_among(anchors, evaluation, rows)
    leaks = {
        "evaluation_text": _is_among(anchors["text"], asked),
        "evaluation_source": by_wording | by_row,
    }
    reasons = {
        "evaluation_text": "an evaluation question has this text",
        "evaluation_source": "an evaluation question has this English source",
    }
    first = pl.coalesce(pl.when(hit).then(pl.lit(name)) for name, hit in leaks.items())
    marked = anchors.with_columns(rule=first)
    rejected = marked.filter(pl.col("rule").is_not_null()).select(
        file=pl.format("training ({})", pl.col("origin").cast(pl.String)),
        row=pl.lit(None, dtype=pl.Int64),
        column=pl.lit("text"),
        value=pl.col("text").str.slice(0, 200),
        rule="rule",
        reason=pl.col("rule").replace_strict(reasons, return_dtype=pl.String),
    )
    kept = marked.filter(pl.col("rule").is_null()).drop("rule")
    return kept, rejected.select(Rejects.column_names())


def evaluated_texts(evaluation: pl.DataFrame) -> set[str]:
    """All texts and English sources of evaluation questions, normalised."""
    texts = pl.concat([evaluation["text"], evaluation["english"]]).drop_nulls().unique()
    return set(all_normalised(texts))


def leaking_rows(rows: pl.DataFrame, evaluation: pl.DataFrame) -> pl.Series:
    """Whether each knowledge-base row is itself an evaluation question in English.

    Such a row answers in the index, but it must not be trained on.
    """
    return _is_among(rows["query"], evaluated_texts(evaluation))


def _sources_among(
    anchors: pl.DataFrame, evaluation: pl.DataFrame, rows: pl.DataFrame | None
) -> pl.Series:
    """Whether the row that each anchor names as its source is an evaluation question in English."""
    if rows is None:
        return pl.repeat(value=False, n=anchors.height, eager=True)
    leaking = rows.filter(leaking_rows(rows, evaluation))["row_id"]
    return anchors["source_row_id"].is_in(leaking.implode()).fill_null(value=False)


def _is_among(texts: pl.Series, known: set[str]) -> pl.Series:
    among = all_normalised(texts).is_in(pl.Series(sorted(known), dtype=pl.String).implode())
    return among.fill_null(value=False)
