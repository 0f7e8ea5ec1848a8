"""What one model answers to questions: to the evaluation set, and to others beside it."""

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.identity import digest
from monoglot.learning.evaluation import evaluate_vectors, with_english
from monoglot.learning.projection import projection
from monoglot.serving.index import temperature_of
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.index import vectors_of
from tasks.models import ModelRef, encode, load_encoder
from tasks.workplace import Job

PROJECTION = "projection.parquet"
ENCODINGS = "encodings"


class _Held(NamedTuple):
    """Rows of a knowledge base, their vectors (n, d), and the temperature of their votes."""

    rows: pl.DataFrame
    vectors: NDArray[np.float32]
    temperature: float | None


@stage("evaluation", title="evaluate {model.title}", tags=["gpu"])
def evaluate(
    job: Job, *, index: Artifact, model: ModelRef, questions: Artifact, knowledge_base: Artifact
) -> None:
    """`contracts.Outcomes` of a model over its index, and a picture of both sides' vectors."""
    asked = job.table(questions)
    vectors = encode(job, model, asked["text"].to_list())
    english = encode(job, model, with_english(asked)["english"].to_list())
    held = _indexed(job, index, knowledge_base)
    job.write(evaluate_vectors(asked, vectors, english, *held[:2], temperature=held.temperature))
    job.draft.write_table(projection(asked, vectors, english, held.vectors), PROJECTION)


@stage("probe", title="evaluate {model.title} on {questions.facts[source]}", tags=["gpu"])
def probe(
    job: Job, *, vectors: Artifact, model: ModelRef, questions: Artifact, knowledge_base: Artifact
) -> None:
    """`contracts.Outcomes` of a model on questions beside the evaluation set, as they are asked.

    Args:
        job: the stage's job.
        vectors: the model's index of the rows, or its encodings of them.
        model: to ask.
        questions: `contracts.Queries`.
        knowledge_base: the rows.
    """
    asked = job.table(questions)
    found = load_encoder(job, model).encode(asked["text"].to_list(), on_progress=job.on_progress)
    look_up = _encoded if vectors.stage == ENCODINGS else _indexed
    held = look_up(job, vectors, knowledge_base)
    job.write(evaluate_vectors(asked, found, None, *held[:2], temperature=held.temperature))


@stage(ENCODINGS, title="encode {knowledge_base.rows:,} other rows by {model.title}", tags=["gpu"])
def encode_rows(job: Job, *, knowledge_base: Artifact, model: ModelRef) -> None:
    """A vector for each row: of a knowledge base that is asked in passing, and never served."""
    rows = job.table(knowledge_base)
    vectors = load_encoder(job, model).encode(
        rows["query"].to_list(), batch_size=job.settings.encode_batch, on_progress=job.on_progress
    )
    job.draft.write_table(rows.select("row_id", vector=pl.Series(vectors)))
    job.draft.facts = {"temperature": temperature_of(rows, vectors)}
    job.draft.digest = digest({"model": model.digest, "rows": knowledge_base.digest})


def _encoded(job: Job, encodings: Artifact, knowledge_base: Artifact) -> _Held:
    """What `encode_rows` made, in the order of the rows."""
    vectors = job.table(encodings)["vector"].to_numpy()
    return _Held(job.table(knowledge_base), vectors, encodings.facts["temperature"])


def _indexed(job: Job, index: Artifact, knowledge_base: Artifact) -> _Held:
    """What a version of a model's index holds, with the texts of the knowledge base."""
    held = vectors_of(job.store, index)
    return _Held(held.in_order(job.table(knowledge_base)), held.matrix, held.temperature)
