"""The index holds exactly the rows it was given, and encodes only new texts."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monoglot.errors import DataError, ModelError, StaleVectorsError, StoreError
from monoglot.serving import neighbours, tables
from monoglot.serving.index import Index
from monoglot.serving.neighbours import Hits
from monoglot.serving.row_labels import RowLabels, RowPlaces

MODEL = "a" * 64
DIMENSIONS = 8


def encode(texts):
    """A unit vector per text, from its digest."""
    seeds = [hashlib.sha256(text.encode()).digest()[:DIMENSIONS] for text in texts]
    vectors = np.array([list(seed) for seed in seeds], np.float32).reshape(-1, DIMENSIONS) - 127.5
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Counting:
    """`encode`, remembering what it was asked for."""

    def __init__(self):
        self.texts = []

    def __call__(self, texts):
        self.texts += texts
        return encode(texts)


def knowledge_base(texts, *, answer="yes"):
    return pl.DataFrame(
        {
            "row_id": [f"r{number:05}" for number in range(len(texts))],
            "query": texts,
            "label": [f"label {number % 7}" for number in range(len(texts))],
            "label_path": [None] * len(texts),
            "label_text": [None] * len(texts),
            "answer": [answer] * len(texts),
        },
        schema_overrides={"label_path": pl.String, "label_text": pl.String},
    )


def texts_of(count):
    return [f"question number {number}" for number in range(count)]


def set_cell(rows, row_id, column, value):
    chosen = pl.col("row_id") == row_id
    return rows.with_columns(pl.when(chosen).then(pl.lit(value)).otherwise(column).alias(column))


def open_index(folder, model=MODEL, dimensions=DIMENSIONS):
    return Index.of_model(str(folder), model, dimensions)


def ids(index):
    return index.vectors().row_ids.to_list()


def test_a_first_sync_holds_every_row_with_its_vector(tmp_path):
    rows = knowledge_base(texts_of(50))
    index = open_index(tmp_path)
    result = index.sync(rows, encode)
    assert (result.rows, result.added, result.updated, result.removed) == (50, 50, 0, 0)
    assert (result.encoded, result.recall) == (50, None)
    vectors = index.vectors()
    assert vectors.row_ids.to_list() == rows["row_id"].to_list()
    assert vectors.labels.to_list() == rows["label"].to_list()
    np.testing.assert_array_equal(vectors.matrix, encode(rows["query"].to_list()))


def test_the_same_rows_again_change_nothing_in_any_order(tmp_path):
    rows = knowledge_base(texts_of(20))
    first = open_index(tmp_path).sync(rows, encode)
    counting = Counting()
    again = open_index(tmp_path).sync(rows.reverse(), counting)
    assert counting.texts == []
    assert (again.version, again.content) == (first.version, first.content)
    assert (again.added, again.updated, again.removed, again.encoded) == (0, 0, 0, 0)


def test_an_edit_encodes_its_own_text_alone(tmp_path):
    rows = knowledge_base(texts_of(20))
    open_index(tmp_path).sync(rows, encode)
    edited = set_cell(rows, "r00003", "query", "another question")
    added = pl.concat([edited.filter(pl.col("row_id") != "r00007"), knowledge_base(["new"])[:0]])
    counting = Counting()
    index = open_index(tmp_path)
    result = index.sync(added, counting)
    assert counting.texts == ["another question"]
    assert (result.added, result.updated, result.removed) == (0, 1, 1)
    assert "r00007" not in ids(index)
    found = index.search(encode(["another question"]), 1)
    assert found["row_id"].to_list() == ["r00003"]
    assert found["score"][0] == pytest.approx(1.0, abs=1e-6)


def test_a_new_answer_or_label_reuses_the_vector(tmp_path):
    rows = knowledge_base(texts_of(20))
    open_index(tmp_path).sync(rows, encode)
    changed = set_cell(set_cell(rows, "r00003", "answer", "no"), "r00004", "label", "elsewhere")
    index = open_index(tmp_path)
    result = index.sync(changed, lambda texts: pytest.fail(f"encoded {texts}"))
    assert (result.updated, result.encoded) == (2, 0)
    found = index.search(encode(["question number 3", "question number 4"]), 1)
    assert found["answer"].to_list() == ["no", "yes"]
    assert found["label"].to_list() == ["label 3", "elsewhere"]


def test_a_known_text_under_a_new_id_reuses_the_vector_even_of_a_row_that_changes(tmp_path):
    rows = knowledge_base(texts_of(4))
    open_index(tmp_path).sync(rows, encode)
    turned = rows.with_columns(query=pl.col("query").reverse())  # each text now has another row
    index = open_index(tmp_path)
    assert index.sync(turned, lambda texts: pytest.fail(f"encoded {texts}"), chunk=1).updated == 4
    np.testing.assert_array_equal(index.vectors().matrix, encode(turned["query"].to_list()))


def test_equal_texts_are_encoded_once_whatever_the_chunk(tmp_path):
    counting = Counting()
    result = open_index(tmp_path).sync(knowledge_base(["a", "b", "a", "a", "c"]), counting, chunk=1)
    assert sorted(counting.texts) == ["a", "b", "c"]
    assert (result.rows, result.encoded) == (5, 3)


def test_null_and_empty_are_different_rows(tmp_path):
    rows = knowledge_base(["a"])
    open_index(tmp_path).sync(rows, encode)
    result = open_index(tmp_path).sync(set_cell(rows, "r00000", "label_text", ""), encode)
    assert result.updated == 1


def test_row_ids_may_hold_quotes(tmp_path):
    rows = knowledge_base(["a", "b"]).with_columns(row_id=pl.Series(["it's; --", 'so "said"']))
    index = open_index(tmp_path)
    index.sync(rows, encode)
    assert index.sync(rows[1:], encode).removed == 1
    assert ids(index) == ['so "said"']


def test_progress_counts_rows_up_to_all_of_them(tmp_path):
    told = []
    open_index(tmp_path).sync(
        knowledge_base(texts_of(25)), encode, chunk=10, on_progress=lambda *done: told.append(done)
    )
    assert told == [(10, 25), (20, 25), (25, 25)]


def test_a_pinned_version_never_follows(tmp_path):
    rows = knowledge_base(texts_of(30))
    first = open_index(tmp_path).sync(rows, encode)
    pinned = Index.at(str(tmp_path), first.table, first.version)
    query = encode(["question number 3"])
    before = pinned.search(query, 30)
    changed = set_cell(rows, "r00003", "answer", "no").filter(pl.col("row_id") != "r00004")
    open_index(tmp_path).sync(changed, encode)
    opened_later = Index.at(str(tmp_path), first.table, first.version)
    for view in (pinned, opened_later):
        assert view.search(query, 30).equals(before)
        assert (len(view), view.version, view.content) == (30, first.version, first.content)


def test_a_pinned_version_cannot_be_written(tmp_path):
    rows = knowledge_base(texts_of(3))
    first = open_index(tmp_path).sync(rows, encode)
    pinned = Index.at(str(tmp_path), first.table, first.version)
    with pytest.raises(StoreError, match="cannot be written"):
        pinned.sync(rows[:2], encode)
    assert len(open_index(tmp_path)) == 3


KILLED = """
    import os, signal, sys
    sys.path.insert(0, {tests!r})
    from test_index import Counting, knowledge_base, open_index, texts_of, encode, set_cell

    calls = 0

    def encode_until_killed(texts):
        global calls
        calls += 1
        if calls == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(texts)

    rows = knowledge_base([text + " edited" for text in texts_of(100)])
    open_index({folder!r}).sync(rows, encode_until_killed, chunk=10)
