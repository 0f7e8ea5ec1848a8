"""Native queries for each label, written by the LLM in a target language."""

import dataclasses

import polars as pl

from monoglot.config import LanguageConfig
from monoglot.generation.redaction import Redactor
from monoglot.generation.shared_ledger import open_ledger
from monoglot.generation.synthesis import TWINS, synthesize
from monoglot.generation.variety import variety_of
from monoglot.generation_config import GenerationConfig, RedactionConfig
from monoglot.knowledge.parts import topics_of
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.workplace import Job


@stage("synthesis", title="synthesize {language.code}", tags=["llm"])
def synthesize_by_llm(
    job: Job,
    *,
    knowledge_base: Artifact,
    parts: Artifact,
    questions: Artifact,
    language: LanguageConfig,
    config: GenerationConfig,
    kb_language: str,
    redaction: RedactionConfig,
) -> None:
    """`contracts.Queries` of origin synthetic, as the model gave them."""
    topics = topics_of(job.table(knowledge_base), job.table(parts), job.table(questions))
    with open_ledger(job.store) as ledger:
        made = synthesize(
            topics,
            language,
            config,
            kb_language=kb_language,
            settings=job.settings,
            ledger=ledger,
            redactor=Redactor.of_rows(redaction),
            on_progress=job.on_purchase,
            budget=job.budget,
        )
    twins = made.rejects.filter(pl.col("rule").is_in(TWINS)).height
    variety = variety_of(made.rows, twins)
    job.write(
        made.rows,
        made.rejects,
        warnings=variety.warnings(f"synthesize {language.code}"),
        variety=dataclasses.asdict(variety),
        **made.facts,
    )
