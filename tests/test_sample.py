"""The sample is what its README says: balanced, untemplated, and neither easy nor hopeless."""

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import monoglot
from monoglot.config_file import load_config
from monoglot.knowledge.knowledge_base import load_knowledge_base
from monoglot.knowledge.queries import load_queries, load_translations
from monoglot.knowledge.split import leaking_rows, split_rows, without_leaks
from monoglot.learning.encoder import Encoder

SAMPLE = Path(monoglot.__file__).parent / "sample"


@pytest.fixture(scope="module")
def config():
    return load_config(SAMPLE / "monoglot.yaml")


@pytest.fixture(scope="module")
def rows(config):
    loaded = load_knowledge_base(config.knowledge_base)
    assert loaded.rejects.is_empty()
    assert loaded.warnings == ()
    return loaded.rows


@pytest.fixture(scope="module")
def questions(config):
    loaded = load_queries(config.evaluation)
    assert loaded.rejects.is_empty()
    return loaded.rows


def test_every_label_has_twelve_queries_one_answer_and_a_two_level_path(rows):
    labels = rows.group_by("label").agg(
        pl.len(), pl.col("answer").n_unique(), pl.col("label_path").first()
    )
    assert labels.height >= 60
    assert set(labels["len"]) == {12}
    assert set(labels["answer"]) == {1}
    assert all(path.count("/") == 1 for path in labels["label_path"])
    assert rows["answer"].null_count() == 0


def test_translations_are_those_of_the_training_set(config, rows):
    loaded = load_translations(config.languages[0], rows)
    assert loaded.rejects.is_empty()
    split = split_rows(rows, config.split, hold_out=False)
    training = split.filter(pl.col("part") == "training")["row_id"]
    assert sorted(loaded.rows["source_row_id"]) == sorted(training)


def test_nothing_of_the_test_queries_is_in_training(config, rows, questions):
    translations = load_translations(config.languages[0], rows).rows
    _, leaks = without_leaks(translations, questions)
    assert leaks.is_empty()
    assert not leaking_rows(rows, questions).any()


def trigrams(text):
    text = " ".join(text.casefold().split())
    return {text[start : start + 3] for start in range(len(text) - 2)}


def test_test_queries_are_not_templated(questions):
    assert questions.height >= 300
    assert set(questions["language"]) == {"hi-Latn"}
    sets = [(text, trigrams(text)) for text in questions["text"]]
    alike = [
        (one, two)
        for (one, a), (two, b) in itertools.combinations(sets, 2)
        if len(a & b) > 0.5 * min(len(a), len(b))
    ]
    assert alike == []


@pytest.mark.slow
def test_the_untuned_model_finds_some_and_misses_many(rows, questions):
    encoder = Encoder.load("offline-minilm")
    scores = encoder.encode(questions["text"].to_list()) @ encoder.encode(rows["query"].to_list()).T
    nearest = rows["label"].to_numpy()[scores.argmax(axis=1)]
    assert 0.3 < np.mean(nearest == questions["label"].to_numpy()) < 0.7
