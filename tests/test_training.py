"""Losses, and fine-tuning with resume, cached gradients, prefixes and LoRA, on tiny real models."""

# ruff: noqa: F811  fixtures are imported

import itertools

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from small_corpus import LABELS, all_texts, anchors, rows, similarity, triplets_of  # noqa: F401
from tiny_models import static_model, xlm_roberta

from monoglot.errors import ConfigError
from monoglot.learning import adapters, passes, sub_batches, training
from monoglot.learning.encoder import Encoder
from monoglot.learning.learned import Learned
from monoglot.learning.lessons import lessons_of
from monoglot.learning.material import Material
from monoglot.learning.objectives import OBJECTIVES, Batch, explicit, in_batch, training_loss
from monoglot.learning.passes import Passes
from monoglot.learning.spellings import SpellingNoise, spellings_of
from monoglot.learning_config import TrainingConfig


def test_token_embeddings_learn_at_a_rate_of_their_own(tmp_path, anchors, rows, similarity):
    base = str(xlm_roberta(tmp_path / "base", all_texts()))
    before = Encoder.load(base)

    def moved(embedding_rate):
        encoder = Encoder.load(base)
        config = TrainingConfig(batch_size=6, epochs=1, embedding_rate=embedding_rate)
        table = triplets_of(anchors, rows, similarity)
        scratch = tmp_path / f"{embedding_rate}"
        training.fine_tune(encoder, anchors, rows, table, config, scratch=scratch)
        return {
            name: (weights - start).abs().max().item()
            for (name, weights), (_, start) in zip(
                encoder.model.named_parameters(), before.model.named_parameters(), strict=True
            )
        }

    usual, faster = moved(1.0), moved(10.0)
    [table] = [name for name in usual if "word_embeddings" in name]
    # AdamW's first step is of one size: as large as the rate.
    assert faster.pop(table) == pytest.approx(10 * usual.pop(table), rel=0.01)
    assert faster == pytest.approx(usual, rel=0.01)


def unit(*rows):
    return torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float32), dim=-1)


def test_in_batch_masks_rows_of_the_same_label_wherever_they_are():
    anchors = unit([1.0, 0.2], [0.9, 0.1], [0.0, 1.0])
    positives = unit([1.0, 0.0], [1.0, 0.3], [0.1, 1.0])
    batch = Batch(
        anchors=anchors,
        positives=positives,
        negatives=unit([[0.5, 0.5]], [[0.4, 0.6]], [[0.9, 0.1]]),
        labels=torch.tensor([0, 0, 1]),
        negative_labels=torch.tensor([[1], [2], [0]]),
    )
    everything = torch.cat([positives, batch.negatives[:, 0]])
    scores = torch.exp(anchors @ everything.T / 0.5)
    # Columns: three positives (labels 0, 0, 1), three negatives (labels 1, 2, 0).
    allowed = [[0, 2, 3, 4], [1, 2, 3, 4], [2, 0, 1, 4, 5]]
    expected = [
        -torch.log(scores[row, columns[0]] / scores[row, columns].sum())
        for row, columns in enumerate(allowed)
    ]
    assert in_batch(batch, 0.5) == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)
    own = torch.exp((anchors * positives).sum(1) / 0.5)
    other = torch.exp((anchors * batch.negatives[:, 0]).sum(1) / 0.5)
    expected_explicit = -torch.log(own / (own + other)).mean().item()
    assert explicit(batch, 0.5) == pytest.approx(expected_explicit, rel=1e-5)


def romanised(anchors):
    return anchors.filter(language="hi-Latn")["query_id"]


def spelt_texts(anchors, rows, table, share, seed=0):
    """The anchors' texts of each epoch, and all texts."""
    noise = SpellingNoise(share, romanised(anchors), seed)
    texts, lessons = lessons_of(anchors, rows, table)
    texts, spelt = spellings_of(anchors, rows, texts, noise, epochs=len(lessons))
    return [
        [texts[place] for place in epoch[lesson.anchors]]
        for epoch, lesson in zip(spelt, lessons, strict=True)
    ], texts


