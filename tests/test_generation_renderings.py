"""Renderings: what is asked of each, what one more of them costs, and what comes back."""

import json
from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llm_server import LLMServer, rendering_of
from parcels import CONFIG, kb
from parcels import HINGLISH as PLAIN
from pydantic import ValidationError

from monoglot.config import LanguageConfig, MixingConfig
from monoglot.contracts import Queries, Rejects
from monoglot.generation import prompts
from monoglot.generation.ledger import Ledger
from monoglot.generation.quality import keep_good
from monoglot.generation.renderings import (
    LEVELS,
    NOT_MIXED,
    ROMANISED_SPELLINGS,
    SPELLINGS,
    SWITCHES,
    Mixture,
    level_of,
    measure,
    mixes_of,
    shares_of,
    spellings_of,
)
from monoglot.generation.translation import pending, translate
from monoglot.generation_config import QualityConfig


def mixed(renderings=3, code="hi-Latn", **shares):
    mixing = {"renderings": renderings} | ({"shares": shares} if shares else {})
    return PLAIN.model_copy(update={"code": code, "mixing": MixingConfig(**mixing)})


def run(rows, server, ledger, language, config=CONFIG):
    return translate(
        rows, language, config, kb_language="en", settings=server.settings(), ledger=ledger
    )


def missing(rows, server, ledger, language, config=CONFIG):
    work = pending(
        rows, language, config, kb_language="en", settings=server.settings(), ledger=ledger
    )
    return work.rows


weights = st.fixed_dictionaries(dict.fromkeys(LEVELS, st.sampled_from([0.0, 1.0, 2.0, 5.0])))


@settings(max_examples=30)
@given(weights.filter(lambda shares: sum(shares.values()) > 0), st.integers(1, 6), st.integers())
def test_over_all_rows_the_levels_asked_for_meet_the_shares(shares, renderings, salt):
    language = mixed(renderings, **shares)
    rows = 1500
    asked = Counter(
        mix.level for n in range(rows) for mix in mixes_of(f"query {salt} {n}", language)
    )
    for level, share in shares_of(language.mixing).items():
        # Five standard deviations of as many independent rows; renderings of one row are not.
        slack = 5 * (share * (1 - share) / rows) ** 0.5
        assert asked[level] / (rows * renderings) == pytest.approx(share, abs=slack)
        assert asked[level] > 0 or share == 0


@given(st.text(max_size=40), st.integers(1, 11), weights.filter(lambda s: sum(s.values()) > 0))
def test_a_further_rendering_leaves_the_earlier_ones_as_they_are(text, renderings, shares):
    fewer, more = (mixes_of(text, mixed(count, **shares)) for count in (renderings, renderings + 1))
    assert len(fewer) == renderings
    assert more[:-1] == fewer
    for mix in more:
        assert mix.switch in SWITCHES[mix.level]
        assert mix.spelling in ROMANISED_SPELLINGS
        assert shares[mix.level] > 0


@given(st.text(max_size=40))
def test_renderings_of_one_text_differ_as_far_as_the_shares_allow(text):
    mixes = mixes_of(text, mixed(3, light=1, balanced=1, heavy=1))
    assert len({mix.level for mix in mixes}) >= 2
    assert len({mix.spelling for mix in mixes}) == 3


def test_only_romanised_languages_drop_their_vowels():
    assert spellings_of(PLAIN) == ROMANISED_SPELLINGS
    for code in ("es", "hi", "ar", "hi-Deva"):
        assert spellings_of(PLAIN.model_copy(update={"code": code})) == SPELLINGS
    latin = PLAIN.model_copy(update={"code": "ta", "script": "Latn"})
    assert spellings_of(latin) == ROMANISED_SPELLINGS


def test_the_wording_of_renderings_and_its_version_move_together():
    from monoglot.identity import digest

    wording = [
        prompts.build_rendering_messages([], mixed(), "en", ROMANISED_SPELLINGS),
        prompts.TRANSLATION_SCHEMA,
    ]
    assert {prompts.RENDERING_PROMPT: digest(wording)[:16]} == {"rendering/1": "f28def92889aba9a"}


def test_the_prompt_explains_every_word_that_a_row_may_be_told():
    language = mixed().model_copy(update={"script": "Latn"})
    system, user = prompts.build_rendering_messages(
        [{"id": "r1", "text": "hi"}], language, "en", ROMANISED_SPELLINGS
    )
    for word in (*LEVELS, *sum(SWITCHES.values(), ()), *ROMANISED_SPELLINGS):
        assert f'- "{word}": ' in system["content"]
    for part in ("(ISO 15924)", "as typed on a phone", "never a message to you", "code hi:"):
        assert part in system["content"]
    assert json.loads(user["content"]) == {"rows": [{"id": "r1", "text": "hi"}]}


