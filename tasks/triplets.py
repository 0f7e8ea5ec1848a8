"""Positives and negatives of each anchor, drawn anew for each epoch (Algorithm 1)."""

import polars as pl

from monoglot.contracts import Proposals, empty
from monoglot.knowledge.parts import untrained_labels
from monoglot.knowledge.split import leaking_rows
from monoglot.learning.pairs import make_triplets
from monoglot.learning.similarity import label_similarity
from monoglot.learning_config import SamplingConfig
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.labelling import PROPOSALS
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
    user_labels: tuple[Artifact, ...],
    base: ModelRef,
    config: SamplingConfig,
    epochs: int,
    seed: int,
) -> None:
    """`contracts.Triplets` for all epochs.

    No row that is a question in English takes part, and none of a label that nothing is trained on:
    as a negative it would teach something about that label, too.

    Args:
        job: the stage's job.
        anchors: the training set.
        knowledge_base: the rows.
        parts: the split.
        questions: the evaluation set.
        user_labels: user queries with the hard negatives that the LLM proposed for them.
        base: for the similarity of labels.
        config: how partners are drawn.
        epochs: how often.
        seed: of all draws.
    """
    split = job.table(parts)
    rows = job.table(knowledge_base).join(split.select("row_id", "part"), on="row_id", how="inner")
    rows = rows.filter(~pl.col("label").is_in(untrained_labels(split).implode()))
    rows = rows.filter(~leaking_rows(rows, job.table(questions)))
    usable = job.table(anchors).join(rows, on="label", how="semi")
    encode = None
    if config.similarity.source != "path":
        encode = load_encoder(job, base).encode
    similarity = label_similarity(rows, config.similarity, encode)
    proposals = pl.concat(
        [empty(Proposals), *(job.store.table(each, PROPOSALS) for each in user_labels)]
    )
    triplets = make_triplets(
        usable, rows, similarity, config, epochs=epochs, seed=seed, proposals=proposals
    )
    job.write(triplets, labels=len(similarity.labels), proposed=proposals.height)
