"""What a run would do and why, found out without doing any of it."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import polars as pl

from monoglot.config import Config, LanguageConfig, QueriesFile
from monoglot.contracts import Queries, UserQueries, empty
from monoglot.due import FIRST, changes_since, refuse_another_base, work_of
from monoglot.errors import StoreError
from monoglot.generation import labelling, synthesis, translation
from monoglot.generation.access import check_endpoint
from monoglot.generation.asking import PlannedWork
from monoglot.generation.batch_records import outstanding_in
from monoglot.generation.ledger import Ledger
from monoglot.generation.query_translation import (
    foreign_languages,
    pending_questions,
    read_lexicon,
)
from monoglot.generation.redaction import Redactor
from monoglot.generation.replies import Usage
from monoglot.generation.shared_ledger import ledger_file
from monoglot.generation.spending import batch_price_of, price_of, refuse_unpriced
from monoglot.knowledge.changes import Changes, Work
from monoglot.knowledge.knowledge_base import load_knowledge_base
from monoglot.knowledge.parts import held_out_share, to_translate, topics_of
from monoglot.knowledge.queries import load_out_of_scope, load_queries, load_translations
from monoglot.knowledge.split import split_rows
from monoglot.knowledge.user_queries import known_candidates, load_user_queries, unasked
from monoglot.learning.models import model_folder
from monoglot.outstanding import Outstanding
from monoglot.serving.releases import NO_RELEASE, Releases
from monoglot.settings import Settings
from monoglot.standing import (
    Inputs,
    asks_for_questions,
    languages_to_ask,
    reason_against_refresh,
    refuse_untranslatable,
    refuse_without_training_data,
    unwritten,
)
from monoglot.store import Store


@dataclass(frozen=True)
class Request:
    """What the LLM would be asked: in one language, for one purpose.

    Attributes:
        language: BCP 47 code.
        purpose: translate (with its renderings, where it has several), synthesize, label, or
            translate questions.
        work: rows, requests and tokens.
        usd: what that will cost, about; None: the model's price is unknown.
    """

    language: str
    purpose: str
    work: PlannedWork
    usd: float | None


@dataclass(frozen=True)
class Plan:
    """What `monoglot plan` shows.

    Attributes:
        work: nothing, refresh or retrain, with the reasons.
        changes: of the knowledge base since the release in production.
        rows, labels, rejected: of the knowledge base as it is now.
        requests: what a retrain would ask the LLM.
        out: batches whose answers the next run takes in; false: there are none.
        warnings: what is allowed but worth a look.
    """

    work: Work
    changes: Changes
    rows: int
    labels: int
    rejected: int
    requests: tuple[Request, ...]
    out: Outstanding
    warnings: tuple[str, ...]

    @property
    def usd(self) -> float | None:
        """What a retrain would cost, about; None: a price is unknown."""
        prices = [request.usd for request in self.requests]
        known = [usd for usd in prices if usd is not None]
        return sum(known) if len(known) == len(prices) else None


def refuse_unready(
    config: Config, settings: Settings, store: Store | None, *, force: bool = False
) -> None:
    """Refuse, before any work, what cannot end well: bad files, no model, a dead endpoint.

    Reads every file that the config names, which takes seconds even for a million rows.

    Args:
        config: with the LLM's name filled in.
        settings: names the endpoint.
        store: whose ledger may make the endpoint unneeded; None: there is none yet.
        force: replace the knowledge base in production even by another one.

    Raises:
        ConfigError: there is nothing to train on (see `refuse_without_training_data`), a limit in
            dollars without a price (see `refuse_unpriced`), or the store is another config's (see
            `refuse_another_base`).
        DataError: a file cannot be used.
        ModelError: the base model cannot be found.
        EndpointError: the endpoint is or may be needed, and cannot be reached, or refuses the key.
    """
    refuse_without_training_data(config, settings)
    refuse_untranslatable(config, settings)
    rows = load_knowledge_base(config.knowledge_base).rows
    if store is not None and not force:
        refuse_another_base(store, rows, config.knowledge_base.shown)
    _load_others(config, rows)
    model_folder(config.base_model)
    if _unplanned(config, settings) or any(
        request.work.rows for request in _requests(config, settings, store, rows)
    ):
        refuse_unpriced(config.spending, config.generation.model)
        check_endpoint(settings, config.generation.model)


def _load_others(config: Config, rows: pl.DataFrame) -> None:
    """Read every file that a config names beside the knowledge base, for the errors."""
    for language in config.languages:
        if language.translations is not None:
            load_translations(language, rows)
    for file in (config.evaluation, config.training):
        if file.path is not None:
            load_queries(file)
    if config.user_queries.path is not None:
        load_user_queries(config.user_queries, config.language_codes)
    for guard in config.guards:
        load_queries(QueriesFile(path=guard.path, columns=guard.columns), guard.language)
        if guard.knowledge_base is not None:
            load_knowledge_base(guard.knowledge_base)
    if config.abstention.out_of_scope.path is not None:
        load_out_of_scope(config.abstention.out_of_scope)
    if config.baselines.lexicon is not None:
        read_lexicon(config.baselines.lexicon)


def make_plan(inputs: Inputs, config: Config, settings: Settings, store: Store | None) -> Plan:
    """What to do about the inputs as they are now; changes nothing and asks nobody.

    Args:
        inputs: digests of config and files.
        config: with the LLM's name filled in.
        settings: names the endpoint.
        store: None: there is none yet.

    Raises:
        DataError: the knowledge base cannot be used.
    """
    loaded = load_knowledge_base(config.knowledge_base)
    requests = tuple(_requests(config, settings, store, loaded.rows))
    return Plan(
        work=FIRST if store is None else work_of(inputs, config, store, loaded),
        changes=changes_since(store, loaded.rows),
        rows=loaded.rows.height,
        labels=loaded.rows["label"].n_unique(),
        rejected=loaded.rejects.height,
        requests=requests,
        out=Outstanding() if store is None else outstanding_in(ledger_file(store)),
        warnings=(
            *loaded.warnings,
            *unwritten(config, settings),
            *_budget_warnings(config, settings, requests),
            *_left_out(config, settings),
        ),
    )


def _unplanned(config: Config, settings: Settings) -> list[str]:
    """What a retrain may ask the LLM beside the planned requests: it depends on their answers."""
    asked, quality = languages_to_ask(config, settings), config.quality
    translated = [language for language in asked if language.translations is None]
    written = asked if config.generation.synthetic_per_label else translated
    doubts = {
        "the judge (quality.judge)": quality.judge and quality.max_label_rank > 0 and written,
        "the round trip (quality.min_round_trip)": quality.min_round_trip > 0 and translated,
        "a second look at gaps (user_queries)": config.user_queries.path is not None and asked,
        "held-out translations translated back (baselines.also)": config.evaluation.path is None
        and asks_for_questions(config, settings),
    }
    return [name for name, applies in doubts.items() if applies]


def _left_out(config: Config, settings: Settings) -> Iterator[str]:
    """What the plan does not count, which costs money, too."""
    if names := _unplanned(config, settings):
        yield (
            f"The plan leaves out {', '.join(names)}: what they ask depends on the answers. "
            "spending.max_usd or spending.max_requests limit them, too."
        )


def _budget_warnings(
    config: Config, settings: Settings, requests: tuple[Request, ...]
) -> Iterator[str]:
    """Limits that the planned purchase will not keep within, or that cannot be kept."""
    limits, calls = config.spending, sum(request.work.requests for request in requests)
    if limits.max_usd is not None and (calls or _unplanned(config, settings)):
        known = [request.usd for request in requests if request.usd is not None]
        if config.generation.model not in limits.prices:
            yield (
                "spending.max_usd is set, but spending.prices names no price of "
                f"{config.generation.model!r}: a run is refused."
            )
        elif sum(known) > limits.max_usd:
            yield f"spending.max_usd = {limits.max_usd:g} is likely to stop the run."
    if limits.max_requests is not None and calls > limits.max_requests:
        yield f"spending.max_requests = {limits.max_requests:,} will stop the run."


def _requests(
    config: Config, settings: Settings, store: Store | None, rows: pl.DataFrame
) -> list[Request]:
    """What a retrain would ask the LLM, after a look into the ledger."""
    languages = languages_to_ask(config, settings)
    if not languages and not asks_for_questions(config, settings):
        return []
    parts = split_rows(rows, config.split, hold_out=config.evaluation.path is None)
    wanted = to_translate(parts)
    file = config.training
    native = load_queries(file, codes=config.language_codes).rows if file.path else None
    asked_of_us = _questions(config, native)
    topics = topics_of(rows, parts, asked_of_us)
    users = _user_queries(config, asked_of_us, native)
    candidates = known_candidates(users, rows, store)
    asked = []
    with contextlib.ExitStack() as stack:
        ledger = None if store is None else Ledger.existing(ledger_file(store))
        if ledger is not None:
            stack.enter_context(ledger)
        pending = {
            "translate": partial(translation.pending, wanted),
            "synthesize": partial(synthesis.pending, topics),
            "label": partial(labelling.pending, users, candidates),
        }
        redactors: defaultdict[str, Redactor | None] = defaultdict(
            lambda: Redactor.of_rows(config.redaction),
            label=Redactor(config.redaction),
        )
        for language, purpose in _purposes(languages, config):
            work = pending[purpose](
                language,
                config.generation,
                kb_language=config.knowledge_base.language,
                settings=settings,
                ledger=ledger,
                redactor=redactors[purpose],
            )
            usd = _price_of(config, work)
            asked.append(Request(language.code, _called(purpose, language), work, usd))
        if asks_for_questions(config, settings):
            for code in foreign_languages(asked_of_us, config.knowledge_base.language):
                work = pending_questions(
                    asked_of_us, code, config, settings=settings, ledger=ledger
                )
                asked.append(Request(code, "translate questions", work, _price_of(config, work)))
    return asked


def _price_of(config: Config, work: PlannedWork) -> float | None:
    """The price of planned work; nothing costs nothing, whatever the price."""
    if not work.requests:
        return 0.0
    tokens = Usage(work.requests, work.prompt_tokens, work.completion_tokens)
    price = batch_price_of if config.spending.batch else price_of
    return price(config.spending, config.generation.model, tokens)


def _purposes(
    languages: tuple[LanguageConfig, ...], config: Config
) -> Iterator[tuple[LanguageConfig, str]]:
    for language in languages:
        if language.translations is None:
            yield language, "translate"
        if config.generation.synthetic_per_label:
            yield language, "synthesize"
        if config.user_queries.path is not None:
            yield language, "label"


def _questions(config: Config, native: pl.DataFrame | None) -> pl.DataFrame:
    """What will be evaluated on, but for held-out translations, which may not be bought yet."""
    if config.evaluation.path is not None:
        return load_queries(config.evaluation, codes=config.language_codes).rows
    return empty(Queries) if native is None else held_out_share(native, config.split)


def _user_queries(
    config: Config, questions: pl.DataFrame, native: pl.DataFrame | None
) -> pl.DataFrame:
    """The user queries that an LLM would label."""
    if config.user_queries.path is None:
        return empty(UserQueries)
    file = config.abstention.out_of_scope
    outside = None if file.path is None else load_out_of_scope(file).rows
    users = load_user_queries(config.user_queries, config.language_codes).rows
    return unasked(users, questions, native, outside)[0]


def _called(purpose: str, language: LanguageConfig) -> str:
    if purpose == "translate" and language.mixing is not None:
        return f"translate, {language.mixing.renderings} renderings"
    return purpose


def why_no_refresh(config: Config, store: Store, *, force: bool) -> str | None:
    """Why the knowledge base needs no refresh, or None.

    Raises:
        ConfigError: the store serves another knowledge base.
        DataError: the knowledge base cannot be used.
        StoreError: there is no release to refresh.
    """
    current = Releases(store).current()
    if current is None:
        raise StoreError(NO_RELEASE.format(store.location))
    rows = load_knowledge_base(config.knowledge_base)
    if not force:
        refuse_another_base(store, rows.rows, config.knowledge_base.shown)
    return reason_against_refresh(store, current, rows.digest, force=force)
