"""`keep_good`: the gates of form that a generated query must pass, each with a reason code.

A gate rejects what is surely wrong: text that nobody would type, or that lost what a translation
must keep. It does not judge style. Code-mixed text is full of words, names and whole phrases of the
source language, so a gate must let those pass. Each threshold was set on the train rows of
Hinglish-TOP and Arabic Banking77 (`benchmarks/results/quality_gates.md` has the figures on other
rows): it lies well outside of what people write there.

Gates that compare with the English source pass rows that have none (synthetic queries).
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from monoglot.config import LanguageConfig
from monoglot.contracts import Rejects, empty
from monoglot.generation.languages import LanguageJudge
from monoglot.generation.lost_parts import as_word, with_lost_parts
from monoglot.generation.meta_text import is_meta_text
from monoglot.generation.prompts import telling_phrases
from monoglot.generation.scripts import script_classes
from monoglot.generation_config import QualityConfig

_TEXT = pl.col("text")
_ENGLISH = pl.col("english")
_SOURCE = _ENGLISH.fill_null("")

# Added to both lengths, so that "ok" may become "theek hai". With 2, the ratios among the 2,993
# human train rows of Hinglish-TOP end at 2.2 times longer and 1.6 times shorter.
_LENGTH_SLACK = 2
# A character of these scripts says about as much as this many Latin ones.
_DENSE = {r"[\p{Han}\p{Hiragana}\p{Katakana}]": 2, r"\p{Hangul}": 1}
# Letters and vowel signs, half of what Brahmic scripts write. Not the marks of any script: by them,
# vowelled Arabic would be half Arabic.
_LETTER = r"[\p{L}\p{M}]--\p{Inherited}"
_MIXED_SCRIPT_SHARE = 0.05  # two short words of Bengali in six long ones of English are .09
_REPEATED_FROM = 6  # words; shorter texts repeat a word for good reasons
_LONGEST_RUN = 4  # of one word, from which on it is no emphasis
# Characters that change what is seen and not what is read: overrides of the direction, tags, spaces
# without width. Joiners and direction marks are not among them: Hindi and Arabic are typed so.
_HIDDEN = r"[\u{202A}-\u{202E}\u{2066}-\u{2069}\u{200B}\u{2060}\u{FEFF}\u{E0000}-\u{E007F}]"


@dataclass(frozen=True)
class Gate:
    """A reason code, what it means, and the expression that is true for a bad row."""

    rule: str
    reason: str
    is_bad: pl.Expr


def keep_good(
    rows: pl.DataFrame,
    language: LanguageConfig,
    config: QualityConfig,
    glossary: Sequence[str] = (),
    kb_language: str = "en",
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Part generated queries into those fit for training and the others, with reasons.

    A row that fails several gates is rejected by the first.

    Args:
        rows: table `Queries`, `english` holding the source where there is one.
        language: the language the rows should be in.
        config: thresholds, and the gates to skip.
        glossary: terms that a translation must keep.
        kb_language: BCP 47 code of the sources.

    Returns:
        The good rows in their order, and table `Rejects`.
    """
    gates = _gates(language, config)
    verdict = pl.coalesce(
        pl.lit(None, pl.Int32),
        *(
            pl.when(gate.is_bad.fill_null(value=False)).then(pl.lit(number))
            for number, gate in enumerate(gates)
            if gate.rule not in config.skipped
        ),
    )
    judged = with_lost_parts(rows, glossary, config.spelt_up_to, language)
    judged = _with_languages(judged, LanguageJudge(language, kb_language), config)
    judged = judged.with_columns(verdict.alias("_gate"))
    good = judged.filter(pl.col("_gate").is_null()).select(rows.columns)
    bad = judged.filter(pl.col("_gate").is_not_null())
    return good, _rejects(bad, gates, language)


def terms_in(texts: pl.Series, glossary: Sequence[str]) -> list[list[str]]:
    """For each text the glossary's terms that occur in it as words, whatever their case."""
    if not glossary:
        return [[] for _ in range(len(texts))]
    occurs = [(term, texts.str.contains(as_word(term)).to_list()) for term in glossary]
    return [[term for term, where in occurs if where[row]] for row in range(len(texts))]


def _gates(language: LanguageConfig, config: QualityConfig) -> tuple[Gate, ...]:
    """The gates in the order in which they are asked."""
    lost = "the {} of the source is missing or changed"
    return (
        Gate("empty", "no letter or digit", ~_TEXT.str.contains(r"[\p{L}\p{N}]")),
        Gate(
            "meta_text",
            "speaks about the task instead of doing it",
            is_meta_text(_TEXT, _ENGLISH)
            | _names_the_language(language)
            | _gives_away_the_prompt(),
        ),
        Gate("hidden_characters", "holds characters that cannot be seen", _hides()),
        Gate("copy_of_source", "the same words as the source", _is_copy(config.copy_words)),
        Gate(
            "wrong_script",
            f"hardly a letter of {language.code}'s script",
            _is_off(language, config.min_script_share),
        ),
        Gate(
            "wrong_language",
            f"in another language than {language.code}",
            (pl.col("_margin") >= config.language_margin) | pl.col("_other"),
        ),
        Gate(
            "not_translated",
            f"no word of {language.code}, only the source's language",
            pl.col("_untranslated"),
        ),
        Gate(
            "length_ratio",
            f"over {config.max_longer:g} times longer or {config.max_shorter:g} times shorter "
            "than the source",
            (_growth() > config.max_longer) | (1 / _growth() > config.max_shorter),
        ),
        Gate(
            "repetition",
            "says the same words again and again",
            _is_repetition(config.min_distinct_words),
        ),
        Gate("address_lost", lost.format("web or e-mail address"), pl.col("_address")),
        Gate(
            "address_added",
            "holds a web or e-mail address that the source has not",
            pl.col("_address_added"),
        ),
        Gate("number_lost", lost.format("number"), pl.col("_number")),
        Gate("number_changed", "a number that is not in the source", pl.col("_other_number")),
        Gate("placeholder_lost", lost.format("placeholder"), pl.col("_placeholder")),
        Gate("glossary_lost", "a term to keep is missing", pl.col("_glossary")),
    )


