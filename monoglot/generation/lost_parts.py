"""What a translation must keep and lost: numbers, addresses, placeholders, glossary terms."""

import math
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal

import polars as pl

from monoglot.config import LanguageConfig
from monoglot.generation.scripts import digits_of_the_world, is_romanised

_TEXT = pl.col("text")
_ENGLISH = pl.col("english")
_DIGITS = digits_of_the_world()

_NUMBER = r"\d+"
_HOURS = 24
_LONG = 3  # digits, from which on a number may be written in pieces
_COMMA = re.compile(r"(?<=\d),(?=(?:\d{2,3},)*\d{3}(?!\d))")  # 1,000,000; 10,00,000 in India
_LONGEST = 18  # digits that a number is read by
# Words of a source that a number may stand for in the translation, besides those that say one.
_NUMBER_WORDS = {
    "half": 30, "quarter": 15, "noon": 12, "midday": 12, "midnight": 12, "hour": 60, "week": 7,
    "dozen": 12, "couple": 2, "both": 2, "once": 1, "twice": 2, "a": 1, "an": 1,
}  # fmt: skip
_UNITS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "first": 1, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7,
    "eighth": 8, "ninth": 9,
}  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70,
    "eighty": 80, "ninety": 90, "twentieth": 20, "thirtieth": 30, "fortieth": 40, "fiftieth": 50,
    "sixtieth": 60, "seventieth": 70, "eightieth": 80, "ninetieth": 90,
}  # fmt: skip
_ALONE = {  # "second" among them: twenty seconds are not 22
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15,
    "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "tenth": 10, "eleventh": 11,
    "twelfth": 12, "thirteenth": 13, "fourteenth": 14, "fifteenth": 15, "sixteenth": 16,
    "seventeenth": 17, "eighteenth": 18, "nineteenth": 19, "second": 2,
}  # fmt: skip
_SMALL_WORDS = _UNITS | _TENS | _ALONE
# Numbers in words, single spaces between them. "and" joins what no multiplier follows: "one
# hundred and two hundred" are two.
_TEN, _UNIT = (rf"\b(?:{'|'.join(words)})s?\b" for words in (_TENS, _UNITS))
_SMALL = rf"(?:{_TEN} {_UNIT}|\b(?:{'|'.join(_SMALL_WORDS)})s?\b)"
_HUNDRED, _THOUSAND = (rf"\b{word}(?:s|th)?\b" for word in ("hundred", "thousand"))
_HUNDREDS = rf"(?:(?:{_SMALL} )?{_HUNDRED}(?: (?:and )?{_SMALL}(?! {_HUNDRED}))?|{_SMALL})"
_SPOKEN = rf"(?:(?:{_HUNDREDS} )?{_THOUSAND}(?: (?:and )?{_HUNDREDS}(?! {_THOUSAND}))?|{_HUNDREDS})"
# A fortnight is 15 days in French, Spanish and their relatives.
_FORTNIGHT = re.compile(r"(?i)\b(?:(?:two|2)[ -]weeks?|fortnight)\b")
_FORTNIGHT_DAYS = (14, 15)
# Words by which digits are multiplied. Only Latin ones must end there, since "mil" begins many.
_ASIAN = {
    "百": 100, "백": 100, "千": 1000, "천": 1000, "万": 10**4, "萬": 10**4, "만": 10**4,
    "亿": 10**8, "億": 10**8, "억": 10**8,
}  # fmt: skip
_LATIN = {
    "thousand": 1000, "hazaar": 1000, "hazar": 1000, "hajar": 1000, "mil": 1000, "mille": 1000,
    "alf": 1000, "lakhs": 10**5, "lakh": 10**5, "lacs": 10**5, "lac": 10**5, "million": 10**6,
    "crores": 10**7, "crore": 10**7,
}  # fmt: skip
_OTHER = {
    "हज\u093cार": 1000, "हजार": 1000, "लाख": 10**5, "करोड\u093c": 10**7, "करोड": 10**7,
    "হাজার": 1000, "লাখ": 10**5, "ஆயிரம்": 1000, "லட்சம்": 10**5, "వేల": 1000, "లక్ష": 10**5,
    "ألف": 1000, "الف": 1000, "آلاف": 1000,
}  # fmt: skip
_MULTIPLIERS = _ASIAN | _LATIN | _OTHER | {"k": 1000}
_LONGEST_FIRST = "|".join(sorted(_MULTIPLIERS, key=len, reverse=True))
_MULTIPLIED = (
    rf"(?: ?(?:{'|'.join(_ASIAN | _OTHER)}|(?:{'|'.join(_LATIN)})\b)|(?<=\d)k\b)+"  # 2천만, 10k
)
_NUMERAL = rf"\d{{1,{_LONGEST}}}(?:\.\d{{1,6}})?"
_PART = rf"(?<![\d.]){_NUMERAL}{_MULTIPLIED}"
# 1 lakh 50 hazaar; after a sign of the East the rest needs no multiplier: 1万5000.
_AMOUNT = re.compile(rf"{_PART}(?: ?{_PART})*(?:(?<=[{''.join(_ASIAN)}])\d+)?")
# In romanised Arabic a digit in a word is the letter that it looks like, doubled where that is.
_ARABIC = {"ar", "arb", "arz", "apc", "ajp", "ary", "aeb", "acm", "afb"}
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_LETTER_DIGIT = re.compile(r"(?<!\d)([235-9])\1?(?!\d)")
_MEASURE = re.compile(r"\d+(?:st|nd|rd|th|am|pm|k|kg|km|gb|mb|mins?|egp|usd|aed|sar)")
_ADDRESS = r"(?:https?://|www\.)[^\s<>\"]*[\w/]|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
_PLACEHOLDER = (
    r"\{\{?\s*[\w.]{1,40}\s*\}\}?|%\(\w+\)[sd]|%[sd]\b|<[A-Za-z_]\w{0,40}>|\[[A-Z_]{2,}\]"
)


