"""Flat passes that are recorded and played back give the gradients of plain ones, on tiny models.

Without a GPU, what is played back runs the operations again, on the tensors of the recording; so
all is tested but the CUDA graphs themselves.
"""

# ruff: noqa: F811  fixtures are imported

import gc
import weakref
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling
from small_corpus import all_texts, anchors, rows, similarity, triplets_of  # noqa: F401
from tiny_models import static_model, xlm_roberta

from monoglot.learning import attention, flat, passes, recorded
from monoglot.learning.encoder import Encoder
from monoglot.learning.passes import Passes
from monoglot.learning.ranks import Ranks
from monoglot.learning.tokens import Tokens
from monoglot.learning.training import fine_tune
from monoglot.learning_config import TrainingConfig


class Playing:
    """Runs what was recorded again, and counts.

    As graphs share their memory, what a forward pass leaves is lost with that of another shape.
    """

    def __init__(self, counts):
        self.counts = counts
        self.graphs = []

    def warm_up(self, does):
        does()

    def __call__(self, does):
        graph = does.__self__
        self.graphs.append(graph)

        def again():
            self.counts[does.__name__] += 1
            if does.__name__ == "_forward":
                for other in self.graphs:
                    other._vectors = None
            does()

        does()  # as a recording has it done
        return again

    def end(self):
        self.counts["ended"] += 1


@pytest.fixture
def played(monkeypatch):
    """How often each pass was played back; passes are recorded from here on."""
    counts = Counter()
    monkeypatch.setattr(passes, "has_graphs", lambda device: device.type == "cpu")
    monkeypatch.setattr(recorded, "Capture", lambda _device: Playing(counts))
    return counts


def pooled(folder, texts, modes):
    """A tiny transformer with another pooling and a dense layer behind it."""
    tiny = SentenceTransformer(str(xlm_roberta(folder / "tiny", texts)), device="cpu")
    width = tiny.get_embedding_dimension()
    torch.manual_seed(0)
    pooling = Pooling(width, modes)
    dense = Dense(pooling.get_embedding_dimension(), width)
    SentenceTransformer(modules=[tiny[0], pooling, dense], device="cpu").save(str(folder / "base"))
    return str(folder / "base")


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


def gradients_of(base, texts, times=1, *, cached=False):
    """The passes, and the gradients by all weights of something that differs for each text."""
    weights = torch.arange(1.0, len(texts) + 1)[:, None]
    encoder = Encoder.load(base)
    encoder.model.eval()
    passed = Passes(encoder, texts)
    backward = passed.backward_cached if cached else passed.backward
    for _ in range(times):  # gradients add up
        backward(np.arange(len(texts)), lambda vectors: (vectors * weights).cos().sum())
    return passed, {name: weights.grad for name, weights in encoder.model.named_parameters()}


