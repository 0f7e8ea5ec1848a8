"""Indic words in Latin letters, and the languages that are judged by their words."""

import numpy as np
import pytest

from monoglot.config import LanguageConfig
from monoglot.generation.languages import LanguageJudge
from monoglot.generation.romanising import romanise


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
    ("code", "script", "known"),
    [
        ("hi-Latn", None, True),
        ("hi-Latn-x-mixed", None, True),
        ("hi", "Latn", True),
        ("bn-Latn", None, True),
        ("ar", None, True),
        ("ar-Latn", None, False),
        ("ar", "Latn", False),
        ("sw", None, False),
        ("ja", None, False),
    ],
)
def test_which_languages_are_judged_by_their_words(code, script, known):
    judge = LanguageJudge(LanguageConfig(code=code, script=script, name=code), "en")
    (margin,) = judge.margins(["qqxx xxqq"], [None])
    assert np.isfinite(margin) == known
