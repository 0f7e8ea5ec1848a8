"""Native queries for each label, written by the LLM in a target language."""

import dataclasses

from monoglot.config import GenerationConfig, LanguageConfig, RedactionConfig
from monoglot.generation.ledger import Ledger
from monoglot.generation.redaction import Redactor
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
    redaction: RedactionConfig,
) -> None:
    """`contracts.Queries` of origin synthetic, as the model gave them."""
    topics = topics_of(job.table(knowledge_base), job.table(parts))
    with Ledger(job.store.ledger_path) as ledger:
        made = synthesize(
            topics,
            language,
            config,
            kb_language=kb_language,
            settings=job.settings,
            ledger=ledger,
            redactor=Redactor.of_rows(redaction),
            on_progress=job.on_progress,
        )
    job.write(
        made.rows,
        made.rejects,
        from_ledger=made.from_ledger,
        usage=dataclasses.asdict(made.usage),
    )
