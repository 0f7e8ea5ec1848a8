"""Labels that nobody has, and texts under several of them: told with counts and examples."""

import polars as pl
import pytest
from test_remining_stages import made
from test_training_set import queries

from monoglot.config import SplitConfig, UserQueriesFile
from monoglot.contracts import Split, empty
from monoglot.knowledge.labels import alike_labels, several_labels
from monoglot.knowledge.queries import unknown_labels
from monoglot.store import Store
from tasks.anchors import gather_anchors
from tasks.questions import gather_questions
from tasks.user_queries import read_user_queries
from tasks.workplace import REJECTS

ROWS = pl.DataFrame(
    [("r1", "Cancel it", "cancel"), ("r2", "Where is it", "track"), ("r3", "Stop", "cancel")],
    schema=["row_id", "query", "label"],
    orient="row",
)
SPLIT = ROWS.with_columns(part=pl.lit("training")).cast(empty(Split).schema)


def test_labels_that_are_one_in_all_that_is_seen_are_grouped():
    labels = pl.Series(["b", "A", "a", "a", "a\u200b", "c", "C-", "d"])
    assert alike_labels(labels) == [["A", "a", "a\u200b"], ["C-", "c"]]
    assert alike_labels(labels[-1:]) == []


def test_the_known_label_that_was_meant_is_named():
    asked = queries(("x", "native", "Cancel"), ("y", "native", "track\u200b"), ("z", "native", "?"))
    assert unknown_labels(asked, ROWS) == (
        "3 of 3 evaluation questions have a label that the knowledge base lacks (100%; 3 labels: "
        "?, Cancel, track\u200b); each counts as a miss. But for case, punctuation or invisible "
        "characters 'Cancel' is 'cancel' there; 'track\\u200b' is 'track' there"
    )


def test_texts_under_several_labels_are_told():
    asked = queries(
        ("order band karo", "native", "cancel"),
        ("Order band karo!", "native", "track"),
        ("ok", "native", "track"),
        ("cancel it", "native", "track"),
    )
    assert several_labels(asked, "questions", "mend them") == (
        "2 of 4 questions have a text that stands under several labels (1 texts), such as "
        "'order band karo' (cancel, track): mend them"
    )
    both = several_labels(asked, "questions", "mend them", ROWS)
    assert both.startswith("3 of 4 questions")
    assert "'cancel it' (cancel, track)" in both
    assert several_labels(asked[1:], "questions", "mend them") is None


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "store"))


def put(store, name, table):
    return made(store, name, lambda job: job.write(table))


def test_the_training_set_tells_of_its_labels_and_leaves_out_what_nothing_answers(store):
    native = queries(
        ("band karo", "native", "cancel"),
        ("band karo", "native", "track"),
        ("hatao", "native", "Cancel"),
        ("aaj mausam kaisa hai", "user", "track"),
        ("kidhar hai", "user", "track"),
    )
    inputs = {
        "others": (put(store, "queries", native),),
        "parts": put(store, "split", SPLIT),
        "questions": put(store, "questions", native.clear()),
        "out_of_scope": put(store, "out_of_scope", queries(("Aaj mausam, kaisa hai?", "native"))),
    }
    anchors = made(
        store,
        "anchors",
        lambda job: gather_anchors.__wrapped__(job, translations=(), guards=(), **inputs),
    )
    assert sorted(store.table(anchors)["text"]) == ["band karo", "band karo", "kidhar hai"]
    assert anchors.facts["dropped"] == {"unknown_label": 1, "out_of_scope": 1}
    unknown, several = anchors.facts["warnings"]
    assert unknown.startswith("1 of 5 training queries have a label that the knowledge base lacks")
    assert "'Cancel' is 'cancel' there" in unknown
    assert several.startswith("2 of 3 training queries have a text that stands under several")
    assert "'band karo' (cancel, track)" in several


def test_evaluation_questions_under_several_labels_are_warned_of(store):
    asked = queries(*[("band karo", "native", label) for label in ("cancel", "track", "Track")])
    given, parts = put(store, "queries", asked), put(store, "split", SPLIT)
    questions = made(
        store,
        "questions",
        lambda job: gather_questions.__wrapped__(
            job, given=given, translations=(), native=None, parts=parts, config=SplitConfig()
        ),
    )
    assert store.table(questions).equals(asked)
    unknown, several = questions.facts["warnings"]
    assert unknown.startswith("1 of 3 evaluation questions have a label that")
    assert several.startswith("2 of 2 evaluation questions have a text that stands under several")


def test_queries_that_nothing_answers_are_not_sent_for_a_label(store, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("text\naaj mausam kaisa hai\norder kahan hai\n", encoding="utf-8")
    outside = put(store, "out_of_scope", queries(("Aaj mausam kaisa hai?", "native")))
    questions = put(store, "questions", queries())
    asked = made(
        store,
        "user_queries",
        lambda job: read_user_queries.__wrapped__(
            job,
            UserQueriesFile(path=path),
            codes=("hi-Latn",),
            questions=questions,
            native=None,
            out_of_scope=outside,
        ),
    )
    assert store.table(asked)["text"].to_list() == ["order kahan hai"]
    assert asked.facts["dropped"] == {"out_of_scope": 1}
    assert store.table(asked, REJECTS)["rule"].to_list() == ["out_of_scope"]
