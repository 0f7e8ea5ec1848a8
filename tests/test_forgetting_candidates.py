"""`monoglot forget` while a candidate awaits approval, which is no release yet."""

import pytest
from test_index import knowledge_base, texts_of
from test_releases import MODEL, OTHER_MODEL, artifact, release_of
from tiny_line import write_line

from monoglot.config_file import load_config
from monoglot.forgetting import find, forget
from monoglot.identity import frame_digest
from monoglot.matching import Pattern
from monoglot.runs import RunRecord, Runs, StageRecord
from monoglot.serving.approval import CANDIDATE, Approval
from monoglot.serving.releases import Releases
from monoglot.store import Key, Store

SECRET = 'quux@example.org, "Zeb"'
PATTERN = Pattern(SECRET, literal=True)
TEXTS = [*texts_of(5), f"mail {SECRET}"]


@pytest.fixture
def config(tmp_path):
    return load_config(write_line(tmp_path))


@pytest.fixture
def store(config):
    """A release and a candidate over a knowledge base that holds the secret."""
    store = Store.open(config.store)
    base = kept(store, "knowledge_base", knowledge_base(TEXTS))
    Releases(store).promote(release_of(store, TEXTS, knowledge_base=base))
    candidate = release_of(
        store,
        TEXTS,
        model_digest=OTHER_MODEL,
        knowledge_base=base,
        evaluation=kept(store, "evaluation", knowledge_base(TEXTS)),
    )
    Approval(store).keep(candidate, compared_with=MODEL)
    return store


def kept(store, stage, rows):
    """An artifact with these rows."""
    key = Key.of(stage, 1, {}, "test")
    with store.writing(key) as draft:
        draft.write_table(rows)
        draft.digest = frame_digest(rows)
    return store.find(key)


def test_the_candidate_names_nothing_that_is_gone_and_can_be_approved(config, store):
    approval, before = Approval(store), Approval(store).waiting()
    forget(store, find(config, store, PATTERN), PATTERN)
    candidate, current = approval.waiting(), Releases(store).current()
    assert (candidate.id, candidate.rows, candidate.evaluation) == (before.id, 5, None)
    assert candidate.knowledge_base != before.knowledge_base
    assert store.table(candidate.knowledge_base)["query"].to_list() == texts_of(5)
    assert approval.overtaken_by(current) is None
    assert approval.promote().id == before.id
    assert not find(config, store, PATTERN).is_in_store


def test_what_the_candidate_says_of_it_is_told(config, store):
    approval, candidate = Approval(store), Approval(store).waiting()
    assert find(config, store, PATTERN).manifests == []
    approval.amend(candidate.id, {"reason": f"asked by {SECRET}"})
    assert find(config, store, PATTERN).manifests == [store.root / CANDIDATE]


def test_a_candidate_that_learned_it_is_named(config, store):
    split, base = kept(store, "split", knowledge_base(TEXTS)), Releases(store).current()
    stages = [split, artifact(store, "training", OTHER_MODEL)]
    record = RunRecord(
        key="key", flow="retrain", run="20200101T000000-0123abcd", finished="2020-01-01T00:00:00Z",
        config="c", knowledge_base=base.knowledge_base, release=base.id, verdict="awaits approval",
        reasons=(), report="", systems={},
        stages=tuple(
            StageRecord(
                title=it.stage, key=Key(stage=it.stage, version=1, digest="d"), outcome="done",
                reason="", rows=1, seconds=0.0, artifact=it,
            )
            for it in stages
        ),
    )  # fmt: skip
    Runs(store).write(record)
    found = find(config, store, PATTERN)
    assert list(found.models) == [OTHER_MODEL]
    assert found.releases == [Approval(store).waiting().id]
