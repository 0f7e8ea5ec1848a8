"""What leaves the house: found, hidden, restored; and what a translator must still see."""

import string

import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from llm_server import Fault, LLMServer
from redaction_cases import NEGATIVE, POSITIVE

from monoglot.config import LanguageConfig
from monoglot.config_file import load_config
from monoglot.contracts import Candidates, empty
from monoglot.errors import ConfigError
from monoglot.generation.judging import ask_judge
from monoglot.generation.labelling import label_queries
from monoglot.generation.personal_numbers import folded
from monoglot.generation.redaction import Redactor
from monoglot.generation.synthesis import synthesize
from monoglot.generation.translation import pending, translate
from monoglot.generation_config import GenerationConfig, RedactionConfig

HINGLISH = LanguageConfig(code="hi-Latn", name="Hinglish")
CONFIG = GenerationConfig(model="toy", glossary=("gmail",))
EVERYTHING = Redactor(RedactionConfig(knowledge_base=True))
REDACTOR = Redactor(RedactionConfig(patterns={"employee": r"EMP-\d{6}"}))


@pytest.mark.parametrize(("language", "text", "values"), POSITIVE)
def test_personal_data_is_hidden_and_restored(language, text, values):
    redacted = REDACTOR.redact(text)
    for value in values:
        assert value not in redacted.text
        assert any(value in hidden for hidden in redacted.values.values())
    assert redacted.restored(redacted.text) == text
    assert redacted.problem(redacted.text) is None


@pytest.mark.parametrize(("language", "text"), NEGATIVE)
def test_what_a_translator_needs_is_left_alone(language, text):
    assert REDACTOR.redact(text).texts == (text,)
    assert not REDACTOR.redact(text).values


def test_the_cases_are_many():
    assert len({text for _, text, _ in POSITIVE}) == len(POSITIVE) >= 80
    assert len({text for _, text in NEGATIVE}) == len(NEGATIVE) >= 80


PIECES = st.lists(
    st.text(max_size=12)
    | st.sampled_from([text for _, text, _ in POSITIVE] + [text for _, text in NEGATIVE])
    | st.sampled_from([" ", ", ", "{{phone_1}}", "{{ EMAIL_2 }}", "{{", "}}", "@", "+"])
    | st.text(string.digits + " -()+.", max_size=24),
    max_size=5,
).map("".join)


@given(PIECES)
def test_any_text_comes_back_as_it_was(text):
    redacted = REDACTOR.redact(text)
    assert redacted.restored(redacted.text) == text


@given(PIECES)
def test_nothing_of_what_was_found_is_sent(text):
    redacted = REDACTOR.redact(text)
    for value in redacted.values.values():
        assert value not in redacted.text
        assert not any(len(value) < 2 for value in redacted.values.values())


@given(PIECES)
def test_the_digits_of_any_script_count_alike(text):
    """ASCII digits written in Devanagari are found in the same places."""
    other = text.translate({ord(digit): chr(0x0966 + int(digit)) for digit in string.digits})
    if "{{" in text:
        return
    values = Redactor(RedactionConfig()).redact(text).values
    others = Redactor(RedactionConfig()).redact(other).values
    assert [folded(value) for value in others.values()] == [
        folded(value) for value in values.values()
    ]


def test_placeholders_are_stable_and_keep_clear_of_the_texts_own():
    text = "{{phone_1}}: 9876543210, a@b.in, again 9876543210 or 9123456789"
    redacted = REDACTOR.redact(text)
    assert redacted.text == (
        "{{phone_1}}: {{phone_2}}, {{email_1}}, again {{phone_2}} or {{phone_3}}"
    )
    assert redacted.restored("{{ Phone_2 }} {{phone_1}} {{EMAIL_1}}") == (
        "9876543210 {{phone_1}} a@b.in"
    )


def test_texts_of_one_row_share_their_placeholders():
    redacted = REDACTOR.redact("about a@b.in", "is it a@b.in or c@d.in", "neither")
    assert redacted.texts == ("about {{email_1}}", "is it {{email_1}} or {{email_2}}", "neither")


def test_a_users_own_patterns_come_first():
    assert REDACTOR.redact("EMP-123456 of 9876543210").text == "{{employee_1}} of {{phone_1}}"


@pytest.mark.parametrize(
    ("reply", "rule"),
    [
        ("call {{phone_1}}", None),
        ("call {{ PHONE_1 }} twice: {{phone_1}}", None),
        ("call {{name}}, {{phone_1}}", None),
        ("call", "placeholder_lost"),
        ("call phone_1", "placeholder_lost"),
        ("call {{phone_2}}", "placeholder_lost"),
        ("call {{phone_1}} or {{phone_2}}", "placeholder_invented"),
        ("call {{phone_1}} or {{card_1}}", "placeholder_invented"),
        ("call {{phone_1}} or {{employee_9}}", None),  # nothing of ours: the text names none
    ],
)
def test_what_a_reply_did_to_the_placeholders(reply, rule):
    problem = Redactor(RedactionConfig()).redact("call 9876543210").problem(reply)
    assert (problem and problem.rule) == rule


