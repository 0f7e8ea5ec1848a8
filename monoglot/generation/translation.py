"""`translate`: knowledge-base queries in a target language, each bought once.

A query's key is what the model is told about it: prompt version, model, temperature, text, the
two languages and the glossary terms that occur in it. The label is not told, so a text that stands
under two labels is bought once; a new glossary term buys again only the rows that contain it. What
redaction hides is not told either: the ledger holds placeholders, and each row restores its own.

A language with `mixing` gets several renderings of each query, which are samples with a number and
a mix of their own (see `renderings.py`); one more of them buys itself alone.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import polars as pl

from monoglot.config import LanguageConfig
from monoglot.contracts import Queries, Rejects, empty
from monoglot.generation.asking import (
    Answers,
    Generated,
    PlannedWork,
    Progress,
    Task,
    plan,
    rejects_of,
)
from monoglot.generation.buying import answer_all
from monoglot.generation.ledger import Ledger
from monoglot.generation.prompts import (
    RENDERING_PROMPT,
    TRANSLATION_PROMPT,
    TRANSLATION_SCHEMA,
    build_rendering_messages,
    build_translation_messages,
    told_of,
)
from monoglot.generation.quality import folded, terms_in
from monoglot.generation.redaction import Redacted, Redactor
from monoglot.generation.renderings import mixes_of, spellings_of
from monoglot.generation.replies import Problem, clean_text
from monoglot.generation.senders import endpoint_of
from monoglot.generation.spending import Budget
from monoglot.generation_config import GenerationConfig
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
    may_repeat: bool = False,
    redactor: Redactor | None = None,
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
        may_repeat: whether different rows may rightly have one translation: renderings of a query
            that are translated back.
        redactor: hides personal data from endpoint and ledger; None: texts are sent as they are.
        on_progress: called with distinct queries settled and in all.
        budget: the run's, with its prices; None: nothing limits it and no price is known.

    Returns:
        One row of `Queries` per answered row, or rendering of a row, ordered by row id and
        rendering; rejects for what was not answered, and for renderings in the same words as an
        earlier one of their row.

    Raises:
        BudgetError: the budget is used up; what was bought so far is kept.
        BatchPendingError: rows are out in a batch; a later call finds their answers.
        EndpointError: the endpoint fails or refuses; what was bought so far is kept.
        StoreError: the ledger cannot be written.
    """
    model = config.model or settings.llm_model
    ordered = rows.select("row_id", "query", "label").sort("row_id")
    sent = _sent_for(ordered["query"], redactor)
    keyed, asks = _asks_of(ordered, sent, language, config, model, kb_language=kb_language)
    answers = answer_all(
        asks,
        _task_of(language, kb_language, settings, model, may_repeat=may_repeat),
        partial(endpoint_of, settings, model, config.temperature),
        ledger,
        in_flight=settings.llm_concurrency,
        on_progress=on_progress,
        budget=budget,
    )
    source = f"translation to {language.code}"
    texts, problems = _restored(keyed, sent, answers)
    answered = keyed.with_columns(pl.Series("text", texts, dtype=pl.String)).drop_nulls("text")
    distinct, repeated = _without_repeats(answered, source)
    refused = rejects_of((source, query, problem) for query, problem in problems)
    return Generated(
        rows=_queries_of(distinct, language.code),
        rejects=pl.concat([refused, repeated]),
        usage=answers.usage,
        from_ledger=answers.from_ledger,
        asked=answers.asked,
        unanswered=answers.unanswered,
    )


