"""The gates: each catches what it is for, and good human translations pass."""

from pathlib import Path
from typing import get_args

import polars as pl
import pytest

from monoglot.config import LanguageConfig, MixingConfig
from monoglot.contracts import Queries, Rejects, empty
from monoglot.generation.quality import _gates, folded, keep_good, terms_in
from monoglot.generation.scripts import digits_of_the_world, script_classes
from monoglot.generation_config import Gate, QualityConfig

DATA = Path(__file__).parents[2] / "shared/data"
HINGLISH = LanguageConfig(code="hi-Latn", name="Hinglish")
LANGUAGES = {
    code: LanguageConfig(code=code, name=name)
    for code, name in {
        "hi-Latn": "Hinglish",
        "hi": "Hindi",
        "bn": "Bengali",
        "ta": "Tamil",
        "te": "Telugu",
        "ar": "Arabic",
        "ar-Latn": "Arabizi",
        "zh": "Chinese",
        "ja": "Japanese",
        "ko": "Korean",
        "es": "Spanish",
        "fr": "French",
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
        ("pon la alarma a las seis y media", "set my alarm", "hi-Latn", "wrong_language"),
        ("qu'est ce que tu fais ce soir", "what are you up to", "hi-Latn", "wrong_language"),
        ("bangunkan saya besok pagi", "wake me up in the morning", "hi-Latn", "wrong_language"),
        ("wo bleibt denn mein Paket", "where is my parcel", "hi-Latn", "wrong_language"),
        ("wo bleibt denn mein Paket", "where is my parcel", "es", "wrong_language"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u062d\u0633\u0627\u0628\u0645 "
            "\u0631\u0627 \u0628\u0628\u0646\u062f\u0645",
            "i want to close my account",
            "ar",
            "wrong_language",
        ),
        ("Tell me where the parcel has got to", "where is my parcel", "hi-Latn", "not_translated"),
        ("Remind me to call the dentist", "dentist reminder please", "hi-Latn", "not_translated"),
        ("haan haan haan haan kahan hai", "yes yes where is it then", "hi-Latn", "repetition"),
        ("parcel kahan hai " * 3, "where is my parcel please tell me", "hi-Latn", "repetition"),
        ("alarm 8 baje lagao", "alarm for 7", "hi-Latn", "number_lost"),
        ("mera 2 baje ka alarm", "my alarm", "hi-Latn", "number_changed"),
        ("35 minute ka timer", "set a timer for twenty five minutes", "hi-Latn", "number_changed"),
        ("20 minute ka timer", "set a timer for twenty five minutes", "hi-Latn", "number_changed"),
        (f"timer {'1' * 4400} minute", "set my timer", "hi-Latn", "length_ratio"),
        (f"timer {chr(0x967) * 4400} minute", "set my timer", "hi-Latn", "length_ratio"),
        ("13 minute ka timer", "set a timer for twenty five minutes", "hi-Latn", "number_changed"),
        ("30 tareekh ko batana", "remind me on the thirteenth", "hi-Latn", "number_changed"),
        ("100 rupay bhejo", "send two hundred rupees", "hi-Latn", "number_changed"),
        ("2050 rupay bhejo", "send two hundred and fifty rupees", "hi-Latn", "number_changed"),
        ("7:54 ka alarm", "alarm at seven forty five", "hi-Latn", "number_changed"),
        ("alarm 7:50 par lagao", "alarm at 7:45", "hi-Latn", "number_lost"),
        ("pon una alarma para las 18:00", "set an alarm for 7 pm", "es", "number_lost"),
        ("pon una alarma para las 18:00", "set an alarm at seven", "es", "number_changed"),
        ("pon un temporizador de 18 minutos", "set a timer for 30 minutes", "es", "number_lost"),
        ("pon un temporizador de 32 minutos", "set a timer for 20 minutes", "es", "number_lost"),
        ("转账2000万元", "transfer 20,000 yuan", "zh", "number_lost"),
        ("转账3万元", "transfer 20,000 yuan", "zh", "number_lost"),
        ("2천만원 보내줘", "send 2,000 won", "ko", "number_lost"),
        ("母に2万円送金して", "send 10,000 yen to my mother", "ja", "number_lost"),
        ("11 hazaar rupaye bhejo", "send 10000 rupees", "hi-Latn", "number_lost"),
        ("100k rupaye bhejo", "send 10k rupees", "hi-Latn", "number_changed"),
        ("1 crore rupaye bhejo", "send 100,000 rupees", "hi-Latn", "number_lost"),
        ("que haré dentro de 16 días", "what will i do in two weeks", "es", "number_changed"),
        ("que haré dentro de 15 días", "what will i do in four weeks", "es", "number_changed"),
        ("7awel 60 geneh men el card", "transfer 50 from my card", "ar-Latn", "number_lost"),
        ("el sa3a 8pm bokra", "seven in the evening tomorrow", "ar-Latn", "number_changed"),
        ("el card bta3ty men ayam", "my card of 3 days ago", "ar-Latn", "number_lost"),
        ("bta3ty 9 marrat", "mine, several times", "ar-Latn", "number_changed"),
        ("mera parcel (my parcel)", "my parcel", "hi-Latn", "meta_text"),
        ('"mera parcel kahan hai"', "where is my parcel", "hi-Latn", "meta_text"),
        ("1. mera parcel kahan hai", "where is my parcel", "hi-Latn", "meta_text"),
        ("mera parcel -> my parcel", "my parcel", "hi-Latn", "meta_text"),
        ("Zaroor! mera parcel kahan hai", "where is my parcel", "hi-Latn", "meta_text"),
        ("r3f9a mera parcel", "my parcel", "hi-Latn", "meta_text"),
        ("N/A", "my parcel", "hi-Latn", "meta_text"),
        ("es: mi paquete", "my parcel", "es", "meta_text"),
        ("Here is the translation: haan", None, "hi-Latn", "meta_text"),
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
        ("phoenix mein weather", "weather in phoenix", "hi-Latn"),
        ("mere liye alarm set karo", "set an alarm", "hi-Latn"),
        ("Despacito play karo please", "play Despacito", "hi-Latn"),
        ("la vida loca bajao", "play la vida loca", "hi-Latn"),
        ("please group chat mein add kar do", "add me to the group chat", "hi-Latn"),
        ("baar baar wahi error", "the same error again and again", "hi-Latn"),
        ("alarm ko 10 pm par set karo", "set the alarm for 22:00", "hi-Latn"),
        ("7 baje jagana", "wake me at seven", "hi-Latn"),
        ("pon una alarma para las 19:00", "set an alarm for 7 pm", "es"),
        ("pon una alarma para las 19:00", "set an alarm for seven pm", "es"),
        ("despi\u00e9rtame a las 18h30", "wake me up at 6:30 pm", "es"),
        ("despi\u00e9rtame a las 00:30", "wake me up at 12:30 am", "es"),
        ("25 minute ka timer lagao", "set a timer for twenty five minutes", "hi-Latn"),
        ("25 minute ka timer lagao", "set a timer for twenty-five minutes", "hi-Latn"),
        ("20 second ka timer lagao", "set a twenty second timer", "hi-Latn"),
        ("22 tareekh ko yaad dilana", "remind me on the twenty second", "hi-Latn"),
        ("13 tareekh ko yaad dilana", "remind me on the thirteenth", "hi-Latn"),
        ("31 tareekh ko yaad dilana", "remind me on the thirty first", "hi-Latn"),
        ("200 rupay bhejo", "send two hundred rupees", "hi-Latn"),
        ("2 sau rupay bhejo", "send two hundred rupees", "hi-Latn"),
        ("250 rupay bhejo", "send two hundred fifty rupees", "hi-Latn"),
        ("usko 250 rupay bhejo", "send two hundred and fifty rupees", "hi-Latn"),
        ("100 se 200 rupay ke beech", "between one hundred and two hundred rupees", "hi-Latn"),
        ("usko 2,500 rupay bhejo", "send two thousand five hundred rupees", "hi-Latn"),
        ("25 hazaar rupay bhejo", "send twenty five thousand rupees", "hi-Latn"),
        ("1999 ka gaana bajao", "play a song of nineteen ninety nine", "hi-Latn"),
        ("alarm 7:45 ka lagao", "alarm at seven forty five", "hi-Latn"),
        ("alarm 745 ka lagao", "alarm at seven forty five", "hi-Latn"),
        ("转账2万元", "transfer 20,000 yuan", "zh"),
        ("母に1万円送金して", "send 10,000 yen to my mother", "ja"),
        ("1万5千円送金して", "please send 15,000 yen", "ja"),
        ("1万5000円送金して", "please send 15,000 yen", "ja"),
        ("5만원 보내줘", "send 50,000 won", "ko"),
        ("2천만원 보내줘", "send 20,000,000 won", "ko"),
        ("1 लाख रुपये भेजो", "send 100,000 rupees", "hi"),
        ("10 हज़ार रुपये भेजो", "send ten thousand rupees", "hi"),
        ("1,00,000 rupaye bhejo", "send 100,000 rupees", "hi-Latn"),
        ("1 lakh rupaye bhejo", "send 100,000 rupees", "hi-Latn"),
        ("1.5 lakh rupaye bhejo", "send 150000 rupees", "hi-Latn"),
        ("1 lakh 50 hazaar rupaye bhejo", "send 150000 rupees", "hi-Latn"),
        ("10 hazaar rupaye bhejo", "send 10000 rupees", "hi-Latn"),
        ("10k rupaye bhejo", "send 10000 rupees", "hi-Latn"),
        ("10000 rupaye bhejo", "send 10k rupees", "hi-Latn"),
        ("20 lakh rupaye bhejo", "send 2 million rupees", "hi-Latn"),
        ("llega en 15 días", "it arrives in two weeks", "es"),
        ("il arrive dans 15 jours", "it will arrive in two weeks", "fr"),
        ("llega en 14 días", "it arrives in a fortnight", "es"),
        ("feen el card bta3ty", "where is my card", "ar-Latn"),
        ("3ayez aghayar el PIN", "i want to change my PIN", "ar-Latn"),
        ("el ta7weel mawaselsh", "the transfer has not arrived", "ar-Latn"),
        ("leh ets7ab menny martein", "why was i charged twice", "ar-Latn"),
        ("da3 menny el card men yomein", "i lost my card two days ago", "ar-Latn"),
        ("el sa3a 7pm bokra", "at 7 pm tomorrow", "ar-Latn"),
        ("7awel 55egp men 7esaby", "transfer 55 egp from my account", "ar-Latn"),
        ("mujhe sorry bolna hai", "i want to say sorry", "hi-Latn"),
        ("mera sawaal (urgent) kab dekhoge", "when will you see my (urgent) question", "hi-Latn"),
        ("mera query resolve nahi hua", None, "hi-Latn"),
        ('"order" page khulta nahi', None, "hi-Latn"),
        ("donde esta mi paquete", "where is my parcel", "es"),
        ("mi app de Netflix crashea", "my Netflix app crashes", "es"),
        ("translation option kahan hai", "where is the translation option", "hi-Latn"),
    ],
)
def test_what_people_write_passes(text, english, language):
    assert rules(text, english, language) == []


