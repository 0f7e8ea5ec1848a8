"""The stages that draw and train with re-mining: what the second needs, the first has kept."""

import polars as pl
import pytest
from test_remining import ANCHORS, ROWS, TEXTS
from tiny_models import static_model

from monoglot.contracts import Queries, empty
from monoglot.learning_config import SamplingConfig, TrainingConfig
from monoglot.settings import Settings
from monoglot.store import Artifact, Key, Store
from tasks.anchors import FIXED
from tasks.models import base_model
from tasks.training import REMINED, train
from tasks.triplets import draw_triplets
from tasks.workplace import Job


def made(store: Store, name: str, fill) -> Artifact:
    """An artifact, written as its stage would write it."""
    key = Key.of(name, 1, inputs={}, config={"test": name})
    with store.writing(key) as draft:
        job = Job(store, Settings(), key, draft, on_progress=lambda *_: None)
        fill(job)
    found = store.find(key)
    assert found is not None
    return found


@pytest.mark.parametrize("strategy", ["positive_aware", "confusion"])
def test_later_epochs_are_drawn_in_training_and_kept_beside_the_model(tmp_path, strategy):
    store = Store.open(str(tmp_path / "store"))
    base = base_model(str(static_model(tmp_path / "base", TEXTS)))
    sampling = SamplingConfig(strategy=strategy, remine=True)
    training = TrainingConfig(objective="explicit", epochs=3, batch_size=4, learning_rate=0.01)
    rows = ROWS.with_columns(label_path=pl.lit(None, pl.String), label_text=pl.lit(None, pl.String))
    knowledge_base = made(store, "knowledge_base", lambda job: job.write(rows.drop("part")))
    parts = made(store, "split", lambda job: job.write(ROWS))
    queries = ANCHORS.with_columns(
        language=pl.lit("hi-Latn"), origin=pl.lit("native"), english=pl.lit(None, pl.String)
    )

    def write_anchors(job):
        job.write(queries)
        job.draft.write_table(queries.select("query_id").clear(), FIXED)

    anchors = made(store, "anchors", write_anchors)
    questions = made(store, "questions", lambda job: job.write(empty(Queries)))
    triplets = made(
        store,
        "triplets",
        lambda job: draw_triplets.__wrapped__(
            job,
            anchors=anchors,
            knowledge_base=knowledge_base,
            parts=parts,
            questions=questions,
            user_labels=(),
            base=base,
            config=sampling,
            epochs=3,
            seed=0,
        ),
    )
    assert store.table(triplets)["epoch"].unique().to_list() == [0]
    trained = made(
        store,
        "training",
        lambda job: train.__wrapped__(
            job,
            anchors=anchors,
            parts=parts,
            triplets=triplets,
            base=base,
            config=training,
            remining=sampling.for_training,
        ),
    )
    remined = store.table(trained, REMINED)
    assert remined["epoch"].unique().sort().to_list() == [1, 2]
    assert remined["strategy"].unique().to_list() == [strategy]
    assert remined.height == 2 * ANCHORS.height
    assert trained.facts["steps"] == 9