def with_lost_parts(
    rows: pl.DataFrame, glossary: Sequence[str], spelt_up_to: int, language: LanguageConfig
) -> pl.DataFrame:
    """The rows with a flag for each kind of part that the text lost or, of numbers, made up.

    Args:
        rows: columns text and english.
        glossary: terms that a translation must keep.
        spelt_up_to: the greatest number that may be written in words.
        language: the texts' language; in romanised Arabic some digits are letters.
    """
    text, english = _TEXT.str.to_lowercase(), _ENGLISH.str.to_lowercase()
    missing = [
        _ENGLISH.str.contains(as_word(term)) & ~text.str.contains(term.lower(), literal=True)
        for term in glossary
    ]
    texts, sources = (_with_plain_digits(rows[name]) for name in ("text", "english"))
    pairs = list(zip(texts, sources, strict=True))
    if _has_letter_digits(language):
        pairs = [(_without_letter_digits(*pair), pair[1]) for pair in pairs]
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
    return [_COMMA.sub("", text) for text in plain]


def _has_letter_digits(language: LanguageConfig) -> bool:
    """Whether digits stand for letters that Latin has not: 3 for ain, 7 for the strong h."""
    return is_romanised(language) and re.split("[-_]", language.code)[0].lower() in _ARABIC


def _without_letter_digits(text: str, source: str) -> str:
    """A text without the digits that are letters of its words; 7pm, 50egp and 4G keep theirs."""
    kept = set(_WORD.findall(source.lower()))

    def letters_only(found: re.Match[str]) -> str:
        word = found[0].lower()
        is_number = word.isdigit() or word in kept or _MEASURE.fullmatch(word)
        return found[0] if is_number else _LETTER_DIGIT.sub("", found[0])

    return _WORD.sub(letters_only, text)


def _amount(written: str) -> int:
    """What digits with multipliers say: 150000 for 1.5 lakh, 15000 for 1万5000."""
    return sum(
        int(Decimal(numeral) * _factor(words))
        for numeral, words in re.findall(rf"({_NUMERAL})((?:{_MULTIPLIED})?)", written)
    )


def _factor(words: str) -> int:
    return math.prod(_MULTIPLIERS[word] for word in re.findall(_LONGEST_FIRST, words))


def _amounts(text: str) -> set[int]:
    """The amounts that a text writes with digits and multipliers."""
    return {_amount(written) for written in _AMOUNT.findall(text.lower())}