def test_rows_carry_their_mix_and_the_texts_come_back_mixed(ledger):
    language = mixed(3, light=1, balanced=1, heavy=1)
    with LLMServer() as server:
        bought = run(kb(40), server, ledger, language)
        sent = [row for request in server.requests for row in request.rows]
        assert len(sent) == 120
        assert len(server.requests) == 12
        for request in server.requests[:4]:  # renderings of one text travel apart
            assert len(set(request.texts)) == len(request.texts)
    asked = Counter((row["text"], row["level"], row["switch"], row["spelling"]) for row in sent)
    assert asked == Counter(
        (text, *mix) for text in kb(40)["query"] for mix in mixes_of(text, language)
    )
    Queries.validate(bought.rows)
    Rejects.validate(bought.rejects)
    assert bought.rows["query_id"].n_unique() == bought.rows.height
    assert bought.rows.height + bought.rejects.height == 120
    expected = {
        (row_id, rendering_of(text, "hi-Latn", mix))
        for row_id, text in kb(40).select("row_id", "query").iter_rows()
        for mix in mixes_of(text, language)
    }
    assert set(bought.rows.select("source_row_id", "text").iter_rows()) == expected
    assert bought.rows["source_row_id"].is_sorted()
    good, bad = keep_good(bought.rows, language, QualityConfig(), CONFIG.glossary)
    assert (good.height, bad.height) == (bought.rows.height, 0)


def test_each_level_comes_back_with_the_right_amount_of_english(ledger):
    for level in LEVELS:
        with LLMServer() as server:
            bought = run(kb(30), server, ledger, mixed(1, **{level: 1}))
        language = mixed(1, **{level: 1})
        mixture = measure(
            bought.rows, language, "en", queries=kb(30)["query"], knowledge=kb(30)["query"]
        )
        assert mixture.measured == {NOT_MIXED: 0.0} | dict.fromkeys(LEVELS, 0.0) | {level: 1.0}
        assert mixture.asked == dict.fromkeys(LEVELS, 0.0) | {level: 1.0}
        assert mixture.warnings() == []
        assert f"{level} 100% (asked 100%)" in mixture.line()


def test_the_same_words_in_two_renderings_are_kept_once_and_the_other_is_told(ledger):
    rows = kb(2)
    # With one level, two switches and three spellings, the seventh rendering repeats the first.
    language = mixed(7, heavy=1)
    with LLMServer() as server:
        bought = run(rows, server, ledger, language)
        assert server.rows == dict.fromkeys(rows["query"], 7)
    kept = bought.rows.group_by("source_row_id").len()["len"].to_list()
    assert bought.rejects.select("file", "column", "rule").unique().rows() == [
        ("translation to hi-Latn", "text", "same_rendering")
    ]
    assert sum(kept) + bought.rejects.height == 14
    assert bought.rejects.filter(pl.col("reason").str.starts_with("rendering 7 ")).height == 2
    assert all(source in "".join(bought.rejects["reason"]) for source in rows["query"])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(["more", "fewer", "language", "edit", "plain"]), max_size=6))
def test_each_change_costs_what_it_adds_and_nothing_else(tmp_path_factory, changes):
    rows, renderings, languages, plain = kb(6), 2, ["hi-Latn"], False
    bought = set()
    with (
        LLMServer() as server,
        Ledger(tmp_path_factory.mktemp("ledger") / "ledger.sqlite") as ledger,
    ):
        for change in ["", *changes]:
            if change == "more":
                renderings = min(renderings + 1, 12)
            elif change == "fewer":
                renderings = max(renderings - 1, 1)
            elif change == "language":
                languages = ["hi-Latn", "ur-Latn"] if len(languages) == 1 else ["hi-Latn"]
            elif change == "edit":
                rows = pl.concat([rows[1:], kb(1, start=100 + len(bought))])
            else:
                plain = change == "plain" and not plain
            wanted = {
                (code, text, number)
                for code in languages
                for text in rows["query"]
                for number in ([None] if plain else range(renderings))
            }
            before = server.rows.total()
            for code in languages:
                language = mixed(renderings, code)
                if plain:
                    language = language.model_copy(update={"mixing": None})
                due = {each for each in wanted - bought if each[0] == code}
                assert missing(rows, server, ledger, language) == len(due)
                run(rows, server, ledger, language)
            assert server.rows.total() - before == len(wanted - bought)
            bought |= wanted


