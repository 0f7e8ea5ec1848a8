"""Near-duplicates: the fast join finds what a slow, obvious one finds, and nothing else."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monoglot.identity import normalised
from monoglot.knowledge.duplicates import groups_of, near_pairs, near_to, overlap, repeats


def trigrams(text):
    marked = f"  {normalised(text)} "
    return {marked[place : place + 3] for place in range(len(marked) - 2)}


def jaccard(one, other):
    a, b = trigrams(one), trigrams(other)
    return len(a & b) / len(a | b)


def slow_pairs(texts, others, similar):
    return [
        (left, right, pytest.approx(jaccard(text, other)))
        for left, text in enumerate(texts)
        for right, other in enumerate(others)
        if jaccard(text, other) >= similar
    ]


WORDS = st.sampled_from(
    ["alarm", "alarms", "set", "karo", "kar do", "7", "17", "अलार्म", "لغو", "!", ""]
)
TEXTS = st.lists(st.lists(WORDS, max_size=5).map(" ".join), max_size=12)
SIMILAR = st.sampled_from([0.3, 0.5, 0.8, 1.0])


@settings(max_examples=80)
@given(TEXTS, TEXTS, SIMILAR)
def test_the_join_is_exact(texts, others, similar):
    assert near_pairs(texts, others, similar).rows() == slow_pairs(texts, others, similar)
    within = [pair for pair in slow_pairs(texts, texts, similar) if pair[0] > pair[1]]
    assert near_pairs(texts, similar=similar).rows() == within


@settings(max_examples=40)
@given(TEXTS, TEXTS)
def test_the_nearest_is_the_most_similar(texts, others):
    found = near_to(texts, others, 0.5).to_list()
    for text, place in zip(texts, found, strict=True):
        scores = [jaccard(text, other) for other in others]
        best = max(scores, default=0.0)
        assert place == (scores.index(best) if best >= 0.5 else None)


@settings(max_examples=40)
@given(TEXTS, st.integers(0, 12))
def test_what_comes_later_changes_nothing_before_it(texts, cut):
    groups = ["a"] * len(texts)
    assert repeats(texts, groups, similar=0.5)[:cut] == repeats(
        texts[:cut], groups[:cut], similar=0.5
    )


def test_blocks_change_nothing(monkeypatch):
    from monoglot.knowledge import duplicates

    texts = [f"{word} ke liye alarm {number} set karo" for word in "abc" for number in range(40)]
    whole = near_pairs(texts, similar=0.7)
    monkeypatch.setattr(duplicates, "_BLOCK", 7)
    monkeypatch.setattr(duplicates, "_CHECKED", 5)
    assert whole.height > 100
    assert near_pairs(texts, similar=0.7).equals(whole)


def test_a_repeat_is_of_the_same_group_and_of_one_that_stays():
    texts = ["light band karo", "light band karo!", "Light band  karo", "chalu karo"]
    assert repeats(texts, ["off"] * 4) == [None, 0, 0, None]
    assert repeats(texts, ["off", "on", "off", "on"]) == [None, None, 0, None]


def test_chains_fall_together():
    texts = ["mera parcel kahan hai", "paisa wapas", "mera parcel kaha hai", "mera parcel kaha he"]
    assert groups_of(texts, 0.6).tolist() == [0, 1, 0, 0]
    assert groups_of([]).tolist() == []


def test_overlap_is_the_mean_over_pairs():
    texts = ["alarm set karo", "alarm set kar do", "paisa wapas karo"]
    pairs = [(0, 1), (0, 2), (1, 2)]
    mean = sum(jaccard(texts[a], texts[b]) for a, b in pairs) / 3
    assert overlap(texts) == pytest.approx(mean)
    assert overlap(texts[:1]) == overlap([]) == 0.0


def test_no_texts_are_no_pairs():
    assert (
        near_pairs([], ["a"]).height == near_pairs(["a"], []).height == near_pairs([]).height == 0
    )
    assert near_to(["a"], []).to_list() == [None]
    assert near_pairs([], []).schema == {
        "left": pl.Int64,
        "right": pl.Int64,
        "similarity": pl.Float64,
    }
