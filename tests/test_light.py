"""`light` gives the vectors of sentence-transformers, and leaves what it does not know exactly."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
from tiny_models import static_model, xlm_roberta
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import Whitespace

from monoglot.errors import ModelError
from monoglot.learning import light, precision
from monoglot.learning.encoder import Encoder
from monoglot.learning.light import load_light
from monoglot.learning.models import OFFLINE_MINILM, model_folder

TEXTS = [
    *("where is my order", "mera paisa kab wapas aayega", "كيف ألغي طلبي", "play a song"),
    *("set an alarm for nine in the morning", "¿dónde está mi pedido?"),
]
# Words of the vocabularies, special tokens as a user may type them, and anything else.
SPECIAL = ["<pad>", "</s>", "[SEP]", "[MASK]", "ÅÄ", "東京"]
WORDS = st.sampled_from([*" ".join(TEXTS).split(), *SPECIAL])
SOME_TEXT = st.one_of(
    st.lists(WORDS, min_size=1, max_size=90).map(" ".join),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40),
)
MODELS = ("xlm_roberta", "first_token", "offline_minilm")
RELAXED = settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Of each model, what `light` reads and what sentence-transformers does."""
    folder = tmp_path_factory.mktemp("light")
    xlm_roberta(folder / "xlm_roberta", TEXTS)
    first = Transformer(str(folder / "xlm_roberta"), max_seq_length=16)
    SentenceTransformer(
        modules=[first, Pooling(first.get_embedding_dimension(), "cls")], device="cpu"
    ).save(str(folder / "first_token"), create_model_card=False)
    static_model(folder / "static", TEXTS)
    names = {name: str(folder / name) for name in ("xlm_roberta", "first_token", "static")}
    names["offline_minilm"] = str(model_folder(OFFLINE_MINILM))
    return {
        name: (load_light(Path(place), None), SentenceTransformer(place, device="cpu"))
        for name, place in names.items()
    }


def cosines(ours, theirs):
    """Of the rows of two matrices."""
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return (ours * theirs).sum(axis=1) / lengths


@pytest.mark.parametrize("name", MODELS)
@RELAXED
@given(texts=st.lists(SOME_TEXT, min_size=1, max_size=12))
def test_vectors_are_those_of_sentence_transformers(pairs, name, texts):
    model, whole = pairs[name]
    found = model.vectors(texts, 5, many=False)
    assert found.shape == (len(texts), model.dimensions)
    assert cosines(found, whole.encode(texts)).min() > 0.99999
    alone = np.concatenate([model.vectors([text], 5, many=False) for text in texts])
    assert cosines(found, alone).min() > 1 - 1e-6  # a text's company does not matter


@RELAXED
@given(texts=st.lists(SOME_TEXT, min_size=1, max_size=12))
def test_static_vectors_are_those_of_sentence_transformers(pairs, texts):
    model, whole = pairs["static"]
    assert model.vectors(texts, 5, many=True) == pytest.approx(whole.encode(texts), abs=1e-6)


@pytest.mark.parametrize("limit", [None, 7, 500])
def test_prefix_and_limit_are_those_of_the_whole_model(tmp_path, limit):
    base = xlm_roberta(tmp_path / "multilingual-e5-tiny", TEXTS)
    ours, whole = (Encoder.load(str(base), device="cpu", max_tokens=limit) for _ in range(2))
    assert whole.model.max_seq_length == min(limit or 64, 64)
    texts = [*TEXTS, "set an alarm for nine " * 30]
    found = ours.encode(texts)
    prefixed = [f"query: {text}" for text in texts]
    expected = whole.model.encode(prefixed, normalize_embeddings=True)
    assert cosines(found, expected).min() > 0.99999
    assert found == pytest.approx(whole.encode(texts), abs=1e-6)  # asked for, it encodes itself


def test_a_model_that_was_asked_for_is_the_one_that_encodes(tmp_path):
    encoder = Encoder.load(str(static_model(tmp_path / "base", TEXTS)), device="cpu")
    before = encoder.encode(TEXTS)
    encoder.model[0].embedding.weight.data[:, 0] += 1  # as a training would
    assert np.abs(encoder.encode(TEXTS) - before).max() > 0.01


@pytest.mark.parametrize("with_onednn", [True, False])
@RELAXED
@given(texts=st.lists(SOME_TEXT, min_size=1, max_size=12))
def test_bf16_is_near_where_it_is_faster(pairs, with_onednn, texts):
    whole = pairs["offline_minilm"][1]
    with pytest.MonkeyPatch.context() as patch:
        if not with_onednn:
            patch.setattr(light, "_onednn_has_bf16", lambda: False)
        model = load_light(model_folder(OFFLINE_MINILM), None)
        patch.setattr(precision, "_decided", {("cpu", *model._shape): True})
        found = model.vectors(texts, 64, many=True)
    assert cosines(found, whole.encode(texts)).min() > 0.999
    assert not np.array_equal(found, model.vectors(texts, 64, many=False))


