"""Queries people give: labelled questions in the target languages, and existing translations."""

from pathlib import Path

import polars as pl

from monoglot.config import LanguageConfig, QueriesFile
from monoglot.contracts import Queries
from monoglot.errors import DataError
from monoglot.identity import all_normalised, text_digest
from monoglot.knowledge.files import read_table
from monoglot.knowledge.rejects import (
    ROW,
    Loaded,
    RejectList,
    cleaned,
    without_control,
    without_empty,
)
from monoglot.learning_config import OutOfScopeFile

_COLUMNS = tuple(Queries.column_names())
NO_LABEL = ""  # of an out-of-scope query: a label of the knowledge base is never empty
_UNDETERMINED = "und"  # BCP 47


def load_queries(file: QueriesFile, language: str | None = None) -> Loaded:
    """Read labelled native queries, for evaluation or for training.

    A question that occurs several times is kept as often: it counts as often as users ask it.

    Args:
        file: the file.
        language: of the queries that name none; None: each must.

    Returns:
        `contracts.Queries` in the order of the file, and the rejects.

    Raises:
        DataError: the file cannot be used, or no row of it.
    """
    assert file.path is not None
    always, optional = ("text", "language", "label"), ("english", "query_id")
    required = always if language is None else ("text", "label")
    known = optional if language is None else (*optional, "language")
    raw, rejects = read_table(file.path, file.columns, required, known)
    raw = raw.with_columns(*cleaned(*always, *optional)).with_columns(
        pl.coalesce("language", pl.lit(language, dtype=pl.String))
    )
    rows = without_control(without_empty(raw, always, rejects), (*always, *optional), rejects)
    rows = _with_query_ids(rows, rejects)
    if rows.is_empty():
        raise DataError(f"{file.path}: no row can be used. {rejects.first()} Mend the file.")
    return Loaded(_queries(rows, origin="native"), rejects.table())


def load_out_of_scope(file: OutOfScopeFile) -> Loaded:
    """Read queries that no row answers, each text once.

    Returns:
        `contracts.Queries` without a label, so that whatever is answered to them is wrong, and
        the rejects.

    Raises:
        DataError: the file cannot be used, or no row of it.
    """
    assert file.path is not None
    raw, rejects = read_table(file.path, file.columns, ("text",), ("language",))
    rows = without_empty(raw.with_columns(*cleaned("text", "language")), ("text",), rejects)
    rows = without_control(rows, ("text", "language"), rejects)
    rows = rows.with_columns(
        pl.col("language").fill_null(_UNDETERMINED),
        first=pl.col(ROW).first().over("text"),
        label=pl.lit(NO_LABEL),
        english=pl.lit(None, dtype=pl.String),
    )
    again = pl.col(ROW) != pl.col("first")
    rejects.add_rows(
        rows.filter(again),
        "text",
        "duplicate",
        pl.format("same text as in row {}", pl.col("first").cast(pl.String)),
    )
    rows = rows.filter(~again)
    if rows.is_empty():
        raise DataError(f"{file.path}: no row can be used. {rejects.first()} Mend the file.")
    ids = [text_digest("out of scope", text) for text in rows["text"]]
    rows = rows.with_columns(pl.Series("query_id", ids, dtype=pl.String))
    return Loaded(_queries(rows, origin="native"), rejects.table())


def load_translations(language: LanguageConfig, rows: pl.DataFrame) -> Loaded:
    """Read existing translations and join them to the knowledge base's rows.

    A translation names its row by `row_id`, or by `source`, the English text. A source that no row
    has to the letter is compared without case and punctuation, and counts for each row it fits. A
    row may have several translations. Those of another language are left to that language.

    Args:
        language: which language, and its `translations` file.
        rows: `contracts.KnowledgeBase`.

    Returns:
        `contracts.Queries` of origin `translated`, and the rejects.

    Raises:
        DataError: the file cannot be used, or names its rows by neither column.
    """
    assert language.translations is not None
    path = language.translations
    names = ("translation", "source", "row_id", "language")
    raw, rejects = read_table(path, None, names[:1], names[1:])
    if raw["source"].null_count() + raw["row_id"].null_count() == 2 * raw.height:
        raise DataError(f"{path}: names no row: give a column source (the English text) or row_id.")
    given = _of_language(raw.with_columns(*cleaned(*names)), language, path)
    given = without_control(without_empty(given, names[:1], rejects), names, rejects)
    kept = _distinct(_joined(given, rows, rejects), rejects)
    if kept.is_empty():
        raise DataError(f"{path}: no row can be used. {rejects.first()} Mend the file.")
    ids = [
        text_digest(language.code, row_id, text)
        for row_id, text in kept.select("source_row_id", "text").iter_rows()
    ]
    kept = kept.with_columns(
        pl.Series("query_id", ids, dtype=pl.String), language=pl.lit(language.code)
    )
    return Loaded(_queries(kept, origin="translated"), rejects.table())


