"""Passes that are recorded and played back give the gradients of plain ones, on a tiny real model.

Without a GPU, what is played back runs the operations again, on the tensors of the recording; so
all is tested but the CUDA graphs themselves.
"""

# ruff: noqa: F811  fixtures are imported

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_corpus import all_texts, anchors, rows, similarity, triplets_of  # noqa: F401
from tiny_models import xlm_roberta

from monoglot.learning import passes, recorded, sub_batches
from monoglot.learning.encoder import Encoder
from monoglot.learning.passes import Passes
from monoglot.learning.recorded import rounded
from monoglot.learning.training import fine_tune
from monoglot.learning_config import TrainingConfig


@pytest.fixture
def played(monkeypatch):
    """How often each pass was played back; passes are recorded from here on."""
    counts = Counter()

    def counted(does):
        def again():
            counts[does.__name__] += 1
            does()

        return again

    monkeypatch.setattr(passes, "RECORDED_ON", ("cpu",))
    monkeypatch.setattr(
        recorded, "Capturing", lambda: lambda *both: tuple(counted(does) for does in both)
    )
    return counts


def trained(folder, base, anchors, rows, similarity, device="cpu", **settings):
    """Weights and losses after a training of a few steps."""
    encoder = Encoder.load(base, device=device)
    config = TrainingConfig(epochs=12, batch_size=6, learning_rate=1e-3, **settings)
    table = triplets_of(anchors, rows, similarity, epochs=12)
    folder.mkdir()
    log = fine_tune(encoder, anchors, rows, table, config, scratch=folder)
    return encoder.model.state_dict(), log.steps["loss"].to_list()


def assert_same(one, other):
    (weights, losses), (others, again) = one, other
    assert again == pytest.approx(losses, rel=1e-4)
    for name, tensor in weights.items():
        assert torch.allclose(tensor, others[name], atol=1e-4), name


def test_the_gradients_are_those_of_one_padded_batch(tmp_path, anchors, rows, monkeypatch, played):
    monkeypatch.setitem(sub_batches.SIZES, "cpu", sub_batches.Size(most=5, overhead=1))
    texts = [*anchors["text"], *rows["query"]]
    weights = torch.arange(1.0, len(texts) + 1)[:, None]
    base = str(xlm_roberta(tmp_path / "base", texts))

    encoder = Encoder.load(base)
    vectors = encoder.model(encoder.model.preprocess(texts))["sentence_embedding"]
    (torch.nn.functional.normalize(vectors, dim=1) * weights).cos().sum().backward()
    plain = {name: it.grad for name, it in encoder.model.named_parameters()}

    encoder = Encoder.load(base)
    passed = Passes(encoder, texts)
    times = 4
    for _ in range(times):  # gradients add up
        passed.backward(np.arange(len(texts)), lambda vectors: (vectors * weights).cos().sum())
    assert played["_forward"] > played["_backward"] > times
    largest = max(float(it.abs().max()) for it in plain.values() if it is not None)
    for name, found in encoder.model.named_parameters():
        if plain[name] is None:
            assert found.grad is None, name
        else:
            assert torch.allclose(found.grad, times * plain[name], atol=1e-5 * largest), name


@pytest.mark.parametrize("cached", [False, True])
def test_a_training_takes_the_steps_of_a_plain_one(
    tmp_path, anchors, rows, similarity, request, cached
):
    base = str(xlm_roberta(tmp_path / "base", all_texts()))
    data = (base, anchors, rows, similarity)
    plain = trained(tmp_path / "a", *data, gradient_cache=cached)
    played = request.getfixturevalue("played")
    again = trained(tmp_path / "b", *data, gradient_cache=cached)
    assert played["_forward"] == played["_backward"] > 4  # a batch in one sub-batch is passed once
    assert_same(plain, again)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("most", [3, 512])
def test_graphs_on_a_gpu_take_the_steps_of_a_plain_training(
    tmp_path, anchors, rows, similarity, monkeypatch, caplog, most
):
    monkeypatch.setitem(sub_batches.SIZES, "cuda", sub_batches.Size(most=most, overhead=1))
    monkeypatch.setattr("monoglot.learning.passes.bf16_is_faster", lambda _model: False)
    base = str(xlm_roberta(tmp_path / "base", all_texts()))
    data = (base, anchors, rows, similarity, "cuda")
    recording = trained(tmp_path / "a", *data)
    assert not [it for it in caplog.records if it.name == recorded.__name__]
    monkeypatch.setattr(passes, "RECORDED_ON", ())
    assert_same(trained(tmp_path / "b", *data), recording)


def test_what_cannot_be_recorded_is_trained_all_the_same(
    tmp_path, anchors, rows, similarity, monkeypatch, caplog
):
    def refusing():
        def capture(forward, _backward):
            forward()
            raise RuntimeError("operation not permitted when stream is capturing\nat once")

        return capture

    base = str(xlm_roberta(tmp_path / "base", all_texts()))
    data = (base, anchors, rows, similarity)
    plain = trained(tmp_path / "a", *data)
    monkeypatch.setattr(passes, "RECORDED_ON", ("cpu",))
    monkeypatch.setattr(recorded, "Capturing", refusing)
    assert_same(plain, trained(tmp_path / "b", *data))
    [told] = [it.getMessage() for it in caplog.records if it.name == recorded.__name__]
    assert told.endswith("when stream is capturing")


@given(st.integers(1, 5_000))
def test_rounded_sizes_are_few_and_near(number):
    found = rounded(number)
    assert number <= found < 2 * number or found == number
    assert found in {1} | {base << by for base in (2, 3) for by in range(13)}