"""


@pytest.mark.slow
def test_a_killed_sync_goes_on_where_it_was_while_the_old_version_answers(tmp_path):
    old = open_index(tmp_path).sync(knowledge_base(texts_of(60)), encode)
    script = KILLED.format(tests=os.path.dirname(__file__), folder=str(tmp_path))  # noqa: PTH120
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()

    pinned = Index.at(str(tmp_path), old.table, old.version)
    assert pinned.search(encode(["question number 9"]), 1)["query"][0] == "question number 9"
    assert len(pinned) == 60

    rows = knowledge_base([text + " edited" for text in texts_of(100)])
    counting = Counting()
    index = open_index(tmp_path)
    assert index.content == old.content  # half a sync claims nothing
    result = index.sync(rows, counting, chunk=10)
    assert (len(counting.texts), result.encoded, result.rows) == (70, 70, 100)
    assert ids(index) == rows["row_id"].to_list()
    np.testing.assert_array_equal(index.vectors().matrix, encode(rows["query"].to_list()))


CONCURRENT = """
    import sys
    sys.path.insert(0, {tests!r})
    from test_index import encode, knowledge_base, open_index, texts_of
    open_index({folder!r}).sync(knowledge_base(texts_of(300)), encode, chunk=50)
"""


@pytest.mark.slow
def test_processes_that_sync_at_once_leave_no_row_twice(tmp_path):
    open_index(tmp_path)
    script = CONCURRENT.format(tests=os.path.dirname(__file__), folder=str(tmp_path))  # noqa: PTH120
    running = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in running:
        process.communicate()
    assert 0 in {process.returncode for process in running}
    assert ids(open_index(tmp_path)) == knowledge_base(texts_of(300))["row_id"].to_list()


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, 2.0])
def test_a_vector_that_no_search_would_find_is_refused(tmp_path, bad):
    def broken(texts):
        vectors = encode(texts)
        vectors[2] *= bad
        return vectors

    index = open_index(tmp_path)
    with pytest.raises(ModelError, match=r"1 of 5 vectors .* 'question number \d'"):
        index.sync(knowledge_base(texts_of(5)), broken)
    assert len(index) == 0


def test_vectors_of_another_model_are_refused(tmp_path):
    rows = knowledge_base(texts_of(3))
    index = open_index(tmp_path)
    with pytest.raises(StaleVectorsError, match="another model"):
        index.sync(rows, lambda texts: encode(texts)[:, :4])
    index.sync(rows, encode)
    with pytest.raises(StaleVectorsError, match="8 dimensions"):
        index.search(np.ones((1, 4), np.float32) / 2, 1)
    with pytest.raises(StaleVectorsError, match="8 dimensions"):
        open_index(tmp_path, dimensions=4)
    with pytest.raises(StaleVectorsError, match="not 8 of model"):  # the name holds 16 digits only
        open_index(tmp_path, model=MODEL[:16] + "b" * 48)
    assert open_index(tmp_path, model="b" * 64).name != index.name


def test_no_rows_and_an_id_twice_are_refused(tmp_path):
    index = open_index(tmp_path)
    rows = knowledge_base(texts_of(3))
    index.sync(rows, encode)
    with pytest.raises(DataError, match="no rows"):
        index.sync(rows[:0], encode)
    with pytest.raises(DataError, match=r"2 rows share their row_id .* 'r00000'"):
        index.sync(rows.with_columns(row_id=pl.Series(["r00000", "r00000", "r2"])), encode)
    assert len(index) == 3


def test_a_table_or_version_that_is_gone_is_named(tmp_path):
    with pytest.raises(StoreError, match="kb-nothing"):
        Index.at(str(tmp_path / "index"), "kb-nothing", 1)
    assert not (tmp_path / "index").exists()
    result = open_index(tmp_path).sync(knowledge_base(["a"]), encode)
    with pytest.raises(StoreError, match=f"version 99 of {result.table}"):
        Index.at(str(tmp_path), result.table, 99)


def test_a_folder_that_cannot_be_written_is_an_error_with_a_remedy(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="free space"):
        open_index(tmp_path / "file")


def test_search_finds_all_rows_where_there_are_fewer_than_k(tmp_path):
    index = open_index(tmp_path)
    index.sync(knowledge_base(["b", "a", "b"]), encode)
    found = index.search(encode(["b", "a"]), 10)
    assert found["question"].to_list() == [0, 0, 0, 1, 1, 1]
    assert found["row_id"].to_list()[:2] == ["r00000", "r00002"]  # equal scores: in id order
    assert found["row_id"][3] == "r00001"
    assert index.search(encode([]), 3).is_empty()


def test_a_search_after_a_sync_sees_its_rows(tmp_path):
    index = open_index(tmp_path)
    index.sync(knowledge_base(["a"]), encode)
    index.search(encode(["a"]), 1)
    index.sync(knowledge_base(["a", "b"]), encode)
    assert index.search(encode(["b"]), 1)["query"][0] == "b"


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 300),
    queries=st.integers(0, 5),
    k=st.integers(1, 320),
    values=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_nearest_agrees_with_a_plain_sort(rows, queries, k, values, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-values, values + 1, (rows, 3)).astype(np.float32)  # many equal scores
    asked = rng.integers(-values, values + 1, (queries, 3)).astype(np.float32)
    found = neighbours.nearest(matrix, asked, k)
    plain = [
        (question, row, float(score[row]))
        for question, score in enumerate(asked @ matrix.T)
        for row in sorted(range(rows), key=lambda row: (-score[row], row))[:k]
    ]
    assert found.rows() == plain


@given(st.sets(st.integers(0, 80), min_size=1), st.sampled_from([0, 7 << 32]))
def test_ids_of_rows_are_found_in_their_runs(ids, first):
    rows = np.array(sorted(ids), np.uint64) + np.uint64(first)
    asked = np.random.default_rng(0).permutation(len(rows))
    places = RowPlaces(rows)
    assert places.of(rows[asked]).tolist() == asked.tolist()
    around = np.unique(np.concatenate([rows, rows + 1, rows - 1, rows[-1:] + 2**40]))
    assert places.holds(around).tolist() == np.isin(around, rows).tolist()


@pytest.mark.parametrize("values", [1, 2, 1000])
def test_hits_are_cut_and_ordered_as_by_a_plain_sort(tmp_path, values):
    index = Index.of_model(str(tmp_path), "m" * 64, 8)
    index.sync(knowledge_base(texts_of(40)), encode)
    labels = tables.labels_of(index._table)
    known = {
        row: (row_id, label)
        for row, row_id, label in labels.select("row", "row_id", "label").rows()
    }
    rng = np.random.default_rng(0)
    question = rng.integers(0, 3, 90)
    row = rng.choice(np.array(list(known), np.uint64), 90)
    score = (rng.integers(0, values, 90) / values).astype(np.float32)
    found = RowLabels(labels).best(Hits(question, row, score), 7)
    plain = sorted(zip(question, -score, [known[it][0] for it in row], row, strict=True))
    expected = [
        (int(asked), int(its), known[its][1], -float(lost))
        for number in range(3)
        for asked, lost, _, its in [it for it in plain if it[0] == number][:7]
    ]
    assert found.rows() == expected
    assert found.dtypes == [pl.UInt32, pl.UInt64, pl.String, pl.Float32]


@settings(max_examples=50, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 60), max_size=5),
    queries=st.integers(1, 4),
    k=st.integers(1, 70),
    seed=st.integers(0, 9),
)
def test_the_nearest_of_blocks_are_those_of_all_rows_at_once(cuts, queries, k, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(60, 3)).astype(np.float32)
    asked = rng.normal(size=(queries, 3)).astype(np.float32)
    blocks = np.split(matrix, sorted(cuts))
    positions, scores = neighbours.nearest_in_blocks(blocks, asked, k)
    plain = neighbours.nearest(matrix, asked, k)
    found = pl.DataFrame(
        {
            "question": np.repeat(np.arange(queries, dtype=np.uint32), positions.shape[1]),
            "position": positions.ravel(),
            "score": scores.ravel(),
        }
    ).sort("question", "score", descending=[False, True])
    assert found["position"].to_list() == plain["position"].to_list()
    np.testing.assert_allclose(found["score"], plain["score"], atol=1e-6)
