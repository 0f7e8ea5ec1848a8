"""How people spell romanised words: the ways are folded to one, or one is varied into another.

Hindi, Urdu or Bengali in Latin letters has no spelling rules: "mujhe", "muje" and "mujhey" are one
word. `folded_spelling` undoes the variation, for looking words up; `noisy_spelling` adds some, so
that a model in training meets the spellings that its anchors happen to lack.
"""

import functools
import re
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

# What is no word in any text: addresses, placeholders. In the syntax that Python and Rust share.
NO_WORDS = (
    r"(?:https?://|www\.)\S+|[\w.+-]+@[\w.-]+"
    r"|\{\{?[^{}]*\}?\}|%\(\w+\)[sd]|%[sd]\b|<\w+>|\[[A-Z_]+\]"
)

# In this order: long vowels, letters that stand for one sound, doubled letters, nasal endings,
# diphthongs, and the h that typists leave out.
_FOLDS = tuple(
    (re.compile(pattern), folded)
    for pattern, folded in (
        ("aa+", "a"),
        ("ee+", "i"),
        ("oo+", "u"),
        ("w", "v"),
        ("ph", "f"),
        ("x", "ksh"),
        ("q|ck", "k"),
        (r"(.)\1+", r"\1"),
        (r"(?<=[aeiou])n$", ""),
        (r"m(?=[bp])", "n"),
        (r"y(?=[ei])", ""),
        ("ei|ey", "e"),
        ("ai|ay", "e"),
        ("au|ao", "o"),
        (r"(?<=.)e(?=y?[ao]$)", "i"),
        ("z", "j"),
        (r"(?<=[^aeiou])h", ""),
    )
)


class _Habit(NamedTuple):
    """A way in which spellings differ: how common it is, and what becomes what, by one of them."""

    weight: float
    swaps: tuple[tuple[re.Pattern[str], str], ...]


def _habit(weight: float, *swaps: tuple[str, str]) -> _Habit:
    return _Habit(weight, tuple((re.compile(pattern), new) for pattern, new in swaps))


_C = "[bcdfghjklmnpqrstvwxz]"  # y is half a vowel
_HABITS = (
    # The length of vowels, which Latin letters do not tell: kaam, kam; theek, thik; zaroor, zarur.
    _habit(3.0, ("aa", "a"), ("ee", "i"), ("oo", "u")),
    _habit(
        1.5,
        (rf"(?<={_C})a(?={_C}[aeiou]|{_C}$)", "aa"),
        (rf"(?<={_C})i(?={_C}|$)", "ee"),
        (rf"(?<={_C})u(?={_C}|$)", "oo"),
    ),
    # Vowels that a phone keyboard does without: kr, nhi, krna, tm, btao.
    _habit(
        2.0,
        (rf"(?<={_C})a(?={_C}+[aeiouy])", ""),
        (rf"(?<=^{_C})[aiu](?={_C}$)", ""),
        (rf"(?<=^{_C})a(?=h[aeiou])", ""),
    ),
    # Doubled letters: acha, accha; pata, patta.
    _habit(
        1.0,
        (r"([bcdfgjklmnprst])\1", r"\1"),
        (r"(?<=[aeiou])([cgklmnpt])(?=h?[aeiou])", r"\1\1"),
    ),
    # Breath after a consonant: mujhe, muje; padho, pado; f for ph.
    _habit(
        1.0,
        (r"(?<=[bdgjkt])h", ""),
        (r"(?<=[aeiou][bdgjkt])(?=[aeiou])", "h"),
        ("ph", "f"),
        (r"f(?=[aeiou])", "ph"),
    ),
    # Letters that stand for one sound.
    _habit(
        1.0,
        ("v", "w"),
        ("w", "v"),
        ("z", "j"),
        ("sh", "s"),
        ("q", "k"),
        ("x", "ksh"),
    ),
    _habit(0.3, (r"j(?=[aeiou])", "z"), (r"s(?=[aeiou])", "sh"), (r"^k(?=[aiu])", "q")),
    # Diphthongs and y: hai, hay; liye, lie; mein, mai; aur, or.
    _habit(
        1.0,
        (r"ai(?![aeiou])", "ay"),
        ("ay(?![aeiou])", "ai"),
        (r"(?<=i)y(?=[aeo])", ""),
        (r"(?<=i)(?=[aeo])", "y"),
        ("ei", "e"),
        ("au", "o"),
    ),
    # Nasal and breathed endings: nahin, nahi; yeh, ye.
    _habit(1.0, (r"(?<=[aeiou])n$", ""), (r"(?<=[aei])h$", ""), (r"(?<=[hm]ei|ahi)$", "n")),
)
_TOKEN = re.compile(rf"{NO_WORDS}|[@#]\w+|\w+(?:\.\w+)+|(\w+)")
_WORD = re.compile(r"[A-Z]?[a-z]{2,}")
_LEAST_LETTERS = 3
_RATE = 0.3  # share of the words of a text that are spelt another way
_KNOWN_RATE = 0.03  # the same of the source language's words, whose spelling is taught