@pytest.mark.parametrize(
    ("text", "code", "rule"),
    [
        ("Uber Eats app में notification settings change करो", "hi", []),
        ("debit card पर international transactions enable करो", "hi", []),
        ("debit card ல international transactions enable பண்ணு", "ta", []),
        ("debit card এ international transactions enable করো", "bn", []),
        ("debit card లో international transactions enable చేయి", "te", []),
        ("please enable international transactions", "hi", ["wrong_script"]),
        ("please enable international transactions", "te", ["wrong_script"]),
        ("डेबिट कार्ड कहाँ है", "ta", ["wrong_script"]),
    ],
)
def test_vowel_signs_count_as_letters_of_a_mixed_text(text, code, rule):
    language = LANGUAGES[code].model_copy(update={"mixing": MixingConfig(renderings=3)})
    rows = queries((text, None), language=code)
    assert keep_good(rows, language, CONFIG)[1]["rule"].to_list() == rule


def test_vowels_of_arabic_count_for_no_script():
    rows = queries(("أَيْنَ طَلَبِي", None), ("هَلْ card", None), language="ar")
    assert keep_good(rows, LANGUAGES["ar"], QualityConfig(min_script_share=0.6))[0].height == 1


# Typed on phones: English words, slang, two spellings of one word, and what is Urdu as well.
TYPED_IN_LATIN = (
    ("bhai mera parcel abhi tk nhi aaya", "my parcel has not come yet"),
    ("paise kat gye pr order confirm nahi hua", "money was taken but the order is not confirmed"),
    ("kal subah 7 baje ka alarm laga do", "set an alarm for 7 tomorrow morning"),
    ("mummy ko msg krdo ki late ho jaunga", "text mom that i will be late"),
    ("ye wala gaana dobara chalao na", "play this song again"),
    ("kya aaj baarish hogi delhi mein", "will it rain in delhi today"),
    ("mujhe refund kab tak milega", "when will i get my refund"),
    ("meri saari meetings cancel kar do", "cancel all my meetings"),
)


