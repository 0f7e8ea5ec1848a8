"""The round trip: translations must mean their source again when they are translated back."""

from monoglot.config import LanguageConfig
from monoglot.generation.redaction import Redactor
from monoglot.generation.round_trip import translate_back
from monoglot.generation.shared_ledger import open_ledger
from monoglot.generation_config import GenerationConfig, QualityConfig, RedactionConfig
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.checking import checked
from tasks.models import ModelRef, load_encoder
from tasks.workplace import Job


@stage("round_trip", title="translate back {language.code}", tags=["gpu", "llm"])
def keep_round_trips(
    job: Job,
    *,
    generated: Artifact,
    model: ModelRef,
    language: LanguageConfig,
    config: QualityConfig,
    generation: GenerationConfig,
    kb_language: str,
    redaction: RedactionConfig,
) -> None:
    """Translations that mean their source again when an LLM translates them back."""
    rows = job.table(generated)
    encoder = load_encoder(job, model)
    with open_ledger(job.store) as ledger:
        made = translate_back(
            rows,
            language,
            generation,
            kb_language=kb_language,
            least=config.min_round_trip,
            encode=encoder.encode,
            settings=job.settings,
            ledger=ledger,
            redactor=Redactor.of_rows(redaction),
            on_progress=job.on_purchase,
            budget=job.budget,
        )
    job.write(
        made.rows,
        made.rejects,
        **made.facts,
        **checked(rows, language),
    )