def test_a_share_of_the_romanised_anchors_is_spelt_anew_in_each_epoch(anchors, rows, similarity):
    arabic = anchors.with_columns(language=pl.lit("ar"), query_id="ar-" + pl.col("query_id"))
    both = pl.concat([anchors, arabic])
    table = triplets_of(both, rows, similarity, epochs=100)
    plain, few = spelt_texts(both, rows, table, 0.0)
    half, more = spelt_texts(both, rows, table, 0.5)
    assert all(epoch == both.sort("query_id")["text"].to_list() for epoch in plain)
    changed = np.array([a != b for a, b in zip(plain, map(np.array, half), strict=True)])
    assert not changed[:, :6].any()  # Arabic
    assert 0.4 < changed[:, 6:].mean() < 0.6
    assert len({tuple(epoch) for epoch in half}) > 95
    assert more[: len(few)] == few
    assert len(set(more)) == len(set(few)) + len(more) - len(few)
    # Words of the knowledge base keep their spelling nearly always.
    alarms = [text for epoch in half for text in epoch if text.startswith(("do gh", "chhe"))]
    assert len(alarms) > 100
    assert sum(text.endswith("alarm") for text in alarms if text.startswith("do")) > 0.4 * 100
    assert spelt_texts(both, rows, table, 0.5) == (half, more)
    assert spelt_texts(both, rows, table, 0.5, seed=1)[0] != half
    arabic = both.with_columns(language=pl.lit("ar"))
    assert spelt_texts(arabic, rows, table, 1.0)[0] == plain


