"""Queries people give: labelled questions in the target languages, and existing translations."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from monoglot.config import LanguageConfig, QueriesFile
from monoglot.contracts import Queries
from monoglot.errors import DataError
from monoglot.identity import all_normalised, text_digest
from monoglot.knowledge.files import read_table
from monoglot.knowledge.labels import lacking_labels
from monoglot.knowledge.rejects import (
    ROW,
    Loaded,
    RejectList,
    checked,
    cleaned,
    refuse_many,
    without_control,
    without_empty,
)
from monoglot.learning_config import OutOfScopeFile

_COLUMNS = tuple(Queries.column_names())
NO_LABEL = ""  # of an out-of-scope query: a label of the knowledge base is never empty
# Rows of a translations file that are not translated yet, or whose row is no longer there.
_ASIDE = ("empty", "no_such_row")
_UNDETERMINED = "und"  # BCP 47


def load_queries(
    file: QueriesFile, language: str | None = None, codes: Sequence[str] = ()
) -> Loaded:
    """Read labelled native queries, for evaluation or for training.

    A question that occurs several times is kept as often: it counts as often as users ask it.
    A language has one spelling, the config's or else the first of the file: a tag has no case.

    Args:
        file: the file.
        language: of the queries that name none; None: each must.
        codes: BCP 47 codes of the languages that are listed in the config.

    Returns:
        `contracts.Queries` in the order of the file, and the rejects.

    Raises:
        DataError: the file cannot be used, no row of it, or too few.
    """
    assert file.path is not None
    always, optional = ("text", "language", "label"), ("english", "query_id")
    required = always if language is None else ("text", "label")
    known = optional if language is None else (*optional, "language")
    raw, rejects = read_table(file.path, file.columns, required, known)
    total = raw.height + len(rejects.entries)
    raw = raw.with_columns(*cleaned(*always, *optional)).with_columns(
        pl.coalesce("language", pl.lit(language, dtype=pl.String))
    )
    rows = without_control(without_empty(raw, always, rejects), (*always, *optional), rejects)
    spellings = codes if language is None else (language, *codes)
    rows = _with_query_ids(_with_one_spelling(rows, spellings), rejects)
    warnings = checked(rows, total, rejects)
    return Loaded(_queries(rows, origin="native"), rejects.table(), warnings)


def load_out_of_scope(file: OutOfScopeFile) -> Loaded:
    """Read queries that no row answers, each text once.

    Returns:
        `contracts.Queries` without a label, so that whatever is answered to them is wrong, and
        the rejects.

    Raises:
        DataError: the file cannot be used, no row of it, or too few.
    """
    assert file.path is not None
    raw, rejects = read_table(file.path, file.columns, ("text",), ("language",))
    total = raw.height + len(rejects.entries)
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
    warnings = checked(rows, total, rejects)
    ids = [text_digest("out of scope", text) for text in rows["text"]]
    rows = rows.with_columns(pl.Series("query_id", ids, dtype=pl.String))
    return Loaded(_queries(rows, origin="native"), rejects.table(), warnings)


def load_translations(language: LanguageConfig, rows: pl.DataFrame) -> Loaded:
    """Read existing translations and join them to the knowledge base's rows.

    A translation names its row by `row_id`, or by `source`, the English text. A source that no row
    has to the letter is compared without case and punctuation, and counts for each row it fits.
    Where both are given, they must name one row; an id that no row has leaves it to the source. A
    row may have several translations. Those of another language are left to that language.

    Args:
        language: which language, and its `translations` file.
        rows: `contracts.KnowledgeBase`.

    Returns:
        `contracts.Queries` of origin `translated`, the rejects, and warnings.

    Raises:
        DataError: the file cannot be used, no row of it, or too few, or it names its rows by
            neither column.
    """
    assert language.translations is not None
    path = language.translations
    names = ("translation", "source", "row_id", "language")
    raw, unread = read_table(path, None, names[:1], names[1:])
    refuse_many(unread, raw.height + len(unread.entries))
    rejects = RejectList(unread.file)  # of this language
    if raw["source"].null_count() + raw["row_id"].null_count() == 2 * raw.height:
        raise DataError(f"{path}: names no row: give a column source (the English text) or row_id.")
    given = _of_language(raw.with_columns(*cleaned(*names)), language, path)
    total = given.height
    given = without_control(without_empty(given, names[:1], rejects), names, rejects)
    joined = _joined(given, rows, rejects)
    kept = _distinct(joined, rejects)
    warnings = (*checked(kept, total, rejects, aside=_ASIDE), *_by_source_alone(joined, rejects))
    rejects.entries += unread.entries
    return Loaded(_translated(kept, language.code), rejects.table(), warnings)


def unknown_labels(questions: pl.DataFrame, rows: pl.DataFrame) -> str | None:
    """A warning about questions whose label the knowledge base lacks, or None."""
    return lacking_labels(questions, rows, "evaluation questions", "each counts as a miss")


def _with_one_spelling(rows: pl.DataFrame, codes: Sequence[str]) -> pl.DataFrame:
    """Each language by the spelling among the codes, or else by its first in the rows."""
    folded = pl.col("language").str.to_lowercase()
    listed = {code.lower(): code for code in codes}
    ours = folded.replace_strict(listed, default=None, return_dtype=pl.String)
    return rows.with_columns(language=pl.coalesce(ours, pl.col("language").first().over(folded)))


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
    given = given.with_columns(
        text="translation", given_id="row_id", folded=all_normalised(given["source"])
    )
    named = given.join(known.rename({"folded": "row_folded"}), on="row_id")
    agrees = (pl.col("folded") == pl.col("row_folded")).fill_null(value=True)
    rejects.add_rows(
        named.filter(~agrees),
        "source",
        "source_mismatch",
        pl.format("row id {} is of the text {}, not of {}", "row_id", "english", "source"),
    )
    by_source = given.join(known, on="row_id", how="anti").drop("row_id")
    same = known.with_columns(source="english")
    alike = by_source.join(same, on="source", how="anti")
    matched = [
        named.filter(agrees),
        by_source.drop("folded").join(same, on="source"),
        alike.join(known, on="folded"),
    ]
    matched = [part.with_columns(source_row_id="row_id") for part in matched]
    wanted = [ROW, "text", "label", "english", "source_row_id", "given_id"]
    found = pl.concat([part.select(wanted) for part in matched]).sort(ROW, "source_row_id")
    seen = pl.concat([found[ROW], named[ROW]])
    lost = given.filter(~pl.col(ROW).is_in(seen.implode()))
    has_id = pl.col("row_id").is_not_null()
    reason = "no row of the knowledge base has this {}"
    rejects.add_rows(lost.filter(has_id), "row_id", "no_such_row", reason.format("row id"))
    rejects.add_rows(lost.filter(~has_id), "source", "no_such_row", reason.format("source"))
    return found


def _translated(kept: pl.DataFrame, code: str) -> pl.DataFrame:
    """Translations into a language as `contracts.Queries`."""
    ids = [
        text_digest(code, row_id, text)
        for row_id, text in kept.select("source_row_id", "text").iter_rows()
    ]
    named = kept.with_columns(pl.Series("query_id", ids, dtype=pl.String), language=pl.lit(code))
    return _queries(named, origin="translated")


def _by_source_alone(joined: pl.DataFrame, rejects: RejectList) -> tuple[str, ...]:
    """A warning about translations whose row id no row has, and whose source one has."""
    moved = joined.filter(pl.col("given_id") != pl.col("source_row_id")).unique(
        ROW, keep="first", maintain_order=True
    )
    if moved.is_empty():
        return ()
    row, given, found = moved.select(ROW, "given_id", "source_row_id").row(0)
    return (
        f"{rejects.file}: {moved.height} translations name a row id that the knowledge base lacks; "
        f"their rows were found by source, such as for row {row} ({given}, found {found})",
    )


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
