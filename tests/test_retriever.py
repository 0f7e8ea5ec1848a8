"""What a service sees: the right rows, one release at a time, from any number of threads."""

import json
import shutil
import subprocess
import sys
import threading

import numpy as np
import polars as pl
import pytest
from tiny_models import static_model

import monoglot
from monoglot.errors import InputError, StaleVectorsError, StoreError
from monoglot.feedback.query_log import read_log
from monoglot.learning.encoder import Encoder
from monoglot.learning.thresholds import Abstention, Threshold
from monoglot.serving import retriever as retriever_module
from monoglot.serving.index import Index
from monoglot.serving.releases import Release, Releases
from monoglot.serving.retriever import Retriever
from monoglot.store import Artifact, Store

ROWS = [
    ("a", "where is my refund", "refund", "payments/refund", "In five days."),
    ("b", "when do i get my money back", "refund", "payments/refund", "In five days."),
    ("c", "my parcel is late", "delivery", None, "We are sorry."),
    ("d", "change my password", "password", "account/password", None),
    ("e", "how do i cancel an order", "cancel", "orders/cancel", "In your account."),
]
KB = pl.DataFrame(
    ROWS, schema=["row_id", "query", "label", "label_path", "answer"], orient="row"
).with_columns(label_text=pl.lit(None, pl.String))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    texts = KB["query"].to_list()
    return {
        seed: Encoder.load(str(static_model(folder / f"m{seed}", texts, seed=seed)), device="cpu")
        for seed in (0, 1)
    }


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "store"))


def promote(store, encoder, rows=KB, *, trained=True, **changes):
    """Make a release of these rows, with the model copied into the store if it was trained."""
    model = None
    if trained:
        name = encoder.digest[:8]
        location = f"artifacts/training/{name}"
        model = Artifact(stage="training", digest=name, location=location, rows=1)
        if not store.folder(model).exists():
            encoder.save(store.folder(model) / "model")
    done = Index.of_model(store.index_uri, encoder.digest, encoder.dimensions).sync(
        rows, encoder.encode
    )
    given = {
        "model": model,
        "model_name": encoder.name,
        "model_digest": encoder.digest,
        "index_table": done.table,
        "index_version": done.version,
        "index_content": done.content,
        "rows": done.rows,
        "knowledge_base": Artifact(stage="kb", digest="k", location="artifacts/kb/k", rows=1),
        "config_digest": "c",
    }
    return Releases(store).promote(Release(**{**given, **changes}))


def test_a_row_is_found_with_its_label_answer_and_score(store, models):
    release = promote(store, models[0])
    retriever = Retriever(store.root, device="cpu")
    best = retriever.search("my parcel is late")[0]
    assert (best.label, best.row_id, best.query) == ("delivery", "c", "my parcel is late")
    assert (best.answer, best.label_path) == ("We are sorry.", None)
    assert best.score == pytest.approx(1.0, abs=1e-5)
    assert retriever.release == release


def test_each_label_counts_once_at_its_nearest_row(store, models):
    promote(store, models[0])
    retriever = monoglot.Retriever(str(store.root), device="cpu")
    answers = retriever.search("where is my refund", k=10)  # more than there are labels, or rows
    assert sorted(answer.label for answer in answers) == [
        "cancel",
        "delivery",
        "password",
        "refund",
    ]
    vectors = models[0].encode(KB["query"].to_list())
    scores = vectors @ models[0].encode(["where is my refund"])[0]
    best = {}
    for (row_id, _query, label, *_), score in zip(ROWS, scores, strict=True):
        best[label] = max(best.get(label, (-2, "")), (score, row_id))
    wanted = sorted(best.items(), key=lambda item: -item[1][0])
    assert [(answer.label, answer.row_id) for answer in answers] == [
        (label, row_id) for label, (_score, row_id) in wanted
    ]
    np.testing.assert_allclose([answer.score for answer in answers], [s for _, (s, _) in wanted])


def test_a_label_that_fills_the_nearest_rows_leaves_room_for_none_beyond_them(store, models):
    many = pl.concat(
        [
            KB.filter(pl.col("row_id") == "a").with_columns(row_id=pl.lit(f"a{number:03}"))
            for number in range(199)
        ]
        + [KB.filter(pl.col("row_id").is_in(["c", "d"]))]
    )
    promote(store, models[0], many)
    answers = Retriever(store.root, device="cpu").search("where is my refund", k=3)
    assert answers[0].label == "refund"
    assert len(answers) == 2  # 199 rows of one label and the next one: 200


