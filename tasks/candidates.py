"""What an LLM is given to choose from for each user query."""

import polars as pl

from monoglot.learning.candidates import find_candidates
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.cluster import encode_by
from tasks.index import vectors_of
from tasks.models import ModelRef
from tasks.workplace import Job

GAPS = "gaps.parquet"


@stage("candidates", title="candidates {language}", tags=["gpu"])
def search_candidates(
    job: Job,
    *,
    queries: Artifact,
    knowledge_base: Artifact,
    index: Artifact,
    model: ModelRef,
    language: str,
) -> None:
    """`contracts.Candidates` of the user queries of one language.

    Args:
        job: the stage's job.
        queries: the user queries.
        knowledge_base: the rows.
        index: of the rows by the base model: their vectors are there, and are not made again.
        model: the base model.
        language: whose queries.
    """
    asked = job.table(queries).filter(pl.col("language") == language)
    held = vectors_of(job.store, index)
    rows = held.in_order(job.table(knowledge_base))
    job.write(find_candidates(asked, rows, held.matrix, encode_by(job, model)))


@stage("further_candidates", title="further candidates {language}", tags=["gpu"])
def search_further(
    job: Job,
    *,
    labelled: Artifact,
    shown: Artifact,
    knowledge_base: Artifact,
    index: Artifact,
    model: ModelRef,
    language: str,
) -> None:
    """`contracts.Candidates` of the gaps, by their English wording, beyond those `shown` before.

    Args:
        job: the stage's job.
        labelled: whose gaps.
        shown: the candidates that were refused.
        knowledge_base: the rows.
        index: of the rows by the base model.
        model: the base model.
        language: whose gaps.
    """
    held = vectors_of(job.store, index)
    gaps = job.store.table(labelled, GAPS).filter(pl.col("language") == language)
    job.write(
        find_candidates(
            gaps,
            held.in_order(job.table(knowledge_base)),
            held.matrix,
            encode_by(job, model),
            job.table(shown),
            by="english",
        )
    )
