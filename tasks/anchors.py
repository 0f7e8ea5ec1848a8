"""The training set, which shares no text and no English source with the evaluation set."""

import polars as pl

from monoglot.contracts import Rejects
from monoglot.knowledge.parts import of_part
from monoglot.knowledge.split import without_leaks
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.workplace import Job


@stage("anchors", title="training set")
def gather_anchors(
    job: Job,
    *,
    translations: tuple[Artifact, ...],
    others: tuple[Artifact, ...],
    parts: Artifact,
    questions: Artifact,
) -> None:
    """`contracts.Queries` to train on, without any that shares text or source with a question.

    Args:
        job: the stage's job.
        translations: of knowledge-base rows; only those of the training set are used.
        others: native and synthetic queries.
        parts: the split.
        questions: the evaluation set.
    """
    split = job.table(parts)
    translated = of_part([job.table(each) for each in translations], split, "training")
    together = pl.concat([translated, *map(job.table, others)])
    distinct = together.unique("query_id", keep="first", maintain_order=True)
    known = pl.col("label").is_in(split["label"].unique().implode())
    kept, leaks = without_leaks(distinct.filter(known), job.table(questions))
    job.write(kept.sort("query_id"), pl.concat([_without_row(distinct.filter(~known)), leaks]))


def _without_row(queries: pl.DataFrame) -> pl.DataFrame:
    """`contracts.Rejects` of training queries whose label the knowledge base lacks."""
    return queries.select(
        file=pl.format("training ({})", pl.col("origin").cast(pl.String)),
        row=pl.lit(None, dtype=pl.Int64),
        column=pl.lit("label"),
        value="label",
        rule=pl.lit("unknown_label"),
        reason=pl.lit("the knowledge base has no row with this label"),
    ).select(Rejects.column_names())
