"""Synthesis: bought by label and sample, each in its own manner, without twins."""

import polars as pl
from llm_server import Fault, LLMServer

from monoglot.config import LanguageConfig
from monoglot.contracts import Queries, Rejects, empty
from monoglot.generation.prompts import VOICES
from monoglot.generation.quality import keep_good
from monoglot.generation.redaction import Redactor
from monoglot.generation.synthesis import pending, synthesize, voice_of
from monoglot.generation.variety import Variety, variety_of
from monoglot.generation_config import GenerationConfig, QualityConfig, RedactionConfig

HINGLISH = LanguageConfig(code="hi-Latn", name="Hinglish")


def topics(count=3, examples=4):
    return pl.DataFrame(
        {
            "label": [f"label_{n}" for n in range(count)],
            "label_text": ["about it", None, "more"][:count],
            "label_path": [f"shop/{n}" for n in range(count)],
            "examples": [
                [f"where is item {word} of kind {n}" for word in "abcdefghijkl"[:examples]]
                for n in range(count)
            ],
        }
    )


def run(labels, server, ledger, per_label=7, redactor=None, **changes):
    config = GenerationConfig(synthetic_per_label=per_label, **changes)
    return synthesize(
        labels,
        HINGLISH,
        config,
        kb_language="en",
        settings=server.settings(),
        ledger=ledger,
        redactor=redactor,
    )


def test_as_many_queries_as_asked_for_and_paid_for_once(ledger):
    with LLMServer() as server:
        written = run(topics(), server, ledger)
        asked = [row for request in server.requests for row in request.rows]
        again = run(topics().reverse(), server, ledger)
        assert len(asked) == sum(len(request.rows) for request in server.requests) == 6
    Queries.validate(written.rows)
    assert written.rows.group_by("label").len().sort("label").rows() == [
        (f"label_{n}", 7) for n in range(3)
    ]
    assert set(written.rows["origin"]) == {"synthetic"}
    assert written.rows["source_row_id"].null_count() == 21
    assert again.rows.equals(written.rows)
    assert again.usage.requests == 0
    assert {(row["label"], row["who"], row["channel"], row["manner"]) for row in asked} == {
        (f"label_{n}", *voice_of(f"label_{n}", sample)) for n in range(3) for sample in range(2)
    }
    assert keep_good(written.rows, HINGLISH, QualityConfig())[0].height == 21


def test_more_queries_buy_further_samples_only(ledger):
    with LLMServer() as server:
        few = run(topics(1), server, ledger, per_label=5)
        more = run(topics(1), server, ledger, per_label=15)
        assert [row["manner"] for request in server.requests for row in request.rows] == [
            voice_of("label_0", sample).manner for sample in range(3)
        ]
        assert more.from_ledger == 1
    assert more.rows[:5].equals(few.rows)


def test_a_new_example_beyond_those_shown_buys_nothing(ledger):
    with LLMServer() as server:
        run(topics(1, examples=12), server, ledger)
        shown = server.requests[0].rows[0]["examples"]
        assert len(shown) == 8
        fewer = topics(1, examples=12).with_columns(
            pl.col("examples").list.filter(
                pl.element().is_in(shown) | pl.element().str.contains("item a")
            )
        )
        assert (
            pending(
                fewer,
                HINGLISH,
                GenerationConfig(synthetic_per_label=7),
                kb_language="en",
                settings=server.settings(),
                ledger=ledger,
            ).rows
            == 0
        )


def test_an_edited_row_has_few_samples_bought_again(ledger):
    labels = topics(1, examples=5)
    with LLMServer() as server:
        run(labels, server, ledger, per_label=50)
        bought = []
        for place in range(5):
            edited = labels.with_columns(
                pl.col("examples").list.eval(
                    pl.when(pl.int_range(pl.len()) == place)
                    .then(pl.element() + " please")
                    .otherwise(pl.element())
                )
            )
            again = run(edited, server, ledger, per_label=50)
            bought.append(10 - again.from_ledger)
    # Each of the ten samples hangs on one of the five rows, or is drawn to what one has become.
    assert sum(bought) < 25
    assert max(bought) > 0


