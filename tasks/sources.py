"""Where training queries come from, by what the config gives: files first, then the LLM."""

from typing import NamedTuple

from prefect import get_run_logger

from monoglot.config import Config, LanguageConfig
from monoglot.serving.releases import Releases
from monoglot.standing import languages_to_ask
from monoglot.store import Artifact
from tasks.consistency import keep_consistent
from tasks.given_translations import read_translations
from tasks.index import build_index
from tasks.models import base_model, released_model
from tasks.quality import keep_fit
from tasks.queries import read_queries
from tasks.round_trip import keep_round_trips
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
            tables.append(_translated(place, config, language, rows, parts))
        else:
            get_run_logger().warning(
                f"{language.code}: no translations and no endpoint are given; it is trained on "
                "native queries alone.",
                extra={"shown": True},
            )
    return tuple(tables)


def _translated(
    place: Workplace, config: Config, language: LanguageConfig, rows: Artifact, parts: Artifact
) -> Artifact:
    made = translate_by_llm(
        place,
        parts=parts,
        language=language,
        config=config.generation,
        kb_language=config.knowledge_base.language,
    )
    kept = _checked(place, config, language, made, rows)
    if not config.quality.min_round_trip:
        return kept
    return keep_round_trips(
        place,
        generated=kept,
        model=base_model(config.base_model),
        language=language,
        config=config.quality,
        generation=config.generation,
        kb_language=config.knowledge_base.language,
    )


def _checked(
    place: Workplace, config: Config, language: LanguageConfig, generated: Artifact, rows: Artifact
) -> Artifact:
    """What passed the gates: of form, and of label consistency where that is asked for."""
    fit = keep_fit(
        place,
        generated=generated,
        language=language,
        config=config.quality,
        glossary=config.generation.glossary,
        kb_language=config.knowledge_base.language,
    )
    if not config.quality.max_label_rank:
        return fit
    current = Releases(place.store).current() if config.quality.label_model == "current" else None
    model = base_model(config.base_model) if current is None else released_model(current)
    return keep_consistent(
        place,
        generated=fit,
        knowledge_base=rows,
        index=build_index(place, rows, model),
        model=model,
        language=language,
        config=config.quality,
        generation=config.generation,
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
        )
        tables.append(_checked(place, config, language, made, rows))
    return tuple(tables)


def native_of(place: Workplace, config: Config) -> Artifact | None:
    """Labelled native training queries, where the user has them."""
    return read_queries(place, config.training) if config.training.path else None


def given_questions(place: Workplace, config: Config) -> Artifact | None:
    """The user's evaluation file, where there is one."""
    return read_queries(place, config.evaluation) if config.evaluation.path else None
