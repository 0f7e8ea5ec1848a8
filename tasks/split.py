"""Index set and training set of each label (arXiv 2506.02527, section 3.1)."""

from monoglot.config import SplitConfig
from monoglot.knowledge.split import split_rows
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.workplace import Job


@stage("split")
def split(job: Job, knowledge_base: Artifact, config: SplitConfig, *, hold_out: bool) -> None:
    """`contracts.Split`; with `hold_out` a share of the training set is kept for evaluation."""
    rows = job.table(knowledge_base)
    parts = split_rows(rows, config, hold_out=hold_out)
    lacking = sorted(set(config.untrained_labels) - set(rows["label"]))
    warnings = [
        f"split.untrained_labels: the knowledge base has no label {name}" for name in lacking
    ]
    job.write(parts, warnings=warnings, **dict(parts["part"].value_counts().iter_rows()))