@pytest.mark.parametrize(
    ("code", "script"), [("hi-Latn", None), ("hi", "Latn"), ("hi-Deva", "Latn")]
)
def test_the_configured_script_says_which_words_are_known(code, script):
    language = LanguageConfig(code=code, script=script, name="Hinglish")
    rows = queries(
        *TYPED_IN_LATIN,
        ("\u092e\u0947\u0930\u093e \u0911\u0930\u094d\u0921\u0930", "my order"),
        ("wo ist mein paket geblieben", "where is my parcel"),
    )
    kept, rejects = keep_good(rows, language, CONFIG)
    assert kept["text"].to_list() == [text for text, _ in TYPED_IN_LATIN]
    assert rejects["rule"].to_list() == ["wrong_script", "wrong_language"]


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
    assert keep_good(rows, HINGLISH, QualityConfig(max_longer=1.5))[0].height == 0
    assert keep_good(rows, HINGLISH, QualityConfig(max_longer=4.0))[0].height == 1
    rows = queries(("mera parcel kahan", "where is my parcel that you sent last week"))
    assert keep_good(rows, HINGLISH, QualityConfig(max_shorter=2.0))[0].height == 0
    assert keep_good(rows, HINGLISH, QualityConfig(max_shorter=3.0))[0].height == 1


