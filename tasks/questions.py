"""The evaluation set."""

import polars as pl

from monoglot.config import SplitConfig
from monoglot.knowledge.labels import several_labels
from monoglot.knowledge.parts import held_out_share, of_part
from monoglot.knowledge.queries import unknown_labels
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.workplace import Job


@stage("questions", title="evaluation set")
def gather_questions(
    job: Job,
    *,
    given: Artifact | None,
    translations: tuple[Artifact, ...],
    native: Artifact | None,
    parts: Artifact,
    config: SplitConfig,
) -> None:
    """`contracts.Queries` to evaluate on.

    Args:
        job: the stage's job.
        given: the user's evaluation file. None: translations of the rows that the split holds
            out, and the same share of the native training queries.
        translations: of knowledge-base rows.
        native: native training queries; None: there are none.
        parts: the split.
        config: names share and seed.
    """
    if given is not None:
        questions, source = job.table(given), "the evaluation file"
    else:
        tables = [job.table(translation) for translation in translations]
        held_out = [of_part(tables, job.table(parts), "held_out")]
        if native is not None:
            held_out.append(held_out_share(job.table(native), config))
        questions = pl.concat(held_out)
        source = "held-out queries"
    split = job.table(parts)
    known = questions.join(split, on="label", how="semi")  # the others are misses anyway
    said = (
        unknown_labels(questions, split),
        several_labels(known, "evaluation questions", "they cannot all be right"),
    )
    warnings = [warning for warning in said if warning is not None]
    if given is None:
        warnings.append(
            f"No evaluation file is given (evaluation.path): {questions.height:,} held-out "
            "queries are evaluated on, which are easier than what users type."
        )
    job.write(questions, warnings=warnings, source=source)
