"""The Code-Mixing Index: exact values, homographs, and the error rate on words tagged by hand."""

from pathlib import Path

import polars as pl
import pytest
from hinglish_tags import TAGS
from hypothesis import given, settings
from hypothesis import strategies as st

from monoglot.config import LanguageConfig
from monoglot.generation.mixing import ENGLISH, MATRIX, OTHER, code_mixing_index, tag_words
from monoglot.generation.words import english_like

HINGLISH = LanguageConfig(code="hi-Latn", name="Hinglish")
DATA = Path(__file__).parents[2] / "shared/data/hinglish_top"
KNOWLEDGE = pl.Series(
    [
        "What is the weather in Delhi",
        "Please tell me the weather in Delhi tomorrow",
        "remind me to call Amit at 5 pm",
        "do you use the main road to reach Delhi",
        "why was my NEFT transfer reversed",
        "HOW DO I CLOSE MY ACCOUNT",
    ]
)


def frame(*pairs):
    return pl.DataFrame(pairs, schema={"text": pl.String, "english": pl.String}, orient="row")


def tags(text, english=None, language=HINGLISH):
    """The tags of a text, a letter a word."""
    tagged = tag_words(frame((text, english)), language, "en", KNOWLEDGE)
    letters = {MATRIX: "M", ENGLISH: "E", OTHER: "O"}
    return "".join(letters[tag] for tag in tagged["tag"])


@pytest.mark.parametrize(
    ("text", "english", "expected"),
    [
        # A homograph beside a matrix word is Hindi, though the source has the same letters.
        ("Delhi me weather kaisa hai", "tell me the weather in Delhi", "OMEMM"),
        ("mujhe batao, tell me the weather", "tell me the weather in Delhi", "MMEEEE"),
        ("wo ghar pe the to call karo", "call the house to see who was at home", "MMMMMEM"),
        ("do din ke liye hai", "is it for two days", "MMMMM"),
        ("main road se jao", "do you use the main road", "EEMM"),
        ("main kal aunga", "I will come tomorrow", "MMM"),
        ("use batao", "tell him", "MM"),
        ("card use karo", "use the card", "EEM"),
        ("hi is are main", "hello there", "MMMM"),
        # Numbers, times, single letters, addresses and placeholders belong to no language.
        ("5 baje 7pm x 30th ko", None, "OMOOOM"),
        ("{name} ko mail@shop.in par likho www.shop.in/a?b=1 <b> %s", None, "MMM"),
        # Names by their capitals in the knowledge base; weekdays and I name nobody.
        ("amit ko call karo", "call Amit", "OMEM"),
        ("NEFT reversed kyun", "why was my NEFT transfer reversed", "OEM"),
        # An English word that the source lacks, by its frequency; a rare one by the knowledge base.
        ("minute baad payment karna", "pay in a moment", "EMEM"),
        ("", None, ""),
        ("?? ... !", None, ""),
    ],
)
def test_words_are_told_apart(text, english, expected):
    assert tags(text, english) == expected


def test_without_a_source_the_knowledge_base_takes_its_place():
    assert tags("remind me to call karna") == "EEEEM"
    assert tags("delhi me weather") == "OME"


def test_another_script_tells_the_languages_apart():
    hindi = LanguageConfig(code="hi", name="Hindi")
    assert tags("मेरा NEFT transfer क्यों reverse हुआ", None, hindi) == "MOEMEM"
    latin = hindi.model_copy(update={"script": "Latn"})
    assert tags("me hi the", None, latin) == "MMM"


def test_a_language_with_its_own_list_has_its_own_homographs():
    spanish = LanguageConfig(code="es", name="Spanglish")
    assert tags("no me dice la hora", "he does not tell me the time", spanish) == "MMMMM"
    assert tags("necesito el password de mi account", None, spanish) == "MMEMME"


def test_a_romanised_language_without_a_list_counts_only_sure_words():
    tamil = LanguageConfig(code="ta-Latn", name="Tanglish")
    assert tags("en account la balance enna", None, tamil) == "MEMEM"


