"""Positives and negatives of each anchor, drawn anew for each epoch (Algorithm 1)."""

from monoglot.config import SamplingConfig
from monoglot.knowledge.split import leaking_rows
from monoglot.learning.pairs import make_triplets
from monoglot.learning.similarity import label_similarity
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.models import ModelRef, load_encoder
from tasks.workplace import Job


@stage("triplets")
def draw_triplets(
    job: Job,
    *,
    anchors: Artifact,
    knowledge_base: Artifact,
    parts: Artifact,
    questions: Artifact,
    base: ModelRef,
    config: SamplingConfig,
    epochs: int,
    seed: int,
) -> None:
    """`contracts.Triplets` for all epochs; no row that is a question in English takes part."""
    labelled = job.table(parts).select("row_id", "part")
    rows = job.table(knowledge_base).join(labelled, on="row_id", how="inner")
    rows = rows.filter(~leaking_rows(rows, job.table(questions)))
    usable = job.table(anchors).join(rows, on="label", how="semi")
    encode = None
    if config.similarity.source != "path":
        encode = load_encoder(job, base).encode
    similarity = label_similarity(rows, config.similarity, encode)
    triplets = make_triplets(usable, rows, similarity, config, epochs=epochs, seed=seed)
    job.write(triplets, labels=len(similarity.labels))
