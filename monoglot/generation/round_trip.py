"""`translate_back`: translations compared with their source by way of a translation back.

Both sides are then in the knowledge base's language, which the untuned model knows well. The back
translation is bought like any other, by way of the ledger.
"""

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.config import LanguageConfig
from monoglot.contracts import Rejects, empty
from monoglot.generation.asking import Generated, Progress
from monoglot.generation.ledger import Ledger
from monoglot.generation.redaction import Redactor
from monoglot.generation.spending import Budget
from monoglot.generation.translation import translate
from monoglot.generation_config import GenerationConfig
from monoglot.settings import Settings


def translate_back(
    rows: pl.DataFrame,
    language: LanguageConfig,
    config: GenerationConfig,
    *,
    kb_language: str,
    least: float,
    encode: Callable[[list[str]], NDArray[np.float32]],
    settings: Settings,
    ledger: Ledger,
    redactor: Redactor | None = None,
    on_progress: Progress | None = None,
    budget: Budget | None = None,
) -> Generated:
    """Keep the translations whose way back ends near their source.

    Rows without a source, and those for which the LLM gives no translation back, are kept: it
    says nothing against them.

    Args:
        rows: table `Queries`.
        language: the language they are in.
        config: model, temperature and glossary.
        kb_language: BCP 47 code of the sources.
        least: smallest cosine of source and back translation that is kept.
        encode: texts to unit vectors (n, d), by the untuned model.
        settings: where the endpoint is, and how it is asked.
        ledger: where replies are found and kept.
        redactor: hides personal data from endpoint and ledger; None: texts are sent as they are.
        on_progress: called with distinct queries settled and in all.
        budget: the run's, with its prices; None: nothing limits it and no price is known.

    Raises:
        BudgetError: the budget is used up; what was bought so far is kept.
        BatchPendingError: rows are out in a batch; a later call finds their answers.
        EndpointError: the endpoint fails or refuses; what was bought so far is kept.
        StoreError: the ledger cannot be written.
    """
    back = translate(
        rows.filter(pl.col("english").is_not_null()).select(
            "label", row_id="query_id", query="text"
        ),
        LanguageConfig(code=kb_language, name=f"the language with the BCP 47 code {kb_language}"),
        config,
        kb_language=language.code,
        settings=settings,
        ledger=ledger,
        may_repeat=True,
        redactor=redactor,
        on_progress=on_progress,
        budget=budget,
    )
    told = back.rows.select(query_id="source_row_id", _back="text").unique("query_id", keep="first")
    joined = rows.join(told, on="query_id", how="left", maintain_order="left")
    compared = joined.filter(pl.col("_back").is_not_null())
    vectors = [encode(compared[name].to_list()) for name in ("english", "_back")]
    near = compared.select(
        "query_id", pl.Series("_cosine", np.sum(vectors[0] * vectors[1], axis=1))
    )
    judged = joined.join(near, on="query_id", how="left", maintain_order="left")
    is_bad = pl.col("_cosine").fill_null(1.0) < least
    return Generated(
        rows=judged.filter(~is_bad).select(rows.columns),
        rejects=_rejects(judged.filter(is_bad), language),
        usage=back.usage,
        from_ledger=back.from_ledger,
        asked=back.asked,
        unanswered=back.unanswered,
    )


def _rejects(bad: pl.DataFrame, language: LanguageConfig) -> pl.DataFrame:
    return bad.select(
        file=pl.format("{} {}", pl.col("origin").cast(pl.String), pl.lit(language.code)),
        row=pl.lit(None, pl.Int64),
        column=pl.lit("text"),
        value="text",
        rule=pl.lit("round_trip"),
        reason=pl.format(
            "translated back it says: {} (cosine {} to the source: {})",
            "_back",
            pl.col("_cosine").round(2),
            "english",
        ),
    ).cast(empty(Rejects).schema)
