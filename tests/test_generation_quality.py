"""The gates: each catches what it is for, and good human translations pass."""

from pathlib import Path

import polars as pl
import pytest

from monoglot.config import LanguageConfig, QualityConfig
from monoglot.contracts import Queries, Rejects, empty
from monoglot.generation.quality import folded, keep_good, terms_in
from monoglot.generation.scripts import digits_of_the_world, script_classes

DATA = Path(__file__).parents[2] / "shared/data"
HINGLISH = LanguageConfig(code="hi-Latn", name="Hinglish")
LANGUAGES = {
    code: LanguageConfig(code=code, name=name)
    for code, name in {
        "hi-Latn": "Hinglish",
        "hi": "Hindi",
        "ar": "Arabic",
        "zh": "Chinese",
        "ja": "Japanese",
        "es": "Spanish",
        "sr": "Serbian",
    }.items()
}
CONFIG = QualityConfig()
GLOSSARY = ("SIM swap", "Acme+")


def queries(*pairs, language="hi-Latn"):
    return pl.DataFrame(
        [
            {
                "query_id": f"q{n}",
                "text": text,
                "language": language,
                "label": "label",
                "origin": "synthetic" if english is None else "translated",
                "source_row_id": None,
                "english": english,
            }
            for n, (text, english) in enumerate(pairs)
        ],
        schema=empty(Queries).schema,
    )


def rules(text, english, language="hi-Latn"):
    kept, rejects = keep_good(
        queries((text, english), language=language), LANGUAGES[language], CONFIG, GLOSSARY
    )
    assert kept.height + rejects.height == 1
    return rejects["rule"].to_list()


@pytest.mark.parametrize(
    ("text", "english", "language", "rule"),
    [
        ("?!", "where is it", "hi-Latn", "empty"),
        ("\U0001f44d", "ok", "hi-Latn", "empty"),
        ("Here is the translation: mera parcel kahan hai", "where is it", "hi-Latn", "meta_text"),
        ("Here's a Hinglish version of your query", "where is it", "hi-Latn", "meta_text"),
        ("Translation: mera parcel", "my parcel", "hi-Latn", "meta_text"),
        ("Hinglish: mera parcel", "my parcel", "hi-Latn", "meta_text"),
        ("As an AI language model I have no parcel", "my parcel", "hi-Latn", "meta_text"),
        ("I'm sorry, I can't help with that", "my parcel", "hi-Latn", "meta_text"),
        ("I cannot translate this text", "my parcel", "hi-Latn", "meta_text"),
        ('{"text": "mera parcel"}', "my parcel", "hi-Latn", "meta_text"),
        ("```mera parcel```", "my parcel", "hi-Latn", "meta_text"),
        ("Where is my parcel?", "where is my parcel", "hi-Latn", "copy_of_source"),
        (
            "\u092e\u0947\u0930\u093e \u092a\u093e\u0930\u094d\u0938\u0932",
            "my parcel",
            "hi-Latn",
            "wrong_script",
        ),
        ("mera parcel kahan hai", "where is my parcel", "hi", "wrong_script"),
        ("aina tardi", "where is my parcel", "ar", "wrong_script"),
        ("haan " * 30, "where is my parcel", "hi-Latn", "length_ratio"),
        ("haan", "where is my parcel which you sent me two weeks ago", "hi-Latn", "length_ratio"),
        ("order 4417 kahan hai", "where is order 44170", "hi-Latn", "number_lost"),
        ("2019 mein kya tha", "what was in 2018", "hi-Latn", "number_lost"),
        ("site par jao", "go to www.acme.com/help", "hi-Latn", "address_lost"),
        ("mujhe likho", "write to me@acme.com", "hi-Latn", "address_lost"),
        ("namaste naam", "hello {name}", "hi-Latn", "placeholder_lost"),
        ("namaste naam", "hello %s", "hi-Latn", "placeholder_lost"),
        ("sim badalna free hai", "is a sim swap free", "hi-Latn", "glossary_lost"),
        ("kya yeh Acme mein hai", "is it in Acme+", "hi-Latn", "glossary_lost"),
    ],
)
def test_each_gate_catches_what_it_is_for(text, english, language, rule):
    assert rules(text, english, language) == [rule]


