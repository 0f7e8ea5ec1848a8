"""What one model answers to the evaluation questions, and to the same questions in English."""

import numpy as np

from monoglot.learning.evaluation import evaluate_vectors, with_english
from monoglot.serving.index import Index
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.models import ModelRef, load_encoder
from tasks.workplace import Job

QUESTION_VECTORS = "question_vectors.npy"


@stage("evaluation", title="evaluate {model.name}", tags=["gpu"])
def evaluate(
    job: Job, *, index: Artifact, model: ModelRef, questions: Artifact, knowledge_base: Artifact
) -> None:
    """`contracts.Outcomes` of a model over its index; the questions' vectors are kept with it."""
    asked = job.table(questions)
    encoder = load_encoder(job, model)
    vectors = encoder.encode(asked["text"].to_list(), on_progress=job.on_progress)
    english = encoder.encode(with_english(asked)["english"].to_list())
    held = Index.at(job.store.index_uri, index.facts["table"], index.facts["version"]).vectors()
    rows = held.row_ids.to_frame("row_id").join(
        job.table(knowledge_base), on="row_id", how="left", maintain_order="left"
    )
    outcomes = evaluate_vectors(asked, vectors, english, rows, held.matrix)
    job.write(outcomes)
    np.save(job.draft.folder / QUESTION_VECTORS, vectors)
