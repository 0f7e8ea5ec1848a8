"""The gates that generated queries must pass before anything learns from them."""

from monoglot.config import LanguageConfig, QualityConfig
from monoglot.generation.quality import keep_good
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.workplace import Job


@stage("quality", title="check {language.code}")
def keep_fit(
    job: Job,
    *,
    generated: Artifact,
    language: LanguageConfig,
    config: QualityConfig,
    glossary: tuple[str, ...],
) -> None:
    """`contracts.Queries` that passed; what fails a gate is rejected with its reason."""
    job.write(*keep_good(job.table(generated), language, config, glossary))
