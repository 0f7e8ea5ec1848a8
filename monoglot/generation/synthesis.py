"""`synthesize`: native queries for each label, as speakers of a language would type them.

The model is asked in samples of a few queries, each in another voice (`prompts.VOICES`: who writes,
by which channel, in which manner), so that the queries differ. A label's first voice follows from
its name, so that even one sample a label brings every voice into the whole; asking for more later
buys further samples and none again.

A sample is shown some of the label's rows, but bears the identity of one: an edited row has the few
samples bought again that hang on it, and not all of its label's, which still say what was asked.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from monoglot.config import LanguageConfig
from monoglot.contracts import Queries, Rejects, empty
from monoglot.generation.asking import Generated, PlannedWork, Progress, Task, plan, rejects_of
from monoglot.generation.buying import answer_all
from monoglot.generation.ledger import Ledger
from monoglot.generation.prompts import (
    SYNTHESIS_PROMPT,
    SYNTHESIS_SCHEMA,
    VOICES,
    Voice,
    build_synthesis_messages,
    told_of,
)
from monoglot.generation.quality import folded
from monoglot.generation.redaction import Redacted, Redactor
from monoglot.generation.replies import clean_text
from monoglot.generation.senders import endpoint_of
from monoglot.generation.spending import Budget
from monoglot.generation_config import GenerationConfig
from monoglot.identity import digest, text_digest
from monoglot.settings import Settings

# Few enough that the queries of one sample stay different, and that a reply stays short.
QUERIES_PER_SAMPLE = 5
# Rules of the rejects that say again what was written before.
TWINS = ("duplicate", "contradictory")
_EXAMPLES = 8
_QUERY_CHARS = 50


@dataclass(frozen=True)
class Sample:
    """One question for queries: its key, the label, what is sent, and how many are used.

    What is sent may have other examples than those with the same key that were answered before.

    `redacted` puts back what the examples held and the endpoint did not see.
    """

    key: str
    label: str
    ask: Mapping[str, Any]
    wanted: int
    redacted: Redacted


def synthesize(
    labels: pl.DataFrame,
    language: LanguageConfig,
    config: GenerationConfig,
    *,
    kb_language: str,
    settings: Settings,
    ledger: Ledger,
    redactor: Redactor | None = None,
    on_progress: Progress | None = None,
    budget: Budget | None = None,
) -> Generated:
    """Have `config.synthetic_per_label` queries written for each label.

    Queries that say the same as another of their label are dropped as duplicates; a text that was
    written for two labels is dropped from both, as it cannot be told whose it is. The rest is as
    the model gave it: `quality.keep_good` says which are fit for use.

    Args:
        labels: columns label, label_text, label_path, examples (list of queries); one row a label.
        language: the language to write in.
        config: how many, model, temperature and glossary.
        kb_language: BCP 47 code of the examples.
        settings: where the endpoint is, and how it is asked.
        ledger: where replies are found and kept.
        redactor: hides personal data from endpoint and ledger; None: texts are sent as they are.
        on_progress: called with samples settled and in all.
        budget: the run's, with its prices; None: nothing limits it and no price is known.

    Returns:
        `Queries` of origin synthetic, ordered by label and sample; rejects for what was dropped.

    Raises:
        BudgetError: the budget is used up; what was bought so far is kept.
        BatchPendingError: rows are out in a batch; a later call finds their answers.
        EndpointError: the endpoint fails or refuses; what was bought so far is kept.
        StoreError: the ledger cannot be written.
    """
    model = config.model or settings.llm_model
    samples = _samples_of(labels, language, config, model, kb_language, redactor=redactor)
    answers = answer_all(
        {sample.key: sample.ask for sample in samples},
        _task_of(language, config, kb_language, settings, model),
        partial(endpoint_of, settings, model, config.temperature),
        ledger,
        in_flight=settings.llm_concurrency,
        on_progress=on_progress,
        budget=budget,
    )
    source = f"synthesis in {language.code}"
    written = [
        (sample, text, sample.redacted.problem(text, must_keep=False))
        for sample in samples
        for text in answers.answers.get(sample.key, ())[: sample.wanted]
    ]
    usable = pl.DataFrame(
        [(it.label, it.redacted.restored(text)) for it, text, problem in written if not problem],
        schema={"label": pl.String, "text": pl.String},
        orient="row",
    )
    kept, dropped = _without_twins(usable, source)
    refused = rejects_of(
        (source, sample.label, answers.problems[sample.key])
        for sample in samples
        if sample.key in answers.problems
    )
    invented = rejects_of((source, text, problem) for _, text, problem in written if problem)
    return Generated(
        rows=_queries_of(kept, language.code),
        rejects=pl.concat([refused, invented, dropped]),
        usage=answers.usage,
        from_ledger=answers.from_ledger,
        asked=answers.asked,
        unanswered=answers.unanswered,
    )


def pending(
    labels: pl.DataFrame,
    language: LanguageConfig,
    config: GenerationConfig,
    *,
    kb_language: str,
    settings: Settings,
    ledger: Ledger | None,
    redactor: Redactor | None = None,
) -> PlannedWork:
    """What `synthesize` would ask with the same arguments, in samples; no call is made."""
    model = config.model or settings.llm_model
    samples = _samples_of(labels, language, config, model, kb_language, redactor=redactor)
    task = _task_of(language, config, kb_language, settings, model)
    return plan({sample.key: sample.ask for sample in samples}, task, ledger)


def _samples_of(
    labels: pl.DataFrame,
    language: LanguageConfig,
    config: GenerationConfig,
    model: str,
    kb_language: str,
    *,
    redactor: Redactor | None,
) -> list[Sample]:
    """Every sample, by label and number."""
    told = {
        "prompt": SYNTHESIS_PROMPT,
        "model": model,
        "temperature": config.temperature,
        "from": kb_language,
        "to": told_of(language),
        "glossary": list(config.glossary),
    }
    samples = []
    for row in labels.sort("label").iter_rows(named=True):
        examples = sorted(set(row["examples"] or ()), key=text_digest)[:_EXAMPLES]
        texts = (row["label_text"] or "", *examples)
        redacted = Redacted(texts, {}) if redactor is None else redactor.redact(*texts)
        topic = {
            "label": row["label"],
            "path": row["label_path"] or "",
            "about": redacted.texts[0],
            "examples": list(redacted.texts[1:]),
        }
        for number in range(math.ceil(config.synthetic_per_label / QUERIES_PER_SAMPLE)):
            voice = voice_of(row["label"], number)
            left = config.synthetic_per_label - number * QUERIES_PER_SAMPLE
            ask = {**topic, **voice._asdict(), "count": QUERIES_PER_SAMPLE}
            bearing = {**ask, "examples": _bearing_identity(redacted, row["label"], number)}
            key = digest({**told, "row": bearing, "sample": number})
            samples.append(Sample(key, row["label"], ask, min(left, QUERIES_PER_SAMPLE), redacted))
    return samples


def _bearing_identity(redacted: Redacted, label: str, sample: int) -> list[str]:
    """The example on whose change a sample is asked anew, by a hash, so that others move none.

    Where something is redacted, all of them: the answers name it by its place among them.
    """
    examples = redacted.texts[1:]
    if redacted.values or not examples:
        return list(examples)
    return [min(examples, key=lambda text: text_digest(label, str(sample), text))]


def voice_of(label: str, sample: int) -> Voice:
    """The voice of a label's sample: each time the next one, from a place of the label's own."""
    return VOICES[(int(text_digest(label), 16) + sample) % len(VOICES)]


def _task_of(
    language: LanguageConfig,
    config: GenerationConfig,
    kb_language: str,
    settings: Settings,
    model: str,
) -> Task:
    return Task(
        messages=lambda rows: build_synthesis_messages(
            rows, language, kb_language, config.glossary
        ),
        schema=SYNTHESIS_SCHEMA,
        answer_of=_queries_in,
        rows_per_request=max(1, settings.llm_rows_per_request // QUERIES_PER_SAMPLE),
        answer_chars=lambda row: row["count"] * _QUERY_CHARS,
        language=language.code,
        kind=f"{SYNTHESIS_PROMPT} {model} {language.code}",
    )


def _queries_in(row: Mapping[str, Any]) -> list[str] | None:
    """The usable queries of a sample; None where there are none."""
    queries = row.get("queries")
    texts = [clean_text(query) for query in queries] if isinstance(queries, list) else []
    return [text for text in texts if text] or None


def _without_twins(written: pl.DataFrame, source: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Drop repeats within a label, and texts that were written for several labels."""
    judged = written.with_columns(folded(pl.col("text")).alias("_folded")).with_columns(
        (pl.col("label").n_unique().over("_folded") > 1).alias("_contradictory"),
        (~pl.struct("label", "_folded").is_first_distinct()).alias("_duplicate"),
    )
    dropped = judged.filter(pl.col("_contradictory") | pl.col("_duplicate")).select(
        file=pl.lit(source),
        row=pl.lit(None, pl.Int64),
        column=pl.lit("text"),
        value="text",
        rule=pl.when("_contradictory").then(pl.lit("contradictory")).otherwise(pl.lit("duplicate")),
        reason=pl.when("_contradictory")
        .then(pl.lit("written for several labels, so it is no example of any"))
        .otherwise(pl.lit("the same words were written for this label before")),
    )
    kept = judged.filter(~pl.col("_contradictory") & ~pl.col("_duplicate"))
    return kept.select("label", "text"), dropped.cast(empty(Rejects).schema)


def _queries_of(kept: pl.DataFrame, code: str) -> pl.DataFrame:
    ids = [text_digest("synthetic", code, label, text) for label, text in kept.iter_rows()]
    return kept.select(
        pl.Series("query_id", ids, dtype=pl.String),
        "text",
        pl.lit(code).alias("language"),
        "label",
        pl.lit("synthetic").alias("origin"),
        pl.lit(None, pl.String).alias("source_row_id"),
        pl.lit(None, pl.String).alias("english"),
    ).cast(empty(Queries).schema)
