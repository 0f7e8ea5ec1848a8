"""Which language a text is in, judged by its words: another language, or the source's own.

Identifiers by letter n-grams know prose. On short queries plain word frequencies are as good or
better: share of 60 short commands in Spanish, French, Indonesian and German (the tuning rows of
`benchmarks/defects`) / of 2,000 rows of Arabic Banking77 train named rightly, size of the wheel and
texts a second on two busy cores:

    wordfreq 3.1, by mean frequency   .97 / .997   57 MB     800
    fastText lid.176 (ftz)            .92 / 1.00    1 MB  10,800
    py3langid 0.4                     .88 / .995    5 MB       -
    lingua 2.1                        .88 / .999   96 MB     400 (1 GB of memory)
    eld 1.0                           .72 / .995    5 MB  10,000

None of the identifiers knows romanised Hindi: by a confidence of .7 in another language, fastText
rejects 6 % of the human Hinglish train rows and passes 28 % of the 60 commands. Word frequencies do
know it, since a list can be romanised (`romanising`): 100 % of the commands are caught, and fewer
than one in 1,000 of the train rows is rejected.

So texts are judged by the mean frequency of their words, on a logarithmic scale, in each language.
Words of the source's language speak for no side, as they may stand in any code-mixed text. Where
there is no list of a language's words, py3langid judges alone, and only where it is sure.
"""

import functools
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from monoglot.config import LanguageConfig
from monoglot.generation.romanising import romanise
from monoglot.generation.scripts import script_classes
from monoglot.spelling import folded_spelling

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")
_SPACELESS = {"ja", "ko", "th", "zh"}  # of no use without a tokenizer; their script tells them
_BRAHMIC = {"Bengali", "Devanagari", "Gujarati", "Gurmukhi", "Kannada", "Malayalam", "Oriya",
            "Tamil", "Telugu"}  # fmt: skip
# Languages that short texts cannot be told apart by, and names for one in several lists.
_RELATIVES = (
    {"id", "ms", "jv", "su"},
    {"nb", "no", "nn", "da", "sv"},
    {"cs", "sk"},
    {"sh", "hr", "bs", "sr", "sl"},
    {"es", "ca", "gl", "pt"},
    {"hi", "ur", "mr", "ne", "bho"},
    {"fil", "tl", "ceb"},
    {"ar", "arz", "apc", "ary", "arb"},
    {"ru", "uk", "be", "bg", "mk"},
    {"fa", "prs"},
    {"af", "nl"},
)
_SURE_WORDS = 2  # fewer words that are not the source's tell nothing of a language
# Powers of ten by which a word must be more frequent in one of two languages to speak for it. Below
# 1.5, "me" and "is", which are words of both English and Hindi, count as Hindi.
_DISTINCT = 1.5
_SOURCE_SHARE = 0.2  # share of a text's words that must speak for the source's language


