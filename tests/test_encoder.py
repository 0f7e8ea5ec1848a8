"""The encoder on tiny real models: prefix, order, digest, what is refused, merging."""

import numpy as np
import pytest
import torch
from small_corpus import all_texts
from tiny_models import static_model, xlm_roberta

from monoglot.errors import ModelError
from monoglot.learning.encoder import Encoder
from monoglot.learning.merging import merge
from monoglot.learning.models import model_digest


def test_an_e5_model_gets_its_prefix_and_keeps_it_when_saved(tmp_path):
    base = xlm_roberta(tmp_path / "multilingual-e5-tiny", all_texts())
    encoder = Encoder.load(str(base))
    assert encoder.prefix == "query: "
    encoder.save(tmp_path / "saved")
    again = Encoder.load(str(tmp_path / "saved"))
    assert again.prefix == "query: "
    assert again.encode(["play a song"]) == pytest.approx(encoder.encode(["play a song"]), abs=1e-6)
    bare = Encoder.load(str(base), query_prefix="")
    assert not np.array_equal(bare.encode(["play a song"]), encoder.encode(["play a song"]))
    assert bare.digest != encoder.digest


def test_encoding_is_normalised_ordered_and_indifferent_to_company(tmp_path):
    encoder = Encoder.load(str(xlm_roberta(tmp_path / "model", all_texts())))
    texts = [*all_texts(), "play a song", "set an alarm for nine"]
    seen = []
    vectors = encoder.encode(texts, on_progress=lambda done, of: seen.append((done, of)))
    assert vectors.shape == (20, 32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(20), abs=1e-6)
    assert np.array_equal(vectors[-2], vectors[texts.index("play a song")])
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert np.abs(alone - vectors).max() < 1e-5
    assert seen == [(18, 18)]
    assert encoder.encode([]).shape == (0, 32)


def test_the_digest_sees_weights_and_not_the_readme(tmp_path):
    base = static_model(tmp_path / "base", all_texts())
    before = model_digest(str(base))
    (base / "README.md").write_text("trained on a Tuesday")
    assert model_digest(str(base)) == before
    other = static_model(tmp_path / "other", all_texts(), seed=1)
    assert model_digest(str(other)) != before


def test_models_that_cannot_be_used_are_refused_with_a_remedy(tmp_path):
    with pytest.raises(ModelError, match="no such folder"):
        Encoder.load(str(tmp_path / "nowhere"))
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"no \.safetensors"):
        Encoder.load(str(tmp_path / "pickled"))


def test_merging_moves_the_weights_and_none_of_it_is_the_tuned_model(tmp_path):
    tuned, base = (
        Encoder.load(str(static_model(tmp_path / str(seed), all_texts(), seed=seed)))
        for seed in (0, 1)
    )
    weights = {name: value.clone() for name, value in tuned.model.state_dict().items()}
    merge(tuned, base, 0.0)
    assert all(torch.equal(tuned.model.state_dict()[name], weights[name]) for name in weights)
    merge(tuned, base, 0.25)
    for name, value in tuned.model.state_dict().items():
        expected = 0.75 * weights[name] + 0.25 * base.model.state_dict()[name]
        assert torch.allclose(value, expected, atol=1e-6)


def test_tied_weights_are_merged_once(tmp_path):
    """A T5 encoder has its token embeddings under two names."""
    tuned, base = (
        Encoder.load(str(static_model(tmp_path / str(seed), all_texts(), seed=seed)))
        for seed in (0, 1)
    )
    for encoder in (tuned, base):
        [weights] = encoder.model.parameters()
        encoder.model.register_parameter("shared", weights)
    before = [encoder.model.shared.detach().clone() for encoder in (tuned, base)]
    merge(tuned, base, 0.25)
    assert len(tuned.model.state_dict()) == 2
    expected = 0.75 * before[0] + 0.25 * before[1]
    assert torch.allclose(tuned.model.shared, expected, atol=1e-6)