def unknown_labels(questions: pl.DataFrame, rows: pl.DataFrame) -> str | None:
    """A warning about questions whose label the knowledge base lacks, or None."""
    lacking = questions.filter(~pl.col("label").is_in(rows["label"].unique().implode()))
    if lacking.is_empty():
        return None
    names = lacking["label"].unique().sort().to_list()
    return (
        f"{lacking.height} of {questions.height} evaluation questions have a label that the "
        f"knowledge base lacks ({len(names)} labels: {', '.join(names[:5])}"
        f"{', ...' if len(names) > 5 else ''}); each counts as a miss"
    )


def _of_language(given: pl.DataFrame, language: LanguageConfig, path: Path) -> pl.DataFrame:
    """The rows of this language, or of none; a language tag has no upper and lower case."""
    code = pl.col("language").str.to_lowercase()
    chosen = given.filter(code.is_null() | (code == language.code.lower()))
    if chosen.is_empty():
        others = given["language"].unique().sort().to_list()
        raise DataError(
            f"{path}: has no translation into {language.code}; its column language holds "
            f"{', '.join(others[:5])}. Write the code there, or leave the column out."
        )
    return chosen


def _distinct(joined: pl.DataFrame, rejects: RejectList) -> pl.DataFrame:
    """Each translation of a row once."""
    first = joined.with_columns(
        first=pl.col(ROW).first().over("source_row_id", "text"), translation="text"
    )
    again = pl.col(ROW) != pl.col("first")
    rejects.add_rows(
        first.filter(again),
        "translation",
        "duplicate",
        pl.format("same translation as in row {}", pl.col("first").cast(pl.String)),
    )
    return first.filter(~again)


def _joined(given: pl.DataFrame, rows: pl.DataFrame, rejects: RejectList) -> pl.DataFrame:
    """Translations with their row's id, label and English text; one line a matched row."""
    known = rows.select(
        "row_id",
        "label",
        pl.col("query").alias("english"),
        folded=all_normalised(rows["query"]),
    )
    given = given.with_columns(text="translation", folded=all_normalised(given["source"]))
    by_id = given.filter(pl.col("row_id").is_not_null())
    by_source = given.filter(pl.col("row_id").is_null()).drop("row_id")
    same = known.with_columns(source="english")
    alike = by_source.join(same, on="source", how="anti")
    matched = [
        by_id.join(known.drop("folded"), on="row_id"),
        by_source.drop("folded").join(same, on="source"),
        alike.join(known, on="folded"),
    ]
    matched = [part.with_columns(source_row_id="row_id") for part in matched]
    wanted = [ROW, "text", "label", "english", "source_row_id"]
    found = pl.concat([part.select(wanted) for part in matched]).sort(ROW, "source_row_id")
    lost = given.filter(~pl.col(ROW).is_in(found[ROW].implode()))
    has_id = pl.col("row_id").is_not_null()
    reason = "no row of the knowledge base has this {}"
    rejects.add_rows(lost.filter(has_id), "row_id", "no_such_row", reason.format("row id"))
    rejects.add_rows(lost.filter(~has_id), "source", "no_such_row", reason.format("source"))
    return found


def _with_query_ids(rows: pl.DataFrame, rejects: RejectList) -> pl.DataFrame:
    """Ids where none are given, from the content and its occurrence; a given id counts once."""
    occurrence = pl.int_range(pl.len()).over("language", "label", "text")
    rows = rows.with_columns(occurrence=occurrence)
    made = [
        given or text_digest(language, label, text, str(number))
        for given, language, label, text, number in rows.select(
            "query_id", "language", "label", "text", "occurrence"
        ).iter_rows()
    ]
    rows = rows.with_columns(pl.Series("query_id", made, dtype=pl.String))
    rows = rows.with_columns(first=pl.col(ROW).first().over("query_id"))
    again = pl.col(ROW) != pl.col("first")
    rejects.add_rows(
        rows.filter(again),
        "query_id",
        "duplicate_query_id",
        pl.format("row {} has this query id", pl.col("first").cast(pl.String)),
    )
    return rows.filter(~again)


def _queries(rows: pl.DataFrame, origin: str) -> pl.DataFrame:
    if "source_row_id" not in rows.columns:
        rows = rows.with_columns(source_row_id=pl.lit(None, dtype=pl.String))
    full = rows.with_columns(origin=pl.lit(origin)).select(_COLUMNS)
    return pl.DataFrame(Queries.validate(full, cast=True))
