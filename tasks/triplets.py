"""Positives and negatives of each anchor, drawn anew for each epoch (Algorithm 1)."""

import polars as pl
from pydantic import Field

from monoglot.contracts import Proposals, empty
from monoglot.identity import digest, frame_digest
from monoglot.knowledge.parts import untrained_labels
from monoglot.knowledge.split import leaking_rows
from monoglot.learning.negatives import STRATEGIES
from monoglot.learning.pairs import Partners, make_triplets
from monoglot.learning.similarity import LabelSimilarity, label_similarity, shuffled
from monoglot.learning.similarity_sources import Encode
from monoglot.learning_config import SamplingConfig, SimilarityConfig, TrainingConfig
from monoglot.section import Section, Share
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.cluster import encode_by, search_of
from tasks.labelling import PROPOSALS
from tasks.models import ModelRef, load_encoder
from tasks.workplace import Job

_ROWS = "rows.parquet"
_SIMILARITY = "similarity.parquet"
_PROPOSALS = "proposals.parquet"


class Distortion(Section):
    """How label similarity is made worse, to measure what a bad one costs: for benchmarks alone."""

    shuffled: Share = Field(0.0, description="Share of the labels in one another's places.")
    levels: int | None = Field(None, ge=0, description="Levels of label_path that are read.")


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
    distortion: Distortion | None = None,
) -> None:
    """`contracts.Triplets` for all epochs, or the first where later ones are mined in training.

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
        distortion: what benchmarks make wrong on purpose; None: nothing.
    """
    split = job.table(parts)
    rows = job.table(knowledge_base).join(split.select("row_id", "part"), on="row_id", how="inner")
    rows = rows.filter(~pl.col("label").is_in(untrained_labels(split).implode()))
    rows = rows.filter(~leaking_rows(rows, job.table(questions)))
    strategy = STRATEGIES[config.strategy]
    similarity = None
    if strategy.by_label:
        encode = load_encoder(job, base).encode if config.similarity.needs_model else None
        similarity = _similarity(rows, config.similarity, encode, distortion, seed)
    proposals = pl.concat(
        [empty(Proposals), *(job.store.table(each, PROPOSALS) for each in user_labels)]
    )
    known = job.table(anchors)
    triplets = make_triplets(
        known,
        rows,
        similarity,
        config,
        epochs=epochs,
        seed=seed,
        proposals=proposals,
        encode=encode_by(job, base) if strategy.mine else None,
        search=search_of(job),
    )
    idle = known.height - triplets["anchor"].n_unique()
    warnings = [*(similarity.warnings if similarity else ())]
    if idle:
        warnings.append(f"triplets: {idle:,} queries train nothing: their label has no row left.")
    job.write(
        triplets, labels=rows["label"].n_unique(), proposed=proposals.height, warnings=warnings
    )
    if config.remine:
        _keep_for_training(job, rows, similarity, proposals)


def _similarity(
    rows: pl.DataFrame,
    config: SimilarityConfig,
    encode: Encode | None,
    distortion: Distortion | None,
    seed: int,
) -> LabelSimilarity:
    if distortion is None:
        return label_similarity(rows, config, encode)
    whole = label_similarity(rows, config, encode, levels=distortion.levels)
    return shuffled(whole, distortion.shuffled, seed)


def _keep_for_training(
    job: Job, rows: pl.DataFrame, similarity: LabelSimilarity | None, proposals: pl.DataFrame
) -> None:
    """What later epochs are drawn from, beside the first one's triplets; it bears on the digest."""
    tables = {
        _ROWS: rows.sort("row_id").select(
            "row_id", "query", "label", pl.col("part").cast(pl.String)
        ),
        _PROPOSALS: proposals,
    }
    if similarity is not None:
        tables[_SIMILARITY] = similarity.table()
    for name, table in tables.items():
        job.draft.write_table(table, name)
    job.draft.digest = digest([job.draft.digest, *map(frame_digest, tables.values())])


def partners_of(
    job: Job,
    triplets: Artifact,
    anchors: pl.DataFrame,
    config: SamplingConfig,
    fine_tuning: TrainingConfig,
) -> Partners:
    """Draws the later epochs of a training as `draw_triplets` drew the first."""
    similarity = None
    if STRATEGIES[config.strategy].by_label:
        similarity = LabelSimilarity.of_table(job.store.table(triplets, _SIMILARITY))
    return Partners(
        anchors,
        job.store.table(triplets, _ROWS),
        similarity,
        config,
        epochs=fine_tuning.epochs,
        seed=fine_tuning.seed,
        proposals=job.store.table(triplets, _PROPOSALS),
    )