@functools.cache
def folded_spelling(word: str) -> str:
    """The one spelling that the ways to type a romanised word are folded to."""
    word = word.lower().replace("'", "")
    for pattern, folded in _FOLDS:
        word = pattern.sub(folded, word)
    return word


def words_of(text: str) -> set[str]:
    """The distinct words of a text in small letters, cut as `noisy_spelling` cuts them."""
    return {match[1].lower() for match in _TOKEN.finditer(text) if match[1]}


def noisy_spelling(text: str, known: Collection[str], rng: np.random.Generator) -> str:
    """A romanised text as another typist might have spelt it.

    About three words in ten are changed in one place each, by a habit drawn in proportion to how
    common it is; at least one word is, if any can be. Numbers and what stands with one ("7pm"),
    addresses, placeholders, tags and words in capitals (OTP, SIM) stay as they are.

    Args:
        text: in Latin letters.
        known: words of the knowledge base's own language in small letters; hardly ever changed.
        rng: of all draws.
    """
    places = [match for match in _TOKEN.finditer(text) if _can_vary(match[1])]
    if not places:
        return text
    is_known = np.array([match[1].lower() in known for match in places])
    # A word is changed where its number is below the rate; the lowest one of the others always is.
    drawn = rng.random(len(places))
    chosen = drawn < np.where(is_known, _KNOWN_RATE, _RATE)
    if not is_known.all():
        chosen[np.argmin(np.where(is_known, 1.0, drawn))] = True
    pieces, end = [], 0
    for match, is_chosen in zip(places, chosen, strict=True):
        spelt = _other_spelling(match[1], rng) if is_chosen else match[1]
        pieces += [text[end : match.start()], spelt]
        end = match.end()
    return "".join([*pieces, text[end:]])


def _can_vary(word: str | None) -> bool:
    """Whether a token is a word in small Latin letters that some habit applies to."""
    return (
        word is not None
        and len(word) >= _LEAST_LETTERS
        and _WORD.fullmatch(word) is not None
        and bool(_options(word.lower()))
    )


def _other_spelling(word: str, rng: np.random.Generator) -> str:
    """The word with one place changed: a habit by its weight, then any place it applies to."""
    options = _options(word.lower())
    weights = np.cumsum([weight for weight, _ in options])
    place = int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))
    spellings = options[min(place, len(options) - 1)][1]
    chosen = spellings[int(rng.random() * len(spellings))]
    return chosen[0].upper() + chosen[1:] if word[0].isupper() else chosen


@functools.lru_cache(maxsize=100_000)
def _options(word: str) -> tuple[tuple[float, tuple[str, ...]], ...]:
    """The habits that apply to a word in small letters: weight, and the distinct results."""
    found = []
    for habit in _HABITS:
        spellings = {
            word[: match.start()] + match.expand(new) + word[match.end() :]
            for pattern, new in habit.swaps
            for match in pattern.finditer(word)
        }
        usable = sorted(s for s in spellings - {word} if len(s) > 1)
        if usable:
            found.append((habit.weight, tuple(usable)))
    return tuple(found)