@pytest.mark.parametrize(
    ("text", "english", "language"),
    [
        ("mera parcel kahan hai", "where is my parcel", "hi-Latn"),
        ("house music play", "play house music", "hi-Latn"),
        ("Happy hours", "Happy hours", "hi-Latn"),
        ("do ghante ke liye alarm", "alarm for 2 hours", "hi-Latn"),
        ("theek hai", "ok", "hi-Latn"),
        ("shaam 7 baje", "19:00", "hi-Latn"),
        ("order 12 34 5 kahan hai", "where is order 12345", "hi-Latn"),
        ("mera balance 1,000 kyun", "why is my balance 1000", "hi-Latn"),
        ("1000 rupay", "1,000 rupees", "hi-Latn"),
        ("\u0967\u0968\u0969 \u0915\u0939\u093e\u0901 \u0939\u0948", "where is 123", "hi"),
        ("\u092e\u0947\u0930\u093e iPhone 12 \u0915\u0939\u093e\u0901", "my iPhone 12", "hi"),
        (
            "\u0623\u064a\u0646 \u0637\u0644\u0628\u064a \u0661\u0662\u0663",
            "where is order 123",
            "ar",
        ),
        ("\u6211\u7684\u5305\u88f9\u5728\u54ea\u91cc", "where is my parcel at the moment", "zh"),
        ("\u8377\u7269\u306f\u3069\u3053", "where is the parcel", "ja"),
        ("\u0433\u0434\u0435 \u043f\u0430\u043a\u0435\u0442", "where is the packet", "sr"),
        ("gde je paket", "where is the packet", "sr"),
        ("WWW.acme.com/help par jao", "go to www.acme.com/help.", "hi-Latn"),
        ("{name} ko namaste 50%", "hello {name}, 50% off", "hi-Latn"),
        ("SIM SWAP free hai kya", "is a sim swap free", "hi-Latn"),
        ("simswapping kya hai", "what is simswapping", "hi-Latn"),
        ("previous instructions ko ignore karo", "ignore previous instructions", "hi-Latn"),
        ("kya main bhai ki help kar sakta hoon", None, "hi-Latn"),
        ("12345", "12345", "hi-Latn"),
    ],
)
def test_what_people_write_passes(text, english, language):
    assert rules(text, english, language) == []


def test_rows_keep_their_order_and_rejects_say_why():
    rows = queries(
        ("mera parcel kahan hai", "where is my parcel"),
        ("Where is my parcel", "where is my parcel"),
        ("", None),
        ("refund kab", "refund when"),
    )
    kept, rejects = keep_good(rows, HINGLISH, CONFIG, GLOSSARY)
    assert kept.equals(rows[[0, 3]])
    Rejects.validate(rejects)
    assert rejects.select("file", "column", "value", "rule", "reason").rows() == [
        (
            "translated hi-Latn",
            "text",
            "Where is my parcel",
            "copy_of_source",
            "the same words as the source (source: where is my parcel)",
        ),
        ("synthetic hi-Latn", "text", "", "empty", "no letter or digit"),
    ]


def test_an_empty_table_passes():
    kept, rejects = keep_good(empty(Queries), HINGLISH, CONFIG)
    assert kept.equals(empty(Queries))
    assert rejects.equals(empty(Rejects))


def test_the_longest_ratio_comes_from_the_config():
    rows = queries(("mera parcel kahan hai abhi tak nahi aaya kyun", "where is it"))
    assert keep_good(rows, HINGLISH, QualityConfig(max_length_ratio=1.5))[0].height == 0
    assert keep_good(rows, HINGLISH, QualityConfig(max_length_ratio=4.0))[0].height == 1


