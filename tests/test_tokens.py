"""Texts tokenised once are what the model's own preprocessing gives; devices."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from small_corpus import all_texts
from tiny_models import static_model, xlm_roberta

from monoglot.learning import encoder
from monoglot.learning.devices import without_plans_by_shape
from monoglot.learning.encoder import Encoder
from monoglot.learning.sub_batches import lengths_by
from monoglot.learning.tokens import Tokens


@pytest.mark.parametrize("make", [xlm_roberta, static_model])
def test_a_model_is_given_what_its_own_preprocessing_gives(make, tmp_path):
    model = SentenceTransformer(str(make(tmp_path / "model", all_texts())), device="cpu")
    if model.transformers_model is not None:
        model.max_seq_length = 14
    texts = all_texts()
    tokens = Tokens(model, texts)
    lengths = lengths_by(model, texts)
    assert tokens.lengths.tolist() == lengths.tolist()
    is_cut = model.transformers_model is not None
    assert tokens.cut() == (int((lengths > 14).sum()) if is_cut else 0)
    assert lengths.min() < 14 < lengths.max()
    for places in ([3], [5, 0, 11]):
        own = model.preprocess([texts[place] for place in places])
        given = tokens.features(np.array(places))
        assert given.keys() == own.keys()
        for name in own.keys() - {"modality"}:
            assert torch.equal(given[name], torch.as_tensor(own[name])), name


def test_sentence_transformers_gives_the_same_vectors(tmp_path):
    ours = Encoder.load(str(xlm_roberta(tmp_path / "model", all_texts())), device="cpu")
    theirs = ours.model.encode(all_texts(), normalize_embeddings=True)
    assert ours.encode(all_texts()) == pytest.approx(theirs, abs=1e-6)


def test_attention_on_a_gpu_needs_no_plan_for_a_shape():
    enabled = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        torch.backends.cuda.enable_cudnn_sdp(True)
        without_plans_by_shape(torch.device("cpu"))
        assert torch.backends.cuda.cudnn_sdp_enabled()
        without_plans_by_shape(torch.device("cuda:1"))
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert torch.backends.cuda.mem_efficient_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(enabled)


def test_a_model_that_is_loaded_computes_attention_so(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(encoder, "without_plans_by_shape", told.append)
    loaded = Encoder.load(str(xlm_roberta(tmp_path / "model", all_texts())), device="cpu").model
    assert told == [loaded.device]
