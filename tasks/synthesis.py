"""Native queries for each label, written by the LLM in a target language."""

import dataclasses

import polars as pl

from monoglot.config import GenerationConfig, LanguageConfig
from monoglot.generation.ledger import Ledger
from monoglot.generation.quality import keep_good
from monoglot.generation.synthesis import synthesize
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
    language: LanguageConfig,
    config: GenerationConfig,
    kb_language: str,
) -> None:
    """`contracts.Queries` of origin synthetic; what fails the checks is rejected."""
    topics = topics_of(job.table(knowledge_base), job.table(parts))
    with Ledger(job.store.ledger_path) as ledger:
        made = synthesize(
            topics,
            language,
            config,
            kb_language=kb_language,
            settings=job.settings,
            ledger=ledger,
            on_progress=job.on_progress,
        )
    kept, poor = keep_good(made.rows, language, config)
    job.write(
        kept,
        pl.concat([made.rejects, poor]),
        from_ledger=made.from_ledger,
        usage=dataclasses.asdict(made.usage),
    )
