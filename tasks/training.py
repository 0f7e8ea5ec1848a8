"""Fine-tuning of the base model; killed and started again, it goes on at its last checkpoint."""

import polars as pl

from monoglot.generation.scripts import is_romanised
from monoglot.learning.devices import training_devices
from monoglot.learning.encoder import Encoder
from monoglot.learning.models import model_digest
from monoglot.learning.remining import Remined
from monoglot.learning.together import fine_tune_on
from monoglot.learning_config import SamplingConfig, TrainingConfig
from monoglot.serving.releases import MODEL_FOLDER
from monoglot.store import Artifact
from tasks.anchors import FIXED
from tasks.caching import stage
from tasks.models import ModelRef, locate
from tasks.triplets import partners_of
from tasks.workplace import Job

STEPS = "steps.parquet"
REMINED = "triplets.parquet"


@stage("training", title="fine-tune", tags=["gpu"])
def train(
    job: Job,
    *,
    anchors: Artifact,
    parts: Artifact,
    triplets: Artifact,
    base: ModelRef,
    config: TrainingConfig,
    romanised: tuple[str, ...] = (),
    remining: SamplingConfig | None = None,
) -> None:
    """The tuned model, the loss of every step, and the triplets it was re-mined with.

    Args:
        job: the stage's job.
        anchors: the training set.
        parts: the split, and not the knowledge base: an edited answer trains no other model.
        triplets: partners of the anchors.
        base: what is tuned.
        config: how.
        romanised: codes of languages that are romanised by the config; others are by their code.
        remining: how later epochs' triplets are drawn; None: `triplets` has them.
    """
    queries = job.table(anchors)
    fixed = job.store.table(anchors, FIXED)["query_id"]
    # Who looks at the weights during a training must be in its process.
    alone = job.watcher is not None
    devices = [job.settings.device] if alone else training_devices(job.settings.device)
    encoder = Encoder.load(
        locate(job.store, base),
        device=devices[0] if len(devices) == 1 else "cpu",  # the GPUs are those processes' own
        max_tokens=config.max_tokens,
    )
    remined = None
    if remining is not None:
        partners = partners_of(job, triplets, queries, remining, config)
        remined = Remined(partners, job.scratch)
    log = fine_tune_on(
        encoder,
        queries,
        job.table(parts),
        job.table(triplets),
        config,
        devices=devices,
        scratch=job.scratch,
        respelt=_respelt(queries, fixed, romanised),
        on_step=lambda done, of: job.on_step(encoder, done, of),
        partners=remined,
    )
    folder = job.draft.folder / MODEL_FOLDER
    encoder.save(folder)
    job.draft.write_table(log.steps, STEPS)
    if remined is not None and config.epochs > 1:
        job.draft.write_table(remined.drawn(), REMINED)
    job.draft.rows = queries.height
    job.draft.digest = model_digest(str(folder))
    job.draft.facts = {
        "steps": log.steps.height,
        "seconds": round(log.seconds, 1),
        "texts": log.texts,
        "devices": len(devices),
        "bf16": log.bf16,
        "cut": log.cut,
        "resumed_at": log.resumed_at,
        "temperature": round(log.temperature, 5),
        "warnings": [
            f"fine-tune: {log.cut:,} texts are longer than {config.max_tokens} tokens and were cut "
            "(fine_tuning.max_tokens)."
        ]
        if log.cut
        else [],
    }


def _respelt(queries: pl.DataFrame, fixed: pl.Series, romanised: tuple[str, ...]) -> frozenset[str]:
    """The ids of the queries in a romanised language, but those that are to stay as they are."""
    codes = {code for code in queries["language"].unique() if is_romanised(code)}.union(romanised)
    chosen = queries.filter(pl.col("language").is_in(codes))["query_id"]
    return frozenset(chosen).difference(fixed)