def test_many_texts_are_answered_in_their_order(store, models):
    promote(store, models[0])
    retriever = Retriever(store.root, device="cpu")
    texts = KB["query"].to_list() * 3
    answers = retriever.search_many(texts, k=1)
    assert [[answer.row_id for answer in one] for one in answers] == [
        list("abcde")[i % 5 : i % 5 + 1] for i in range(15)
    ]
    assert answers[1] == retriever.search(texts[1], k=1)
    assert retriever.search_many([]) == []


@pytest.mark.parametrize("text", ["", "  ", "\n\t"])
def test_an_empty_query_is_refused(store, models, text):
    promote(store, models[0])
    retriever = Retriever(store.root, device="cpu")
    with pytest.raises(InputError, match="query 2 of 2 is empty"):
        retriever.search_many(["fine", text])
    with pytest.raises(InputError, match="at least"):
        retriever.search("fine", k=0)


def test_text_that_is_no_unicode_and_a_text_for_a_list_are_refused(store, models):
    promote(store, models[0])
    retriever = Retriever(store.root, device="cpu")
    with pytest.raises(InputError, match="query 1 of 1 is not valid Unicode"):
        retriever.search("where is my refund \ud83d")
    assert retriever.search("where is my refund \U0001f600")[0].label == "refund"
    with pytest.raises(InputError, match="takes a list"):
        retriever.search_many("where is my refund")


