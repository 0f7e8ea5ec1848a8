"""What makes a cell another one, and what a peer is trained with, beside its own settings."""

from types import SimpleNamespace

import pytest

from monoglot.config import Config
from monoglot.learning.grid import Trial
from monoglot.store import Artifact
from tasks import comparison
from tasks.cells import Bench, learning_digest
from tasks.models import base_model
from tasks.sources import Data, UserLabels

BASE = base_model("offline-minilm")
HINDI = {"code": "hi", "name": "Hindi"}


def config_of(**language):
    return Config(knowledge_base={"path": "/kb.csv"}, store="/store", languages=[HINDI | language])


def artifact(stage):
    return Artifact(stage=stage, digest=stage, location=f"artifacts/{stage}/x", rows=1)


DATA = Data(artifact("split"), artifact("questions"), artifact("anchors"), UserLabels(), (), None)


def digest_of(config):
    return learning_digest(Trial("cell", 0, config), Bench(artifact("kb"), DATA, 0), BASE)


def test_a_cell_is_another_one_where_its_queries_are_spelt_anew_and_only_then():
    plain = digest_of(config_of())
    assert digest_of(config_of(script="Latn")) != plain
    assert digest_of(config_of(style="as typed on a phone")) == plain


@pytest.mark.parametrize(("script", "romanised"), [("Latn", ("hi",)), (None, ())])
def test_the_peer_of_mined_negatives_is_spelt_anew_as_the_candidate_is(
    monkeypatch, script, romanised
):
    trained = {}
    monkeypatch.setattr(comparison, "mine_negatives", lambda *_, **__: artifact("mined"))
    monkeypatch.setattr(comparison, "train", lambda _, **given: trained.update(given))
    monkeypatch.setattr(comparison, "_outcomes_of", lambda *_, **__: artifact("outcomes"))
    base = SimpleNamespace(model=BASE)
    setting = comparison._Setting(None, config_of(script=script), artifact("kb"), DATA, base, None)
    made = comparison.Baselines()
    comparison._mined_negatives(setting, made)
    assert trained["romanised"] == romanised
    assert list(made.outcomes) == [comparison.MINED]