def test_every_gate_can_be_skipped_by_its_rule():
    assert {gate.rule for gate in _gates(HINGLISH, CONFIG)} == set(get_args(Gate))


def test_a_gate_can_be_skipped_and_the_next_one_is_asked():
    rows = queries(("Where is my parcel?", "where is my parcel"))
    rules = [
        keep_good(rows, HINGLISH, QualityConfig(skipped=skipped))[1]["rule"].to_list()
        for skipped in ((), ("copy_of_source",), ("copy_of_source", "not_translated"))
    ]
    assert rules == [["copy_of_source"], ["not_translated"], []]


def test_each_threshold_comes_from_the_config():
    def dropped(text, english, **thresholds):
        rows = queries((text, english))
        return keep_good(rows, HINGLISH, QualityConfig(**thresholds))[1].height

    spanish = ("pon la alarma a las seis", "set an alarm")
    assert (dropped(*spanish, language_margin=0.5), dropped(*spanish, language_margin=9.0)) == (
        1,
        0,
    )
    copy = ("play some house music", "play some house music")
    assert (dropped(*copy, copy_words=4), dropped(*copy, copy_words=5)) == (1, 0)
    spelt = ("paanch baje", "at 5")
    assert (dropped(*spelt, spelt_up_to=4), dropped(*spelt, spelt_up_to=5)) == (1, 0)
    script = ("alarm \u0932\u0917\u093e\u0913", "set alarm")
    assert (dropped(*script, min_script_share=0.9), dropped(*script, min_script_share=0.1)) == (
        1,
        0,
    )
    again = ("ek do ek do ek do kya", "one two one two one two or what")
    assert (dropped(*again, min_distinct_words=0.5), dropped(*again, min_distinct_words=0.4)) == (
        1,
        0,
    )


def test_a_language_without_a_word_list_is_judged_by_the_identifier():
    swahili = LanguageConfig(code="sw", name="Swahili")
    texts = [
        ("je mvua itanyesha kesho asubuhi hapa Nairobi", "will it rain here tomorrow morning"),
        ("kannst du mir bitte sagen, wann mein Paket ankommt", "when will my parcel be here"),
    ]
    _, rejects = keep_good(queries(*texts, language="sw"), swahili, CONFIG)
    assert rejects.select("rule", "value").rows() == [("wrong_language", texts[1][0])]
    _, rejects = keep_good(
        queries(*texts, language="sw"), swahili, QualityConfig(identifier_confidence=1.0)
    )
    assert rejects.height == 0


def test_the_knowledge_base_may_be_in_another_language_than_english():
    spanish = LanguageConfig(code="es", name="Spanish")
    rows = queries(("wo bleibt denn mein neues Paket", "wann kommt es denn an"), language="es")
    judged = keep_good(rows, spanish, CONFIG, kb_language="de")
    assert judged[1]["rule"].to_list() == ["not_translated"]


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


def test_human_rows_pass_alike_whether_code_or_config_names_the_script():
    rows = human("hinglish_top/queries.tsv", "validation", "hi-Latn").head(300)
    by_config = LanguageConfig(code="hi", script="Latn", name="Hinglish")
    kept = keep_good(rows, by_config, CONFIG)[0]
    assert kept.equals(keep_good(rows, HINGLISH, CONFIG)[0])
    assert kept.height > 0.98 * rows.height
