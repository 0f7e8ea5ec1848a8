"""`translate`: knowledge-base queries in a target language, each bought once.

A query's key is what the model is told about it: prompt version, model, temperature, text, the
two languages and the glossary terms that occur in it. The label is not told, so a text that stands
under two labels is bought once; a new glossary term buys again only the rows that contain it. What
redaction hides is not told either: the ledger holds placeholders, and each row restores its own.
"""

from collections.abc import Iterable, Mapping, Sequence
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
from monoglot.generation.redaction import Redacted, Redactor
from monoglot.generation.replies import Problem, clean_text
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
    redactor: Redactor | None = None,
    on_progress: Progress | None = None,
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
        redactor: hides personal data from endpoint and ledger; None: texts are sent as they are.
        on_progress: called with distinct queries settled and in all.

    Returns:
        One row of `Queries` per answered row, ordered by row id; rejects for the others.

    Raises:
        EndpointError: the endpoint fails or refuses; what was bought so far is kept.
        StoreError: the ledger cannot be written.
    """
    model = config.model or settings.llm_model
    sent = _sent_for(rows["query"], redactor)
    keys, asks = _asks_of(sent, language, config, model, kb_language)
    answers = answer_all(
        asks,
        _task_of(language, kb_language, settings),
        partial(Endpoint, settings, model, config.temperature),
        ledger,
        in_flight=settings.llm_concurrency,
        on_progress=on_progress,
    )
    texts, problems = _restored(keys, sent, answers.answers, answers.problems)
    keyed = rows.select(
        "row_id",
        "query",
        "label",
        pl.Series("text", texts, dtype=pl.String),
        pl.Series("_place", range(rows.height), dtype=pl.Int64),
    ).sort("row_id")
    return Generated(
        rows=_queries_of(keyed.drop_nulls("text"), language.code),
        rejects=rejects_of(
            (f"translation to {language.code}", query, problems[place])
            for query, place in keyed.select("query", "_place").iter_rows()
            if place in problems
        ),
        usage=answers.usage,
        from_ledger=answers.from_ledger,
    )


def pending(
    rows: pl.DataFrame,
    language: LanguageConfig,
    config: GenerationConfig,
    *,
    kb_language: str,
    settings: Settings,
    ledger: Ledger | None,
    redactor: Redactor | None = None,
) -> PlannedWork:
    """What `translate` would ask with the same arguments; no call is made.

    Args:
        rows: columns row_id, query, label.
        language: the target.
        config: model, temperature and glossary.
        kb_language: BCP 47 code of the queries.
        settings: how many rows share a request, and the model if the config names none.
        ledger: replies already paid for; None: none yet.
        redactor: as for `translate`.
    """
    model = config.model or settings.llm_model
    _, asks = _asks_of(_sent_for(rows["query"], redactor), language, config, model, kb_language)
    return plan(asks, _task_of(language, kb_language, settings), ledger)


def _sent_for(queries: pl.Series, redactor: Redactor | None) -> list[Redacted]:
    """What stands for each query in a request: its text, or the text with placeholders."""
    if redactor is None:
        return [Redacted((query,), {}) for query in queries]
    return redactor.redact_all(queries)


def _restored(
    keys: Sequence[str],
    sent: Sequence[Redacted],
    answers: Mapping[str, str],
    problems: Mapping[str, Problem],
) -> tuple[list[str | None], dict[int, Problem]]:
    """Each row's answer with its own values put back, or None; and, by place, why there is none.

    Rows that differ in what was hidden alone share a key, and with it an answer.
    """
    texts: list[str | None] = []
    troubles = {}
    for place, (key, redacted) in enumerate(zip(keys, sent, strict=True)):
        answer = answers.get(key)
        problem = problems.get(key) if answer is None else redacted.problem(answer)
        if problem is not None:
            troubles[place] = problem
        texts.append(None if answer is None or problem else redacted.restored(answer))
    return texts, troubles


def _asks_of(
    sent: Sequence[Redacted],
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
    texts = pl.Series([redacted.text for redacted in sent], dtype=pl.String)
    contents = [
        {"text": text, "keep": terms} if terms else {"text": text}
        for text, terms in zip(texts, terms_in(texts, config.glossary), strict=True)
    ]
    keys = [digest({**told, "row": content}) for content in contents]
    return keys, dict(zip(keys, contents, strict=True))


def _task_of(language: LanguageConfig, kb_language: str, settings: Settings) -> Task:
    return Task(
        messages=lambda rows: build_translation_messages(rows, language, kb_language),
        schema=TRANSLATION_SCHEMA,
        answer_of=lambda row: clean_text(row.get("text")),
        rows_per_request=settings.llm_rows_per_request,
        answer_chars=lambda row: len(row["text"]),
    )


def _queries_of(answered: pl.DataFrame, code: str) -> pl.DataFrame:
    """Table `Queries` of the rows that have an answer."""
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