def tuned(folder, base, anchors, rows, triplets, config, **options):
    encoder = Encoder.load(str(base), max_tokens=config.max_tokens)
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    log = training.fine_tune(
        encoder,
        anchors,
        rows,
        triplets,
        config,
        scratch=scratch,
        respelt=romanised(anchors),
        **options,
    )
    encoder.save(folder / "model")
    return encoder, log


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_training_brings_translations_to_their_label(
    tmp_path, anchors, rows, similarity, objective
):
    base = static_model(tmp_path / "base", all_texts())
    config = TrainingConfig(
        objective=objective, epochs=30, batch_size=4, learning_rate=0.02, temperature=0.1
    )
    table = triplets_of(anchors, rows, similarity, epochs=30)
    encoder, log = tuned(tmp_path, base, anchors, rows, table, config)
    scores = encoder.encode(anchors["text"].to_list()) @ encoder.encode(rows["query"].to_list()).T
    nearest = [rows["label"][int(best)] for best in scores.argmax(axis=1)]
    assert nearest == anchors["label"].to_list()
    losses = log.steps["loss"]
    assert log.steps.height == 60
    assert losses[-5:].mean() < 0.3 * losses[:5].mean()
    assert log.steps["learning_rate"].max() <= 0.02
    # Distinct texts that were encoded: 6 anchors and up to 9 rows, the sampled negatives included.
    assert (log.texts > 30 * 12) == (objective in {"explicit", "both"})
    assert log.steps["learning_rate"][-1] < 0.001


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {
            "spelling_noise": 0.7,
            "learn_temperature": True,
            "objective": "guided",
            "mix": {"origin_weights": {"translated": 2}, "batches": "in_turn"},
        },
    ],
)
def test_a_killed_training_goes_on_and_ends_in_the_same_weights(
    tmp_path, anchors, rows, similarity, monkeypatch, extra
):
    base = xlm_roberta(tmp_path / "tiny-e5-like", all_texts())
    config = TrainingConfig(epochs=4, batch_size=4, learning_rate=1e-3, **extra)
    table = triplets_of(anchors, rows, similarity, epochs=4)
    monkeypatch.setattr(passes, "bf16_is_faster", lambda _model: True)
    whole, _ = tuned(tmp_path / "whole", base, anchors, rows, table, config)

    class Killed(BaseException):
        pass

    def kill(done, total):
        if done == 5:
            raise Killed

    monkeypatch.setattr(training, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    with pytest.raises(Killed):
        tuned(tmp_path / "killed", base, anchors, rows, table, config, on_step=kill)
    monkeypatch.setattr(passes, "bf16_is_faster", lambda _model: False)  # on a busy machine, say
    _, log = tuned(tmp_path / "killed", base, anchors, rows, table, config)
    assert log.resumed_at == 4
    assert log.bf16
    assert log.steps["step"].to_list() == list(range(1, 9))
    weights = [load_file(tmp_path / run / "model/model.safetensors") for run in ("whole", "killed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert whole.digest == Encoder.load(str(base)).digest  # the base itself is untouched


def test_the_default_rate_falls_with_the_square_of_the_width(tmp_path, anchors, rows, similarity):
    base = static_model(tmp_path / "base", all_texts(), dimensions=192)
    config = TrainingConfig(epochs=10, batch_size=4, warmup_share=0.5)
    table = triplets_of(anchors, rows, similarity, epochs=10)
    _, log = tuned(tmp_path, base, anchors, rows, table, config)
    assert log.steps["learning_rate"].max() == pytest.approx(4 * 2e-4)


@pytest.mark.parametrize("limit", [8, 200])
def test_a_tuned_model_reads_as_far_as_it_was_trained_to(
    tmp_path, anchors, rows, similarity, limit
):
    base = xlm_roberta(tmp_path / "base", all_texts())
    config = TrainingConfig(epochs=1, max_tokens=limit)
    table = triplets_of(anchors, rows, similarity, epochs=1)
    own = Encoder.load(str(base)).model.max_seq_length
    assert own > 8
    tuned(tmp_path, base, anchors, rows, table, config)
    saved = Encoder.load(str(tmp_path / "model"))
    assert saved.model.max_seq_length == min(limit, own)


def anchored(tmp_path, rows, similarity, anchors, epochs=4, **settings):
    """A short training of the tiny transformer; the weights and the log."""
    base = xlm_roberta(tmp_path / "base", all_texts())
    config = TrainingConfig(
        **{"epochs": epochs, "batch_size": 6, "learning_rate": 1e-3, **settings}
    )
    table = triplets_of(anchors, rows, similarity, epochs=epochs)
    encoder, log = tuned(tmp_path / "run", base, anchors, rows, table, config)
    return encoder.model.state_dict(), log


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "both"},
        {"objective": "guided", "learn_temperature": True},
        {"objective": "supervised", "matryoshka_dimensions": [8], "spelling_noise": 1.0},
    ],
)
def test_cached_gradients_are_those_of_the_plain_pass(
    tmp_path, anchors, rows, similarity, monkeypatch, settings
):
    monkeypatch.setitem(sub_batches.SIZES, "cpu", sub_batches.Size(most=3, overhead=1))
    base = str(xlm_roberta(tmp_path / "base", all_texts()))
    found = []
    for cached in (False, True):
        encoder = Encoder.load(base)
        config = TrainingConfig(batch_size=6, **settings)
        table = triplets_of(anchors, rows, similarity)
        material = Material(encoder, anchors, rows, table, config, respelt=romanised(anchors))
        step, given = material.at(0), Passes(encoder, material.texts)
        learned = Learned(encoder, config)
        backward = given.backward_cached if cached else given.backward
        loss = backward(
            step.positions,
            lambda vectors, s=step, k=learned, c=config: training_loss(
                s.batch(vectors), k.temperature, c
            ),
        )
        gradients = {
            name: weights.grad
            for name, weights in learned.state.model.named_parameters()
            if weights.grad is not None
        }
        found.append((loss.item(), gradients))
    (plain_loss, plain), (cached_loss, again) = found
    assert cached_loss == pytest.approx(plain_loss, rel=1e-6)
    assert plain.keys() == again.keys()
    assert ("loss.log_temperature" in plain) == settings.get("learn_temperature", False)
    largest = max(float(gradient.abs().max()) for gradient in plain.values())
    assert largest > 1e-3
    for name, gradient in plain.items():
        assert torch.allclose(gradient, again[name], atol=1e-5 * largest), name