def test_the_index_has_the_values_of_the_formula():
    rows = frame(
        ("kya hai", None),  # one language
        ("call Amit", "call Amit"),  # English alone; the name counts for none
        ("account kholo", "open the account"),  # 1 of 2
        ("mujhe 5 baje alarm set karna hai", "set an alarm for 5"),  # 2 of 6
        ("5 7", None),  # nothing with a language
        ("", None),
    )
    index = code_mixing_index(rows, HINGLISH, "en", KNOWLEDGE)
    assert index["cmi"].to_list() == pytest.approx([0, 0, 50, 100 / 3, 0, 0])
    assert index["english_share"].to_list() == pytest.approx([0, 1, 0.5, 1 / 3, 0, 0])


words = st.sampled_from(
    [*["me", "to", "the", "hai", "main", "do", "5", "Amit"], "weather", "नमस्ते", "?", "é"]
)
texts = st.lists(words, max_size=6).map(" ".join)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(texts, texts | st.none()), min_size=1, max_size=5))
def test_a_texts_index_is_its_own_whatever_stands_beside_it(pairs):
    together = code_mixing_index(frame(*pairs), HINGLISH, "en", KNOWLEDGE)
    assert together.height == len(pairs)
    assert together["cmi"].is_between(0, 50).all()
    assert together["english_share"].is_between(0, 1).all()
    quiet = KNOWLEDGE.append(pl.Series([e for _, e in pairs if e], dtype=pl.String))
    alone = pl.concat(code_mixing_index(frame(p), HINGLISH, "en", quiet) for p in pairs)
    again = code_mixing_index(frame(*pairs), HINGLISH, "en", quiet)
    assert again.equals(alone)


def test_no_word_is_both_common_and_unknown_to_the_frequency_list():
    known = english_like(pl.Series(["reminder", "dikhao", "the", "door"]), HINGLISH, "en")
    assert known.rows() == [
        ("dikhao", False, False, False),
        ("door", True, True, True),
        ("reminder", True, False, False),
        ("the", True, True, False),
    ]


def public_rows():
    if not DATA.is_dir():
        pytest.skip("the public data is not here")
    queries = pl.read_csv(DATA / "queries.tsv", separator="\t", quote_char=None)
    base = pl.read_csv(DATA / "kb.tsv", separator="\t", quote_char=None)
    chosen = queries.filter(
        pl.col("qid").str.contains("-validation-") & pl.col("qid").str.slice(-5).is_in(list(TAGS))
    )
    rows = chosen.select("text", english="en_text")
    wanted = [TAGS[qid[-5:]] for qid in chosen["qid"]]
    return rows, wanted, base.filter(pl.col("first_split") == "train")["text"]


@pytest.mark.parametrize(
    ("with_source", "all_errors", "language_errors"), [(True, 20, 3), (False, 51, 18)]
)
def test_errors_against_words_tagged_by_hand(with_source, all_errors, language_errors):
    """713 words, 72 queries: 2.8 % wrong, most of them names; Hindi for English or back: 0.4 %."""
    rows, wanted, knowledge = public_rows()
    if not with_source:
        rows = rows.with_columns(english=pl.lit(None, pl.String))
    tagged = tag_words(rows, HINGLISH, "en", knowledge)
    letters = tagged["tag"].cast(pl.String).str.slice(0, 1).str.to_uppercase()
    expected = "".join(wanted)
    assert (len(wanted), len(letters), len(expected)) == (72, 713, 713)
    wrong = [(want, got) for want, got in zip(expected, letters, strict=True) if want != got]
    assert len(wrong) <= all_errors
    assert sum("O" not in pair for pair in wrong) <= language_errors


def test_the_index_of_hand_tagged_queries_is_measured_closely():
    rows, wanted, knowledge = public_rows()
    counts = [(tags.count("M"), tags.count("E")) for tags in wanted]
    by_hand = [100 * (1 - max(pair) / sum(pair)) for pair in counts]
    measured = code_mixing_index(rows, HINGLISH, "en", knowledge)["cmi"].to_list()
    off = [abs(one - other) for one, other in zip(by_hand, measured, strict=True)]
    # Names in small letters count as English: that adds a little over one to the mean.
    assert sum(by_hand) / 72 == pytest.approx(24.53, abs=0.01)
    assert sum(measured) / 72 == pytest.approx(24.53, abs=1.3)
    assert sum(off) / 72 < 3
