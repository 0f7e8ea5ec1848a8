"""The knowledge base's training rows in a target language, by LLM."""

import dataclasses

import polars as pl

from monoglot.config import GenerationConfig, LanguageConfig, RedactionConfig
from monoglot.generation.ledger import Ledger
from monoglot.generation.redaction import Redactor
from monoglot.generation.translation import translate
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.workplace import Job


@stage("translation", title="translate {language.code}", tags=["llm"])
def translate_by_llm(
    job: Job,
    *,
    parts: Artifact,
    language: LanguageConfig,
    config: GenerationConfig,
    kb_language: str,
    redaction: RedactionConfig,
) -> None:
    """`contracts.Queries` by LLM, of all but the index set, as the model gave them.

    Every reply is in the ledger before it is used, so a run that is killed here, or starts again
    with other rows, buys only what no run has bought.
    """
    wanted = job.table(parts).filter(pl.col("part").cast(pl.String) != "index")
    with Ledger(job.store.ledger_path) as ledger:
        made = translate(
            wanted,
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
