"""The split: who sits where, and who moves when others come and go; what leaks, and what not."""

from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monoglot.config import SplitConfig
from monoglot.contracts import Queries, Rejects, Split
from monoglot.knowledge.split import evaluated_texts, leaking_rows, split_rows, without_leaks

LABELS = st.sampled_from("abcd")
KNOWLEDGE = st.dictionaries(st.text("xyz0", min_size=1, max_size=4), LABELS, min_size=1, max_size=9)


def rows_of(labels):
    """A knowledge base with these labels by row id."""
    return pl.DataFrame(
        {"row_id": labels.keys(), "query": [f"q{row}" for row in labels], "label": labels.values()},
        schema_overrides={"row_id": pl.String, "label": pl.String},
    )


def parts_of(labels, hold_out=True, **config):
    split = split_rows(rows_of(labels), SplitConfig(**config), hold_out=hold_out)
    Split.validate(split)
    return dict(split.select("row_id", pl.col("part").cast(pl.String)).iter_rows())


@settings(max_examples=50)
@given(KNOWLEDGE, st.floats(0.01, 0.99), st.booleans(), st.integers())
def test_every_row_has_a_part_and_every_label_an_index_row(labels, share, hold_out, seed):
    parts = parts_of(labels, hold_out, index_share=share, seed=seed)
    assert list(parts) == sorted(labels)
    assert {labels[row] for row, part in parts.items() if part == "index"} == set(labels.values())
    assert hold_out or "held_out" not in parts.values()


@settings(max_examples=50)
@given(KNOWLEDGE, KNOWLEDGE)
def test_rows_that_come_or_go_move_no_other_but_one_seat_a_label(old, new):
    before, after = parts_of(old), parts_of(old | new)
    stayed = [row for row in old if (old | new)[row] == old[row]]
    moved = [row for row in stayed if before[row] != after[row]]
    for label in "abcd":
        assert sum(old[row] == label for row in moved) <= 1
    changed = {label for row, label in new.items() if old.get(row) != label}
    changed |= {old[row] for row in new if row in old and new[row] != old[row]}
    for row in moved:
        assert old[row] in changed
        assert "index" in (before[row], after[row])


@settings(max_examples=50)
@given(KNOWLEDGE)
def test_the_seat_is_its_rows_whatever_others_there_are(labels):
    """With next to no share a label has one index row, which is before each other one alone."""
    parts = parts_of(labels, index_share=1e-9)
    seats = {labels[row]: row for row, part in parts.items() if part == "index"}
    assert len(seats) == list(parts.values()).count("index") == len(set(labels.values()))
    for row in list(labels)[:3]:
        seat = seats[labels[row]]
        pair = parts_of({row: labels[row], seat: labels[row]}, index_share=1e-9)
        assert [row for row, part in pair.items() if part == "index"] == [seat]


def test_shares_are_near_the_configured_ones():
    labels = {f"row-{number}": str(number % 20) for number in range(10_000)}
    counts = Counter(parts_of(labels).values())
    # 0.3, 0.7 * 0.85 and 0.7 * 0.15 of the rows would be 3,000, 5,950 and 1,050.
    assert counts == {"index": 3098, "training": 5887, "held_out": 1015}
    assert Counter(parts_of(labels, hold_out=False).values()) == {"index": 3098, "training": 6902}
    over_seeds = [Counter(parts_of(labels, seed=seed).values())["index"] for seed in range(5)]
    assert 2950 < sum(over_seeds) / 5 < 3050


def test_the_seed_draws_another_split():
    labels = {f"row-{number}": "ab"[number % 2] for number in range(1000)}
    first, again, other = (parts_of(labels, seed=seed) for seed in (0, 0, 1))
    assert first == again
    both = sum(first[row] == other[row] == "index" for row in labels)
    assert 60 < both < 125  # 90 of 1,000 where the draws know nothing of each other


def test_what_is_held_out_does_not_follow_from_what_is_indexed():
    labels = {f"row-{number}": "a" for number in range(4000)}
    parts = parts_of(labels, index_share=0.5, evaluation_share=0.5)
    held = sum(part == "held_out" for part in parts.values())
    assert 900 < held < 1100
    # A row that leaves the index set for a smaller share keeps its place in the other draw.
    fewer = parts_of(labels, index_share=0.1, evaluation_share=0.5)
    assert all(fewer[row] == part for row, part in parts.items() if part != "index")


@pytest.mark.parametrize("share", [0.0, 0.999])
def test_extreme_shares_for_evaluation(share):
    labels = {f"row-{number}": "a" for number in range(300)}
    held = [part for part in parts_of(labels, evaluation_share=share).values() if part != "index"]
    assert set(held) <= ({"training"} if share == 0.0 else {"held_out", "training"})
    assert held.count("held_out") == (0 if share == 0.0 else len(held))


