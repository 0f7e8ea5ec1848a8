"""Which words belong to the knowledge base's language, and which only look as if they did.

Romanised languages share spellings with English: in Hinglish `to`, `me`, `the`, `do` and `main` are
Hindi far more often than English. A frequency list of English alone would count each as English.
Where the target language has a frequency list in Latin script (Spanish, Filipino, ...), a word that
is as frequent there is a homograph; romanised Hindi and Urdu have none, so theirs are listed here.

Word frequencies are those of wordfreq 3 (https://doi.org/10.5281/zenodo.7199437), whose data comes
in its wheel.
"""

import functools

import polars as pl

from monoglot.config import LanguageConfig
from monoglot.generation.scripts import script_of

# On the Zipf scale (log10 of occurrences in a billion words) "snooze" is 3.2 and "reminder" 4.1;
# at 4 names and abbreviations that are spelt like Hindi words (aap, mai, hua) are below.
_COMMON = 1e-5
# Where nothing tells a language's own words, a word that is not of the source must be longer and
# more frequent to count: almost every short spelling is an English word or abbreviation.
_SURE, _SURE_CHARS = 3e-5, 4

# Hindi and Urdu words, as romanised, that are English words, names or abbreviations as well. The
# function words stand in nearly every text: one of them is English only beside the neighbour it has
# in the English source. A content word is English if the source has it.
_FUNCTION_WORDS = """
a aa aaj ab aj ap aap are aur b bas bhi bin de den dein do fir h ha hain hai han hay he hee hi
ho hoon hota hote hoti hu hua hue hui hum ham hun hy in is iss ja jab jaha jane jao jata jate jati
jay je ji jo jis k ka kab kal kam kar kare karen karo kaun ke ki kia kin kis ko koi kr kro ku kya
la lana le lena lo m ma mai main maine man mat me mei mein mera mere meri mil mujh n na nah nai ne
ni nu or pa par pas pay pe per phir pr ra raha rahe rahi rakh sa sab se sey si so tab tak te
ten tera tere teri tha the thi to toh tu tum un us usi vo wala wale wali wo woh wah ya yah ye
yeh yaha
"""
_CONTENT_WORDS = """
ache acha ana aram baad bad bada bade bad ban bana band bane bar bare bari barish bat beech bees
bola bole bolo bus char che chal chalo chat che dal dam dar das dekh der dial dil din dino do door
dost dur dus ek gal gana gane gap ghar haan hal hare har jag jal jam jan kaam kadam kaha kahan
kale kaha kid lag laga lage lane lekin log mahal mal male mar mare mele mile mila milo mitra naam
nana nau nikal pal pan pass pata pati pet pita rah rail raja ras rat raat rate rang
rani ranga sal saal sam sang sari sat saw sham shaam sir son sona sun suno tale tan tar teen
tel tees tez use uth van var war
"""
_HINDUSTANI = dict.fromkeys(_FUNCTION_WORDS.split(), True) | dict.fromkeys(
    (word for word in _CONTENT_WORDS.split() if word not in _FUNCTION_WORDS.split()), False
)
_ROMANISED = {"hi": _HINDUSTANI, "ur": _HINDUSTANI}
# English words that are always capitalised, yet name nobody.
_CAPITALISED = """
i i'm i'll i've i'd monday tuesday wednesday thursday friday saturday sunday january february march
april may june july august september october november december am pm ok tv
"""
NO_NAMES = frozenset(_CAPITALISED.split())


def english_like(words: pl.Series, language: LanguageConfig, kb_language: str) -> pl.DataFrame:
    """What is known of each distinct word (lower case) in a text of the target language.

    Returns:
        Columns word, common (a word of the knowledge base's language wherever it stands), twin
        (also a word of the target language) and loose (a twin that counts as the source's if the
        source has it; another twin needs its neighbour as well).
    """
    distinct = words.unique().sort()
    english = _frequencies(_primary(kb_language))
    known, own = _twins(language), _own_frequencies(language)
    frequency = [english.get(word, 0.0) for word in distinct]
    twin = [
        word in known or (own.get(word, 0.0) >= times > 0)
        for word, times in zip(distinct, frequency, strict=True)
    ]
    is_told = bool(known or own) or script_of(language) != "Latn"
    common = [
        times >= _COMMON if is_told else times >= _SURE and len(word) >= _SURE_CHARS
        for word, times in zip(distinct, frequency, strict=True)
    ]
    return pl.DataFrame(
        {
            "word": distinct,
            "common": common,
            "twin": twin,
            "loose": [known.get(word) is False for word in distinct],
        },
        schema={"word": pl.String, "common": pl.Boolean, "twin": pl.Boolean, "loose": pl.Boolean},
    )


def _twins(language: LanguageConfig) -> dict[str, bool]:
    """Listed homographs of a romanised language, and whether each is a function word."""
    return _ROMANISED.get(_primary(language.code), {}) if script_of(language) == "Latn" else {}


def _own_frequencies(language: LanguageConfig) -> dict[str, float]:
    """The target's own frequency list, where it is one of words in Latin script."""
    primary = _primary(language.code)
    is_native = script_of(language) == script_of(primary) == "Latn"
    return _frequencies(primary) if is_native else {}


def _primary(code: str) -> str:
    return code.replace("_", "-").split("-")[0].lower()


@functools.cache
def _frequencies(language: str) -> dict[str, float]:
    """Share of each word in a language's texts; empty for a language without a list."""
    import wordfreq  # of the pipeline only

    known = wordfreq.available_languages()
    return wordfreq.get_frequency_dict(language) if language in known else {}
