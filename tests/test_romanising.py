"""Indic words in Latin letters, and the spellings that are folded to one."""

import pytest

from monoglot.generation.languages import has_word_list
from monoglot.generation.romanising import folded_spelling, romanise


@pytest.mark.parametrize(
    ("word", "latin"),
    [
        ("\u092e\u0941\u091d\u0947", "mujhe"),
        ("\u0915\u0930\u094b", "karo"),
        ("\u0938\u092e\u092f", "samay"),
        ("\u0915\u094d\u092f\u093e", "kya"),
        ("\u092c\u0924\u093e\u0913", "batao"),
        ("\u0939\u091f\u093e\u0928\u093e", "hatana"),
        ("\u0928\u0939\u0940\u0902", "nahin"),
        ("\u091c\u093c\u0930\u0942\u0930", "zarur"),
        ("\u0995\u09b0\u09cb", "karo"),  # Bengali
        ("abc", ""),
    ],
)
def test_words_of_indic_scripts_in_latin_letters(word, latin):
    assert romanise(word) == latin


@pytest.mark.parametrize(
    "spellings",
    [
        ("mujhe", "muje", "mujhey", "Mujhe"),
        ("nahi", "nahin", "nahii"),
        ("zaroor", "jarur", "zarur"),
        ("wala", "vala", "vaala"),
        ("phone", "fone"),
        ("accha", "acha", "achha"),
        ("mein", "me"),
    ],
)
def test_ways_to_type_a_word_are_folded_to_one(spellings):
    assert len({folded_spelling(spelling) for spelling in spellings}) == 1


def test_words_that_differ_stay_different():
    words = ("karo", "kare", "kal", "kya", "kaise", "kab", "kahan", "hai", "ho")
    assert len({folded_spelling(word) for word in words}) == len(words)


@pytest.mark.parametrize(
    ("code", "known"),
    [
        ("hi-Latn", True),
        ("hi-Latn-x-mixed", True),
        ("bn-Latn", True),
        ("ar", True),
        ("ar-Latn", False),
        ("sw", False),
        ("ja", False),
    ],
)
def test_which_languages_have_a_word_list(code, known):
    assert has_word_list(code) is known