def test_where_a_row_is_redacted_all_of_them_bear_identity(ledger):
    redactor = Redactor(RedactionConfig())
    rows = ["write to ann@example.com", "where is it", "when does it come"]
    with LLMServer() as server:
        for count, known in ((3, 0), (3, 2), (2, 0)):
            labels = topics(1).with_columns(examples=pl.lit(rows[:count]))
            assert run(labels, server, ledger, redactor=redactor).from_ledger == known


def test_twins_are_dropped_with_the_reason(ledger):
    def fault_of(request):
        answers = {
            "label_0": '["paise kab", "Paise, kab?", "mera saamaan kahan"]',
            "label_1": '["mera saamaan kahan!", "\u0915\u0940", "\u0915\u093e", null, ""]',
        }
        rows = ", ".join(
            f'{{"id": "{row["id"]}", "queries": {answers[row["label"]]}}}' for row in request.rows
        )
        return Fault.says(f'{{"rows": [{rows}]}}')

    with LLMServer(faults=fault_of) as server:
        written = run(topics(2), server, ledger, per_label=5)
    assert written.rows.select("label", "text").rows() == [
        ("label_0", "paise kab"),
        ("label_1", "\u0915\u0940"),
        ("label_1", "\u0915\u093e"),
    ]
    Rejects.validate(written.rejects)
    assert written.rejects.select("value", "rule").rows() == [
        ("Paise, kab?", "duplicate"),
        ("mera saamaan kahan", "contradictory"),
        ("mera saamaan kahan!", "contradictory"),
    ]


def test_a_label_that_is_refused_is_reported(ledger):
    def fault_of(request):
        return Fault.filtered() if "label_1" in request.texts else None

    with LLMServer(faults=fault_of) as server:
        written = run(topics(), server, ledger, per_label=5)
        assert set(written.rows["label"]) == {"label_0", "label_2"}
    assert written.rejects.select("file", "value", "rule").rows() == [
        ("synthesis in hi-Latn", "label_1", "content_refused")
    ]


def test_none_wanted_is_no_work(ledger):
    with LLMServer() as server:
        written = run(topics(), server, ledger, per_label=0)
        assert server.requests == []
    assert written.rows.equals(empty(Queries))


def test_a_label_hears_every_voice_before_it_hears_one_again():
    for label in ("refund", "\u0930\u0940\u092b\u0902\u0921", "a/b"):
        heard = [voice_of(label, sample) for sample in range(len(VOICES) + 1)]
        assert set(heard) == set(VOICES)
        assert heard[-1] == heard[0]


def test_one_sample_a_label_brings_in_every_voice():
    assert {voice_of(f"label_{n}", 0) for n in range(100)} == set(VOICES)


def written(*texts):
    queries = pl.DataFrame({"label": ["a"] * len(texts), "text": texts})
    return variety_of(queries, dropped=1)


def test_a_model_that_repeats_itself_is_told_from_one_that_does_not():
    # ab, ac: the trigrams "  a", " ab", "ab " and "  a", " ac", "ac " share one of five.
    assert written("ab", "ac") == Variety(overlap=0.2, twins=0.3333)
    people = written("mera order kahan hai", "parcel kab aayega bhai", "delivery late kyun")
    parrot = written(*(f"mujhe apna order number {n} track karna hai" for n in range(9)))
    assert people.overlap < 0.1 < 0.7 < parrot.overlap
    assert people.warnings("x") == []
    [warning] = parrot.warnings("synthesize hi-Latn")
    assert warning.startswith("synthesize hi-Latn: the model repeats itself")
    assert "generation.temperature" in warning
    assert Variety(overlap=0.1, twins=0.3).warnings("x")[0].count("30%") == 1
    assert written() == Variety(overlap=0.0, twins=1.0)
