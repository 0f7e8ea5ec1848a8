"""Label consistency: generated queries must find their own label, or convince a judge."""

from typing import Any

import polars as pl

from monoglot.config import LanguageConfig
from monoglot.contracts import Rejects, empty
from monoglot.generation.judging import ask_judge
from monoglot.generation.redaction import Redactor
from monoglot.generation.shared_ledger import open_ledger
from monoglot.generation_config import GenerationConfig, QualityConfig, RedactionConfig
from monoglot.learning.consistency import SHOWN, consistency
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.checking import checked
from tasks.index import vectors_of
from tasks.models import ModelRef, load_encoder
from tasks.workplace import Job


@stage("consistency", title="check labels {language.code}", tags=["gpu", "llm"])
def keep_consistent(
    job: Job,
    *,
    generated: Artifact,
    knowledge_base: Artifact,
    index: Artifact,
    model: ModelRef,
    language: LanguageConfig,
    config: QualityConfig,
    generation: GenerationConfig,
    redaction: RedactionConfig,
) -> None:
    """Queries that find their own label, or that the judge files under it, where one is asked."""
    rows, kb = job.table(generated), job.table(knowledge_base)
    vectors = load_encoder(job, model).encode(rows["text"].to_list(), on_progress=job.on_progress)
    held = vectors_of(job.store, index)
    found = consistency(rows, vectors, held.in_order(kb), held.matrix)
    judged = rows.with_columns(
        pl.Series("_doubted", found.doubts(config.max_label_rank)),
        pl.Series("_rank", found.rank),
        pl.Series("_nearest", found.nearest, dtype=pl.List(pl.String)),
        pl.lit(None, pl.String).alias("_verdict"),
    )
    facts: dict[str, Any] = {}
    if config.judge and judged["_doubted"].any():
        judged, facts = _asked(job, judged, kb, language, generation, redaction=redaction)
    is_bad = pl.col("_doubted") & pl.col("_verdict").ne_missing(pl.col("label"))
    job.write(
        judged.filter(~is_bad).select(rows.columns),
        _inconsistent(judged.filter(is_bad), language),
        **checked(rows, language),
        **facts,
    )


def _asked(
    job: Job,
    judged: pl.DataFrame,
    kb: pl.DataFrame,
    language: LanguageConfig,
    generation: GenerationConfig,
    *,
    redaction: RedactionConfig,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The rows with the judge's verdict on the doubted ones, and what it cost."""
    doubted = judged.filter("_doubted").select(
        "query_id",
        "text",
        candidates=pl.concat_list("label", pl.col("_nearest").list.head(SHOWN)).list.unique(),
    )
    topics = {
        label: {"about": about or label.replace("_", " "), "example": example}
        for label, about, example in kb.group_by("label")
        .agg(pl.col("label_text").drop_nulls().first(), pl.col("query").sort().first())
        .iter_rows()
    }
    with open_ledger(job.store) as ledger:
        verdicts, answers = ask_judge(
            doubted,
            topics,
            language,
            generation,
            settings=job.settings,
            ledger=ledger,
            redactor=Redactor.of_rows(redaction),
            on_progress=job.on_purchase,
            budget=job.budget,
        )
    told = doubted.select("query_id", pl.Series("_verdict", verdicts, dtype=pl.String))
    joined = judged.drop("_verdict").join(told, on="query_id", how="left", maintain_order="left")
    return joined, {**answers.facts, "doubted": doubted.height}


def _inconsistent(bad: pl.DataFrame, language: LanguageConfig) -> pl.DataFrame:
    place = pl.when(pl.col("_rank") > 0).then(pl.format("at place {}", "_rank"))
    told = pl.format(
        "its label {} is {} among the nearest labels: {}{}",
        "label",
        place.otherwise(pl.lit("not")),
        pl.col("_nearest").list.head(SHOWN).list.join(", "),
        pl.format("; the judge says {}", "_verdict").fill_null(""),
    )
    return bad.select(
        file=pl.format("{} {}", pl.col("origin").cast(pl.String), pl.lit(language.code)),
        row=pl.lit(None, pl.Int64),
        column=pl.lit("text"),
        value="text",
        rule=pl.lit("label_inconsistent"),
        reason=told,
    ).cast(empty(Rejects).schema)
