"""`label_queries`: real user queries filed by the LLM under a row of the knowledge base, or none.

The model is shown each query with the candidates that `learning.candidates` found, and answers in
their numbers: which one answers the query, and which one of another topic is most easily taken for
it (a hard negative). It writes no label and no row of its own, so that whatever it says can be
checked. A query that none answers is a gap in the knowledge base: it trains nothing and is listed
for the editor, in the English wording that the model gives with each answer.

A query's key is its text and its candidates: a changed or new row buys anew the queries that it is
a candidate of, which is when the answer may change, and a few whose candidates by words change
places with other ones, since the row changes how rare a word is.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import polars as pl

from monoglot.config import LanguageConfig
from monoglot.contracts import Gaps, Proposals, Queries, empty
from monoglot.generation.asking import (
    Generated,
    PlannedWork,
    Progress,
    Task,
    plan,
    rejects_of,
)
from monoglot.generation.buying import answer_all
from monoglot.generation.ledger import Ledger
from monoglot.generation.prompts import (
    LABELLING_PROMPT,
    LABELLING_SCHEMA,
    build_labelling_messages,
    told_of,
)
from monoglot.generation.redaction import Redacted, Redactor
from monoglot.generation.replies import Problem, clean_text
from monoglot.generation.senders import endpoint_of
from monoglot.generation.spending import Budget
from monoglot.generation_config import GenerationConfig
from monoglot.identity import digest
from monoglot.settings import Settings

NONE_FITS, NO_QUESTION = 0, -1
_NUMBER = re.compile("-?[0-9]{1,6}")  # of a candidate; `int` refuses "--1" and very long ones
_ANSWER_CHARS = 40  # the numbers and their names, beside the wording

_NO_QUESTION = Problem("no_question", "the model says that it asks for nothing")
_OUTSIDE = Problem("no_such_candidate", "the model named a candidate that it was not given")


@dataclass(frozen=True, kw_only=True)
class Labelled(Generated):
    """What the LLM made of user queries: `rows` are of origin user, those that a row answers.

    Attributes:
        proposals: table `Proposals`: a hard negative for some of them.
        gaps: table `Gaps`: those that no candidate answers.
    """

    proposals: pl.DataFrame
    gaps: pl.DataFrame


class Verdict(NamedTuple):
    """A reply on one query: numbers of candidates from 1, 0 or -1 for none, and its wording."""

    fits: int
    confusable: int
    wording: str | None


def label_queries(
    queries: pl.DataFrame,
    candidates: pl.DataFrame,
    language: LanguageConfig,
    config: GenerationConfig,
    *,
    kb_language: str,
    settings: Settings,
    ledger: Ledger,
    redactor: Redactor | None = None,
    on_progress: Progress | None = None,
    budget: Budget | None = None,
) -> Labelled:
    """Have each query filed under one of its candidates, or under none.

    Args:
        queries: `contracts.UserQueries`; those of other languages are left out.
        candidates: `contracts.Candidates` of them; a query without any is a gap unasked.
        language: of the queries.
        config: model and temperature.
        kb_language: BCP 47 code of the candidates.
        settings: where the endpoint is, and how it is asked.
        ledger: where replies are found and kept.
        redactor: hides personal data from endpoint and ledger, the queries' and the candidates'
            each by its own switch; None: texts are sent as they are.
        on_progress: called with queries settled and in all.
        budget: the run's, with its prices; None: nothing limits it and no price is known.

    Raises:
        BudgetError: the budget is used up; what was bought so far is kept.
        BatchPendingError: rows are out in a batch; a later call finds their answers.
        EndpointError: the endpoint fails or refuses; what was bought so far is kept.
        StoreError: the ledger cannot be written.
    """
    model = config.model or settings.llm_model
    queries = queries.filter(pl.col("language") == language.code)
    given = _by_query(candidates)
    asks = _asks_of(queries, given, _told(language, config, model, kb_language), redactor)
    answers = answer_all(
        {key: ask for _, _, key, ask in asks},
        _task_of(language, kb_language, settings, model),
        partial(endpoint_of, settings, model, config.temperature),
        ledger,
        in_flight=settings.llm_concurrency,
        on_progress=on_progress,
        budget=budget,
    )
    problems: list[tuple[str, str | None, Problem]] = []
    verdicts: dict[str, Verdict] = {}
    for query, redacted, key, _ in asks:
        verdict = answers.answers.get(key)
        problem = answers.problems[key] if verdict is None else _problem(verdict, given, query)
        if problem is not None:
            problems.append((f"user queries in {language.code}", query["text"], problem))
        elif verdict is not None:
            wording = verdict.wording and redacted.restored(verdict.wording)
            verdicts[query["query_id"]] = verdict._replace(wording=wording)
    return Labelled(
        **_tables(queries, given, verdicts),
        rejects=rejects_of(problems),
        usage=answers.usage,
        from_ledger=answers.from_ledger,
        asked=answers.asked,
        unanswered=answers.unanswered,
    )


def pending(
    queries: pl.DataFrame,
    candidates: pl.DataFrame,
    language: LanguageConfig,
    config: GenerationConfig,
    *,
    kb_language: str,
    settings: Settings,
    ledger: Ledger | None,
    redactor: Redactor | None = None,
) -> PlannedWork:
    """What `label_queries` would ask with the same arguments; no call is made."""
    model = config.model or settings.llm_model
    queries = queries.filter(pl.col("language") == language.code)
    told = _told(language, config, model, kb_language)
    asks = {key: ask for _, _, key, ask in _asks_of(queries, _by_query(candidates), told, redactor)}
    return plan(asks, _task_of(language, kb_language, settings, model), ledger)


def _by_query(candidates: pl.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """The candidates of each query, in the order of their row ids; the first has number 1."""
    given: dict[str, list[dict[str, Any]]] = {}
    for row in candidates.sort("query_id", "row_id").iter_rows(named=True):
        given.setdefault(row["query_id"], []).append(row)
    return given


def _told(
    language: LanguageConfig, config: GenerationConfig, model: str, kb: str
) -> dict[str, Any]:
    """What a key says beside its row."""
    return {
        "prompt": LABELLING_PROMPT,
        "model": model,
        "temperature": config.temperature,
        "from": kb,
        "to": told_of(language),
        "sample": 0,
    }


def _asks_of(
    queries: pl.DataFrame,
    given: Mapping[str, list[dict[str, Any]]],
    told: Mapping[str, Any],
    redactor: Redactor | None,
) -> list[tuple[dict[str, Any], Redacted, str, dict[str, Any]]]:
    """Each query with candidates, what hides in it, its key, and what is asked beside `told`."""
    asks = []
    for query in queries.sort("query_id").iter_rows(named=True):
        if query["query_id"] in given:
            shown = given[query["query_id"]]
            texts = (query["text"], *_texts_of(shown))
            redacted = (
                Redacted(texts, {}) if redactor is None else redactor.redact_with_rows(*texts)
            )
            ask = _ask_of(redacted.texts, shown)
            asks.append((query, redacted, digest({**told, "row": ask}), ask))
    return asks


def _texts_of(candidates: list[dict[str, Any]]) -> list[str]:
    """The texts of candidates that may hold personal data: two of each, the first may be empty."""
    return [text for row in candidates for text in (row["label_text"] or "", row["query"])]


def _ask_of(texts: Sequence[str], candidates: list[dict[str, Any]]) -> dict[str, Any]:
    """What is sent about one query: the one place where a user's own words leave this machine.

    Args:
        texts: the query and `_texts_of` the candidates, as they may be sent.
        candidates: where the rest is from.
    """
    return {
        "text": texts[0],
        "candidates": [
            {
                "number": number,
                "topic": row["label_path"] or row["label"],
                **({"about": about} if about else {}),
                "query": query,
            }
            for number, (row, about, query) in enumerate(
                zip(candidates, texts[1::2], texts[2::2], strict=True), start=1
            )
        ],
    }


def _task_of(language: LanguageConfig, kb_language: str, settings: Settings, model: str) -> Task:
    return Task(
        messages=lambda rows: build_labelling_messages(rows, language, kb_language),
        schema=LABELLING_SCHEMA,
        answer_of=_verdict_in,
        rows_per_request=settings.llm_rows_per_request,
        answer_chars=lambda row: _ANSWER_CHARS + len(row["text"]),
        may_repeat=True,
        language=kb_language,
        kind=f"{LABELLING_PROMPT} {model} {language.code}",
    )


def _verdict_in(row: Mapping[str, Any]) -> Verdict | None:
    """The verdict in a row of a reply; None where it names no number. Nothing else is taken."""
    fits, confusable = _whole(row.get("fits")), _whole(row.get("confusable"))
    if fits is None:
        return None
    return Verdict(fits, confusable or NONE_FITS, clean_text(row.get("wording")))


def _whole(value: Any) -> int | None:
    """A whole number, also where a model wrote it as text."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _problem(
    verdict: Verdict, given: Mapping[str, list[dict[str, Any]]], query: Mapping[str, Any]
) -> Problem | None:
    """Why a verdict gives neither a label nor a gap, or None."""
    if verdict.fits == NO_QUESTION:
        return _NO_QUESTION
    inside = NONE_FITS <= verdict.fits <= len(given[query["query_id"]])
    return None if inside else _OUTSIDE