def test_a_store_without_a_release_says_what_to_do(store, tmp_path):
    with pytest.raises(StoreError, match=r"no release yet\. `monoglot run`"):
        Retriever(store.root)
    with pytest.raises(StoreError, match="no store here yet"):
        Retriever(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_retriever_answers_from_its_release_until_it_looks_again(store, models):
    first = promote(store, models[0])
    retriever = Retriever(store.root, device="cpu")
    encoder = retriever._held.encoder
    edited = KB.with_columns(answer=pl.lit("Changed."))
    second = promote(store, models[0], edited)
    assert retriever.search("my parcel is late")[0].answer == "We are sorry."
    assert retriever.refresh() is True
    assert retriever.search("my parcel is late")[0].answer == "Changed."
    assert retriever._held.encoder is encoder  # the same model is not loaded again
    assert retriever.refresh() is False
    third = promote(store, models[1])
    Releases(store).rollback(first.id)
    assert retriever.refresh() is True
    assert retriever.search("my parcel is late")[0].answer == "We are sorry."
    Releases(store).rollback(third.id)
    assert retriever.refresh() is True
    assert retriever.release.model_digest == models[1].digest
    assert retriever.search("my parcel is late")[0].score == pytest.approx(1.0, abs=1e-5)
    assert second.previous == first.id


@pytest.fixture
def clock(monkeypatch):
    """The time by which a retriever pauses; `clock[0]` can be put forward."""
    now = [0.0]
    monkeypatch.setattr(retriever_module.time, "monotonic", lambda: now[0])
    return now


def test_a_release_that_cannot_be_loaded_is_told_of_and_tried_again_after_a_pause(
    store, models, clock, caplog
):
    first = promote(store, models[0])
    retriever = Retriever(store.root, device="cpu")
    second = promote(store, models[1])
    weights = store.folder(second.model)
    weights.rename(store.root / "elsewhere")
    for told in (1, 1, 2):
        assert retriever.refresh() is False
        assert len(caplog.records) == told
        assert f"release {first.id} goes on answering, since {second.id} cannot" in caplog.text
        assert "its model is gone" in caplog.text
        assert retriever.release == first
        assert retriever.search("my parcel is late")[0].label == "delivery"
        clock[0] += 0.6 * retriever_module.RETRY_S
    (store.root / "elsewhere").rename(weights)
    assert retriever.refresh() is False  # within the pause
    clock[0] += retriever_module.RETRY_S
    assert retriever.refresh() is True
    assert retriever.release == second
    assert len(caplog.records) == 2


def test_another_release_than_the_one_that_failed_is_followed_at_once(store, models, clock):
    first = promote(store, models[0])
    retriever = Retriever(store.root, device="cpu")
    second = promote(store, models[1])
    shutil.rmtree(store.folder(second.model))
    assert retriever.refresh() is False
    third = promote(store, models[0], KB.with_columns(answer=pl.lit("Changed.")))
    assert (retriever.release, retriever.refresh(), retriever.release) == (first, True, third)


def test_a_pointer_that_cannot_be_read_leaves_the_release_answering(store, models, clock, caplog):
    first = promote(store, models[0])
    retriever = Retriever(store.root, device="cpu")
    pointer = store.releases / "current.json"
    kept = pointer.read_text()
    pointer.write_text("{")
    for _ in range(2):
        assert retriever.refresh() is False
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the current one cannot be loaded" in caplog.text
    assert retriever.search("my parcel is late")[0].label == "delivery"
    pointer.write_text(kept)
    promote(store, models[1])
    clock[0] += 2 * retriever_module.RETRY_S
    assert retriever.refresh() is True
    assert retriever.release.previous == first.id


def test_while_one_thread_loads_a_release_the_others_answer_from_the_old_one(
    store, models, monkeypatch
):
    first = promote(store, models[0])
    retriever = Retriever(store.root, device="cpu")
    second = promote(store, models[1])
    loading, go_on, changed = threading.Event(), threading.Event(), []
    load = Encoder.load

    def slow(*given, **named):
        loading.set()
        assert go_on.wait(60)
        return load(*given, **named)

    monkeypatch.setattr(Encoder, "load", slow)
    thread = threading.Thread(target=lambda: changed.append(retriever.refresh()))
    thread.start()
    assert loading.wait(60)
    assert retriever.refresh() is False  # would wait for ever
    assert retriever.search("my parcel is late")[0].label == "delivery"
    assert retriever.release == first
    go_on.set()
    thread.join()
    assert (changed, retriever.release) == ([True], second)


def test_a_model_that_did_not_make_the_index_is_refused(store, models):
    release = promote(store, models[0])
    folder = store.folder(release.model) / "model"
    shutil.rmtree(folder)
    models[1].save(folder)
    with pytest.raises(StaleVectorsError, match="not the one that made the index"):
        Retriever(store.root, device="cpu")


def test_an_untuned_base_model_answers_too(store, models):
    promote(store, models[0], trained=False)
    assert Retriever(store.root, device="cpu").search("my parcel is late")[0].row_id == "c"


def test_a_moved_store_answers(store, models, tmp_path):
    promote(store, models[0])
    store.root.rename(tmp_path / "moved")
    assert Retriever(tmp_path / "moved", device="cpu").search("my parcel is late")[0].row_id == "c"


def test_threads_search_while_the_release_changes_under_them(store, models):
    kept = [
        promote(store, models[seed], KB.with_columns(answer=pl.lit(models[seed].digest)))
        for seed in (0, 1)
    ]
    retriever = Retriever(store.root, device="cpu")
    stop, wrong, seen = threading.Event(), [], set()

    def search():
        while not stop.is_set():
            best = retriever.search("my parcel is late", k=1)[0]
            # With vectors of one model searched by another the row would not score 1.
            if best.row_id != "c" or abs(best.score - 1) > 1e-4:
                wrong.append(best)
            seen.add(best.answer)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(20):
        Releases(store).rollback(kept[number % 2].id)
        assert retriever.refresh() is True
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert seen == {models[0].digest, models[1].digest}


def at(score):
    return Threshold(
        score=score, certain=True, questions=9, out_of_scope=0, coverage=1.0, wrong=0.0,
        at_most=0.1, caught=None,
    )  # fmt: skip


def thresholds(overall, **languages):
    return Abstention(
        max_wrong=0.05,
        out_of_scope_share=0.0,
        overall=at(overall),
        languages={code: at(score) for code, score in languages.items()},
    )


def test_the_last_bits_of_a_score_decide_nothing(store, models):
    """A text has not the same last bits alone and in a batch; a threshold is some text's score."""
    promote(store, models[0], abstention=thresholds(1.0))
    retriever = Retriever(store.root, device="cpu")
    texts = retriever._held.index.read(("query",))[0]["query"].to_list()
    alone = [retriever.search(text)[0] for text in texts]
    together = [answers[0] for answers in retriever.search_many(texts)]
    for answers in (alone, together):
        assert [it.query for it in answers] == texts
        assert all(it.confident for it in answers)
        assert max(it.score for it in answers) <= 1.0


def test_below_the_languages_score_an_answer_is_not_confident(store, models):
    promote(store, models[0], abstention=thresholds(0.5, es=0.4, ar=1.01))
    retriever = Retriever(store.root, device="cpu")
    known, ranked = "my parcel is late", ["delivery"]
    answers = retriever.search(known, language="es")
    assert [answer.confident for answer in answers] == [True, False, False]
    assert retriever.search(known, language="AR")[0].confident is False
    for unknown in (None, "fr"):  # the most careful of all
        assert retriever.search(known, language=unknown)[0].confident is False
    asked = retriever.search_many([known, known], language="es")
    assert [one[0].confident for one in asked] == [True, True]
    for language in ("es", "ar", None):
        assert [it.label for it in retriever.search(known, k=1, language=language)] == ranked


def test_a_score_that_is_reached_exactly_is_enough_and_no_score_never_is(store, models):
    promote(store, models[0])
    retriever = Retriever(store.root, device="cpu")
    best = retriever.search("parcel please")[0]
    assert best.confident is None  # not calibrated, which is not the same as not sure
    promote(
        store, models[0], abstention=thresholds(best.confidence, es=best.confidence + 1e-4, ar=None)
    )
    retriever.refresh()
    assert retriever.search("parcel please", language="es")[0].confident is False
    assert retriever.search("parcel please", language="ar")[0].confident is False
    promote(store, models[0], abstention=thresholds(best.confidence))
    retriever.refresh()
    assert retriever.search("parcel please")[0].confident is True


def test_a_rollback_brings_the_old_threshold_back(store, models):
    bold = promote(store, models[0], abstention=thresholds(0.1))
    careful = promote(store, models[0], abstention=thresholds(1.01))
    retriever = Retriever(store.root, device="cpu")
    assert retriever.search("my parcel is late")[0].confident is False
    assert Releases(store).rollback() == bold
    assert retriever.refresh() is True
    assert retriever.release.abstention == thresholds(0.1)
    assert retriever.search("my parcel is late")[0].confident is True
    assert Releases(store).get(careful.id).abstention == thresholds(1.01)


def test_a_manifest_of_before_thresholds_were_kept_loads_and_answers(store, models):
    release = promote(store, models[0])
    path = store.releases / "manifests" / f"{release.id}.json"
    written = json.loads(path.read_text())
    for name in ("abstention", "questions", "out_of_scope"):
        assert written.pop(name) is None
    path.write_text(json.dumps(written))
    retriever = Retriever(store.root, device="cpu")
    assert retriever.release == release
    assert retriever.search("my parcel is late", language="es")[0].confident is None


def test_importing_monoglot_loads_nothing_heavy():
    code = "import sys, monoglot; print({'torch', 'lancedb', 'polars'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert monoglot.Retriever is Retriever
    with pytest.raises(AttributeError, match="no attribute 'Retrieval'"):
        _ = monoglot.Retrieval


def test_searches_are_logged_and_a_log_s_trouble_is_no_search_s(store, models, caplog):
    release = promote(store, models[0])
    log = monoglot.QueryLog(store.root)
    retriever = Retriever(store.root, device="cpu", log=log)
    found = retriever.search_many(["my parcel", "refund, call 98765 43210"], k=2, language="en")
    assert log.flush()
    logged = read_log(store.root / "queries").queries
    assert [query.text for query in logged] == ["my parcel", "refund, call {{phone_1}}"]
    assert {(query.language, query.release, query.confident) for query in logged} == {
        ("en", release.id, None)
    }
    assert [[it.row_id for it in query.answers] for query in logged] == [
        [it.row_id for it in answers] for answers in found
    ]

    class Broken:
        def __getattr__(self, name):
            raise OSError("no disk")

    broken = Retriever(store.root, device="cpu", log=Broken())
    assert broken.search_many(["my parcel", "refund, call 98765 43210"], k=2) == found
    assert "the log of queries failed" in caplog.text
