"""`translate`: knowledge-base queries in a target language, each bought once.

A query's key is what the model is told about it: prompt version, model, temperature, text, the
two languages and the glossary terms that occur in it. The label is not told, so a text that stands
under two labels is bought once; a new glossary term buys again only the rows that contain it.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import polars as pl

from monoglot.config import GenerationConfig, LanguageConfig
from monoglot.contracts import Queries, empty
from monoglot.generation.asking import Generated, PlannedWork, Progress, Task, plan, rejects_of
from monoglot.generation.buying import answer_all
from monoglot.generation.ledger import Ledger
from monoglot.generation.llm import Endpoint
from monoglot.generation.prompts import (
    TRANSLATION_PROMPT,
    TRANSLATION_SCHEMA,
    build_translation_messages,
)
from monoglot.generation.quality import terms_in
from monoglot.generation.replies import clean_text
from monoglot.generation.spending import Budget
from monoglot.identity import digest, text_digest
from monoglot.settings import Settings


def translate(
    rows: pl.DataFrame,
    language: LanguageConfig,
    config: GenerationConfig,
    *,
    kb_language: str,
    settings: Settings,
    ledger: Ledger,
    on_progress: Progress | None = None,
    budget: Budget | None = None,
) -> Generated:
    """Translate queries by LLM; what the ledger holds costs nothing and needs no endpoint.

    The translations are as the model gave them: `quality.keep_good` says which are fit for use.

    Args:
        rows: columns row_id, query, label.
        language: the target.
        config: model, temperature and glossary.
        kb_language: BCP 47 code of the queries.
        settings: where the endpoint is, and how it is asked.
        ledger: where replies are found and kept.
        on_progress: called with distinct queries settled and in all.
        budget: the run's, with its prices; None: nothing limits it and no price is known.

    Returns:
        One row of `Queries` per answered row, ordered by row id; rejects for the others.

    Raises:
        BudgetError: the budget is used up; what was bought so far is kept.
        BatchPendingError: rows are out in a batch; a later call finds their answers.
        EndpointError: the endpoint fails or refuses; what was bought so far is kept.
        StoreError: the ledger cannot be written.
    """
    model = config.model or settings.llm_model
    keys, asks = _asks_of(rows, language, config, model, kb_language)
    answers = answer_all(
        asks,
        _task_of(language, kb_language, settings, model),
        partial(Endpoint, settings, model, config.temperature),
        ledger,
        in_flight=settings.llm_concurrency,
        on_progress=on_progress,
        budget=budget,
    )
    keyed = rows.select("row_id", "query", "label", pl.Series("_key", keys, dtype=pl.String)).sort(
        "row_id"
    )
    return Generated(
        rows=_queries_of(keyed, language.code, answers.answers),
        rejects=rejects_of(
            (f"translation to {language.code}", query, answers.problems[key])
            for query, key in keyed.select("query", "_key").iter_rows()
            if key in answers.problems
        ),
        usage=answers.usage,
        from_ledger=answers.from_ledger,
        asked=len(answers.answers) + len(answers.problems),
    )


def pending(
    rows: pl.DataFrame,
    language: LanguageConfig,
    config: GenerationConfig,
    *,
    kb_language: str,
    settings: Settings,
    ledger: Ledger | None,
) -> PlannedWork:
    """What `translate` would ask with the same arguments; no call is made.

    Args:
        rows: columns row_id, query, label.
        language: the target.
        config: model, temperature and glossary.
        kb_language: BCP 47 code of the queries.
        settings: how many rows share a request, and the model if the config names none.
        ledger: replies already paid for; None: none yet.
    """
    model = config.model or settings.llm_model
    _, asks = _asks_of(rows, language, config, model, kb_language)
    return plan(asks, _task_of(language, kb_language, settings, model), ledger)


def _asks_of(
    rows: pl.DataFrame,
    language: LanguageConfig,
    config: GenerationConfig,
    model: str,
    kb_language: str,
) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """The key of every row, and what is asked for each distinct key."""
    told = {
        "prompt": TRANSLATION_PROMPT,
        "model": model,
        "temperature": config.temperature,
        "from": kb_language,
        "to": {"code": language.code, "name": language.name, "style": language.style},
        "sample": 0,
    }
    contents = [
        {"text": text, "keep": terms} if terms else {"text": text}
        for text, terms in zip(rows["query"], terms_in(rows["query"], config.glossary), strict=True)
    ]
    keys = [digest({**told, "row": content}) for content in contents]
    return keys, dict(zip(keys, contents, strict=True))


def _task_of(language: LanguageConfig, kb_language: str, settings: Settings, model: str) -> Task:
    return Task(
        messages=lambda rows: build_translation_messages(rows, language, kb_language),
        schema=TRANSLATION_SCHEMA,
        answer_of=lambda row: clean_text(row.get("text")),
        rows_per_request=settings.llm_rows_per_request,
        answer_chars=lambda row: len(row["text"]),
        language=language.code,
        kind=f"{TRANSLATION_PROMPT} {model} {language.code}",
    )


def _queries_of(keyed: pl.DataFrame, code: str, answers: Mapping[str, str]) -> pl.DataFrame:
    """Table `Queries` of the rows that have an answer."""
    texts = pl.DataFrame(
        {"_key": list(answers), "text": list(answers.values())},
        schema={"_key": pl.String, "text": pl.String},
    )
    answered = keyed.join(texts, on="_key", how="inner", maintain_order="left")
    ids = _ids_of(code, answered.select("row_id", "text").iter_rows())
    return answered.select(
        pl.Series("query_id", ids, dtype=pl.String),
        "text",
        pl.lit(code).alias("language"),
        "label",
        pl.lit("translated").alias("origin"),
        pl.col("row_id").alias("source_row_id"),
        pl.col("query").alias("english"),
    ).cast(empty(Queries).schema)


def _ids_of(code: str, rows: Iterable[tuple[str, str]]) -> list[str]:
    return [text_digest("translated", code, row_id, text) for row_id, text in rows]
