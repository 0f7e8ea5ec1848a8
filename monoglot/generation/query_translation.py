"""Evaluation questions in the knowledge base's language: what a baseline asks the untuned model.

Bought by way of the ledger like any translation; where no LLM is set, a lexicon of words stands in.
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from monoglot.config import Config, LanguageConfig
from monoglot.errors import DataError
from monoglot.generation.asking import Generated, PlannedWork, Progress
from monoglot.generation.ledger import Ledger
from monoglot.generation.redaction import Redactor
from monoglot.generation.spending import Budget
from monoglot.generation.translation import pending, translate
from monoglot.generation_config import GenerationConfig, RedactionConfig
from monoglot.identity import normalised
from monoglot.knowledge.files import read_table
from monoglot.settings import Settings


def foreign_languages(questions: pl.DataFrame, kb_language: str) -> tuple[str, ...]:
    """The languages of the questions, in order, but the knowledge base's own."""
    languages = questions["language"].unique().sort().to_list()
    return tuple(code for code in languages if code.lower() != kb_language.lower())


def translate_questions(
    questions: pl.DataFrame,
    language: str,
    config: GenerationConfig,
    *,
    kb_language: str,
    redaction: RedactionConfig,
    settings: Settings,
    ledger: Ledger,
    on_progress: Progress | None = None,
    budget: Budget | None = None,
) -> Generated:
    """The questions of one language in the knowledge base's, as the LLM gives them.

    Args:
        questions: a `Queries` table.
        language: the language of those that are asked.
        config: model, temperature and glossary.
        kb_language: BCP 47 code to translate to.
        redaction: of what users write: questions are theirs.
        settings: where the endpoint is, and how it is asked.
        ledger: where replies are found and kept.
        on_progress: called with distinct questions settled and in all.
        budget: the run's; None: nothing limits it.

    Returns:
        `source_row_id` of each row is the question's id; questions that the LLM did not answer are
        among the rejects.

    Raises:
        BudgetError: the budget is used up; what was bought so far is kept.
        BatchPendingError: rows are out in a batch; a later call finds their answers.
        EndpointError: the endpoint fails or refuses; what was bought so far is kept.
        StoreError: the ledger cannot be written.
    """
    return translate(
        _asked(questions, language),
        _target(kb_language),
        config,
        kb_language=language,
        settings=settings,
        ledger=ledger,
        may_repeat=True,
        redactor=Redactor(redaction),
        on_progress=on_progress,
        budget=budget,
    )


def pending_questions(
    questions: pl.DataFrame,
    language: str,
    config: Config,
    *,
    settings: Settings,
    ledger: Ledger | None,
) -> PlannedWork:
    """What `translate_questions` would ask; no call is made."""
    return pending(
        _asked(questions, language),
        _target(config.knowledge_base.language),
        config.generation,
        kb_language=language,
        settings=settings,
        ledger=ledger,
        may_repeat=True,
        redactor=Redactor(config.redaction),
    )


def _asked(questions: pl.DataFrame, language: str) -> pl.DataFrame:
    of_language = questions.filter(pl.col("language") == language)
    return of_language.select("label", row_id="query_id", query="text")


def _target(code: str) -> LanguageConfig:
    return LanguageConfig(code=code, name=f"the language with the BCP 47 code {code}")


def read_lexicon(path: Path) -> dict[str, str]:
    """Word -> its translation, from a file with the columns source and target.

    The first line of a word counts. A source of several words is no word and is refused, rather
    than never found.

    Raises:
        DataError: the file cannot be used; names line and reason.
    """
    rows, rejects = read_table(path, None, ("source", "target"), ())
    if rejects.entries:
        raise DataError(f"{path}: {rejects.first()} Mend the file.")
    lexicon: dict[str, str] = {}
    for line, source, target in rows.select("_row", "source", "target").iter_rows():
        word = normalised(source or "")
        if len(word.split()) != 1 or not (target or "").strip():
            raise DataError(
                f"{path}, line {line}: {source!r} -> {target!r}: a lexicon has one word as source "
                "and a translation of it. Mend or remove the line."
            )
        lexicon.setdefault(word, target.strip())
    return lexicon


def by_lexicon(text: str, lexicon: Mapping[str, str]) -> tuple[str, int, int]:
    """A text word by word, unknown words as they are; how many words it has, and how many known."""
    words = normalised(text).split()
    known = [lexicon.get(word) for word in words]
    told = [word if found is None else found for word, found in zip(words, known, strict=True)]
    return " ".join(told), len(words), sum(found is not None for found in known)
