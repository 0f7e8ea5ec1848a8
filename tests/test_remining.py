"""Re-mining with the model in training: what it finds, and that a killed training goes on alike."""

import polars as pl
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from tiny_models import static_model, xlm_roberta

from monoglot.learning import training
from monoglot.learning.encoder import Encoder
from monoglot.learning.pairs import Partners, make_triplets
from monoglot.learning.remining import Remined
from monoglot.learning_config import SamplingConfig, TrainingConfig

QUERIES = {
    "alarm": ["set an alarm for nine", "wake me up at six", "alarm in two hours"],
    "music": ["play a song", "next track please", "turn the volume up"],
    "weather": ["will it rain today", "how hot is it outside", "forecast for sunday"],
}
ROWS = pl.DataFrame(
    [
        {"row_id": f"{label}-{n}", "query": query, "label": label, "part": "training"}
        for label, queries in QUERIES.items()
        for n, query in enumerate(queries)
    ]
)
ANCHORS = ROWS.select(
    query_id=pl.concat_str(pl.lit("q-"), "row_id"),
    text=pl.col("query").str.replace_all("a", "aa"),
    label="label",
    source_row_id="row_id",
)
TEXTS = [*ROWS["query"], *ANCHORS["text"]]
SAMPLING = SamplingConfig(strategy="top_k", remine=True, random_negatives=0, hard_negatives=2)
TRAINING = TrainingConfig(
    objective="explicit", epochs=4, batch_size=4, learning_rate=5e-3, english_replay=False
)


class Killed(BaseException):
    pass


def tuned(folder, base, *, kill_at=None):
    """Train with re-mining; the encoder, the log and the triplets of the later epochs."""
    encoder = Encoder.load(str(base))
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    partners = Partners(ANCHORS, ROWS, None, SAMPLING, epochs=TRAINING.epochs, seed=0)
    first = make_triplets(
        ANCHORS, ROWS, None, SAMPLING, epochs=4, seed=0, encode=Encoder.load(str(base)).encode
    )
    assert first["epoch"].unique().to_list() == [0]
    remined = Remined(partners, scratch)

    def on_step(done, total):
        if done == kill_at:
            raise Killed

    options = {"scratch": scratch, "on_step": on_step, "partners": remined}
    log = training.fine_tune(encoder, ANCHORS, ROWS, first, TRAINING, **options)
    encoder.save(folder / "model")
    return first, log, remined.drawn()


@pytest.mark.parametrize("kill_at", [3, 5, 11])
def test_a_killed_training_goes_on_with_the_same_triplets(tmp_path, monkeypatch, kill_at):
    """Three steps an epoch: killed at the end of one, amid one, in the last."""
    base = xlm_roberta(tmp_path / "base", TEXTS)
    _, log, whole = tuned(tmp_path / "whole", base)
    assert log.steps.height == 12
    monkeypatch.setattr(training, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    with pytest.raises(Killed):
        tuned(tmp_path / "killed", base, kill_at=kill_at)
    _, log, resumed = tuned(tmp_path / "killed", base)
    assert log.resumed_at == kill_at - 1
    assert resumed.equals(whole)
    weights = [load_file(tmp_path / run / "model/model.safetensors") for run in ("whole", "killed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_each_epoch_is_mined_with_the_model_of_its_start(tmp_path, monkeypatch):
    base = static_model(tmp_path / "base", TEXTS)
    first, _, remined = tuned(tmp_path, base)
    assert remined["epoch"].unique().sort().to_list() == [1, 2, 3]
    # The model has changed, and with it what is nearest; the last epoch's are not the base's.
    last = remined.filter(pl.col("epoch") == 3)
    assert first["anchor"].equals(last["anchor"])
    nearest = [table["negative_rows"].list.sort().to_list() for table in (first, last)]
    assert nearest[0] != nearest[1]
    # What was kept is what is used: nothing is drawn again.
    partners = Partners(ANCHORS, ROWS, None, SAMPLING, epochs=4, seed=0)
    monkeypatch.setattr(Partners, "mined", None)
    kept = Remined(partners, tmp_path / "scratch")(3, Encoder.load(str(base)).encode)
    assert kept.equals(last)


def test_only_strategies_that_rank_rows_can_be_remined():
    with pytest.raises(ValidationError, match="algorithm1 ranks no rows"):
        SamplingConfig(remine=True)
    assert SamplingConfig(strategy="simans", remine=True).for_training is not None
    assert SamplingConfig(strategy="simans").for_training is None


@pytest.mark.parametrize("window", [(0, 5), (5, 4), (1, 2000)])
def test_a_window_that_is_none_is_refused(window):
    with pytest.raises(ValidationError, match="ranks rise from 1"):
        SamplingConfig(rank_window=window)
    with pytest.raises(ValidationError, match="holds 2 rows"):
        SamplingConfig(strategy="rank_window", rank_window=(1, 2))