def _tables(
    queries: pl.DataFrame,
    given: Mapping[str, list[dict[str, Any]]],
    verdicts: Mapping[str, Verdict],
) -> dict[str, pl.DataFrame]:
    """The tables `rows`, `proposals` and `gaps` of the verdicts."""
    rows, proposals, gaps = [], [], []
    for query in queries.sort("query_id").iter_rows(named=True):
        own = query["query_id"]
        verdict = verdicts.get(own)
        if own not in given or (verdict is not None and verdict.fits == NONE_FITS):
            wording = verdict.wording if verdict else query.get("english")
            gaps.append({**query, "english": wording})
        elif verdict is not None:
            chosen = given[own][verdict.fits - 1]
            rows.append(
                {
                    "query_id": own,
                    "text": query["text"],
                    "language": query["language"],
                    "label": chosen["label"],
                    "origin": "user",
                    "source_row_id": chosen["row_id"],
                    "english": verdict.wording,
                }
            )
            if 1 <= verdict.confusable <= len(given[own]):
                other = given[own][verdict.confusable - 1]
                if other["label"] != chosen["label"]:
                    proposals.append({"query_id": own, "negative_row": other["row_id"]})
    return {
        "rows": pl.DataFrame(rows, schema=empty(Queries).schema),
        "proposals": pl.DataFrame(proposals, schema=empty(Proposals).schema),
        "gaps": pl.DataFrame(gaps, schema=empty(Gaps).schema),
    }
