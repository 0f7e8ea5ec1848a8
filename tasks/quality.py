"""The gates of form that generated queries must pass before anything learns from them."""

from monoglot.config import LanguageConfig
from monoglot.generation.quality import keep_good
from monoglot.generation_config import QualityConfig
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.checking import checked
from tasks.workplace import Job


@stage("quality", title="check {language.code}")
def keep_fit(
    job: Job,
    *,
    generated: Artifact,
    language: LanguageConfig,
    config: QualityConfig,
    glossary: tuple[str, ...],
    kb_language: str,
) -> None:
    """`contracts.Queries` that passed; what fails a gate is rejected with its reason."""
    rows = job.table(generated)
    job.write(*keep_good(rows, language, config, glossary, kb_language), **checked(rows, language))