def _without_amounts(text: str, known: AbstractSet[int]) -> str:
    """A text less the amounts that the other side has, however it writes them."""
    return _AMOUNT.sub(lambda found: " " if _amount(found[0]) in known else found[0], text.lower())


def _value(digits: str) -> int:
    """What digits say, by which numbers are compared; the same for all that are too long to say.

    A model may repeat a digit for thousands of places, which `int` refuses to read.
    """
    return int(digits) if len(digits) <= _LONGEST else 10**_LONGEST


def _loses_number(text: str, source: str, spelt_up_to: int) -> bool:
    """Whether a number of the source that is not usually spelt out is missing."""
    amounts = _amounts(text)
    source = _without_amounts(source, amounts | _values_in(text))
    return any(
        _value(number) > spelt_up_to
        and _value(number) not in amounts
        and not _has_number(text, number)
        for number in re.findall(_NUMBER, source)
    )


def _has_number(text: str, number: str) -> bool:
    """Whether a text has a number, as people write it.

    A long one may be written in pieces ("12 34 5"), so its digits are looked for in all digits of
    the text; 5:30 may have become 530, and 7 pm 19 hours or the other way round.
    """
    if len(number) >= _LONG:
        return number in re.sub(r"\D", "", text)
    value, written = _value(number), re.findall(_NUMBER, text)
    same = {value} | _on_the_other_clock(value)
    return any(
        _value(other) in same
        or (len(other) >= _LONG and other.startswith(number.lstrip("0")))
        or (len(other) >= _LONG and other.endswith(number))
        for other in written
    )


def _values_in(text: str) -> set[int]:
    return {_value(number) for number in re.findall(_NUMBER, text)}


def _on_the_other_clock(hour: int) -> set[int]:
    """What an hour is by the clock, of 12 hours or 24, that it is not told by."""
    if hour > _HOURS:
        return set()
    half = _HOURS // 2
    return {other for other in (hour - half, hour + half) if 0 <= other <= _HOURS}


def _invents_number(text: str, source: str) -> bool:
    """Whether the text has a number that is in the source neither in digits nor in words."""
    if not source or not re.search(_NUMBER, text):
        return False
    digits = re.sub(r"\D", "", source)
    said = _spoken_in(source)
    amounts = _amounts(source)
    told = said | amounts | _values_in(source)
    hours = {other for hour in told for other in _on_the_other_clock(hour)}
    words = (word.removesuffix("s") for word in re.findall(r"[a-z]+", source.lower()))
    meant = {_NUMBER_WORDS[word] for word in words if word in _NUMBER_WORDS}
    if _FORTNIGHT.search(source):
        meant.update(_FORTNIGHT_DAYS)
    allowed = said | amounts | hours | meant
    return any(
        number.lstrip("0") not in digits and _value(number) not in allowed
        for number in re.findall(_NUMBER, _without_amounts(text, told))
    )


def _spoken_in(source: str) -> set[int]:
    """The numbers that a source says in words, as a translation may write them in digits.

    Two thousand is 2 thousand, too, while twenty five is neither 20 nor 5. Numbers side by side
    are a time or a year: seven forty five is 7:45, hence 7, 45 and 745.
    """
    source = re.sub(r"[\s-]+", " ", source.lower())
    spoken = re.findall(_SPOKEN, source)
    parts = [
        part for words in spoken for kind in (_HUNDREDS, _SMALL) for part in re.findall(kind, words)
    ]
    pairs = re.findall(rf"(?=({_SMALL}) ({_SMALL}))", source)
    beside = {(_value_of(one), _value_of(other)) for one, other in pairs}
    return (
        {_value_of(words) for words in (*spoken, *parts)}
        | {100 * one + other for one, other in beside if other >= 10}
        | {one + other for one, other in beside if one in _TENS.values() and other == 2}
    )


def _value_of(words: str) -> int:
    """The number that words such as "two hundred and fifty" say."""
    thousands = rest = 0
    for word in words.split():
        if re.fullmatch(_HUNDRED, word):
            rest = 100 * (rest or 1)
        elif re.fullmatch(_THOUSAND, word):
            thousands, rest = 1000 * (rest or 1), 0
        else:
            rest += _SMALL_WORDS.get(word.removesuffix("s"), 0)
    return thousands + rest


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