def pending(
    rows: pl.DataFrame,
    language: LanguageConfig,
    config: GenerationConfig,
    *,
    kb_language: str,
    settings: Settings,
    ledger: Ledger | None,
    may_repeat: bool = False,
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
        may_repeat: as for `translate`: it decides what a reply that is kept answers.
        redactor: as for `translate`.
    """
    model = config.model or settings.llm_model
    ordered = rows.select("row_id", "query", "label").sort("row_id")
    sent = _sent_for(ordered["query"], redactor)
    _, asks = _asks_of(ordered, sent, language, config, model, kb_language=kb_language)
    task = _task_of(language, kb_language, settings, model, may_repeat=may_repeat)
    return plan(asks, task, ledger)


def _sent_for(queries: pl.Series, redactor: Redactor | None) -> list[Redacted]:
    """What stands for each query in a request: its text, or the text with placeholders."""
    if redactor is None:
        return [Redacted((query,), {}) for query in queries]
    return redactor.redact_all(queries)


def _restored(
    keyed: pl.DataFrame, sent: Sequence[Redacted], answers: Answers
) -> tuple[list[str | None], list[tuple[str, Problem]]]:
    """Each answer with the row's own values put back, or None; and why, with the query.

    Rows that differ only in what was hidden share a key, and with it an answer.
    """
    texts: list[str | None] = []
    problems = []
    for place, query, key in keyed.select("_place", "query", "_key").iter_rows():
        answer = answers.answers.get(key)
        problem = answers.problems[key] if answer is None else sent[place].problem(answer)
        if problem is not None:
            problems.append((query, problem))
        texts.append(None if answer is None or problem else sent[place].restored(answer))
    return texts, problems


def _asks_of(
    ordered: pl.DataFrame,
    sent: Sequence[Redacted],
    language: LanguageConfig,
    config: GenerationConfig,
    model: str,
    *,
    kb_language: str,
) -> tuple[pl.DataFrame, dict[str, dict[str, Any]]]:
    """Every translation wanted, with its key, and what is asked for each distinct key.

    Returns:
        Columns row_id, query, label, _place (in `sent`), _sample, _key, ordered by row id and
        sample.
    """
    told = {
        "prompt": _prompt_of(language),
        "model": model,
        "temperature": config.temperature,
        "from": kb_language,
        "to": told_of(language),
    }
    texts = pl.Series([redacted.text for redacted in sent], dtype=pl.String)
    contents = [
        _contents(text, keep, language)
        for text, keep in zip(texts, terms_in(texts, config.glossary), strict=True)
    ]
    keys: list[list[str]] = [[] for _ in contents]
    asks = {}
    # Sample by sample, so that the renderings of one text travel in different requests.
    for sample in range(1 if language.mixing is None else language.mixing.renderings):
        for known, asked in zip(keys, contents, strict=True):
            known.append(digest({**told, "sample": sample, "row": asked[sample]}))
            asks[known[-1]] = asked[sample]
    # Flat lists: a Series of lists is built row by row, which took most of the memory here.
    places = [place for place, known in enumerate(keys) for _ in known]
    samples = [sample for known in keys for sample in range(len(known))]
    at = pl.Series(places, dtype=pl.UInt32)
    keyed = ordered.with_row_index("_place").select(pl.all().gather(at))
    keyed = keyed.with_columns(
        pl.Series("_sample", samples, dtype=pl.Int64),
        pl.Series("_key", [key for known in keys for key in known], dtype=pl.String),
    )
    return keyed, asks


def _contents(text: str, terms: list[str], language: LanguageConfig) -> list[dict[str, Any]]:
    """What each translation of a text is asked with: one, or one a rendering."""
    content = {"text": text, "keep": terms} if terms else {"text": text}
    if language.mixing is None:
        return [content]
    return [content | mix._asdict() for mix in mixes_of(text, language)]


def _prompt_of(language: LanguageConfig) -> str:
    return TRANSLATION_PROMPT if language.mixing is None else RENDERING_PROMPT


def _task_of(
    language: LanguageConfig,
    kb_language: str,
    settings: Settings,
    model: str,
    *,
    may_repeat: bool = False,
) -> Task:
    if language.mixing is None:
        messages = partial(build_translation_messages, language=language, kb_language=kb_language)
    else:
        messages = partial(
            build_rendering_messages,
            language=language,
            kb_language=kb_language,
            spellings=spellings_of(language),
        )
    return Task(
        messages=messages,
        schema=TRANSLATION_SCHEMA,
        answer_of=lambda row: clean_text(row.get("text")),
        rows_per_request=settings.llm_rows_per_request,
        answer_chars=lambda row: len(row["text"]),
        may_repeat=may_repeat or language.mixing is not None,
        language=language.code,
        kind=f"{_prompt_of(language)} {model} {language.code}",
    )


def _without_repeats(answered: pl.DataFrame, source: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Renderings in other words than the earlier ones of their row; `Rejects` of the others."""
    is_first = pl.struct("row_id", folded(pl.col("text"))).is_first_distinct()
    judged = answered.with_columns(is_first.alias("_first"))
    repeated = judged.filter(~pl.col("_first")).select(
        file=pl.lit(source),
        row=pl.lit(None, pl.Int64),
        column=pl.lit("text"),
        value="text",
        rule=pl.lit("same_rendering"),
        reason=pl.format(
            "rendering {} has the same words as an earlier one (source: {})",
            pl.col("_sample") + 1,
            "query",
        ),
    )
    return judged.filter("_first"), repeated.cast(empty(Rejects).schema)


def _queries_of(answered: pl.DataFrame, code: str) -> pl.DataFrame:
    """Table `Queries` of answered translations."""
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
