"""Index set and training set of each label (arXiv 2506.02527, section 3.1)."""

from monoglot.config import SplitConfig
from monoglot.knowledge.split import split_rows
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.workplace import Job


@stage("split")
def split(job: Job, knowledge_base: Artifact, config: SplitConfig, *, hold_out: bool) -> None:
    """`contracts.Split`; with `hold_out` a share of the training set is kept for evaluation."""
    parts = split_rows(job.table(knowledge_base), config, hold_out=hold_out)
    job.write(parts, **dict(parts["part"].value_counts().iter_rows()))