def padded_gradients(base, texts):
    """The gradients of a model that could not read texts flat."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "first_position", lambda _model, _tokens: None)
        passed, found = gradients_of(base, texts)
    assert not passed.reads_flat
    return found


def assert_same_gradients(found, plain, times):
    largest = max(float(it.abs().max()) for it in plain.values() if it is not None)
    assert largest > 1e-3
    for name, gradient in plain.items():
        if gradient is None:
            assert found[name] is None, name
        else:
            assert torch.allclose(found[name], times * gradient, atol=2e-5 * largest), name


@pytest.mark.parametrize("cached", [False, True])
def test_the_gradients_are_those_of_padded_texts(
    tmp_path, anchors, rows, monkeypatch, request, cached
):
    monkeypatch.setattr(passes, "_TOKENS", {"cpu": 24})
    texts, times = [*anchors["text"], *rows["query"]], 4
    base = str(xlm_roberta(tmp_path / "base", texts))
    padded = padded_gradients(base, texts)
    passed, found = gradients_of(base, texts, times, cached=cached)
    assert passed.reads_flat
    assert_same_gradients(found, padded, times)
    played = request.getfixturevalue("played")
    passed, found = gradients_of(base, texts, times, cached=cached)
    assert passed.records
    forward, back = played["_forward"], played["_backward"]
    assert forward > back > times if cached else forward == back == times
    assert_same_gradients(found, padded, times)


@pytest.mark.parametrize("modes", ["cls", "max", "lasttoken", ("mean", "max")])
def test_no_pooling_learns_from_the_texts_that_are_padding(tmp_path, anchors, rows, request, modes):
    texts = [*anchors["text"], *rows["query"]]
    base = pooled(tmp_path, texts, modes)
    padded = padded_gradients(base, texts)
    played = request.getfixturevalue("played")
    passed, found = gradients_of(base, texts, 2)
    assert passed.records
    assert played["_backward"] == 2
    assert_same_gradients(found, padded, 2)


class BesideAnOlderGpu(Ranks):
    """One of two ranks, of which the other has no flash attention."""

    def share_first(self, tensor):
        pass

    def sum(self, tensors):
        pass


def test_ranks_read_flat_all_or_none(tmp_path):
    encoder = Encoder.load(str(xlm_roberta(tmp_path / "base", all_texts())))
    assert Passes(encoder, all_texts()).reads_flat
    assert not Passes(encoder, all_texts(), BesideAnOlderGpu(0, 2)).reads_flat


def test_what_a_training_has_recorded_ends_with_it(tmp_path, anchors, rows, played):
    texts = [*anchors["text"], *rows["query"]]
    passed, _ = gradients_of(str(xlm_roberta(tmp_path / "base", texts)), texts)
    assert played["_forward"] == 1
    gone = weakref.ref(passed)
    gc.disable()
    try:
        del passed
        assert gone() is None
    finally:
        gc.enable()


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
    monkeypatch.setattr(passes, "_TOKENS", {"cuda": 100})
    base = str(xlm_roberta(tmp_path / "base", all_texts()))
    data = (base, anchors, rows, similarity, "cuda")
    recording = trained(tmp_path / "a", *data, gradient_cache=cached)
    assert not [it for it in caplog.records if it.name == recorded.__name__]
    monkeypatch.setattr(passes, "has_flash", lambda _device, *, bf16: not bf16)
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
    assert played == {"ended": 1}
    [told] = [it.getMessage() for it in caplog.records if it.name == recorded.__name__]
    assert told.endswith("when stream is capturing")


def first_of(folder, texts, positions=None):
    encoder = Encoder.load(str(folder))
    encoder.model.eval()
    if positions:
        encoder.model.transformers_model.config.max_position_embeddings = positions
    return flat.first_position(encoder.model, Tokens(encoder.model, texts))


def test_a_model_is_asked_whether_it_reads_texts_flat(tmp_path):
    texts = all_texts()
    roberta = xlm_roberta(tmp_path / "roberta", texts)
    assert first_of(roberta, texts) == Encoder.load(str(roberta)).model.tokenizer.pad_token_id + 1
    assert first_of("offline-minilm", texts) == 0  # a BERT
    assert first_of(static_model(tmp_path / "static", texts), texts) is None
    assert first_of(pooled(tmp_path, texts, "weightedmean"), texts) is None
    assert first_of(roberta, ["mera order " * 600]) is None  # too long to try out
    assert first_of(roberta, texts, positions=4) is None  # a GPU dies of a position beyond them


@pytest.mark.parametrize("fault", ["reads on", "cannot", "not in bf16"])
def test_a_model_that_reads_them_wrongly_is_found_out(tmp_path, monkeypatch, caplog, fault):
    roberta = xlm_roberta(tmp_path / "base", all_texts())
    attend = attention.attention_within

    def faulty(query, key, value, ends, scale):
        if fault == "cannot":
            raise AttributeError("no such kernel")
        if fault == "not in bf16" and query.dtype is torch.bfloat16:
            raise RuntimeError("head_size must be a multiple of 8")
        return attend(query, key, value, ends[[0, -1]] if fault == "reads on" else ends, scale)

    monkeypatch.setattr(attention, "attention_within", faulty)
    assert first_of(roberta, all_texts()) is None
    [told] = [it.getMessage() for it in caplog.records if it.name == flat.__name__]
    why = {"reads on": "others", "cannot": "no such kernel", "not in bf16": "multiple of 8"}[fault]
    assert why in told


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40), st.integers(0, 60))
def test_the_layout_holds_all_texts_and_comes_in_few_shapes(sizes, texts):
    longest = max(sizes)
    ends, own, bound = flat.layout(np.array(sizes), longest, texts)
    lengths = np.diff(ends)
    assert lengths[: len(sizes)].tolist() == sizes
    assert own == sum(sizes)
    assert lengths.min() >= 1
    assert lengths.max() <= longest <= bound
    assert ends[-1] == flat.rounded(int(ends[-1]), 4)
    assert len(lengths) >= texts
    assert len(lengths) in {texts, flat.rounded(len(lengths), 2)}
    if not texts:
        assert ends[-1] <= (own + len(sizes)) * 1.2 + 2


@given(st.integers(1, 10**6), st.integers(1, 6))
def test_rounded_numbers_are_few_and_near(number, bits):
    found = flat.rounded(number, bits)
    assert number <= found <= number * (1 + 2.0 ** (1 - bits))
    trailing = found & -found
    assert found // trailing <= 1 << bits
