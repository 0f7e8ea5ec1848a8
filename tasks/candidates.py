"""What an LLM is given to choose from for each user query."""

import polars as pl

from monoglot.learning.candidates import find_candidates
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.cluster import encode_by
from tasks.models import ModelRef
from tasks.workplace import Job

GAPS = "gaps.parquet"


@stage("candidates", title="candidates {language}", tags=["gpu"])
def search_candidates(
    job: Job, *, queries: Artifact, knowledge_base: Artifact, model: ModelRef, language: str
) -> None:
    """`contracts.Candidates` of the user queries of one language."""
    asked = job.table(queries).filter(pl.col("language") == language)
    job.write(find_candidates(asked, job.table(knowledge_base), encode_by(job, model)))


@stage("further_candidates", title="further candidates {language}", tags=["gpu"])
def search_further(
    job: Job,
    *,
    labelled: Artifact,
    shown: Artifact,
    knowledge_base: Artifact,
    model: ModelRef,
    language: str,
) -> None:
    """`contracts.Candidates` of the gaps, by their English wording, beyond those `shown` before.

    Args:
        job: the stage's job.
        labelled: whose gaps.
        shown: the candidates that were refused.
        knowledge_base: the rows.
        model: the base model.
        language: whose gaps.
    """
    gaps = job.store.table(labelled, GAPS).filter(pl.col("language") == language)
    job.write(
        find_candidates(
            gaps,
            job.table(knowledge_base),
            encode_by(job, model),
            job.table(shown),
            by="english",
        )
    )
