"""Spellings of romanised words: folded to one, and varied as people vary them."""

import numpy as np
import polars as pl
import pytest
from tiny_line import SAMPLE

from monoglot.config import LanguageConfig
from monoglot.generation.scripts import is_romanised, romanised_among
from monoglot.spelling import folded_spelling, noisy_spelling, words_of

HINGLISH = pl.read_csv(SAMPLE / "hinglish.csv")["translation"].head(300).to_list()


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


def noisy(text, known=(), seed=0):
    return noisy_spelling(text, known, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("word", "spelling"),
    [
        ("kaam", "kam"),
        ("theek", "thik"),
        ("zaroor", "zarur"),
        ("kam", "kaam"),
        ("kar", "kr"),
        ("karna", "krna"),
        ("nahi", "nhi"),
        ("tum", "tm"),
        ("batao", "btao"),
        ("accha", "acha"),
        ("pata", "patta"),
        ("mujhe", "muje"),
        ("pado", "padho"),
        ("phone", "fone"),
        ("wala", "vala"),
        ("zyada", "jyada"),
        ("jara", "zara"),
        ("shaam", "saam"),
        ("qareeb", "kareeb"),
        ("kareeb", "qareeb"),
        ("hai", "hay"),
        ("liye", "lie"),
        ("nahin", "nahi"),
        ("Kaam", "Kam"),
    ],
)
def test_words_are_varied_as_people_do(word, spelling):
    assert spelling in {noisy(word, seed=seed) for seed in range(200)}


KEPT = (
    "7pm 19:30 2026-11-25 99.5 B2B krna_2 www.kaam.in/karna https://kaam.in/karna?x=bahut "
    "kahan.karna@bhaari.in shop.kaam.in @karna #bhaari {karna} {{bahut_1}} %(kahan)s %s <karna> "
    "[KAHAN] OTP SIM KAAM kya ka h"
)


@pytest.mark.parametrize("token", KEPT.split())
def test_what_is_no_word_to_vary_stays_as_it_is(token):
    for seed in range(40):
        assert token in noisy(f"bahut {token} kaam", seed=seed).split()


def test_text_in_other_letters_and_without_words_stays_as_it_is():
    for text in ("\u0928\u092e\u0938\u094d\u0924\u0947", "\u00bfqu\u00e9?", "42 + 7", "", "OK"):
        assert noisy(text) == text


def test_every_text_changes_that_can_and_most_of_its_words_stay():
    changed, words, noticed = 0, 0, 0
    for seed, text in enumerate(HINGLISH):
        pairs = list(zip(text.split(), noisy(text, seed=seed).split(), strict=True))
        noticed += sum(a != b for a, b in pairs)
        words += len(pairs)
        changed += any(a != b for a, b in pairs)
    assert changed > 0.98 * len(HINGLISH)
    assert 0.15 < noticed / words < 0.4


def test_words_of_the_knowledge_base_are_hardly_ever_changed():
    known = {"alarm", "reminder", "weather", "playlist"}
    text = "weather playlist reminder alarm lagao"
    changed = dict.fromkeys(text.split(), 0)
    for seed in range(2000):
        for before, after in zip(text.split(), noisy(text, known, seed).split(), strict=True):
            changed[before] += before != after
    assert changed["lagao"] == 2000
    assert all(20 < changed[word] < 110 for word in known)
    assert sum(noisy("set alarm", known | {"set"}, seed) != "set alarm" for seed in range(500)) < 40


def test_most_noise_is_undone_by_folding():
    """What folding cannot undo are left-out vowels."""
    same = [
        folded_spelling(before) == folded_spelling(after)
        or (len(after) < len(before) and set(before.lower()) - set(after.lower()) <= set("aiu"))
        for seed, text in enumerate(HINGLISH)
        for before, after in zip(text.split(), noisy(text, seed=seed).split(), strict=True)
        if before != after and before.isalpha()
    ]
    assert len(same) > 500
    assert np.mean(same) > 0.85


def test_noise_repeats_for_a_seed_and_differs_between_seeds():
    first = [noisy(text, seed=1) for text in HINGLISH]
    assert first == [noisy(text, seed=1) for text in HINGLISH]
    assert (
        sum(a != b for a, b in zip(first, (noisy(t, seed=2) for t in HINGLISH), strict=True)) > 200
    )


def test_words_are_told_as_they_are_varied():
    assert words_of("Set 2 alarms, kal@karna.in, 7pm {when}!") == {"set", "2", "alarms", "7pm"}


@pytest.mark.parametrize(
    ("code", "script", "romanised"),
    [
        ("hi-Latn", None, True),
        ("hi-Latn-x-mixed", None, True),
        ("bn_latn", None, True),
        ("hi", "Latn", True),
        ("hi", None, False),
        ("es", None, False),
        ("es", "Latn", False),
        ("en-Latn", None, False),
        ("sr-Latn", None, False),
        ("uz-Latn", None, False),
        ("zh-Latn", None, False),
        ("ja-Latn", None, False),
        ("tlh", None, False),
    ],
)
def test_which_languages_are_romanised(code, script, romanised):
    language = LanguageConfig(code=code, script=script, name=code)
    assert is_romanised(language) == romanised
    assert romanised_among([language]) == ((code,) if romanised else ())
    assert script is not None or is_romanised(code) == romanised
