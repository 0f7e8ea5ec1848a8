"""The knowledge base's training rows in a target language, by LLM."""

from typing import Any

import polars as pl

from monoglot.config import LanguageConfig
from monoglot.generation.redaction import Redactor
from monoglot.generation.renderings import measure
from monoglot.generation.shared_ledger import open_ledger
from monoglot.generation.translation import translate
from monoglot.generation_config import GenerationConfig, RedactionConfig
from monoglot.knowledge.parts import to_translate
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
    split = job.table(parts)
    wanted = to_translate(split)
    with open_ledger(job.store) as ledger:
        made = translate(
            wanted,
            language,
            config,
            kb_language=kb_language,
            settings=job.settings,
            ledger=ledger,
            redactor=Redactor.of_rows(redaction),
            on_progress=job.on_purchase,
            budget=job.budget,
        )
    mixing = _mixing(made.rows, language, kb_language, wanted=wanted, split=split)
    job.write(made.rows, made.rejects, **made.facts, **mixing)


def _mixing(
    made: pl.DataFrame,
    language: LanguageConfig,
    kb_language: str,
    *,
    wanted: pl.DataFrame,
    split: pl.DataFrame,
) -> dict[str, Any]:
    """How the renderings of a code-switched language came out; nothing for another language."""
    if language.mixing is None:
        return {}
    mixture = measure(
        made, language, kb_language, queries=wanted["query"], knowledge=split["query"]
    )
    return {"mixing": mixture.facts(), "told": mixture.line(), "warnings": mixture.warnings()}