def queries(*texts, language="xx"):
    """Queries from (text, english) or text alone."""
    pairs = [text if isinstance(text, tuple) else (text, None) for text in texts]
    frame = pl.DataFrame(
        {
            "query_id": [f"{language}{number}" for number in range(len(pairs))],
            "text": [text for text, _ in pairs],
            "language": language,
            "label": "a",
            "origin": "native",
            "source_row_id": None,
            "english": [english for _, english in pairs],
        },
        schema_overrides={"text": pl.String, "english": pl.String, "source_row_id": pl.String},
    )
    return pl.DataFrame(Queries.validate(frame, cast=True))


ASKED = queries(
    ("mera parcel kahan hai?", "Where is my parcel?"),
    "पैसे वापस कब मिलेंगे?",
    ("أين طلبي؟", "Where's my order"),
    "👍",
    "???",
    ("kharab hai", "My crème is off"),
)


@pytest.mark.parametrize(
    ("anchor", "rule"),
    [
        ("Mera PARCEL, kahan hai", "evaluation_text"),
        ("पैसे वापस कब मिलेंगे।", "evaluation_text"),
        ("أين طلبي", "evaluation_text"),
        ("\u200fأين  طلبي!", "evaluation_text"),
        ("where is my parcel", "evaluation_text"),  # the question's own English
        ("👍", "evaluation_text"),
        ("???", "evaluation_text"),
        (("kidhar hai", "WHERE IS MY PARCEL"), "evaluation_source"),
        (("kidhar hai", "Where\u2019s my order?"), "evaluation_source"),
        (("naya", "My cre\u0300me is off."), "evaluation_source"),
        (("naya", "mera parcel kahan hai"), "evaluation_source"),
        (("kharab hai", "My crème is off"), "evaluation_text"),
        ("पैसा वापस कब मिलेंगे", None),  # another vowel sign, another word
        ("पैसे वापस कब मिलेंग", None),
        ("أين طلبك", None),
        ("mera parcel kahan hai bhai", None),
        (("kidhar hai", "Where is my parcels"), None),
        ("👎", None),
        ("!!!", None),
        ("?", None),
        ("...", None),
    ],
)
def test_a_leak_is_found_and_nothing_else(anchor, rule):
    anchors = queries("eins", anchor, "zwei")
    kept, rejects = without_leaks(anchors, ASKED)
    Queries.validate(kept)
    Rejects.validate(rejects)
    if rule is None:
        assert kept.equals(anchors)
        assert rejects.is_empty()
    else:
        assert kept.equals(anchors[[0, 2]])
        assert rejects.select("file", "value", "rule").rows() == [
            ("training (native)", anchors["text"][1], rule)
        ]


WORDS = st.lists(st.sampled_from(["kahan", "किधर", "أين", "parcel", "hai"]), min_size=1, max_size=4)
WRITINGS = st.sampled_from([str.upper, str.title, "{}?".format, " {}!! ".format, "«{}»".format])


@settings(max_examples=50)
@given(st.lists(WORDS, min_size=1), st.lists(st.tuples(WORDS, st.none() | WORDS, WRITINGS)))
def test_exactly_the_anchors_that_share_words_with_a_question_leak(asked, given_anchors):
    known = [tuple(words) for words in asked]
    evaluation = queries(
        *(
            (" ".join(words), None) if number % 2 else (f"q{number}", " ".join(words))
            for number, words in enumerate(asked)
        )
    )
    anchors = queries(
        *(
            (write(" ".join(text)), None if english is None else write(" ".join(english)))
            for text, english, write in given_anchors
        )
    )
    kept, rejects = without_leaks(anchors, evaluation)
    expected = [
        tuple(text) not in known and (english is None or tuple(english) not in known)
        for text, english, _ in given_anchors
    ]
    assert kept.equals(anchors.filter(pl.Series(expected, dtype=pl.Boolean)))
    assert rejects.height == expected.count(False)


def test_no_anchors_and_no_questions_are_no_trouble():
    none = queries()
    assert without_leaks(none, ASKED)[0].is_empty()
    kept, rejects = without_leaks(ASKED, none)
    assert kept.equals(ASKED)
    assert rejects.is_empty()
    assert rejects.columns == Rejects.column_names()


def test_rows_that_are_asked_in_english_are_found():
    texts = ["WHERE is my parcel", "Where is it", "My crème is off!", "kharab hai", "पैसे"]
    rows = pl.DataFrame({"query": texts})
    assert leaking_rows(rows, ASKED).to_list() == [True, False, True, True, False]
    assert leaking_rows(rows.clear(), ASKED).to_list() == []


def test_evaluated_texts_are_those_of_both_columns():
    asked = queries(("Wo?", "Where?"), ("WO", None))
    assert evaluated_texts(asked) == {"wo", "where"}
