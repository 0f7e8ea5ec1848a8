"""`keep_good`: the gates of form that a generated query must pass, each with a reason code.

A gate rejects what is surely wrong: text that nobody would type, or that lost what a translation
must keep. It does not judge style. Code-mixed text is full of words, names and whole phrases of the
source language, so a gate must let those pass; each threshold below was set on the train rows of
Hinglish-TOP and Arabic Banking77 and is checked by the tests on other rows.

Gates that compare with the English source pass rows that have none (synthetic queries).
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from monoglot.config import LanguageConfig, QualityConfig
from monoglot.contracts import Rejects, empty
from monoglot.generation.prompts import telling_phrases
from monoglot.generation.scripts import digits_of_the_world, script_classes

_TEXT = pl.col("text")
_ENGLISH = pl.col("english")
_SOURCE = _ENGLISH.fill_null("")
_DIGITS = digits_of_the_world()

# Added to both lengths, so that "ok" may become "theek hai". With 2, the largest ratio among the
# 2,993 human train rows of Hinglish-TOP is 2.2, and 95 % of rows cut to four letters are over 4.
_LENGTH_SLACK = 2
# A character of these scripts says about as much as this many Latin ones.
_DENSE = {r"[\p{Han}\p{Hiragana}\p{Katakana}]": 2, r"\p{Hangul}": 1}
# Share of a text's letters that must be in the language's script; below it, the text is in another.
# Half would do for prose, but names and products may fill most of a short query.
_SCRIPT_SHARE = 0.3
# A copy is only rejected from this many words on: "house music play" stays what it is in Hinglish.
_COPY_WORDS = 4
# Shorter numbers are often spelt out ("2" becomes "do") or change form ("7 pm" and "19:00").
_NUMBER = r"\d{3,}"
_ADDRESS = r"(?:https?://|www\.)[^\s<>\"]*[\w/]|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
_PLACEHOLDER = (
    r"\{\{?\s*[\w.]{1,40}\s*\}\}?|%\(\w+\)[sd]|%[sd]\b|<[A-Za-z_]\w{0,40}>|\[[A-Z_]{2,}\]"
)
_META = (
    r"(?i)"
    r"\bhere(?:'s| is| are) (?:the|your|a|an|my|some)\b"
    r".{0,40}\b(?:translations?|quer(?:y|ies)|version)\b"
    r"|^\W*(?:translat(?:ion|ed text|ed)|output|answer|query)\W*:"
    r"|\bas an? (?:ai|large language|language model)\b"
    r"|\bi(?:'m| am) (?:sorry|unable|not able)\b.{0,60}\b(?:translat|assist|help|compl)"
    r"|\bi (?:can(?:no|')t|cannot) (?:translate|assist|help|comply)\b"
    r"|\b(?:system prompt|previous instructions)\b"
    r"|```|</?(?:text|row|translation)>|[\"']?(?:id|text|rows|queries)[\"']\s*:|^\s*[{\[]\s*[\"{]"
)
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
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Part generated queries into those fit for training and the others, with reasons.

    A row that fails several gates is rejected by the first.

    Args:
        rows: table `Queries`, `english` holding the source where there is one.
        language: the language the rows should be in.
        config: thresholds.
        glossary: terms that a translation must keep.

    Returns:
        The good rows in their order, and table `Rejects`.
    """
    gates = _gates(language, config)
    verdict = pl.coalesce(
        pl.when(gate.is_bad.fill_null(value=False)).then(pl.lit(number))
        for number, gate in enumerate(gates)
    )
    judged = _with_lost_parts(rows, glossary).with_columns(verdict.alias("_gate"))
    good = judged.filter(pl.col("_gate").is_null()).select(rows.columns)
    bad = judged.filter(pl.col("_gate").is_not_null())
    return good, _rejects(bad, gates, language)


def terms_in(texts: pl.Series, glossary: Sequence[str]) -> list[list[str]]:
    """For each text the glossary's terms that occur in it as words, whatever their case."""
    if not glossary:
        return [[] for _ in range(len(texts))]
    occurs = [(term, texts.str.contains(_as_word(term)).to_list()) for term in glossary]
    return [[term for term, where in occurs if where[row]] for row in range(len(texts))]