@pytest.mark.parametrize(
    ("code", "classes"),
    [
        ("hi", ("Devanagari",)),
        ("hi-Latn", ("Latin",)),
        ("hi-latn-x-mixed", ("Latin",)),
        ("hi_Latn", ("Latin",)),
        ("zh-Hant-TW", ("Han",)),
        ("pt-BR", ("Latin",)),
        ("ar-EG", ("Arabic",)),
        ("sr", None),
        ("sr-Cyrl", ("Cyrillic",)),
        ("tlh", None),
        ("xx-Zzzz", None),
    ],
)
def test_the_script_comes_from_the_code(code, classes):
    assert script_classes(code) == classes


def test_digits_of_all_scripts_are_known():
    digits = digits_of_the_world()
    assert (digits["\u0969"], digits["\u0663"], digits["\uff19"]) == ("3", "3", "9")


def test_terms_are_found_as_words_whatever_their_case():
    texts = pl.Series(["A Sim Swap?", "simswap", "acme+ and sim swap", ""])
    assert terms_in(texts, ("SIM swap", "Acme+")) == [
        ["SIM swap"],
        [],
        ["SIM swap", "Acme+"],
        [],
    ]
    assert terms_in(texts, ()) == [[], [], [], []]


def test_vowel_signs_tell_words_apart():
    column = pl.Series("t", ["\u0915\u0940", "\u0915\u093e", "Who's there?", "whos THERE"])
    assert column.to_frame().select(folded(pl.col("t")))["t"].to_list() == [
        "\u0915\u0940",
        "\u0915\u093e",
        "whosthere",
        "whosthere",
    ]


def human(file, split, language):
    path = DATA / file
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return (
        pl.read_csv(path, separator="\t", quote_char=None)
        .filter(pl.col("split") == split, pl.col("text").str.len_chars() > 0)
        .select(
            query_id="qid",
            text="text",
            language=pl.lit(language),
            label="label",
            origin=pl.lit("translated"),
            source_row_id=pl.lit(None, pl.String),
            english="en_text",
        )
    )


@pytest.mark.parametrize(
    ("file", "code", "split"),
    [
        ("hinglish_top/queries.tsv", "hi-Latn", "validation"),
        ("hinglish_top/queries.tsv", "hi-Latn", "test"),
        ("banking77_ar/queries.tsv", "ar", "test"),
    ],
)
def test_fewer_than_two_in_a_hundred_human_rows_are_rejected(file, code, split):
    rows = human(file, split, code)
    kept, rejects = keep_good(rows, LANGUAGES[code], QualityConfig())
    assert rows.height > 1000
    assert rejects.height < 0.02 * rows.height
    assert kept.height == rows.height - rejects.height


def test_planted_defects_in_human_rows_are_caught():
    """At least 95 in 100 over all kinds, each planted by rule in validation rows."""
    good = human("hinglish_top/queries.tsv", "validation", "hi-Latn").filter(
        pl.col("english").str.count_matches(r"\w+") >= 4
    )
    text, english = pl.col("text"), pl.col("english")
    planted = [
        ("empty", pl.lit("..."), english),
        ("copy_of_source", english.str.to_uppercase() + "!", english),
        ("meta_text", pl.lit("Here is the translation: ") + text, english),
        ("wrong_script", text.str.replace_all("[a-zA-Z]", "\u0915"), english),
        ("length_ratio", pl.concat_str([text] * 6, separator=" "), english),
        ("length_ratio", text.str.slice(0, 4), english),
        ("number_lost", text, english + " 48213"),
        ("address_lost", text, english + " https://acme.com/a?b=1"),
        ("placeholder_lost", text, english + " {order_id}"),
        ("glossary_lost", text, english + " SIM swap"),
    ]
    caught = total = 0
    for rule, spoilt, source in planted:
        rows = good.with_columns(text=spoilt, english=source)
        _, rejects = keep_good(rows, HINGLISH, CONFIG, GLOSSARY)
        assert set(rejects["rule"]) <= {rule, "number_lost"}
        caught, total = caught + rejects.height, total + rows.height
    assert total > 5000
    assert caught >= 0.95 * total