@pytest.mark.parametrize("cached", [False, True])
def test_the_gradients_are_those_of_one_padded_batch(tmp_path, anchors, rows, monkeypatch, cached):
    monkeypatch.setitem(sub_batches.SIZES, "cpu", sub_batches.Size(most=3, overhead=1))
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
    backward(np.array([1]), lambda vectors: vectors.sum())
    encoder.model.zero_grad()  # of a step before, nothing is left in memory that stays
    twice = np.array([*range(len(texts)), 0])  # a text that stands there twice is encoded once
    for _ in range(2):  # gradients add up, in the gathered rows as elsewhere
        backward(twice, lambda vectors: (vectors[:-1] * weights).cos().sum())
    assert passed.encoded == 2 * len(set(texts)) + 1
    largest = max(float(it.abs().max()) for it in plain.values() if it is not None)
    table = encoder.model.transformers_model.get_input_embeddings().weight
    assert largest > 1e-3
    assert (table.grad != 0).any()
    for name, found in encoder.model.named_parameters():
        if plain[name] is None:
            assert found.grad is None, name
        else:
            assert torch.allclose(found.grad, 2 * plain[name], atol=1e-5 * largest), name


@given(st.lists(st.integers(1, 8), max_size=9).map(sorted), st.integers(1, 4), st.integers(0, 12))
def test_sub_batches_are_cut_where_it_costs_least(lengths, most, overhead):
    def cost(ends):
        starts = [0, *ends]
        return sum(
            (end - start) * lengths[end - 1] + overhead
            for start, end in zip(starts, [*ends, len(lengths)], strict=True)
            if end > start
        )

    def allowed(ends):
        edges = [0, *ends, len(lengths)]
        return all(end - start <= most for start, end in itertools.pairwise(edges))

    found = sub_batches.cuts(np.array(lengths, dtype=np.int64), most, overhead)
    places = range(1, len(lengths))
    ways = [
        ends
        for number in range(len(lengths) + 1)
        for ends in itertools.combinations(places, number)
        if allowed(ends)
    ]
    assert allowed(found)
    assert cost(found) == min(map(cost, ways), default=0)


def test_a_cached_training_takes_the_steps_of_a_plain_one(tmp_path, anchors, rows, similarity):
    plain, log = anchored(tmp_path / "plain", rows, similarity, anchors)
    cached, other = anchored(tmp_path / "cached", rows, similarity, anchors, gradient_cache=True)
    assert other.steps["loss"].to_list() == pytest.approx(log.steps["loss"].to_list(), abs=1e-4)
    assert all(torch.allclose(plain[name], cached[name], atol=1e-3) for name in plain)
    assert other.texts == log.texts


def test_a_learned_temperature_moves_stays_in_bounds_and_is_logged(
    tmp_path, anchors, rows, similarity
):
    _, fixed = anchored(tmp_path / "fixed", rows, similarity, anchors)
    assert set(fixed.steps["temperature"]) == {0.025}
    assert fixed.temperature == 0.025
    _, log = anchored(
        tmp_path / "learned", rows, similarity, anchors, temperature=0.5, learn_temperature=True
    )
    seen = log.steps["temperature"].to_list()
    assert seen[0] == pytest.approx(0.5)
    assert len(set(seen)) == len(seen)
    assert log.temperature != seen[-1]
    wild, bounded = anchored(
        tmp_path / "wild",
        rows,
        similarity,
        anchors,
        learning_rate=0.3,
        temperature=1.0,
        learn_temperature=True,
    )
    assert all(0.01 - 1e-6 <= value <= 1 + 1e-6 for value in bounded.steps["temperature"])
    assert {round(value, 4) for value in bounded.steps["temperature"]} & {0.01, 1.0}
    assert "log_temperature" not in str(wild.keys())


