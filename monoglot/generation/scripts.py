"""Which script a language is written in, by its BCP 47 code, and how digits are written in it."""

import unicodedata
from collections.abc import Iterable

from monoglot.config import LanguageConfig

# ISO 15924 codes and the Unicode scripts (as regex classes) that text in them is made of.
_CLASSES = {
    "Arab": ("Arabic",),
    "Armn": ("Armenian",),
    "Beng": ("Bengali",),
    "Cyrl": ("Cyrillic",),
    "Deva": ("Devanagari",),
    "Ethi": ("Ethiopic",),
    "Geor": ("Georgian",),
    "Grek": ("Greek",),
    "Gujr": ("Gujarati",),
    "Guru": ("Gurmukhi",),
    "Hans": ("Han",),
    "Hant": ("Han",),
    "Hebr": ("Hebrew",),
    "Jpan": ("Han", "Hiragana", "Katakana"),
    "Khmr": ("Khmer",),
    "Knda": ("Kannada",),
    "Kore": ("Hangul", "Han"),
    "Laoo": ("Lao",),
    "Latn": ("Latin",),
    "Mlym": ("Malayalam",),
    "Mymr": ("Myanmar",),
    "Orya": ("Oriya",),
    "Sinh": ("Sinhala",),
    "Taml": ("Tamil",),
    "Telu": ("Telugu",),
    "Thaa": ("Thaana",),
    "Thai": ("Thai",),
    "Tibt": ("Tibetan",),
}

# The script a language has when its code names none (CLDR likely subtags). Languages with two
# scripts in everyday use (Serbian, Kazakh, Uzbek, ...) are left out on purpose: no script is wrong.
_DEFAULTS = {
    "Arab": "ar arz apc ary fa ps sd ug ur",
    "Armn": "hy",
    "Beng": "as bn",
    "Cyrl": "be bg ky mk ru uk",
    "Deva": "bho hi mai mr ne sa",
    "Ethi": "am ti",
    "Geor": "ka",
    "Grek": "el",
    "Gujr": "gu",
    "Hans": "zh yue",
    "Hebr": "he iw yi",
    "Jpan": "ja",
    "Khmr": "km",
    "Knda": "kn",
    "Kore": "ko",
    "Laoo": "lo",
    "Latn": "af ca cs cy da de en es et eu fi fil fr ga gl hr ht hu id is it lt lv mi ms mt nb nl "
    "nn no pl pt ro sk sl so sq st sv sw tl tn tr vi xh yo zu",
    "Mlym": "ml",
    "Mymr": "my",
    "Orya": "or",
    "Sinh": "si",
    "Taml": "ta",
    "Telu": "te",
    "Thaa": "dv",
    "Thai": "th",
    "Tibt": "bo dz",
}
_SCRIPT_OF = {language: script for script, names in _DEFAULTS.items() for language in names.split()}


def script_of(language: LanguageConfig | str) -> str | None:
    """ISO 15924 code of the script a language is written in; None where any may be right.

    What the config says decides, else the code's own script subtag (`hi-Latn`), else the language's
    usual script.

    Args:
        language: a configured language, or a BCP 47 code.
    """
    code = language
    if isinstance(language, LanguageConfig):
        if language.script is not None:
            return language.script
        code = language.code
    primary, *subtags = str(code).split("-x-", maxsplit=1)[0].replace("_", "-").split("-")
    named = [subtag.title() for subtag in subtags if len(subtag) == 4 and subtag.isalpha()]
    return named[0] if named else _SCRIPT_OF.get(primary.lower())


def is_romanised(language: LanguageConfig | str) -> bool:
    """Whether a language is written in Latin letters that is usually written in others.

    Not where both are everyday spelling (Serbian, Uzbek), or where Latin letters have one of their
    own (pinyin, romaji): people do not spell these as they like.
    """
    code = language.code if isinstance(language, LanguageConfig) else language
    usual = script_of(code.replace("_", "-").split("-")[0])
    return script_of(language) == "Latn" and usual not in {None, "Latn", "Hans", "Jpan", "Kore"}


def romanised_among(languages: Iterable[LanguageConfig]) -> tuple[str, ...]:
    """The codes of the romanised languages, sorted."""
    return tuple(sorted(language.code for language in languages if is_romanised(language)))


def script_classes(language: LanguageConfig | str) -> tuple[str, ...] | None:
    """Unicode scripts that text in a language is made of; None where any may be right.

    Args:
        language: a configured language, or a BCP 47 code, or a name for a mixture, such as
            `hi-Latn-x-mixed`.
    """
    return _CLASSES.get(script_of(language) or "")


def digits_of_the_world() -> dict[str, str]:
    """Every decimal digit of Unicode that is not ASCII, with its ASCII form."""
    return {
        chr(point): str(unicodedata.digit(chr(point)))
        for point in range(0x80, 0x20000)
        if unicodedata.category(chr(point)) == "Nd"
    }
