"""User queries filed by the LLM under a row of the knowledge base, or listed as a gap."""

import polars as pl

from monoglot.config import LanguageConfig
from monoglot.generation.labelling import label_queries
from monoglot.generation.redaction import Redactor
from monoglot.generation.shared_ledger import open_ledger
from monoglot.generation_config import GenerationConfig, RedactionConfig
from monoglot.identity import digest, frame_digest
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.candidates import GAPS
from tasks.workplace import Job

PROPOSALS = "proposals.parquet"


@stage("labelling", title="label user queries {language.code}", tags=["llm"])
def label_by_llm(
    job: Job,
    *,
    queries: Artifact,
    candidates: Artifact,
    language: LanguageConfig,
    config: GenerationConfig,
    kb_language: str,
    redaction: RedactionConfig,
) -> None:
    """`contracts.Queries` of origin user; beside them the proposed negatives, and the gaps.

    Args:
        job: the stage's job.
        queries: `contracts.UserQueries` of any languages.
        candidates: of those in this one.
        language: which.
        config: model and temperature.
        kb_language: BCP 47 code of the knowledge base.
        redaction: whose personal data is hidden from the LLM: users', the knowledge base's.
    """
    _label(
        job,
        job.table(queries),
        candidates,
        language,
        config,
        kb_language=kb_language,
        redaction=redaction,
    )


@stage("labelling", title="label gaps again {language.code}", tags=["llm"])
def label_gaps_by_llm(
    job: Job,
    *,
    labelled: Artifact,
    candidates: Artifact,
    language: LanguageConfig,
    config: GenerationConfig,
    kb_language: str,
    redaction: RedactionConfig,
) -> None:
    """The same for the gaps of an earlier look, with the candidates that it did not see."""
    gaps = job.store.table(labelled, GAPS)
    _label(job, gaps, candidates, language, config, kb_language=kb_language, redaction=redaction)


def _label(
    job: Job,
    queries: pl.DataFrame,
    candidates: Artifact,
    language: LanguageConfig,
    config: GenerationConfig,
    *,
    kb_language: str,
    redaction: RedactionConfig,
) -> None:
    with open_ledger(job.store) as ledger:
        made = label_queries(
            queries,
            job.table(candidates),
            language,
            config,
            kb_language=kb_language,
            settings=job.settings,
            ledger=ledger,
            redactor=Redactor(redaction),
            on_progress=job.on_purchase,
            budget=job.budget,
        )
    job.write(made.rows, made.rejects, gaps=made.gaps.height, **made.facts)
    job.draft.write_table(made.gaps, GAPS)
    job.draft.write_table(made.proposals, PROPOSALS)
    tables = (made.rows, made.gaps, made.proposals)
    job.draft.digest = digest([frame_digest(table) for table in tables])
