"""Where training queries come from, by what the config gives: files first, then the LLM."""

from typing import NamedTuple

from prefect import get_run_logger

from monoglot.config import Config, LanguageConfig
from monoglot.standing import languages_to_ask
from monoglot.store import Artifact
from tasks.given_translations import read_translations
from tasks.quality import keep_fit
from tasks.queries import read_queries
from tasks.synthesis import synthesize_by_llm
from tasks.translation import translate_by_llm
from tasks.workplace import Workplace


class Data(NamedTuple):
    """What is trained on and what is asked afterwards.

    Attributes:
        parts: the split of the knowledge base.
        questions: the evaluation set.
        anchors: the training set in the target languages.
    """

    parts: Artifact
    questions: Artifact
    anchors: Artifact


def translations_of(
    place: Workplace, config: Config, rows: Artifact, parts: Artifact
) -> tuple[Artifact, ...]:
    """Translations of the knowledge base, a table a language; a stage each.

    A language without a file of translations is left out where no endpoint is set: the native
    queries are then all it has, which `refuse_without_training_data` has made sure of.
    """
    asked = languages_to_ask(config, place.settings)
    tables = []
    for language in config.languages:
        if language.translations is not None:
            tables.append(read_translations(place, rows, language))
        elif language in asked:
            tables.append(_translated(place, config, language, parts))
        else:
            get_run_logger().warning(
                f"{language.code}: no translations and no endpoint are given; it is trained on "
                "native queries alone.",
                extra={"shown": True},
            )
    return tuple(tables)


def _translated(
    place: Workplace, config: Config, language: LanguageConfig, parts: Artifact
) -> Artifact:
    made = translate_by_llm(
        place,
        parts=parts,
        language=language,
        config=config.generation,
        kb_language=config.knowledge_base.language,
        redaction=config.redaction,
    )
    return _checked(place, config, language, made)


def _checked(
    place: Workplace, config: Config, language: LanguageConfig, generated: Artifact
) -> Artifact:
    return keep_fit(
        place,
        generated=generated,
        language=language,
        config=config.quality,
        glossary=config.generation.glossary,
    )


def synthetic_of(
    place: Workplace, config: Config, rows: Artifact, parts: Artifact
) -> tuple[Artifact, ...]:
    """Queries the LLM writes for each label, a table a language, where the config asks for any."""
    if not config.generation.synthetic_per_label:
        return ()
    tables = []
    for language in languages_to_ask(config, place.settings):
        made = synthesize_by_llm(
            place,
            knowledge_base=rows,
            parts=parts,
            language=language,
            config=config.generation,
            kb_language=config.knowledge_base.language,
            redaction=config.redaction,
        )
        tables.append(_checked(place, config, language, made))
    return tuple(tables)


def native_of(place: Workplace, config: Config) -> Artifact | None:
    """Labelled native training queries, where the user has them."""
    return read_queries(place, config.training) if config.training.path else None


def given_questions(place: Workplace, config: Config) -> Artifact | None:
    """The user's evaluation file, where there is one."""
    return read_queries(place, config.evaluation) if config.evaluation.path else None
