"""Translations that the user has already."""

from monoglot.config import LanguageConfig
from monoglot.knowledge.queries import load_translations
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.workplace import Job


@stage("given_translations", title="translations {language.code}")
def read_translations(job: Job, knowledge_base: Artifact, language: LanguageConfig) -> None:
    """`contracts.Queries` of the user's own translations, joined to their rows."""
    loaded = load_translations(language, job.table(knowledge_base))
    job.write(loaded.rows, loaded.rejects, warnings=loaded.warnings)
