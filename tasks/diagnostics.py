"""What went wrong, or did not: the failure signatures of the method, on this run's own figures."""

import polars as pl

from monoglot.config import Config
from monoglot.contracts import Outcomes, empty
from monoglot.learning.diagnostics import (
    Finding,
    flat_loss,
    fluency,
    hardest_below_random,
    stealing,
    table_of,
)
from monoglot.learning.evaluation import evaluate_vectors, with_english
from monoglot.learning.objectives import OBJECTIVES
from monoglot.learning.vector_diagnostics import apart, language_offset, mislabelled
from monoglot.serving.vectors import Vectors
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.comparison import MINED, RANDOM, Baselines
from tasks.index import vectors_of
from tasks.models import ModelRef, encode
from tasks.sources import Data
from tasks.systems import TUNED, UNTUNED, System
from tasks.training import STEPS
from tasks.workplace import Job, Workplace

# Of each language; a share of so many is known to two points.
_MOST_QUERIES = 2_000


def diagnose(
    place: Workplace,
    config: Config,
    rows: Artifact,
    data: Data,
    *,
    base: System,
    tuned: System,
    trained: Artifact,
    baselines: Baselines,
) -> Artifact:
    """`contracts.Findings` of a run; the library says what is looked for."""
    hard = {MINED: baselines.outcomes.get(MINED)}
    reads_negatives = OBJECTIVES[config.fine_tuning.objective].sampled_negatives
    if reads_negatives and config.sampling.strategy.startswith("hardest"):
        hard[TUNED] = tuned.outcomes
    return find_failures(
        place,
        models=(base.model, tuned.model),
        indexes=(base.index, tuned.index),
        outcomes=(base.outcomes, tuned.outcomes),
        hard={name: outcomes for name, outcomes in hard.items() if outcomes is not None},
        random=baselines.outcomes.get(RANDOM),
        trained=trained,
        questions=data.questions,
        anchors=data.anchors,
        knowledge_base=rows,
        seed=config.fine_tuning.seed,
    )


@stage("diagnostics", title="diagnose", tags=["gpu"])
def find_failures(
    job: Job,
    *,
    models: tuple[ModelRef, ModelRef],
    indexes: tuple[Artifact, Artifact],
    outcomes: tuple[Artifact, Artifact],
    hard: dict[str, Artifact],
    random: Artifact | None,
    trained: Artifact,
    questions: Artifact,
    anchors: Artifact,
    knowledge_base: Artifact,
    seed: int,
) -> None:
    """`contracts.Findings`; of each pair, the first is the untuned model's.

    Args:
        job: the stage's job.
        models: whose queries are encoded.
        indexes: their rows' vectors.
        outcomes: what they answered.
        hard: name -> outcomes of models trained on nearest negatives alone.
        random: outcomes of random negatives; None: they were not run.
        trained: the trained model, for its loss curve.
        questions: the evaluation set.
        anchors: the training set.
        knowledge_base: the rows.
        seed: of the choice of queries, where there are too many.
    """
    # No more columns of a large knowledge base are held than are looked at, and vectors come last.
    rows, asked = job.table(knowledge_base).select("row_id", "query", "label"), job.table(questions)
    chosen = _some(asked, seed)
    translations = _some(
        job.table(anchors).filter(pl.col("origin").cast(pl.String) == "translated"), seed
    )
    before = vectors_of(job.store, indexes[0])
    # The untuned model first, which the stage before has loaded: each is loaded once.
    offsets = [_offsets(job, models[0], chosen, before)]
    probed = _answers(job, models[0], translations, rows, before)
    del before  # a million vectors take 1.5 GB, and those of both models need not be held
    after = vectors_of(job.store, indexes[1])
    offsets.append(_offsets(job, models[1], chosen, after))
    untuned, tuned = (job.table(each) for each in outcomes)
    findings = [
        *_fluency(asked, probed, untuned=untuned, tuned=tuned),
        *(apart(name, offsets[0][name], offsets[1][name]) for name in offsets[0]),
        flat_loss(job.store.table(trained, STEPS)),
        hardest_below_random(
            {name: job.table(each) for name, each in hard.items()},
            None if random is None else job.table(random),
        ),
        stealing(tuned),
        mislabelled(after.in_order(rows), after.matrix, seed=seed),
    ]
    found = [finding.check for finding in findings if finding.verdict == "found"]
    job.write(table_of(findings), told=f"found: {', '.join(found)}" if found else "nothing found")


def _fluency(
    questions: pl.DataFrame, probed: pl.DataFrame, *, untuned: pl.DataFrame, tuned: pl.DataFrame
) -> list[Finding]:
    """The check of each language: by held-out translations where there are any beside native ones.

    Else by translations that were trained on, asked of the untuned model, which knows neither.
    """
    native = pl.col("origin").cast(pl.String) != "translated"
    findings = []
    for language in questions["language"].unique().sort():
        here = questions.filter(pl.col("language") == language)
        held_out, own = (here.filter(which).select("query_id") for which in (~native, native))
        if held_out.height:
            translated = tuned.join(held_out, on="query_id", how="semi")
            answered = tuned.join(own, on="query_id", how="semi")
            findings.append(fluency(translated, answered, TUNED, language))
        else:
            translated = probed.filter(pl.col("language") == language)
            answered = untuned.join(own, on="query_id", how="semi")
            findings.append(fluency(translated, answered, UNTUNED, language))
    return findings


def _offsets(
    job: Job, model: ModelRef, questions: pl.DataFrame, held: Vectors
) -> dict[str, float | None]:
    """`language_offset` of each language of the questions."""
    vectors = encode(job, model, questions["text"].to_list())
    offsets = {}
    for language in questions["language"].unique().sort():
        here = (questions["language"] == language).to_numpy()
        labels = questions["label"].filter(questions["language"] == language)
        offsets[language] = language_offset(vectors[here], labels, held.matrix, held.labels)
    return offsets


def _answers(
    job: Job, model: ModelRef, queries: pl.DataFrame, rows: pl.DataFrame, held: Vectors
) -> pl.DataFrame:
    """`contracts.Outcomes` of training queries, each without its own source."""
    if queries.is_empty():
        return empty(Outcomes)
    english = encode(job, model, with_english(queries)["english"].to_list())
    vectors = encode(job, model, queries["text"].to_list())
    return evaluate_vectors(
        queries,
        vectors,
        english,
        held.in_order(rows),
        held.matrix,
        temperature=held.temperature,
    )


def _some(queries: pl.DataFrame, seed: int) -> pl.DataFrame:
    """At most so many of each language, always the same ones."""
    turn = pl.int_range(pl.len()).shuffle(seed).over("language")
    return queries.sort("query_id").filter(turn < _MOST_QUERIES)
