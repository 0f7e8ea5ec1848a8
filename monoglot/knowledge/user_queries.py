"""Real user queries without labels: read, counted, and kept apart from the evaluation."""

import contextlib
from collections.abc import Sequence

import polars as pl

from monoglot.config import UserQueriesFile
from monoglot.contracts import Candidates, Rejects, UserQueries, empty
from monoglot.errors import StoreError
from monoglot.identity import all_normalised, text_digest
from monoglot.knowledge.duplicates import near_to, repeats
from monoglot.knowledge.files import read_table
from monoglot.knowledge.rejects import (
    ROW,
    Loaded,
    RejectList,
    checked,
    cleaned,
    without_control,
    without_empty,
)
from monoglot.store import Store

_MAX_CHARS = 500  # a letter to the help desk has several matters: no query of one label
_SHOWN_CHARS = 200
_SEARCHES = 16  # one a language and run: the last runs' are enough
# A log has letters and other languages beside what is asked for here.
_ASIDE = ("too_long", "language_missing", "language_not_listed")
_CANDIDATES = 10  # about as many as a search finds, for an estimate of tokens


def load_user_queries(file: UserQueriesFile, codes: Sequence[str]) -> Loaded:
    """Read a file of unlabelled user queries.

    Each distinct query is one row, with the number of times it was asked. Of near-duplicates the
    one with the lowest digest stands for all, so that neither the order of a log nor its counts
    change what the LLM is asked; the others are rejected, and their times added to it.

    Args:
        file: the file; its column language may be left out where one language is listed.
        codes: BCP 47 codes of the languages that are listed in the config.

    Returns:
        `contracts.UserQueries`, sorted by id, and the rejects.

    Raises:
        DataError: the file cannot be used, no row of it, or too few.
    """
    assert file.path is not None
    raw, rejects = read_table(file.path, file.columns, ("text",), ("language",))
    total = raw.height + len(rejects.entries)
    rows = without_empty(raw.with_columns(*cleaned("text", "language")), ("text",), rejects)
    rows = without_control(rows, ("text", "language"), rejects)
    rows = _of_query_length(rows, rejects)
    rows = _in_listed_language(rows, codes, rejects)
    warnings = checked(rows, total, rejects, aside=_ASIDE)
    kept = _without_near_copies(_counted(rows), rejects)
    return Loaded(pl.DataFrame(UserQueries.validate(kept, cast=True)), rejects.table(), warnings)