def _gates(language: LanguageConfig, config: QualityConfig) -> tuple[Gate, ...]:
    """The gates in the order in which they are asked."""
    lost = "the {} of the source is missing or changed"
    return (
        Gate("empty", "no letter or digit", ~_TEXT.str.contains(r"[\p{L}\p{N}]")),
        Gate("meta_text", "speaks about the task instead of doing it", _is_meta(language)),
        Gate("hidden_characters", "holds characters that cannot be seen", _hides()),
        Gate("copy_of_source", "the same words as the source", _is_copy()),
        Gate("wrong_script", f"hardly a letter of {language.code}'s script", _is_off(language)),
        Gate(
            "length_ratio",
            f"over {config.max_length_ratio:g} times longer or shorter than the source",
            _length_ratio() > config.max_length_ratio,
        ),
        Gate("number_lost", lost.format("number"), pl.col("_number")),
        Gate("address_lost", lost.format("web or e-mail address"), pl.col("_address")),
        Gate(
            "address_added",
            "holds a web or e-mail address that the source has not",
            pl.col("_address_added"),
        ),
        Gate("placeholder_lost", lost.format("placeholder"), pl.col("_placeholder")),
        Gate("glossary_lost", "a term to keep is missing", pl.col("_glossary")),
    )


def _is_meta(language: LanguageConfig) -> pl.Expr:
    """Text about the translation, unless the source itself talks like that."""
    pattern = f"{_META}|^\\W*{re.escape(language.name)}\\s*:"
    leaks = [column.str.to_lowercase().str.contains_any(_phrases()) for column in (_TEXT, _SOURCE)]
    says = [column.str.contains(pattern) for column in (_TEXT, _SOURCE)]
    return (says[0] & ~says[1]) | (leaks[0] & ~leaks[1])


@functools.cache
def _phrases() -> list[str]:
    """What our own prompts say, in small letters."""
    return [phrase.lower() for phrase in telling_phrases()]


def _hides() -> pl.Expr:
    return _TEXT.str.contains(_HIDDEN) & ~_SOURCE.str.contains(_HIDDEN)


def _is_copy() -> pl.Expr:
    words = _ENGLISH.str.count_matches(r"[\p{L}\p{N}]+")
    return (folded(_TEXT) == folded(_ENGLISH)) & (words >= _COPY_WORDS)


def _is_off(language: LanguageConfig) -> pl.Expr:
    """Too few letters of the right script; false for text without letters."""
    classes = script_classes(language.code)
    if classes is None:
        return pl.lit(value=False)
    inside = "".join(rf"\p{{{name}}}" for name in classes)
    letters = _TEXT.str.count_matches(r"\p{L}")
    return _TEXT.str.count_matches(rf"[\p{{L}}&&[{inside}]]") < letters * _SCRIPT_SHARE


def _length_ratio() -> pl.Expr:
    text, english = (_weighted_length(column) + _LENGTH_SLACK for column in (_TEXT, _ENGLISH))
    return pl.max_horizontal(text / english, english / text)


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


def _with_lost_parts(rows: pl.DataFrame, glossary: Sequence[str]) -> pl.DataFrame:
    """The rows with a flag for each kind of part that the text lost."""
    digits = list(_DIGITS), list(_DIGITS.values())
    numbers = _ENGLISH.str.replace_many(*digits).str.replace_all(r"(\d),(\d{3})", "${1}${2}")
    only_digits = _TEXT.str.replace_many(*digits).str.replace_all(r"[^0-9]", "")
    text, english = _TEXT.str.to_lowercase(), _ENGLISH.str.to_lowercase()
    missing = [
        _ENGLISH.str.contains(_as_word(term)) & ~text.str.contains(term.lower(), literal=True)
        for term in glossary
    ]
    return rows.with_columns(
        _loses(rows, numbers.str.extract_all(_NUMBER), only_digits).alias("_number"),
        _loses(rows, english.str.extract_all(_ADDRESS), text).alias("_address"),
        _loses(rows, text.str.extract_all(_ADDRESS), english).alias("_address_added"),
        _loses(rows, _ENGLISH.str.extract_all(_PLACEHOLDER), _TEXT).alias("_placeholder"),
        pl.any_horizontal(pl.lit(value=False), *missing).alias("_glossary"),
    )


def _loses(rows: pl.DataFrame, parts: pl.Expr, text: pl.Expr) -> pl.Series:
    """For each row whether any of its parts is not in its text; false where there is no text."""
    lost = (
        rows.select(pl.int_range(pl.len()).alias("row"), parts.alias("part"), text.alias("whole"))
        .explode("part")
        .filter(
            pl.col("part").is_not_null()
            & ~pl.col("whole").str.contains(pl.col("part"), literal=True)
        )
    )
    return pl.int_range(rows.height, eager=True).is_in(lost["row"].implode())


def _as_word(term: str) -> str:
    return rf"(?i)(?:^|\W){re.escape(term)}(?:\W|$)"


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
