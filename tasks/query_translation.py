"""The baseline that translates each question and asks the untuned model."""

from pathlib import Path

import polars as pl

from monoglot.generation.query_translation import (
    by_lexicon,
    read_lexicon,
    translate_questions,
)
from monoglot.generation.shared_ledger import open_ledger
from monoglot.generation_config import GenerationConfig, RedactionConfig
from monoglot.learning.evaluation import evaluate_vectors
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.index import vectors_of
from tasks.models import ModelRef, load_encoder
from tasks.workplace import Job


@stage("question_translation", title="translate questions {language}", tags=["llm"])
def translate_questions_by_llm(
    job: Job,
    *,
    questions: Artifact,
    language: str,
    config: GenerationConfig,
    kb_language: str,
    redaction: RedactionConfig,
) -> None:
    """query_id and text: the questions of one language in the knowledge base's, by LLM."""
    asked = job.table(questions)
    with open_ledger(job.store) as ledger:
        made = translate_questions(
            asked,
            language,
            config,
            kb_language=kb_language,
            redaction=redaction,
            settings=job.settings,
            ledger=ledger,
            on_progress=job.on_purchase,
            budget=job.budget,
        )
    told = made.rows.select("text", query_id="source_row_id").sort("query_id")
    job.write(told, made.rejects, **made.facts)


@stage("question_lexicon", title="translate questions by {lexicon.name}")
def translate_questions_by_lexicon(
    job: Job, *, questions: Artifact, languages: tuple[str, ...], lexicon: Path
) -> None:
    """query_id and text: the questions of some languages, word by word."""
    words = read_lexicon(lexicon)
    asked = job.table(questions).filter(pl.col("language").is_in(languages)).sort("query_id")
    told = [by_lexicon(text, words) for text in asked["text"]]
    table = asked.select("query_id", pl.Series("text", [text for text, _, _ in told], pl.String))
    total, known = sum(each for _, each, _ in told), sum(found for _, _, found in told)
    job.write(table, words=total, known=known, told=f"{known:,} of {total:,} words known")


@stage("translated_questions", title="evaluate translated questions", tags=["gpu"])
def evaluate_translated(
    job: Job,
    *,
    translated: tuple[Artifact, ...],
    base: ModelRef,
    index: Artifact,
    questions: Artifact,
    knowledge_base: Artifact,
) -> None:
    """`contracts.Outcomes` of the untuned model, asked in the knowledge base's language.

    A question without a translation is asked as it is: its user gets an answer, too. There is no
    English control: that would be the untuned model's own.
    """
    asked = job.table(questions)
    told = pl.concat([job.table(each).select("query_id", _told="text") for each in translated])
    joined = asked.join(told, on="query_id", how="left", maintain_order="left")
    encoder = load_encoder(job, base)
    vectors = encoder.encode(
        joined.select(pl.coalesce("_told", "text")).to_series().to_list(),
        on_progress=job.on_progress,
    )
    held = vectors_of(job.store, index)
    rows = held.in_order(job.table(knowledge_base))
    untold = int(joined["_told"].null_count())
    outcomes = evaluate_vectors(
        asked, vectors, None, rows, held.matrix, temperature=held.temperature
    )
    job.write(outcomes, untranslated=untold)
