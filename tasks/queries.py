"""Labelled queries that people gave: to evaluate on, or to train on."""

from monoglot.config import QueriesFile
from monoglot.knowledge.queries import load_queries
from tasks.caching import stage
from tasks.workplace import Job


@stage("queries", title="queries of {file.path.name}")
def read_queries(job: Job, file: QueriesFile, *, codes: tuple[str, ...] = ()) -> None:
    """`contracts.Queries` of a file.

    Args:
        job: the stage's job.
        file: path and columns.
        codes: the languages that the config lists, as it spells them.
    """
    loaded = load_queries(file, codes=codes)
    job.write(loaded.rows, loaded.rejects, warnings=loaded.warnings)
