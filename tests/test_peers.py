"""Peers: what they mine, learn and answer, on tiny real models."""

import numpy as np
import polars as pl
import pytest
from small_corpus import ENGLISH, HINGLISH, all_texts
from tiny_models import static_model, xlm_roberta

from monoglot.contracts import Triplets
from monoglot.errors import DataError
from monoglot.generation.query_translation import by_lexicon, foreign_languages, read_lexicon
from monoglot.learning.encoder import Encoder
from monoglot.learning.peers import distil, steps_of, train_classifier
from monoglot.learning.st_mining import mine, mined_triplets
from monoglot.learning_config import TrainingConfig

CONFIG = TrainingConfig(epochs=20, batch_size=4, learning_rate=0.02)


@pytest.fixture
def encoder(tmp_path):
    return Encoder.load(str(static_model(tmp_path / "static", all_texts())))


@pytest.fixture
def anchors():
    return pl.DataFrame(
        [
            {
                "query_id": f"q-{label}-{number}",
                "text": text,
                "label": label,
                "english": ENGLISH[label][number],
                "source_row_id": f"{label}-{number}",
            }
            for label, texts in HINGLISH.items()
            for number, text in enumerate(texts)
        ]
    )


@pytest.fixture
def rows():
    return pl.DataFrame(
        [
            {"row_id": f"{label}-{number}", "query": query, "label": label}
            for label, queries in ENGLISH.items()
            for number, query in enumerate(queries)
        ]
    )


def unit(*angles):
    """Vectors in the plane at these angles, in degrees."""
    turned = np.radians(angles)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)


def test_what_is_nearer_than_the_positive_less_the_margin_is_not_mined():
    # Positive at 40 degrees: cos .766, less 5 % .728, which is 43.3 degrees.
    rows = unit(40, 10, 42, 44, 50, 80)
    found = mine(
        pl.Series(["a"]), unit(0), rows, np.arange(6), positives=np.array([0]), negatives=2
    )
    assert found.tolist() == [[3, 4]]


def test_anchors_of_one_text_share_their_positives_and_equal_rows_are_one():
    rows = unit(40, 60, 70, 70, 80)
    first = np.array([0, 1, 2, 2, 4])
    found = mine(
        pl.Series(["a", "a"]), unit(0, 0), rows, first, positives=np.array([0, 1]), negatives=2
    )
    assert found.tolist() == [[2, 4], [2, 4]]


def test_an_anchor_with_too_few_rows_below_the_margin_is_left_out():
    found = mine(
        pl.Series(["a"]), unit(0), unit(40, 10), np.arange(2), positives=np.array([0]), negatives=1
    )
    assert found.tolist() == [[-1]]


def test_mined_triplets_take_as_many_steps_and_count_their_right_answers(encoder, anchors, rows):
    mined = mined_triplets(
        anchors,
        encoder.encode(anchors["text"].to_list()),
        rows,
        encoder.encode(rows["query"].to_list()),
        negatives=2,
        epochs=6,
        batch_size=4,
        seed=0,
    )
    assert Triplets.is_valid(mined.triplets)
    kept = mined.triplets.filter(epoch=0)
    assert kept.height == anchors.height - mined.dropped > 0
    rounds = mined.triplets["epoch"].n_unique()
    assert rounds * -(-kept.height // 4) == pytest.approx(6 * 3, abs=2)
    label = dict(rows.select("row_id", "label").iter_rows())
    own = dict(anchors.select("query_id", "label").iter_rows())
    same = [
        label[row] == own[anchor]
        for anchor, negatives in kept.select("anchor", "negative_rows").iter_rows()
        for row in negatives
    ]
    assert mined.same_label == pytest.approx(np.mean(same))
    source = dict(anchors.select("query_id", "source_row_id").iter_rows())
    assert all(
        source[anchor] == row for anchor, row in kept.select("anchor", "positive_row").iter_rows()
    )


def test_the_rule_is_that_of_sentence_transformers(encoder, anchors, rows):
    datasets = pytest.importorskip("datasets")
    from sentence_transformers.util import mine_hard_negatives

    vectors = [encoder.encode(each.to_list()) for each in (anchors["text"], rows["query"])]
    ours = mined_triplets(
        anchors, vectors[0], rows, vectors[1], negatives=2, epochs=1, batch_size=64, seed=0
    )
    sources = anchors.join(rows, left_on="source_row_id", right_on="row_id", maintain_order="left")
    theirs = mine_hard_negatives(
        datasets.Dataset.from_dict(
            {"a": anchors["text"].to_list(), "p": sources["query"].to_list()}
        ),
        encoder.model,
        corpus=rows["query"].to_list(),
        relative_margin=0.05,
        num_negatives=2,
        sampling_strategy="top",
        output_format="n-tuple",
        verbose=False,
    )
    text = dict(rows.select("row_id", "query").iter_rows())
    asked = dict(anchors.select("query_id", "text").iter_rows())
    mined = {
        asked[anchor]: [text[row] for row in negatives]
        for anchor, negatives in ours.triplets.select("anchor", "negative_rows").iter_rows()
    }
    assert mined == {row["a"]: [row["negative_1"], row["negative_2"]] for row in theirs}
    assert mined


def cosines(encoder, anchors):
    vectors = [encoder.encode(anchors[column].to_list()) for column in ("text", "english")]
    return (vectors[0] * vectors[1]).sum(axis=1).mean()


@pytest.mark.parametrize("make", [static_model, xlm_roberta])
def test_distillation_brings_translations_to_their_english(tmp_path, anchors, make):
    encoder = Encoder.load(str(make(tmp_path / "model", all_texts())))
    before, english = cosines(encoder, anchors), encoder.encode(anchors["english"].to_list())
    rate = 0.02 if make is static_model else 2e-3
    config = CONFIG.model_copy(update={"learning_rate": rate})
    steps = steps_of(anchors.height, config)
    losses = distil(encoder, anchors, config, steps=steps)
    assert (steps, len(losses)) == (60, 60)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert cosines(encoder, anchors) > before
    now = encoder.encode(anchors["english"].to_list())
    assert (now * english).sum(axis=1).min() > 0.7  # English stays where it was


def test_a_classifier_learns_labels_in_both_languages(encoder, anchors, rows):
    texts = pl.concat(
        [
            anchors.select("text", "label"),
            rows.select("label", text="query").select("text", "label"),
        ]
    )
    head, losses = train_classifier(encoder, texts, CONFIG, steps=60)
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    answered = head.probabilities(encoder.encode(texts["text"].to_list())).argmax(axis=1)
    assert head.labels.gather(answered).to_list() == texts["label"].to_list()


def test_a_lexicon_translates_the_words_it_knows(tmp_path):
    path = tmp_path / "words.tsv"
    path.write_text("source\ttarget\nKahan\twhere\nhai\tis\nhai\tare\n", encoding="utf-8")
    words = read_lexicon(path)
    assert words == {"kahan": "where", "hai": "is"}
    assert by_lexicon("Order kahan hai?", words) == ("order where is", 3, 2)


def test_a_lexicon_with_a_phrase_is_refused_by_line(tmp_path):
    path = tmp_path / "words.csv"
    path.write_text("source,target\nkahan,where\nkahan hai,where is\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"words.csv, line 3: 'kahan hai' -> 'where is'"):
        read_lexicon(path)


def test_questions_in_the_knowledge_bases_language_are_not_translated():
    asked = pl.DataFrame({"language": ["hi-Latn", "en", "ar", "ar"]})
    assert foreign_languages(asked, "EN") == ("ar", "hi-Latn")
