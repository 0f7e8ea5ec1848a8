"""Real user queries without labels: read, and those of the evaluation taken out."""

import polars as pl

from monoglot.config import UserQueriesFile
from monoglot.knowledge.user_queries import load_user_queries, unasked
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.workplace import Job


@stage("user_queries", title="user queries of {file.path.name}")
def read_user_queries(
    job: Job,
    file: UserQueriesFile,
    *,
    codes: tuple[str, ...],
    questions: Artifact,
    native: Artifact | None,
    out_of_scope: Artifact | None = None,
) -> None:
    """`contracts.UserQueries` of a file, without those that people judged or are evaluated on.

    Args:
        job: the stage's job.
        file: path and columns.
        codes: the languages that the config lists.
        questions: the evaluation set.
        native: native training queries; None: there are none.
        out_of_scope: queries that no row answers; None: there are none.
    """
    loaded = load_user_queries(file, codes)
    labelled = None if native is None else job.table(native)
    outside = None if out_of_scope is None else job.table(out_of_scope)
    kept, known = unasked(loaded.rows, job.table(questions), labelled, outside)
    rejects = pl.concat([loaded.rejects, known])
    job.write(
        kept,
        rejects,
        warnings=loaded.warnings,
        dropped=dict(rejects["rule"].value_counts(sort=True).iter_rows()),
        times=int(kept["times"].sum()),
    )
