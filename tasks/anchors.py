"""The training set, which shares no text and no English source with the evaluation set."""

import polars as pl

from monoglot.identity import digest, frame_digest
from monoglot.knowledge.labels import lacking_labels, several_labels
from monoglot.knowledge.parts import of_part
from monoglot.knowledge.training_set import (
    spelt_like,
    training_set,
    without_guarded,
    without_out_of_scope,
)
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.workplace import Job

FIXED = "fixed_spelling.parquet"


@stage("anchors", title="training set")
def gather_anchors(
    job: Job,
    *,
    translations: tuple[Artifact, ...],
    others: tuple[Artifact, ...],
    parts: Artifact,
    questions: Artifact,
    guards: tuple[Artifact, ...],
    out_of_scope: Artifact | None = None,
) -> None:
    """`contracts.Queries` to train on, without any that shares text or source with a question.

    Beside it stands which of them no training may spell another way (`spelt_like`).

    Nor any that a guard asks: a model that knows its questions by heart would pass it. Nor any
    that people found no answer for.

    Args:
        job: the stage's job.
        translations: of knowledge-base rows. Those of index rows, which are given by people or
            not there at all, are anchors too; `pairs.Partners` leaves them out where the paper's
            split is kept.
        others: native and synthetic queries, and those of users that the LLM labelled.
        parts: the split.
        questions: the evaluation set.
        guards: the questions of the guards.
        out_of_scope: queries that no row answers; None: there are none.
    """
    split = job.table(parts)
    translated = of_part([job.table(each) for each in translations], split, "training", "index")
    together = pl.concat([translated, *map(job.table, others)])
    distinct = together.unique("query_id", keep="first", maintain_order=True)
    asked = job.table(questions)
    kept, rejects = training_set(distinct, split, asked)
    held = [asked["text"], asked["english"]]
    for guard in guards:
        held.append(job.table(guard)["text"])
        kept, guarded = without_guarded(kept, held[-1])
        rejects = pl.concat([rejects, guarded])
    if out_of_scope is not None:
        held.append(job.table(out_of_scope)["text"])
        kept, outside = without_out_of_scope(kept, held[-1])
        rejects = pl.concat([rejects, outside])
    warnings = (
        lacking_labels(distinct, split, "training queries", "they are not trained on"),
        several_labels(kept, "training queries", "label each text once", split),
    )
    job.write(
        kept,
        rejects,
        warnings=[warning for warning in warnings if warning is not None],
        dropped=dict(rejects["rule"].value_counts(sort=True).iter_rows()),
    )
    fixed = spelt_like(kept, pl.concat(held)).to_frame()
    job.draft.write_table(fixed, FIXED)
    if fixed.height:
        job.draft.digest = digest([job.draft.digest, frame_digest(fixed)])