def test_a_prefix_ranks_better_for_being_trained(tmp_path, anchors, rows, similarity):
    base = static_model(tmp_path / "base", all_texts())
    table = triplets_of(anchors, rows, similarity, epochs=60)
    losses = {}
    for name, dimensions in (("whole", ()), ("prefix", (4,))):
        config = TrainingConfig(
            epochs=60,
            batch_size=6,
            learning_rate=0.02,
            matryoshka_dimensions=dimensions,
            spelling_noise=0.0,  # would hide the difference among six anchors
        )
        encoder, _ = tuned(tmp_path / name, base, anchors, rows, table, config)
        asked, answers = (
            torch.as_tensor(encoder.encode(texts.to_list()))
            for texts in (anchors["text"], rows["query"])
        )
        labels = [LABELS.index(label) for label in anchors["label"]]
        known = [LABELS.index(label) for label in rows["label"]]
        for size in (4, asked.shape[1]):
            scores = (
                torch.nn.functional.normalize(asked[:, :size])
                @ torch.nn.functional.normalize(answers[:, :size]).T
            )
            shares = (scores / 0.05).softmax(1)
            right = torch.tensor([[a == b for b in known] for a in labels])
            losses[name, size] = -float((shares * right).sum(1).log().mean())
    assert losses["prefix", 4] < 0.5 * losses["whole", 4]


def test_a_prefix_must_be_shorter_than_the_vectors(tmp_path, anchors, rows, similarity):
    with pytest.raises(ConfigError, match="32 dimensions"):
        anchored(tmp_path, rows, similarity, anchors, epochs=1, matryoshka_dimensions=[8, 32])


def test_every_mix_trains_as_many_anchors(tmp_path, anchors, rows, similarity):
    mixed = anchors.with_columns(
        language=pl.when(pl.col("label") == "music").then(pl.lit("ar")).otherwise("language")
    )
    mix = {"batches": "in_turn", "language_temperature": 5, "origin_weights": {"native": 2}}
    _, log = anchored(tmp_path, rows, similarity, mixed, batch_size=2, mix=mix)
    assert log.steps.height == 4 * 4  # three anchors of either language: two batches each
    assert log.steps["loss"].is_finite().all()


def test_lora_without_peft_says_what_to_install(tmp_path, anchors, rows, similarity, monkeypatch):
    monkeypatch.setattr(adapters, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'monoglot\[lora\]'"):
        anchored(tmp_path, rows, similarity, anchors, lora_rank=4)


def test_lora_needs_a_transformer(tmp_path):
    encoder = Encoder.load(str(static_model(tmp_path / "static", all_texts())))
    with pytest.raises(ConfigError, match="no transformer"):
        adapters.add_adapter(encoder, 4, seed=0)


def test_lora_trains_low_rank_changes_and_leaves_a_plain_model(tmp_path, anchors, rows, similarity):
    pytest.importorskip("peft", reason="the extra lora is not installed")
    weights, _ = anchored(tmp_path, rows, similarity, anchors, lora_rank=2, learning_rate=0.01)
    before = Encoder.load(str(tmp_path / "base")).model.state_dict()
    saved = Encoder.load(str(tmp_path / "run" / "model")).model.state_dict()
    assert before.keys() == weights.keys() == saved.keys()
    assert all(torch.equal(weights[name], saved[name]) for name in saved)
    ranks = {
        name: int(torch.linalg.matrix_rank((saved[name] - before[name]).double(), atol=1e-6))
        for name in before
        if before[name].ndim == 2 and not torch.equal(saved[name], before[name])
    }
    assert ranks
    assert set(ranks.values()) == {2}
    assert all("embeddings" not in name for name in ranks)
    again, _ = anchored(
        tmp_path / "again", rows, similarity, anchors, lora_rank=2, learning_rate=0.01
    )
    assert all(torch.equal(weights[name], again[name]) for name in weights)