def kb(*queries):
    ids = [f"row-{n}" for n in range(len(queries))]
    return pl.DataFrame({"row_id": ids, "query": queries, "label": ["x"] * len(queries)})


def run(rows, server, ledger, redactor=REDACTOR):
    return translate(
        rows,
        HINGLISH,
        CONFIG,
        kb_language="en",
        settings=server.settings(),
        ledger=ledger,
        redactor=redactor,
    )


PERSONAL = ("mail priya@gmail.com about it", "where is my parcel", "mail ravi@gmail.com about it")


def test_endpoint_and_ledger_see_placeholders_alone(ledger, tmp_path):
    with LLMServer() as server:
        made = run(kb(*PERSONAL), server, ledger)
        sent = [request.texts for request in server.requests]
    assert sent == [["mail {{email_1}} about it", "where is my parcel"]]  # two rows are one
    assert [row for row in made.rows["text"] if "priya@gmail.com" in row]
    assert [row for row in made.rows["text"] if "ravi@gmail.com" in row]
    assert made.rows["english"].to_list() == list(PERSONAL)
    assert made.rejects.height == 0
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("ledger*"))
    assert b"{{email_1}}" in kept
    assert b"priya" not in kept


def test_a_text_with_nothing_to_hide_keeps_its_key(ledger):
    rows = kb(*PERSONAL)
    with LLMServer() as server:
        run(rows[1:2], server, ledger, redactor=None)
        run(rows, server, ledger)
        assert server.rows == {"where is my parcel": 1, "mail {{email_1}} about it": 1}
        work = pending(
            rows,
            HINGLISH,
            CONFIG,
            kb_language="en",
            settings=server.settings(),
            ledger=ledger,
            redactor=REDACTOR,
        )
    assert (work.rows, work.from_ledger) == (0, 2)


@pytest.mark.parametrize(
    ("said", "rule"),
    [("bhejo", "placeholder_lost"), ("{{email_1}} ya {{email_2}}", "placeholder_invented")],
)
def test_a_reply_that_mistreats_a_placeholder_is_rejected(ledger, said, rule):
    fault = Fault("mistreats", rows=lambda rows: [{**rows[0], "text": said}, *rows[1:]])
    with LLMServer([fault]) as server:
        made = run(kb(*PERSONAL[:2]), server, ledger)
    assert made.rows["source_row_id"].to_list() == ["row-1"]
    assert made.rejects.select("value", "rule").rows() == [(PERSONAL[0], rule)]


USERS_WORDS = "Priya@gmail.com se 9876543210 par call karo"
SHOWN = [
    ("Questions for 9876543210", "can I call 9876543210 on sunday"),
    (None, "mail help@firm.in"),
    ("About {{email_1}}", "where is my parcel"),
]


def label(query, shown, server, ledger, redactor):
    queries = pl.DataFrame({"query_id": ["q"], "text": [query], "language": "hi-Latn", "times": 1})
    candidates = pl.DataFrame(
        [
            ("q", f"r{number}", text, f"topic {number}", None, about)
            for number, (about, text) in enumerate(shown)
        ],
        schema=empty(Candidates).schema,
        orient="row",
    )
    return label_queries(
        queries,
        candidates,
        HINGLISH,
        CONFIG,
        kb_language="en",
        settings=server.settings(),
        ledger=ledger,
        redactor=redactor,
    )


@pytest.mark.parametrize(
    ("users", "rows", "sent"),
    [
        # {{email_1}} stands in a row of the knowledge base, so it is no name for a user's address.
        (
            True,
            True,
            [
                "{{email_2}} se {{phone_1}} par call karo",
                ("Questions for {{phone_1}}", "can I call {{phone_1}} on sunday"),
                (None, "mail {{email_3}}"),
            ],
        ),
        (True, False, ["{{email_2}} se {{phone_1}} par call karo", *SHOWN[:2]]),
        (
            False,
            True,
            [
                USERS_WORDS,
                ("Questions for {{phone_1}}", "can I call {{phone_1}} on sunday"),
                (None, "mail {{email_2}}"),
            ],
        ),
        (False, False, [USERS_WORDS, *SHOWN[:2]]),
    ],
)
def test_labelling_hides_users_words_and_rows_each_by_its_switch(ledger, users, rows, sent):
    redactor = Redactor(RedactionConfig(user_queries=users, knowledge_base=rows))
    with LLMServer() as server:
        label(USERS_WORDS, SHOWN, server, ledger, redactor)
        (asked,) = server.requests[0].rows
    seen = [(each.get("about"), each["query"]) for each in asked["candidates"]]
    assert [asked["text"], *seen] == [*sent, SHOWN[2]]