@RELAXED
@given(texts=st.lists(SOME_TEXT, min_size=1, max_size=150), threads=st.integers(1, 3))
def test_texts_encoded_side_by_side_are_as_one_after_another(pairs, texts, threads):
    model = pairs["xlm_roberta"][0]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = model.vectors(texts, 7, many=True)
        with ThreadPoolExecutor(1) as fresh:
            assert fresh.submit(torch.get_num_threads).result() == threads
        assert torch.get_num_threads() == threads
        if threads > 1:
            seen = list(light._workers(threads).map(lambda _: torch.get_num_threads(), range(9)))
            assert seen == [1] * 9
    finally:
        torch.set_num_threads(before)
    assert found == pytest.approx(model.vectors(texts, 7, many=False), abs=1e-6)


def test_a_core_holds_few_tokens_at_once(pairs, monkeypatch):
    model = pairs["offline_minilm"][0]
    texts = ["where is my order " * times for times in range(1, 30)]
    expected, held = model.vectors(texts, 64, many=False), []
    pooled = type(model)._pooled

    def noted(self, ids, *, bf16):
        held.append((len(ids), max(len(each) for each in ids)))
        return pooled(self, ids, bf16=bf16)

    monkeypatch.setattr(light, "_TOKENS", 60)
    monkeypatch.setattr(type(model), "_pooled", noted)
    assert model.vectors(texts, 64, many=True) == pytest.approx(expected, abs=1e-6)
    assert all(count == 1 or count * longest <= 60 for count, longest in held)
    assert sum(count for count, _ in held) == len(texts)


def test_threads_that_cannot_all_start_are_let_go(monkeypatch):
    before, start, started = torch.get_num_threads(), threading.Thread.start, []

    def refuse(thread):
        if thread.name.startswith("encode") and started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start"):
        light._workers(5)
    for thread in started:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert torch.get_num_threads() == 5
    torch.set_num_threads(before)


def edited(folder, name, **changes):
    """A JSON file with other values."""
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("config.json", {"hidden_act": "relu"}),
        ("config.json", {"model_type": "roberta"}),
        ("config.json", {"position_embedding_type": "relative_key"}),
        ("config.json", {"num_hidden_layers": 1}),
        ("1_Pooling/config.json", {"pooling_mode": "max"}),
        ("1_Pooling/config.json", {"pooling_mode": ["cls", "mean"]}),
        ("sentence_bert_config.json", {"do_lower_case": True}),
        ("sentence_bert_config.json", {"something": "new"}),
        ("tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer"}),
        ("tokenizer_config.json", {"tokenizer_class": "CamembertTokenizer"}),
        ("tokenizer_config.json", {"model_max_length": 512, "truncation_side": "left"}),
        ("tokenizer_config.json", {"extra_special_tokens": ["<new>"]}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"9": {"content": "<new>"}}}),
    ],
)
def test_a_folder_that_says_anything_else_is_left(tmp_path, name, changes):
    folder = xlm_roberta(tmp_path / "model", TEXTS)
    assert load_light(folder, None) is not None
    edited(folder, name, **changes)
    assert load_light(folder, None) is None


def test_other_modules_are_left_and_loaded_whole(tmp_path):
    first = Transformer(str(xlm_roberta(tmp_path / "base", TEXTS)))
    modules = [first, Pooling(32), Dense(32, 8)]
    whole = SentenceTransformer(modules=modules, device="cpu")
    whole.save(str(tmp_path / "model"), create_model_card=False)
    assert load_light(tmp_path / "model", None) is None
    encoder = Encoder.load(str(tmp_path / "model"), device="cpu")
    assert encoder.dimensions == 8
    expected = whole.encode(TEXTS, normalize_embeddings=True)
    assert encoder.encode(TEXTS) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer"])
def test_a_vocabulary_that_transformers_would_read_otherwise_is_left(tmp_path, part):
    source = model_folder(OFFLINE_MINILM)
    folder = tmp_path / "minilm"
    folder.mkdir()
    (folder / "1_Pooling").mkdir()
    for path in [*source.glob("*.json"), *source.glob("1_Pooling/*.json")]:
        (folder / path.relative_to(source)).write_bytes(path.read_bytes())
    (folder / "model.safetensors").symlink_to(source / "model.safetensors")
    assert load_light(folder, None) is not None
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if part == "normalizer":
        edited(folder, "tokenizer_config.json", do_lower_case=False)
    else:
        tokenizer.pre_tokenizer = Whitespace()
        tokenizer.save(str(folder / "tokenizer.json"))
    assert load_light(folder, None) is None


def test_damaged_weights_are_an_error_that_names_the_folder(tmp_path):
    folder = xlm_roberta(tmp_path / "model", TEXTS)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        Encoder.load(str(folder), device="cpu")


def test_encoding_imports_neither_sentence_transformers_nor_transformers(tmp_path):
    folder = xlm_roberta(tmp_path / "model", TEXTS)
    code = (
        "import sys; from monoglot.learning.encoder import Encoder; "
        f"Encoder.load({str(folder)!r}, device='cpu').encode(['play a song']); "
        "print(sorted({'sentence_transformers', 'transformers', 'sklearn'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
