"""Flat passes that are recorded and played back give the gradients of plain ones, on tiny models.

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
from tiny_models import static_model, xlm_roberta

from monoglot.learning import flat, passes, recorded
from monoglot.learning.encoder import Encoder
from monoglot.learning.passes import Passes
from monoglot.learning.tokens import Tokens
from monoglot.learning.training import fine_tune
from monoglot.learning_config import TrainingConfig


class Playing:
    """Runs what was recorded again, and counts."""

    def __init__(self, counts):
        self.counts = counts

    def warm_up(self, does):
        does()

    def __call__(self, does):
        def again():
            self.counts[does.__name__] += 1
            does()

        does()  # as a recording has it done
        return again


@pytest.fixture
def played(monkeypatch):
    """How often each pass was played back; passes are flat and recorded from here on."""
    counts = Counter()
    monkeypatch.setattr(flat, "has_flash", lambda _device, *, bf16: bf16 is not None)
    monkeypatch.setattr(recorded, "Capture", lambda: Playing(counts))
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


@pytest.mark.parametrize("cached", [False, True])
def test_the_gradients_are_those_of_one_padded_batch(
    tmp_path, anchors, rows, monkeypatch, played, cached
):
    monkeypatch.setattr(passes, "_TOKENS", 24)
    texts = [*anchors["text"], *rows["query"]]
    weights = torch.arange(1.0, len(texts) + 1)[:, None]
    base = str(xlm_roberta(tmp_path / "base", texts))

    encoder = Encoder.load(base)
    vectors = encoder.model(encoder.model.preprocess(texts))["sentence_embedding"]
    (torch.nn.functional.normalize(vectors, dim=1) * weights).cos().sum().backward()
    plain = {name: it.grad for name, it in encoder.model.named_parameters()}

    encoder = Encoder.load(base)
    passed = Passes(encoder, texts)
    backward = passed.backward_cached if cached else passed.backward
    times = 4
    for _ in range(times):  # gradients add up
        backward(np.arange(len(texts)), lambda vectors: (vectors * weights).cos().sum())
    assert passed.flat
    forward, back = played["_forward"], played["_backward"]
    assert forward > back > times if cached else forward == back == times
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
    assert played["_forward"] == played["_backward"] > 4  # a batch is one sub-batch, passed once
    assert_same(plain, again)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("cached", [False, True])
def test_graphs_on_a_gpu_take_the_steps_of_a_plain_training(
    tmp_path, anchors, rows, similarity, monkeypatch, caplog, cached
):
    monkeypatch.setattr(passes, "_TOKENS", 100)
    base = str(xlm_roberta(tmp_path / "base", all_texts()))
    data = (base, anchors, rows, similarity, "cuda")
    recording = trained(tmp_path / "a", *data, gradient_cache=cached)
    assert not [it for it in caplog.records if it.name == recorded.__name__]
    monkeypatch.setattr(flat, "has_flash", lambda _device, *, bf16: not bf16)
    plain = trained(tmp_path / "b", *data, gradient_cache=cached)
    assert recording[1] == pytest.approx(plain[1], rel=0.02)  # bf16 has eight bits
    assert recording[1] != plain[1]


def test_what_cannot_be_recorded_is_trained_all_the_same(
    tmp_path, anchors, rows, similarity, monkeypatch, caplog, request
):
    base = str(xlm_roberta(tmp_path / "base", all_texts()))
    data = (base, anchors, rows, similarity)
    plain = trained(tmp_path / "a", *data)
    played = request.getfixturevalue("played")

    def refuse(_self, does):
        does()
        raise RuntimeError("operation not permitted when stream is capturing\nat once")

    monkeypatch.setattr(Playing, "__call__", refuse)
    assert_same(plain, trained(tmp_path / "b", *data))
    assert not played
    [told] = [it.getMessage() for it in caplog.records if it.name == recorded.__name__]
    assert told.endswith("when stream is capturing")


def test_a_model_is_asked_whether_it_reads_texts_flat(tmp_path, anchors):
    def first(folder):
        encoder = Encoder.load(str(folder))
        encoder.model.eval()
        return flat.first_position(
            encoder.model, Tokens(encoder.model, anchors["text"].to_list()), 8
        )

    roberta = xlm_roberta(tmp_path / "roberta", all_texts())
    assert first(roberta) == Encoder.load(str(roberta)).model.tokenizer.pad_token_id + 1
    assert first("offline-minilm") == 0  # a BERT
    assert first(static_model(tmp_path / "static", all_texts())) is None


def test_a_model_that_reads_on_from_one_text_to_the_next_is_told(tmp_path, anchors, monkeypatch):
    encoder = Encoder.load(str(xlm_roberta(tmp_path / "base", all_texts())))
    encoder.model.eval()
    tokens = Tokens(encoder.model, anchors["text"].to_list())
    bucketize = torch.bucketize
    monkeypatch.setattr(torch, "bucketize", lambda *a, **k: 0 * bucketize(*a, **k))
    assert flat.first_position(encoder.model, tokens, 8) is None


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40), st.integers(0, 60))
def test_the_layout_holds_all_texts_and_comes_in_few_shapes(sizes, texts):
    longest = max(sizes)
    ends, own, bound = flat.layout(np.array(sizes), longest, texts)
    lengths = np.diff(ends)
    assert lengths[: len(sizes)].tolist() == sizes
    assert own == sum(sizes)
    assert 0 <= lengths[len(sizes) :].max(initial=0) <= longest <= bound
    assert ends[-1] == flat.rounded(own, 4) <= own * 9 / 8 + 1
    assert len(lengths) >= texts


@given(st.integers(1, 10**6), st.integers(1, 6))
def test_rounded_numbers_are_few_and_near(number, bits):
    found = flat.rounded(number, bits)
    assert number <= found <= number * (1 + 2.0 ** (1 - bits))
    trailing = found & -found
    assert found // trailing <= 1 << bits
