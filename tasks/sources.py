"""Where training queries come from, by what the config gives: files first, then the LLM."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from prefect import get_run_logger

from monoglot.config import Config, LanguageConfig
from monoglot.errors import BatchPendingError
from monoglot.outstanding import Outstanding
from monoglot.serving.releases import Releases
from monoglot.standing import languages_to_ask
from monoglot.store import Artifact
from tasks.candidates import search_candidates, search_further
from tasks.consistency import keep_consistent
from tasks.given_translations import read_translations
from tasks.guards import GuardQuestions
from tasks.index import build_index
from tasks.labelling import label_by_llm, label_gaps_by_llm
from tasks.models import ModelRef, base_model, released_model
from tasks.quality import keep_fit
from tasks.queries import read_queries
from tasks.round_trip import keep_round_trips
from tasks.synthesis import synthesize_by_llm
from tasks.translation import translate_by_llm
from tasks.user_queries import read_user_queries
from tasks.workplace import Workplace


class Data(NamedTuple):
    """What is trained on and what is asked afterwards.

    Attributes:
        parts: the split of the knowledge base.
        questions: the evaluation set.
        anchors: the training set in the target languages.
        labelled: what the LLM made of user queries; see `UserLabels`.
        guards: what is asked of the models beside the evaluation, and not trained on either.
        out_of_scope: queries that no row answers; None: there are none.
    """

    parts: Artifact
    questions: Artifact
    anchors: Artifact
    labelled: "UserLabels"
    guards: tuple[GuardQuestions, ...]
    out_of_scope: Artifact | None


class UserLabels(NamedTuple):
    """What the LLM made of unlabelled user queries, an artifact a language and look.

    Attributes:
        queries: labelled queries, with their proposed negatives beside them.
        gaps: artifacts whose table of gaps holds what no row answers.
    """

    queries: tuple[Artifact, ...] = ()
    gaps: tuple[Artifact, ...] = ()


class Waits:
    """Stages whose answers are out in batches: each submits its own before the run ends."""

    def __init__(self) -> None:
        self._out = Outstanding()

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Go on behind the block although what it needs is out."""
        try:
            yield
        except BatchPendingError as pending:
            self._out += pending.out

    def end(self) -> None:
        """End the run here if any stage waits.

        Raises:
            BatchPendingError: says what all of them wait for.
        """
        if self._out:
            raise BatchPendingError(self._out)


def translations_of(
    place: Workplace, config: Config, rows: Artifact, parts: Artifact, waits: Waits
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
            with waits.noted():
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
        redaction=config.redaction.for_rows,
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
        redaction=config.redaction.for_rows,
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
        redaction=config.redaction.for_rows,
    )


def synthetic_of(
    place: Workplace,
    config: Config,
    rows: Artifact,
    parts: Artifact,
    *,
    questions: Artifact,
    waits: Waits,
) -> tuple[Artifact, ...]:
    """Queries the LLM writes for each label, a table a language, where the config asks for any."""
    if not config.generation.synthetic_per_label:
        return ()
    tables = []
    for language in languages_to_ask(config, place.settings):
        with waits.noted():
            made = synthesize_by_llm(
                place,
                knowledge_base=rows,
                parts=parts,
                questions=questions,
                language=language,
                config=config.generation,
                kb_language=config.knowledge_base.language,
                redaction=config.redaction.for_rows,
            )
            tables.append(_checked(place, config, language, made, rows))
    return tuple(tables)


def user_labels_of(
    place: Workplace,
    config: Config,
    rows: Artifact,
    base: ModelRef,
    *,
    questions: Artifact,
    native: Artifact | None,
    out_of_scope: Artifact | None,
    waits: Waits,
) -> UserLabels:
    """Labels for the unlabelled user queries, where there is a file of them and an endpoint.

    What no candidate answers at first is searched again by the English wording that the LLM gave
    with its answer: a base model that reads only English finds nothing for the original.
    """
    if config.user_queries.path is None:
        return UserLabels()
    if not place.settings.has_endpoint:
        return UserLabels()
    queries = read_user_queries(
        place,
        config.user_queries,
        codes=config.language_codes,
        questions=questions,
        native=native,
        out_of_scope=out_of_scope,
    )
    index = build_index(place, rows, base)
    looks = []
    for language in config.languages:
        with waits.noted():
            looks.append(
                _labelled(place, config, language, queries, rows=rows, index=index, base=base)
            )
    return UserLabels(
        tuple(artifact for look in looks for artifact in look),
        tuple(second for _, second in looks),
    )


def _labelled(
    place: Workplace,
    config: Config,
    language: LanguageConfig,
    queries: Artifact,
    *,
    rows: Artifact,
    index: Artifact,
    base: ModelRef,
) -> tuple[Artifact, Artifact]:
    """Two looks at the user queries of a language."""
    code, kb_language = language.code, config.knowledge_base.language
    candidates = search_candidates(
        place, queries=queries, knowledge_base=rows, index=index, model=base, language=code
    )
    first = label_by_llm(
        place,
        queries=queries,
        candidates=candidates,
        language=language,
        config=config.generation,
        kb_language=kb_language,
        redaction=config.redaction,
    )
    further = search_further(
        place,
        labelled=first,
        shown=candidates,
        knowledge_base=rows,
        index=index,
        model=base,
        language=code,
    )
    second = label_gaps_by_llm(
        place,
        labelled=first,
        candidates=further,
        language=language,
        config=config.generation,
        kb_language=kb_language,
        redaction=config.redaction,
    )
    return first, second


def native_of(place: Workplace, config: Config) -> Artifact | None:
    """Labelled native training queries, where the user has them."""
    file = config.training
    return read_queries(place, file, codes=config.language_codes) if file.path else None


def given_questions(place: Workplace, config: Config) -> Artifact | None:
    """The user's evaluation file, where there is one."""
    file = config.evaluation
    return read_queries(place, file, codes=config.language_codes) if file.path else None
