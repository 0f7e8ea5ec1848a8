"""What one model answers to the evaluation questions, and to the same questions in English."""

from monoglot.learning.evaluation import evaluate_vectors, with_english
from monoglot.learning.projection import projection
from monoglot.serving.index import Index
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.models import ModelRef, load_encoder
from tasks.workplace import Job

PROJECTION = "projection.parquet"


@stage("evaluation", title="evaluate {model.title}", tags=["gpu"])
def evaluate(
    job: Job, *, index: Artifact, model: ModelRef, questions: Artifact, knowledge_base: Artifact
) -> None:
    """`contracts.Outcomes` of a model over its index, and a picture of both sides' vectors."""
    asked = job.table(questions)
    encoder = load_encoder(job, model)
    vectors = encoder.encode(asked["text"].to_list(), on_progress=job.on_progress)
    english = encoder.encode(with_english(asked)["english"].to_list())
    table = Index.at(job.store.index_uri, index.facts["table"], index.facts["version"])
    held = table.vectors()
    rows = held.row_ids.to_frame("row_id").join(
        job.table(knowledge_base), on="row_id", how="left", maintain_order="left"
    )
    job.write(
        evaluate_vectors(asked, vectors, english, rows, held.matrix, temperature=table.temperature)
    )
    job.draft.write_table(projection(asked, vectors, english, held.matrix), PROJECTION)
