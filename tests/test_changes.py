"""Two versions of a knowledge base: what changed, by kind, and the work it asks for."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoglot.config import PolicyConfig
from monoglot.contracts import KnowledgeBase
from monoglot.knowledge.changes import Work, compare, decide

KINDS = ("added", "removed", "relabelled", "edited", "answered")
NONE = {kind: [] for kind in KINDS}
SHOWN = ["row_id", "query", "label", "query_before", "label_before"]
OPTIONAL = st.none() | st.sampled_from("pq")
ROW = st.tuples(st.sampled_from("xyz"), st.sampled_from("abc"), OPTIONAL, OPTIONAL, OPTIONAL)
ROWS = st.dictionaries(st.sampled_from("0123456789"), ROW)


def version(rows):
    """A knowledge base from (query, label, label_path, label_text, answer) by row id."""
    filled = [(row_id, *(*row, None, None, None)[:5]) for row_id, row in rows.items()]
    frame = pl.DataFrame(
        filled, schema=dict.fromkeys(KnowledgeBase.column_names(), pl.String), orient="row"
    )
    return pl.DataFrame(KnowledgeBase.validate(frame))


def by_kind(changes):
    return {kind: getattr(changes, kind)["row_id"].to_list() for kind in KINDS}


OLD = {
    "1": ("where is it", "track"),
    "2": ("cancel it", "cancel", None, None, "Click."),
    "3": ("stop it", "cancel", "orders/cancel"),
    "4": ("my money", "refund"),
    "5": ("hello", "greet", None, "say hello"),
    "6": ("hi", "greet"),
}
NEW = {
    "7": ("new one", "track"),
    "6": ("hi", "greet"),
    "1": ("where is it now", "track"),
    "2": ("cancel it", "cancel", None, None, "Press."),
    "3": ("stop it", "cancel"),
    "5": ("hello there", "smalltalk", None, None, "Hi!"),
}


def test_each_change_is_named_with_what_was_before():
    changes = compare(version(OLD), version(NEW))
    assert changes.added.rows() == [("7", "new one", "track", None, None)]
    assert changes.removed.rows() == [("4", None, None, "my money", "refund")]
    assert changes.relabelled.rows() == [("5", "hello there", "smalltalk", "hello", "greet")]
    assert changes.edited.rows() == [
        ("1", "where is it now", "track", "where is it", "track"),
    ]
    assert changes.answered.rows() == [
        ("2", "cancel it", "cancel", "cancel it", "cancel"),
        ("3", "stop it", "cancel", "stop it", "cancel"),
    ]
    assert all(getattr(changes, kind).columns == SHOWN for kind in KINDS)
    assert (changes.new_labels, changes.lost_labels) == (("smalltalk",), ("refund",))
    assert (changes.before, changes.learnt, changes.count) == (6, 4, 6)
    assert changes.share == 4 / 6


@pytest.mark.parametrize("column", [2, 3, 4])
def test_an_answer_that_comes_changes_or_goes_is_a_change(column):
    def texts(value):
        row = ["hi", "greet", None, None, None]
        row[column] = value
        return version({"1": tuple(row)})

    for old, new in ((None, "x"), ("x", None), ("x", "y")):
        changes = compare(texts(old), texts(new))
        assert by_kind(changes) == NONE | {"answered": ["1"]}
        assert (changes.count, changes.learnt, changes.share) == (1, 0, 0.0)
    assert compare(texts("x"), texts("x")).count == 0


def test_without_an_old_version_all_is_added():
    changes = compare(None, version(OLD))
    assert by_kind(changes) == NONE | {"added": list(OLD)}
    assert changes.new_labels == ("cancel", "greet", "refund", "track")
    assert (changes.before, changes.count) == (0, 6)


@given(ROWS, ROWS)
def test_every_row_is_in_one_kind_at_most_and_counts_add_up(old, new):
    changes = compare(version(old), version(new))
    found = by_kind(changes)
    expected = {kind: [] for kind in KINDS}
    for row_id in sorted({*old, *new}):
        if row_id not in old:
            expected["added"].append(row_id)
        elif row_id not in new:
            expected["removed"].append(row_id)
        elif new[row_id][1] != old[row_id][1]:
            expected["relabelled"].append(row_id)
        elif new[row_id][0] != old[row_id][0]:
            expected["edited"].append(row_id)
        elif new[row_id] != old[row_id]:
            expected["answered"].append(row_id)
    assert found == expected
    listed = [row_id for rows in found.values() for row_id in rows]
    assert len(set(listed)) == len(listed) == changes.count
    assert changes.count - len(found["answered"]) == changes.learnt
    assert changes.before == len(old)
    assert set(changes.new_labels) == {r[1] for r in new.values()} - {r[1] for r in old.values()}
    back = compare(version(new), version(old))
    assert (back.new_labels, back.lost_labels) == (changes.lost_labels, changes.new_labels)
    assert by_kind(back) == {**found, "added": found["removed"], "removed": found["added"]}


@given(ROWS)
def test_a_version_does_not_differ_from_itself(rows):
    one = version(rows)
    changes = compare(one, one.reverse())
    assert changes.count == 0
    assert all(getattr(changes, kind).is_empty() for kind in KINDS)
    assert changes.new_labels == changes.lost_labels == ()


MANY = {str(number): (f"query {number}", "ab"[number % 2]) for number in range(100)}


def work(new, old=MANY, *, first=False, config_changed=False, **policy):
    changes = compare(version(old), version(new))
    return decide(changes, PolicyConfig(**policy), first=first, config_changed=config_changed)


def edited(count, suffix="!"):
    return {
        row: (query + suffix * (int(row) < count), label) for row, (query, label) in MANY.items()
    }


def test_the_first_run_trains():
    assert work(MANY, first=True) == Work("retrain", ("there is no release yet",))
    assert work(MANY, first=True, config_changed=True).reasons == ("there is no release yet",)


def test_nothing_changed_is_nothing_to_do():
    assert work(MANY) == Work(
        "nothing", ("the knowledge base and the config are those of the release",)
    )


def test_a_changed_config_trains():
    (reason,) = work(MANY, config_changed=True).reasons
    assert work(MANY, config_changed=True).kind == "retrain"
    assert reason.startswith("the config, another file it names, or the code differs")


def test_few_changed_rows_refresh():
    assert work(edited(5)) == Work(
        "refresh",
        ("5 of 100 rows changed, within policy.retrain_share (5.0%): the model is kept",),
    )


def test_many_changed_rows_train():
    assert work(edited(6)) == Work(
        "retrain", ("6 of 100 rows changed (6.0%), more than policy.retrain_share (5.0%)",)
    )
    assert work(edited(1), retrain_share=0.0).kind == "retrain"
    assert work(edited(100), retrain_share=1.0).kind == "refresh"


def test_answers_alone_never_train():
    answered = {row: (*texts, None, None, "Yes.") for row, texts in MANY.items()}
    assert work(answered, retrain_share=0.0).kind == "refresh"


def test_removed_and_added_rows_count():
    fewer = dict(list(MANY.items())[3:])
    more = {"new": ("another query", "a"), "newer": ("a second one", "b")}
    assert work(fewer | more).reasons[0].startswith("5 of 100 rows changed, within")
    assert work(fewer | more, retrain_share=0.04).kind == "retrain"


def test_new_labels_train_where_the_policy_says_so():
    names = ["c", "d", "e", "f", "g", "h"]
    new = MANY | {name: (f"query {name}", name) for name in names[:1]}
    assert work(new) == Work("retrain", ("1 new label: c",))
    assert work(new, retrain_on_new_label=False).kind == "refresh"
    new = MANY | {name: (f"query {name}", name) for name in names}
    assert work(new, retrain_share=1.0).reasons == ("6 new labels: c, d, e, f, g, ...",)


def test_a_lost_label_alone_refreshes():
    old = MANY | {"last": ("one more", "z")}
    assert work(MANY, old).kind == "refresh"


def test_all_reasons_are_given():
    new = edited(50) | {"new": ("another query", "c")}
    assert [reason.split()[0] for reason in work(new, config_changed=True).reasons] == [
        "the",
        "1",
        "51",
    ]
