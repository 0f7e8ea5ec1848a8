"""What one model answers to questions: to the evaluation set, and to others beside it."""

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.learning.evaluation import evaluate_vectors, with_english
from monoglot.learning.projection import projection
from monoglot.serving.index import Index
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.models import ModelRef, load_encoder
from tasks.workplace import Job

PROJECTION = "projection.parquet"


class _Held(NamedTuple):
    """Rows of a knowledge base (`contracts.KnowledgeBase`), and their vectors (n, d)."""

    rows: pl.DataFrame
    vectors: NDArray[np.float32]


@stage("evaluation", title="evaluate {model.title}", tags=["gpu"])
def evaluate(
    job: Job, *, index: Artifact, model: ModelRef, questions: Artifact, knowledge_base: Artifact
) -> None:
    """`contracts.Outcomes` of a model over its index, and a picture of both sides' vectors."""
    asked = job.table(questions)
    encoder = load_encoder(job, model)
    vectors = encoder.encode(asked["text"].to_list(), on_progress=job.on_progress)
    english = encoder.encode(with_english(asked)["english"].to_list())
    held = _indexed(job, index, knowledge_base)
    job.write(evaluate_vectors(asked, vectors, english, held.rows, held.vectors))
    job.draft.write_table(projection(asked, vectors, english, held.vectors), PROJECTION)


@stage("probe", title="evaluate {model.title} on {questions.facts[source]}", tags=["gpu"])
def probe(
    job: Job, *, index: Artifact, model: ModelRef, questions: Artifact, knowledge_base: Artifact
) -> None:
    """`contracts.Outcomes` of a model on questions beside the evaluation set, as they are asked."""
    asked = job.table(questions)
    vectors = load_encoder(job, model).encode(asked["text"].to_list(), on_progress=job.on_progress)
    held = _indexed(job, index, knowledge_base)
    job.write(evaluate_vectors(asked, vectors, None, held.rows, held.vectors))


def _indexed(job: Job, index: Artifact, knowledge_base: Artifact) -> _Held:
    """What a version of a model's index holds, with the texts of the knowledge base."""
    held = Index.at(job.store.index_uri, index.facts["table"], index.facts["version"]).vectors()
    rows = held.row_ids.to_frame("row_id").join(
        job.table(knowledge_base), on="row_id", how="left", maintain_order="left"
    )
    return _Held(rows, held.matrix)
