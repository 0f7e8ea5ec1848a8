"""The knowledge base: read, checked, with row ids."""

import polars as pl

from monoglot.config import KnowledgeBaseConfig
from monoglot.contracts import KnowledgeBase
from monoglot.errors import DataError
from monoglot.identity import all_normalised, file_digest, text_digest
from monoglot.knowledge.files import read_table
from monoglot.knowledge.labels import alike_labels
from monoglot.knowledge.rejects import (
    ROW,
    Loaded,
    RejectList,
    cleaned,
    refuse_many,
    trimmed,
    without_control,
    without_empty,
)

# What was read last: a refresh looks whether there is work, and then does it, in one process.
_LAST: dict[tuple[str, str], Loaded] = {}
_COLUMNS = ("row_id", "query", "label", "label_path", "label_text", "answer")
_TWINS_SHOWN = 3


def load_knowledge_base(config: KnowledgeBaseConfig) -> Loaded:
    """Read and check the knowledge base.

    A row id that is not given is a hash of label and query: then an edited query reads as one row
    removed and one added. Of several rows with one query, the first is kept: a contradiction that
    someone adds must not take down the answer that was there.

    Returns:
        `contracts.KnowledgeBase` sorted by row id, the rejects, and warnings.

    Raises:
        DataError: the file cannot be used, too many rows are rejected, or one label is left.
    """
    try:
        key = (config.model_dump_json(), file_digest(config.file))
    except OSError:
        return _read(config)  # which says what is wrong
    if key not in _LAST:
        loaded = _read(config)
        _LAST.clear()
        _LAST[key] = loaded
    return _LAST[key]


def _read(config: KnowledgeBaseConfig) -> Loaded:
    raw, rejects = read_table(
        config.file,
        config.columns,
        ("query", "label"),
        ("row_id", "label_path", "label_text", "answer"),
        shown=config.shown,
    )
    total = raw.height + len(rejects.entries)
    texts = *cleaned("row_id", "query", "label", "label_path", "label_text"), *trimmed("answer")
    rows = raw.lazy().with_columns(texts).collect()  # lazily: each text is normalised once
    rows = _without_bad_texts(rows, config.max_chars, rejects)
    rows = _with_row_ids(rows)
    rows = _without_repeats(rows, rejects)
    refuse_many(
        rejects,
        total,
        share=config.max_reject_share,
        setting="knowledge_base.max_reject_share",
    )
    if rows.is_empty():
        raise DataError(f"{config.shown}: no row can be used. {rejects.first()} Mend the file.")
    _refuse_one_label(config, rows)
    checked = KnowledgeBase.validate(rows.select(_COLUMNS), cast=True)
    return Loaded(
        pl.DataFrame(checked).sort("row_id"), rejects.table(), _warnings(rows, config.shown)
    )


def _without_bad_texts(rows: pl.DataFrame, max_chars: int, rejects: RejectList) -> pl.DataFrame:
    """Rows whose texts can be used as they are."""
    rows = without_empty(rows, ("query", "label"), rejects)
    too_long = pl.col("query").str.len_chars() > max_chars
    reason = f"longer than knowledge_base.max_chars ({max_chars})"
    rejects.add_rows(rows.filter(too_long), "query", "too_long", reason)
    return without_control(
        rows.filter(~too_long), ("row_id", "query", "label", "label_path", "label_text"), rejects
    )


def _with_row_ids(rows: pl.DataFrame) -> pl.DataFrame:
    if rows["row_id"].null_count() == 0:
        return rows
    made = [
        given or text_digest(label, query)
        for given, label, query in rows.select("row_id", "label", "query").iter_rows()
    ]
    return rows.with_columns(pl.Series("row_id", made, dtype=pl.String))


def _without_repeats(rows: pl.DataFrame, rejects: RejectList) -> pl.DataFrame:
    """Rows that neither repeat an earlier one nor contradict it."""
    first = rows.with_columns(
        first_row=pl.col(ROW).first().over("query"),
        first_label=pl.col("label").first().over("query"),
    )
    repeated = pl.col(ROW) != pl.col("first_row")
    same = pl.col("label") == pl.col("first_label")
    at = pl.col("first_row").cast(pl.String)
    rejects.add_rows(
        first.filter(repeated & same), "query", "duplicate", pl.format("same as row {}", at)
    )
    rejects.add_rows(
        first.filter(repeated & ~same),
        "query",
        "contradiction",
        pl.format("row {} has this query under label {}, which was kept", at, "first_label"),
    )
    kept = first.filter(~repeated).with_columns(id_row=pl.col(ROW).first().over("row_id"))
    taken = pl.col(ROW) != pl.col("id_row")
    rejects.add_rows(
        kept.filter(taken),
        "row_id",
        "duplicate_row_id",
        pl.format("row {} has this row id", pl.col("id_row").cast(pl.String)),
    )
    return kept.filter(~taken)


def _refuse_one_label(config: KnowledgeBaseConfig, rows: pl.DataFrame) -> None:
    labels = rows["label"].unique()
    if labels.len() < 2:
        raise DataError(
            f"{config.shown}: all rows have one label ({labels[0]}); two or more are needed, or "
            "there is nothing to tell apart. Look at the column, or map another one under "
            "knowledge_base.columns."
        )


def _warnings(rows: pl.DataFrame, place: str) -> tuple[str, ...]:
    warnings = []
    sizes = rows.group_by("label").len()
    single = sizes.filter(pl.col("len") == 1)["label"].sort().to_list()
    if single:
        warnings.append(
            f"{place}: {len(single)} of {sizes.height} labels have one row and so train nothing "
            f"(index only): {', '.join(single[:5])}{', ...' if len(single) > 5 else ''}"
        )
    twins = alike_labels(rows["label"])
    if twins:
        shown = [", ".join(map(repr, names)) for names in twins[:_TWINS_SHOWN]]
        warnings.append(
            f"{place}: {sum(map(len, twins))} labels are {len(twins)} but for case, punctuation or "
            f"invisible characters, such as {'; '.join(shown)}. Each counts as a label of its own"
        )
    alike = (
        rows.with_columns(alike=all_normalised(rows["query"]))
        .filter(pl.col("alike").is_duplicated())
        .group_by("alike")
        .agg(pl.col("label").n_unique().alias("labels"), pl.col(ROW))
        .filter(pl.col("labels") > 1)
    )
    if alike.height:
        pairs = sorted(alike[ROW].to_list())[:_TWINS_SHOWN]
        warnings.append(
            f"{place}: {alike.height} queries stand under several labels but for case or "
            f"punctuation, such as rows {'; '.join(', '.join(map(str, r)) for r in pairs)}"
        )
    return tuple(warnings)
