"""What a translation must keep and lost: numbers, addresses, placeholders, glossary terms."""

import re
from collections.abc import Sequence

import polars as pl

from monoglot.generation.scripts import digits_of_the_world

_TEXT = pl.col("text")
_ENGLISH = pl.col("english")
_DIGITS = digits_of_the_world()

_NUMBER = r"\d+"
_HOURS = 24
_LONG = 3  # digits, from which on a number may be written in pieces
# Words of a source that a number may stand for in the translation.
_NUMBER_WORDS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "fifteen": 15, "twenty": 20, "thirty": 30,
    "forty": 40, "fifty": 50, "hundred": 100, "thousand": 1000, "half": 30, "quarter": 15,
    "noon": 12, "midday": 12, "midnight": 12, "hour": 60, "week": 7, "dozen": 12, "couple": 2,
    "first": 1, "second": 2, "third": 3, "both": 2, "once": 1, "twice": 2, "a": 1, "an": 1,
}  # fmt: skip
_ADDRESS = r"(?:https?://|www\.)[^\s<>\"]*[\w/]|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
_PLACEHOLDER = (
    r"\{\{?\s*[\w.]{1,40}\s*\}\}?|%\(\w+\)[sd]|%[sd]\b|<[A-Za-z_]\w{0,40}>|\[[A-Z_]{2,}\]"
)


def with_lost_parts(rows: pl.DataFrame, glossary: Sequence[str], spelt_up_to: int) -> pl.DataFrame:
    """The rows with a flag for each kind of part that the text lost or, of numbers, made up."""
    text, english = _TEXT.str.to_lowercase(), _ENGLISH.str.to_lowercase()
    missing = [
        _ENGLISH.str.contains(as_word(term)) & ~text.str.contains(term.lower(), literal=True)
        for term in glossary
    ]
    texts, sources = (_with_plain_digits(rows[name]) for name in ("text", "english"))
    pairs = list(zip(texts, sources, strict=True))
    return rows.with_columns(
        pl.Series("_number", [_loses_number(*pair, spelt_up_to) for pair in pairs], pl.Boolean),
        pl.Series("_other_number", [_invents_number(*pair) for pair in pairs], pl.Boolean),
        _loses(rows, english.str.extract_all(_ADDRESS), text).alias("_address"),
        _loses(rows, text.str.extract_all(_ADDRESS), english).alias("_address_added"),
        _loses(rows, _ENGLISH.str.extract_all(_PLACEHOLDER), _TEXT).alias("_placeholder"),
        pl.any_horizontal(pl.lit(value=False), *missing).alias("_glossary"),
    )


def as_word(term: str) -> str:
    """Regular expression that finds a term as a whole word."""
    return rf"(?i)(?:^|\W){re.escape(term)}(?:\W|$)"


def _with_plain_digits(texts: pl.Series) -> list[str]:
    """Digits of any script as ASCII, and numbers without their thousands' commas."""
    plain = texts.fill_null("").str.replace_many(list(_DIGITS), list(_DIGITS.values()))
    return plain.str.replace_all(r"(\d),(\d{3})", "${1}${2}").to_list()


def _loses_number(text: str, source: str, spelt_up_to: int) -> bool:
    """Whether a number of the source that is not usually spelt out is missing."""
    return any(
        int(number) > spelt_up_to and not _has_number(text, number)
        for number in re.findall(_NUMBER, source)
    )


def _has_number(text: str, number: str) -> bool:
    """Whether a text has a number, as people write it.

    A long one may be written in pieces ("12 34 5"), so its digits are looked for in all digits of
    the text; 5:30 may have become 530, and 19 hours 7 in the evening.
    """
    if len(number) >= _LONG:
        return number in re.sub(r"\D", "", text)
    value, written = int(number), re.findall(_NUMBER, text)
    same = {value, value - _HOURS // 2} if value <= _HOURS else {value}
    return any(
        int(other) in same
        or (len(other) >= _LONG and other.startswith(number.lstrip("0")))
        or (len(other) >= _LONG and other.endswith(number))
        for other in written
    )


def _invents_number(text: str, source: str) -> bool:
    """Whether the text has a number that is in the source neither in digits nor in words."""
    numbers = re.findall(_NUMBER, text)
    if not source or not numbers:
        return False
    digits = re.sub(r"\D", "", source)
    words = (word.removesuffix("s") for word in re.findall(r"[a-z]+", source.lower()))
    spoken = {_NUMBER_WORDS[word] for word in words if word in _NUMBER_WORDS}
    hours = {(int(number) + _HOURS // 2) % _HOURS for number in re.findall(_NUMBER, source)}
    return any(
        number.lstrip("0") not in digits and int(number) not in spoken | hours for number in numbers
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