def _with_languages(
    rows: pl.DataFrame, judge: LanguageJudge, config: QualityConfig
) -> pl.DataFrame:
    """The rows with what the words tell of their language."""
    texts = rows["text"].to_list()
    return rows.with_columns(
        pl.Series("_margin", judge.margins(texts, rows["english"].to_list()), pl.Float64),
        pl.Series("_other", judge.are_other(texts, config.identifier_confidence), pl.Boolean),
        pl.Series("_untranslated", judge.are_untranslated(texts, config.copy_words), pl.Boolean),
    )


def _names_the_language(language: LanguageConfig) -> pl.Expr:
    """Text that begins with the language's name or code and a colon."""
    pattern = (
        f"(?i)^\\W*(?:{re.escape(language.name)}|{re.escape(language.code)})\\W{{0,2}}\\s*[:=]"
    )
    return _TEXT.str.contains(pattern) & ~_SOURCE.str.contains(pattern)


def _gives_away_the_prompt() -> pl.Expr:
    """Text with six words in a row of our own prompts, unless the source has them."""
    leaks = [column.str.to_lowercase().str.contains_any(_phrases()) for column in (_TEXT, _SOURCE)]
    return leaks[0] & ~leaks[1]


@functools.cache
def _phrases() -> list[str]:
    """What our own prompts say, in small letters."""
    return [phrase.lower() for phrase in telling_phrases()]


def _hides() -> pl.Expr:
    return _TEXT.str.contains(_HIDDEN) & ~_SOURCE.str.contains(_HIDDEN)


def _is_copy(least_words: int) -> pl.Expr:
    """The source again; "house music play" stays what it is in Hinglish, so short ones pass."""
    words = _ENGLISH.str.count_matches(r"[\p{L}\p{N}]+")
    return (folded(_TEXT) == folded(_ENGLISH)) & (words >= least_words)


def _is_off(language: LanguageConfig, least_share: float) -> pl.Expr:
    """Too few letters of the right script; false for text without letters."""
    classes = script_classes(language)
    if classes is None:
        return pl.lit(value=False)
    inside = "".join(rf"\p{{{name}}}" for name in classes)
    letters = _TEXT.str.count_matches(rf"[{_LETTER}]")
    # A text that is to be mixed may be mostly in another script, and in longer words.
    share = least_share if language.mixing is None else min(least_share, _MIXED_SCRIPT_SHARE)
    return _TEXT.str.count_matches(rf"[[{_LETTER}]&&[{inside}]]") < letters * share


def _is_repetition(least_share: float) -> pl.Expr:
    """Few distinct words, or one word several times in a row."""
    words = _TEXT.str.to_lowercase().str.extract_all(r"\p{L}[\p{L}\p{M}]*")
    count = words.list.len()
    is_poor = (count >= _REPEATED_FROM) & (words.list.n_unique() < count * least_share)
    run = words.list.eval(pl.element().rle().struct.field("len").max()).list.first()
    return is_poor | (run.fill_null(0) >= _LONGEST_RUN)


def _growth() -> pl.Expr:
    """How many times longer the text is than its source."""
    text, english = (_weighted_length(column) + _LENGTH_SLACK for column in (_TEXT, _ENGLISH))
    return text / english


def _weighted_length(column: pl.Expr) -> pl.Expr:
    """Characters, those of dense scripts counted several times; null where there is no text."""
    length = column.str.len_chars()
    for dense, more in _DENSE.items():
        length += column.str.count_matches(dense) * more
    return length


def folded(column: pl.Expr) -> pl.Expr:
    """Text as compared for sameness: no case, punctuation or spaces; vowel signs are kept."""
    lower = column.str.normalize("NFKC").str.to_lowercase()
    return lower.str.replace_all(r"[^\p{L}\p{M}\p{N}]", "")


def _rejects(bad: pl.DataFrame, gates: Sequence[Gate], language: LanguageConfig) -> pl.DataFrame:
    told = pl.DataFrame(
        {
            "_gate": range(len(gates)),
            "rule": [gate.rule for gate in gates],
            "told": [gate.reason for gate in gates],
        },
        schema={"_gate": pl.Int32, "rule": pl.String, "told": pl.String},
    )
    return (
        bad.with_columns(pl.col("_gate").cast(pl.Int32))
        .join(told, on="_gate", maintain_order="left")
        .select(
            file=pl.format("{} {}", pl.col("origin").cast(pl.String), pl.lit(language.code)),
            row=pl.lit(None, pl.Int64),
            column=pl.lit("text"),
            value=_TEXT,
            rule=pl.col("rule"),
            reason=pl.format("{}{}", "told", pl.format(" (source: {})", _ENGLISH).fill_null("")),
        )
        .cast(empty(Rejects).schema)
    )
