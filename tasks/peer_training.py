"""Peers that the candidate's stages cannot train: by mined negatives, distilled, classifying."""

import polars as pl

from monoglot.errors import DataError
from monoglot.identity import digest
from monoglot.learning.encoder import Encoder
from monoglot.learning.evaluation import with_english
from monoglot.learning.heads import Head, evaluate_head
from monoglot.learning.models import model_digest
from monoglot.learning.peers import distil, steps_of, train_classifier
from monoglot.learning.st_mining import mined_triplets
from monoglot.learning_config import TrainingConfig
from monoglot.serving.releases import MODEL_FOLDER
from monoglot.store import Artifact
from tasks.baseline import HEAD, head_texts
from tasks.caching import stage
from tasks.models import ModelRef, load_encoder, locate
from tasks.training import STEPS
from tasks.workplace import Job


@stage("mining", title="mine negatives as sentence-transformers does", tags=["gpu"])
def mine_negatives(
    job: Job,
    *,
    anchors: Artifact,
    parts: Artifact,
    questions: Artifact,
    base: ModelRef,
    negatives: int,
    config: TrainingConfig,
) -> None:
    """`contracts.Triplets` with mined negatives; empty where nothing is below the margin."""
    taught = job.table(anchors)
    rows = head_texts(job, anchors=anchors, parts=parts, questions=questions)
    rows = rows.drop_nulls("row_id").rename({"text": "query"}).sort("row_id")
    taught = taught.join(rows, on="label", how="semi").sort("query_id")
    encode = load_encoder(job, base).encode
    mined = mined_triplets(
        taught,
        encode(taught["text"].to_list(), on_progress=job.on_progress),
        rows,
        encode(rows["query"].to_list()),
        negatives=negatives,
        epochs=config.epochs,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    job.write(
        mined.triplets,
        dropped=mined.dropped,
        same_label=round(mined.same_label, 4),
        told=f"{mined.same_label:.0%} of the negatives have the anchor's own label; "
        f"{mined.dropped:,} anchors found too few",
    )


@stage("distillation", title="distil", tags=["gpu"])
def train_by_distillation(
    job: Job, *, anchors: Artifact, base: ModelRef, config: TrainingConfig
) -> None:
    """A student of the untuned model's English vectors, and its loss curve."""
    taught = with_english(job.table(anchors))
    if taught.is_empty():
        raise DataError(
            "baselines: distillation needs training queries whose English wording is known, and "
            "there are none. Leave it out of baselines.also."
        )
    encoder = _to_train(job, base, config)
    steps = steps_of(anchors.rows, config)
    losses = distil(encoder, taught, config, steps=steps, on_step=job.on_progress)
    _keep(job, encoder, losses, rows=taught.height)


@stage("classifier_training", title="fine-tune a classifier", tags=["gpu"])
def train_label_classifier(
    job: Job,
    *,
    anchors: Artifact,
    parts: Artifact,
    questions: Artifact,
    base: ModelRef,
    config: TrainingConfig,
) -> None:
    """The base model fine-tuned under a head on labels; the head lies beside it."""
    texts = head_texts(job, anchors=anchors, parts=parts, questions=questions)
    encoder = _to_train(job, base, config)
    steps = steps_of(anchors.rows, config)
    head, losses = train_classifier(encoder, texts, config, steps=steps, on_step=job.on_progress)
    _keep(job, encoder, losses, rows=texts.height)
    job.draft.write_table(head.table(), HEAD)
    weights = [head.weights.tobytes().hex(), head.bias.tobytes().hex()]
    job.draft.digest = digest({"model": job.draft.digest, "head": weights})


@stage("classifier", title="evaluate the classifier", tags=["gpu"])
def evaluate_classifier(
    job: Job, *, classifier: Artifact, questions: Artifact, knowledge_base: Artifact
) -> None:
    """`contracts.Outcomes` of a fine-tuned classifier."""
    folder = job.store.folder(classifier) / MODEL_FOLDER
    encoder = Encoder.load(str(folder), device=job.settings.device)
    asked = job.table(questions)
    outcomes = evaluate_head(
        asked,
        encoder.encode(asked["text"].to_list(), on_progress=job.on_progress),
        encoder.encode(with_english(asked)["english"].to_list()),
        job.table(knowledge_base),
        Head.of_table(job.store.table(classifier, HEAD)),
    )
    job.write(outcomes)


def _to_train(job: Job, base: ModelRef, config: TrainingConfig) -> Encoder:
    return Encoder.load(
        locate(job.store, base), device=job.settings.device, max_tokens=config.max_tokens
    )


def _keep(job: Job, encoder: Encoder, losses: list[float], *, rows: int) -> None:
    """Write the model and its loss curve."""
    folder = job.draft.folder / MODEL_FOLDER
    encoder.save(folder)
    steps = pl.int_range(1, len(losses) + 1, eager=True).alias("step")
    job.draft.write_table(pl.DataFrame({"step": steps, "loss": losses}), STEPS)
    job.draft.rows = rows
    job.draft.digest = model_digest(str(folder))
    job.draft.facts = {"steps": len(losses)}
