"""The knowledge base, checked: the rows that answer, and the ones that were rejected."""

from monoglot.config import KnowledgeBaseConfig
from monoglot.knowledge.knowledge_base import load_knowledge_base
from tasks.caching import stage
from tasks.workplace import Job


def _read(job: Job, config: KnowledgeBaseConfig) -> None:
    """`contracts.KnowledgeBase` of the file; its fingerprint is kept with it."""
    loaded = load_knowledge_base(config)
    job.write(
        loaded.rows,
        loaded.rejects,
        warnings=loaded.warnings,
        content=loaded.digest,
        labels=loaded.rows["label"].n_unique(),
    )


read_knowledge_base = stage("knowledge_base", title="knowledge base")(_read)
read_other_base = stage("knowledge_base", title="knowledge base {config.name}")(_read)
