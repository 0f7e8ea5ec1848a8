"""The baselines that every report has: what needs no training, or a minute of it."""

import polars as pl

from monoglot.knowledge.split import leaking_rows
from monoglot.learning.baselines import bm25, tfidf
from monoglot.learning.evaluation import with_english
from monoglot.learning.heads import MOST_TEXTS, evaluate_head, evenly, fit_head
from monoglot.learning.ranking import Floats
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.index import vectors_of
from tasks.models import ModelRef, encode
from tasks.workplace import Job

HEAD = "head.parquet"


@stage("tfidf", title="evaluate TF-IDF")
def evaluate_tfidf(job: Job, questions: Artifact, knowledge_base: Artifact) -> None:
    """`contracts.Outcomes` of TF-IDF."""
    job.write(tfidf(job.table(questions), job.table(knowledge_base)))


@stage("bm25", title="evaluate BM25")
def evaluate_bm25(job: Job, questions: Artifact, knowledge_base: Artifact) -> None:
    """`contracts.Outcomes` of BM25."""
    job.write(bm25(job.table(questions), job.table(knowledge_base)))


@stage("logistic_head", title="evaluate a logistic head", tags=["gpu"])
def evaluate_logistic_head(
    job: Job,
    *,
    base: ModelRef,
    index: Artifact,
    anchors: Artifact,
    parts: Artifact,
    questions: Artifact,
    knowledge_base: Artifact,
    seed: int,
) -> None:
    """`contracts.Outcomes` of logistic regression on the untuned model's vectors, and the head.

    Args:
        job: the stage's job.
        base: the untuned model.
        index: its index, which has the rows' vectors already.
        anchors: the training set.
        parts: the split.
        questions: the evaluation set.
        knowledge_base: the rows.
        seed: of the draw, where there are too many texts to train on.
    """
    texts = head_texts(job, anchors=anchors, parts=parts, questions=questions)
    chosen = evenly(texts, MOST_TEXTS, seed)
    head = fit_head(_vectors(job, chosen, base, index), chosen["label"])
    asked = job.table(questions)
    outcomes = evaluate_head(
        asked,
        encode(job, base, asked["text"].to_list()),
        encode(job, base, with_english(asked)["english"].to_list()),
        job.table(knowledge_base),
        head,
    )
    left_out = texts.height - chosen.height
    warnings = (
        [
            f"logistic head: trained on {chosen.height:,} of {texts.height:,} texts, drawn evenly "
            "over the labels, to bound its time."
        ]
        if left_out
        else []
    )
    job.write(outcomes, warnings=warnings, trained_on=chosen.height, left_out=left_out)
    job.draft.write_table(head.table(), HEAD)


def head_texts(
    job: Job, *, anchors: Artifact, parts: Artifact, questions: Artifact
) -> pl.DataFrame:
    """What a head learns from: text, label, row_id (null for a training query).

    The training set and the English rows, but those that are held out or themselves a question.
    """
    rows = job.table(parts)
    usable = rows.filter(
        (pl.col("part").cast(pl.String) != "held_out") & ~leaking_rows(rows, job.table(questions))
    )
    learnt = job.table(anchors).select("text", "label", row_id=pl.lit(None, pl.String))
    return pl.concat(
        [learnt, usable.select("label", "row_id", text="query").select(learnt.columns)]
    )


def _vectors(job: Job, texts: pl.DataFrame, model: ModelRef, index: Artifact) -> Floats:
    """The vector of each text; those of rows are taken from the index."""
    held = vectors_of(job.store, index)
    places = held.row_ids.to_frame("row_id").with_row_index("place")
    place = texts.join(places, on="row_id", how="left", maintain_order="left")["place"]
    found = place.is_not_null().to_numpy()
    new = texts.filter(~found)["text"].to_list()
    vectors: Floats = held.matrix[place.fill_null(0).to_numpy()]
    vectors[~found] = encode(job, model, new)
    return vectors