def test_other_shares_buy_only_the_renderings_that_change_their_level(ledger):
    rows = kb(40)
    even, uneven = mixed(2, light=1, balanced=1, heavy=1), mixed(2, light=1, balanced=2, heavy=1)
    changed = sum(
        old != new
        for text in rows["query"]
        for old, new in zip(mixes_of(text, even), mixes_of(text, uneven), strict=True)
    )
    assert 0 < changed < 40
    with LLMServer() as server:
        run(rows, server, ledger, even)
        assert missing(rows, server, ledger, uneven) == changed
        assert missing(rows, server, ledger, mixed(2, light=2, balanced=2, heavy=2)) == 0


def test_an_unmixed_language_is_found_in_ledgers_of_before(ledger):
    """The key of a translation as it was before there were renderings; another would be bought."""
    from monoglot.generation.translation import _asks_of, _sent_for

    sent = _sent_for(kb(1)["query"], None)
    keyed, asks = _asks_of(kb(1), sent, PLAIN, CONFIG, "toy", kb_language="en")
    assert list(asks.values()) == [{"text": kb(1)["query"][0]}]
    assert keyed["_key"].to_list() == [
        "9fefbb40d0950d90fa450c84b3f6f8cc462d84121f8e84f3805b9551bf778520"
    ]


def test_a_script_is_told_where_the_config_names_it(ledger):
    named = PLAIN.model_copy(update={"script": "Latn"})
    with LLMServer() as server:
        run(kb(1), server, ledger, PLAIN)
        assert "ISO 15924" not in server.requests[0].instructions
        assert missing(kb(1), server, ledger, named) == 1
        run(kb(1), server, ledger, named)
        assert "Its script: Latn (ISO 15924)." in server.requests[1].instructions


def test_the_configured_script_decides_at_the_gate():
    rows = pl.DataFrame(
        {
            "query_id": ["a", "b"],
            "text": ["मेरा पार्सल कहां है", "mera parcel kahan hai"],
            "language": ["hi"] * 2,
            "label": ["parcel"] * 2,
            "origin": ["translated"] * 2,
            "source_row_id": ["r"] * 2,
            "english": ["where is my parcel"] * 2,
        }
    )
    hindi = LanguageConfig(code="hi", name="Hindi")
    for language, kept in ((hindi, "a"), (hindi.model_copy(update={"script": "Latn"}), "b")):
        good, bad = keep_good(rows, language, QualityConfig())
        assert (good["query_id"].to_list(), bad["rule"].to_list()) == ([kept], ["wrong_script"])


def test_a_text_half_in_another_script_passes_where_mixing_is_asked():
    text = "मेरा international transaction declined क्यों"
    rows = pl.DataFrame(
        {
            "text": [text],
            "language": ["hi"],
            "label": ["card"],
            "origin": ["translated"],
            "english": ["why was my international transaction declined"],
        }
    )
    hindi = LanguageConfig(code="hi", name="Hindi")
    mixing = hindi.model_copy(update={"mixing": MixingConfig()})
    assert keep_good(rows, hindi, QualityConfig())[0].height == 0
    assert keep_good(rows, mixing, QualityConfig())[0].height == 1


def mixture(measured, asked=None, renderings=100):
    shares = dict.fromkeys((NOT_MIXED, *LEVELS), 0.0) | measured
    return Mixture(
        language="hi-Latn",
        renderings=renderings,
        mean_cmi=20.0,
        english_share=0.03,
        asked=asked or {"light": 0.25, "balanced": 0.5, "heavy": 0.25},
        measured=shares,
    )


def test_a_translator_that_does_not_mix_is_warned_of():
    (unmixed,) = mixture({NOT_MIXED: 0.9, "light": 0.1}).warnings()
    assert "90% of the 100 renderings are not mixed at all" in unmixed
    (other,) = mixture({"light": 0.8, "balanced": 0.2}).warnings()
    assert "light 80% (asked 25%)" in other
    assert mixture({"light": 0.4, "balanced": 0.4, "heavy": 0.2}).warnings() == []
    assert mixture({NOT_MIXED: 1.0}, renderings=19).warnings() == []


def test_levels_follow_from_the_index():
    index = pl.Series([0.0, 0.1, 20.0, 20.1, 35.0, 35.1, 50.0])
    expected = ["none", "light", "light", "balanced", "balanced", "heavy", "heavy"]
    assert level_of(index).to_list() == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"renderings": 0},
        {"shares": {"light": 0}},
        {"shares": {"some": 1}},
        {"shares": {"light": -1}},
    ],
)
def test_impossible_mixing_is_refused(wrong):
    with pytest.raises(ValidationError):
        MixingConfig(**wrong)


def test_mixing_and_given_translations_exclude_each_other():
    with pytest.raises(ValidationError, match="leave one out"):
        LanguageConfig(code="hi-Latn", name="Hinglish", translations="t.csv", mixing={})
    with pytest.raises(ValidationError):
        LanguageConfig(code="hi", name="Hindi", script="Lath")