def test_a_wording_gets_back_what_stood_in_the_users_words(ledger):
    said = [{"fits": 0, "confusable": 0, "wording": "call {{phone_1}} for {{email_1}}"}]
    fault = Fault("words", rows=lambda rows: [{"id": rows[0]["id"], **said[0]}])
    with LLMServer([fault]) as server:
        made = label("9876543210 ko", SHOWN[1:2], server, ledger, EVERYTHING)
    assert made.gaps["english"].to_list() == ["call 9876543210 for help@firm.in"]


def test_the_judge_sees_no_personal_data_of_a_text_or_a_topic(ledger):
    topics = {
        "call us": {"about": "Questions for 9876543210", "example": "is help@firm.in read"},
        "parcel": {"about": "where it is", "example": "mera parcel kahan hai"},
    }
    plain, personal = "parcel kahan", "9876543210 par call ya a@b.in"
    rows = pl.DataFrame({"text": [personal, plain], "candidates": [list(topics), ["parcel"]]})

    def ask(rows, redactor):
        return ask_judge(
            rows,
            topics,
            HINGLISH,
            CONFIG,
            settings=server.settings(),
            ledger=ledger,
            redactor=redactor,
        )

    with LLMServer() as server:
        ask(rows[1:], None)
        _, answers = ask(rows, EVERYTHING)
        asked = server.requests[-1].rows
    assert answers.from_ledger == 1  # nothing to hide: the key is as it was
    assert [(row["text"], row["labels"]) for row in asked] == [
        (
            "{{phone_1}} par call ya {{email_1}}",
            [
                {
                    "label": "call us",
                    "about": "Questions for {{phone_1}}",
                    "example": "is {{email_2}} read",
                },
                {"label": "parcel", **topics["parcel"]},
            ],
        )
    ]


def test_a_user_query_with_nothing_to_hide_beside_it_keeps_its_key(ledger):
    with LLMServer() as server:
        label("mera parcel", SHOWN[2:], server, ledger, None)
        again = label("mera parcel", SHOWN[2:], server, ledger, EVERYTHING)
    assert (again.usage.requests, again.from_ledger) == (0, 1)


def test_synthesis_hides_what_the_examples_hold(ledger):
    labels = pl.DataFrame(
        {
            "label": ["help"],
            "label_text": ["Questions for 9876543210"],
            "label_path": [None],
            "examples": [["can I call 9876543210", "is help@firm.in read"]],
        },
        schema_overrides={"label_path": pl.String},
    )
    config = GenerationConfig(model="toy", synthetic_per_label=4)
    with LLMServer() as server:
        made = synthesize(
            labels,
            HINGLISH,
            config,
            kb_language="en",
            settings=server.settings(),
            ledger=ledger,
            redactor=REDACTOR,
        )
        (row,) = server.requests[0].rows
    assert row["about"] == "Questions for {{phone_1}}"
    assert sorted(row["examples"]) == ["can I call {{phone_1}}", "is {{email_1}} read"]
    assert any("9876543210" in text for text in made.rows["text"])
    assert not any("{{" in text for text in made.rows["text"])


@pytest.mark.parametrize(
    ("redaction", "complaint"),
    [
        (
            {"patterns": {"emp": "EMP-["}},
            "redaction.patterns.emp: 'EMP-[' is no regular expression",
        ),
        ({"patterns": {"emp": r"\d*"}}, "also matches nothing at all"),
        ({"patterns": {"Emp 1": r"\d"}}, "Emp 1: a name has 2 to 32 letters a-z"),
        ({"phone_regions": ["India"]}, "'India' is no country code"),
    ],
)
def test_a_pattern_is_checked_when_the_config_is_read(tmp_path, redaction, complaint):
    path = tmp_path / "monoglot.yaml"
    path.write_text(yaml.safe_dump({"knowledge_base": {"path": "kb.csv"}, "redaction": redaction}))
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    assert complaint in str(raised.value)


@pytest.mark.parametrize("part", ["a-", "1-", "a.", "1 ", "1,", "a dot ", "no", "9876543210,"])
def test_a_text_of_any_length_is_read_to_its_end(part):
    """A service logs what it is asked: what that takes must not grow as the square of a text."""
    redacted = REDACTOR.redact(part * 20_000 + "! call 9123456780")
    assert "9123456780" in redacted.values.values()
