"""`romanise`: words of an Indic script in Latin letters.

Word lists know Hindi in its own script; romanised Hindi has no spelling rules and no list. So the
list is written in Latin letters by rule, and both it and the text are folded to one spelling:
"mujhe", "muje" and "mujhey" become the same (`monoglot.spelling`). The letters are read from their
Unicode names, which are alike in all scripts of the Brahmic family (DEVANAGARI LETTER KA, BENGALI
LETTER KA, ...).
"""

import re
import unicodedata

_INHERENT = "@"  # the vowel a consonant carries when none is written
# Letters whose usual Latin form is not their Unicode name less its final A.
_CONSONANTS = {
    "NGA": "n", "NYA": "n", "TTA": "t", "TTHA": "th", "DDA": "d", "DDHA": "dh", "NNA": "n",
    "NNNA": "n", "SSA": "sh", "LLA": "l", "LLLA": "l", "RRA": "r", "PHA": "f", "QA": "k",
    "KHHA": "kh", "GHHA": "g", "DDDHA": "d", "RHA": "r", "YYA": "y",
}  # fmt: skip
_VOWELS = {
    "A": "a", "AA": "a", "I": "i", "II": "i", "U": "u", "UU": "u", "E": "e", "EE": "e",
    "AI": "ai", "O": "o", "OO": "o", "AU": "au", "VOCALIC R": "ri", "CANDRA E": "e",
    "CANDRA O": "o", "SHORT E": "e", "SHORT O": "o",
}  # fmt: skip
_WITH_NUKTA = {"j": "z", "dh": "d"}
_NAMED = re.compile(r"[A-Z]+ (LETTER|VOWEL SIGN|SIGN) (.+)")


def romanise(word: str) -> str:
    """A word of a Brahmic script in Latin letters, without the vowels that are not spoken."""
    syllables: list[list[str]] = []  # consonant, vowel
    for letter in unicodedata.normalize("NFC", word):
        named = _NAMED.fullmatch(unicodedata.name(letter, ""))
        if named:
            _append(syllables, named[1], named[2])
    if len(syllables) > 1 and syllables[-1][1] == _INHERENT:
        syllables[-1][1] = ""
    for place in range(len(syllables) - 2, 0, -1):
        before, here, after = syllables[place - 1 : place + 2]
        if here[1] == _INHERENT and after[1] not in ("", _INHERENT) and before[1]:
            here[1] = ""
    return "".join(consonant + vowel.replace(_INHERENT, "a") for consonant, vowel in syllables)


def _append(syllables: list[list[str]], kind: str, name: str) -> None:
    """Take one letter or sign into the syllables read so far."""
    if kind == "LETTER":
        if name in _VOWELS:
            syllables.append(["", _VOWELS[name]])
        elif name.endswith("A"):
            syllables.append([_CONSONANTS.get(name, name[:-1].lower()), _INHERENT])
    elif kind == "VOWEL SIGN" and syllables and name in _VOWELS:
        syllables[-1][1] = _VOWELS[name]
    elif name == "VIRAMA" and syllables:
        syllables[-1][1] = ""
    elif name == "NUKTA" and syllables:
        syllables[-1][0] = _WITH_NUKTA.get(syllables[-1][0], syllables[-1][0])
    elif name in ("ANUSVARA", "CANDRABINDU"):
        syllables.append(["n", ""])