def unasked(
    queries: pl.DataFrame,
    evaluation: pl.DataFrame,
    labelled: pl.DataFrame | None = None,
    outside: pl.DataFrame | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The user queries that are worth an LLM's label, and the others as rejects.

    A query that is an evaluation question, or nearly, must not train, one that people have
    labelled already needs no second label, and one that they found no answer for none at all: they
    are not sent anywhere.

    Args:
        queries: `contracts.UserQueries`.
        evaluation: `contracts.Queries` to evaluate on.
        labelled: `contracts.Queries` with labels by people; None: there are none.
        outside: `contracts.Queries` that no row answers, as people say; None: there are none.
    """
    asked = pl.concat([evaluation["text"], evaluation["english"]]).drop_nulls().unique().sort()
    folded = all_normalised(queries["text"])
    hits = {
        "evaluation_text": _is_among(folded, asked),
        "near_evaluation": near_to(queries["text"].to_list(), asked.to_list()).is_not_null(),
        "out_of_scope": _is_among(folded, None if outside is None else outside["text"]),
        "labelled_already": _is_among(folded, None if labelled is None else labelled["text"]),
    }
    reasons = {
        "evaluation_text": "an evaluation question has this text",
        "near_evaluation": "nearly the text of an evaluation question",
        "out_of_scope": "an out-of-scope query has this text (abstention.out_of_scope)",
        "labelled_already": "a labelled training query has this text",
    }
    marked = queries.with_columns(
        rule=pl.coalesce(pl.when(hit).then(pl.lit(rule)) for rule, hit in hits.items())
    )
    rejected = marked.filter(pl.col("rule").is_not_null()).select(
        file=pl.lit("user queries"),
        row=pl.lit(None, dtype=pl.Int64),
        column=pl.lit("text"),
        value=pl.col("text").str.slice(0, _SHOWN_CHARS),
        rule="rule",
        reason=pl.col("rule").replace_strict(reasons, return_dtype=pl.String),
    )
    kept = marked.filter(pl.col("rule").is_null()).drop("rule")
    return kept, rejected.select(Rejects.column_names())


def _is_among(folded: pl.Series, texts: pl.Series | None) -> pl.Series:
    """Whether each folded text is one of the texts; None: there are none."""
    known = folded.clear() if texts is None else all_normalised(texts).unique()
    return folded.is_in(known.implode())


def known_candidates(
    queries: pl.DataFrame, rows: pl.DataFrame, store: Store | None
) -> pl.DataFrame:
    """Candidates of user queries, as far as they can be told without the base model.

    Those of the newest search in the store whose rows are all still the same. A query without gets
    the first rows of the knowledge base in their place: as many words, and surely not paid for.

    Args:
        queries: `contracts.UserQueries`.
        rows: the knowledge base as it is now.
        store: None: there is none yet.
    """
    tables = [] if store is None else _searched(store)
    found = _first_of_each([table.join(queries, on="query_id", how="semi") for table in tables])
    same = [name for name in Candidates.column_names() if name != "query_id"]
    gone = found.join(rows, on=same, how="anti", nulls_equal=True)
    kept = found.join(gone, on="query_id", how="anti")
    lacking = queries.join(kept, on="query_id", how="anti").select("query_id")
    some = rows.sort("row_id").head(_CANDIDATES).select(same)
    made = lacking.join(some, how="cross").select(Candidates.column_names())
    return pl.concat([kept, made])


def _searched(store: Store) -> list[pl.DataFrame]:
    """The newest searches, as far as they can be read: what is damaged is searched again anyway."""
    tables = []
    for artifact in store.newest("candidates")[:_SEARCHES]:
        with contextlib.suppress(StoreError):
            tables.append(store.table(artifact))
    return tables


def _first_of_each(tables: list[pl.DataFrame]) -> pl.DataFrame:
    """Of several `contracts.Candidates` each query's rows in the first table that has it."""
    found = empty(Candidates)
    for table in tables:
        found = pl.concat([found, table.join(found, on="query_id", how="anti")])
    return found


def _of_query_length(rows: pl.DataFrame, rejects: RejectList) -> pl.DataFrame:
    long = pl.col("text").str.len_chars() > _MAX_CHARS
    rejects.add_rows(
        rows.filter(long), "text", "too_long", f"longer than {_MAX_CHARS} characters: no query"
    )
    return rows.filter(~long)


def _in_listed_language(
    rows: pl.DataFrame, codes: Sequence[str], rejects: RejectList
) -> pl.DataFrame:
    """Rows with the config's own spelling of their language's code; a tag has no case."""
    alone = codes[0] if len(codes) == 1 else None
    named = rows.with_columns(pl.coalesce("language", pl.lit(alone, dtype=pl.String)))
    nameless = named["language"].is_null()
    rejects.add_rows(
        named.filter(nameless),
        "text",
        "language_missing",
        "the config lists several; say which",
    )
    named = named.filter(~nameless)
    spelling = {code.lower(): code for code in codes}
    code = (
        pl.col("language")
        .str.to_lowercase()
        .replace_strict(spelling, default=None, return_dtype=pl.String)
    )
    coded = named.with_columns(code=code)
    rejects.add_rows(
        coded.filter(pl.col("code").is_null()),
        "language",
        "language_not_listed",
        f"the config lists {', '.join(codes) or 'no language'}",
    )
    return coded.filter(pl.col("code").is_not_null()).with_columns(language="code").drop("code")


def _counted(rows: pl.DataFrame) -> pl.DataFrame:
    """Each distinct text of a language once; without case and punctuation they are the same."""
    counted = (
        rows.with_columns(folded=all_normalised(rows["text"]))
        .group_by("language", "folded")
        .agg(pl.col("text").min(), pl.col(ROW).min(), pl.len().cast(pl.Int64).alias("times"))
    )
    ids = [text_digest("user", *pair) for pair in counted.select("language", "text").iter_rows()]
    return counted.with_columns(pl.Series("query_id", ids, dtype=pl.String)).sort("query_id")


def _without_near_copies(counted: pl.DataFrame, rejects: RejectList) -> pl.DataFrame:
    """The first of each group of near-duplicates, by id, with the times of all."""
    repeated = repeats(counted["text"].to_list(), counted["language"].to_list())
    own = pl.int_range(pl.len())
    marked = counted.with_columns(first=pl.Series(repeated, dtype=pl.Int64))
    copies = marked.filter(pl.col("first").is_not_null())
    rejects.add_rows(
        copies.with_columns(of=counted["text"].gather(copies["first"])),
        "text",
        "near_duplicate",
        pl.format("counts as {}", "of"),
    )
    return (
        marked.with_columns(first=pl.coalesce("first", own), itself=pl.col("first").is_null())
        .sort(~pl.col("itself"), maintain_order=True)
        .group_by("first", maintain_order=True)
        .agg(pl.col("query_id", "text", "language").first(), pl.col("times").sum())
        .sort("query_id")
        .select(UserQueries.column_names())
    )