class LanguageJudge:
    """Judges texts that should be in one language and were made from another."""

    def __init__(self, language: LanguageConfig, source_code: str) -> None:
        """Read the word lists of a language, in its script, and of the source's language."""
        self._language, self._source = _primary(language.code), _primary(source_code)
        self._classes = script_classes(language)
        self._own = _words_of(language)
        self._known = _word_frequencies(self._source)

    def margins(self, texts: Sequence[str], sources: Sequence[str | None]) -> NDArray[np.float64]:
        """By how much each text's new words are more frequent in another language than in its own.

        Words that stand in the source count for nothing, and a word of the source's language
        counts for the text's own.

        Returns:
            Mean difference of log10 frequencies, for the best of the other languages; -inf where
            fewer than two words are new, or where the language's words are not known.
        """
        if self._own is None:
            return np.full(len(texts), -np.inf)
        pairs = zip(texts, sources, strict=True)
        return np.array([self._margin(_new_words(text, source)) for text, source in pairs], float)

    def are_untranslated(self, texts: Sequence[str], least_words: int) -> NDArray[np.bool_]:
        """Whether each text of at least so many words has none that speaks for its language.

        Code-mixed text is full of the source's words; its particles and verbs are its own.
        """
        if self._own is None or self._language == self._source:
            return np.zeros(len(texts), bool)
        return np.array([self._is_source(_words(text), least_words) for text in texts], bool)

    def are_other(self, texts: Sequence[str], confidence: float) -> NDArray[np.bool_]:
        """Whether the identifier is that sure of another language, where no word list judges."""
        if self._own is not None or self._classes is None:
            return np.zeros(len(texts), bool)
        allowed = _relatives(self._language) | {self._source}
        found = (_identifier().classify(text) for text in texts)
        return np.array(
            [name not in allowed and sure >= confidence for name, sure in found], dtype=bool
        )

    def _margin(self, words: Sequence[str]) -> float:
        if len(words) < _SURE_WORDS:
            return -math.inf
        own = [max(self._own_frequency(word), self._known.get(word, 0.0)) for word in words]
        found = np.array([self._elsewhere(word) for word in words]).reshape(len(words), -1)
        return float((found.mean(axis=0) - np.mean(own)).max(initial=-math.inf))

    def _is_source(self, words: Sequence[str], least_words: int) -> bool:
        if len(words) < least_words:
            return False
        lead = [self._known.get(word, 0.0) - self._own_frequency(word) for word in words]
        speaks = sum(each >= _DISTINCT for each in lead) >= _SOURCE_SHARE * len(words)
        return speaks and all(each > -_DISTINCT for each in lead)

    def _own_frequency(self, word: str) -> float:
        assert self._own is not None
        return self._own.get(word if self._is_native else folded_spelling(word), 0.0)

    def _elsewhere(self, word: str) -> NDArray[np.float64]:
        """The word's frequency in each other language that uses the same script."""
        return np.array([words.get(word, 0.0) for words in self._others])

    @functools.cached_property
    def _others(self) -> list[dict[str, float]]:
        skipped = _relatives(self._language) if self._is_native else {self._language}
        return [
            _word_frequencies(name)
            for name in _listed()
            if name not in skipped | {self._source} and script_classes(name) == self._classes
        ]

    @property
    def _is_native(self) -> bool:
        return script_classes(self._language) == self._classes


def _words_of(language: LanguageConfig) -> dict[str, float] | None:
    """Word -> log10 frequency per billion; folded where the list had to be romanised."""
    name = _primary(language.code)
    if name not in _listed():
        return None
    native, wanted = script_classes(name), script_classes(language)
    if native == wanted:
        return _word_frequencies(name)
    if wanted == ("Latin",) and native is not None and _BRAHMIC.intersection(native):
        return _romanised_frequencies(name)
    return None


@functools.cache
def _word_frequencies(language: str) -> dict[str, float]:
    """Words of at least one in a million (wordfreq's small list); empty where there is no list."""
    from wordfreq import get_frequency_dict

    if language not in _listed():
        return {}
    found = get_frequency_dict(language, "small")
    return {word: math.log10(share) + 9 for word, share in found.items()}


@functools.cache
def _romanised_frequencies(language: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    for word, value in _word_frequencies(language).items():
        spelling = folded_spelling(romanise(word))
        shares[spelling] = shares.get(spelling, 0.0) + 10**value
    shares.pop("", None)
    return {spelling: math.log10(share) for spelling, share in shares.items()}


@functools.cache
def _listed() -> tuple[str, ...]:
    from wordfreq import available_languages

    return tuple(sorted(set(available_languages("best")) - _SPACELESS))


@functools.cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _primary(code: str) -> str:
    """The language of a BCP 47 code, by the name that word lists use."""
    language = re.split("[-_]", code)[0].lower()
    return {"no": "nb", "tl": "fil", "hr": "sh", "sr": "sh", "bs": "sh", "iw": "he"}.get(
        language, language
    )


def _relatives(language: str) -> set[str]:
    return {language}.union(*(group for group in _RELATIVES if language in group))


def _words(text: str) -> list[str]:
    return [word.replace("\u2019", "'") for word in _WORD.findall(text.lower())]


def _new_words(text: str, source: str | None) -> list[str]:
    known = set(_words(source or ""))
    return [word for word in _words(text) if word not in known]
