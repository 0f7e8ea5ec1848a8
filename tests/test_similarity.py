"""Label similarity: each source against numbers made by hand, blends, and files with mistakes."""

import numpy as np
import polars as pl
import pytest

from monoglot.config_file import parse_config
from monoglot.errors import ConfigError, DataError
from monoglot.learning import similarity as similarity_module
from monoglot.learning.similarity import SPREAD, LabelSimilarity, label_similarity, shuffled
from monoglot.learning_config import SimilarityConfig

ROWS = pl.DataFrame(
    {
        "row_id": ["a", "b", "c", "d"],
        "query": ["refund late", "refund missing", "reset password", "refund wallet"],
        "label": ["late", "missing", "password", "wallet"],
        "label_path": ["refunds/late", "refunds/missing", "account/password", "refunds/wallet"],
        "label_text": ["late refund", None, "password", "wallet refund"],
        "part": ["training", "index", "training", "training"],
    }
)
LABELS = ROWS["label"].to_list()


def bag_of_words(texts):
    words = sorted({word for text in texts for word in text.split()})
    vectors = np.array(
        [[text.split().count(word) for word in words] for text in texts], dtype=np.float32
    )
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def matrix_of(found: LabelSimilarity) -> np.ndarray:
    """The scores of all pairs, 0 on the diagonal."""
    matrix = np.zeros((len(found.labels), len(found.labels)))
    np.put_along_axis(matrix, found.neighbours.astype(np.int64), found.scores, axis=1)
    return matrix


def from_late(found: LabelSimilarity) -> dict:
    own = found.labels.index("late")
    return {
        found.labels[label]: float(score)
        for label, score in zip(found.neighbours[own], found.scores[own], strict=True)
    }


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("path", {"missing": 1.0, "wallet": 1.0, "password": 0.0}),
        # A label without text is described by its path: "refunds missing".
        ("text", {"missing": 0.0, "wallet": 0.5, "password": 0.0}),
        ("centroid", {"missing": 0.5, "wallet": 0.5, "password": 0.0}),
    ],
)
def test_similarity_of_each_source(source, expected):
    encode = None if source == "path" else bag_of_words
    assert from_late(label_similarity(ROWS, SimilarityConfig(source=source), encode)) == (
        pytest.approx(expected)
    )


def test_a_centroid_is_the_mean_of_the_training_queries_alone():
    rows = pl.DataFrame(
        {
            "row_id": list("abcde"),
            "query": ["x", "y", "z", "x", "z"],
            "label": ["p", "p", "p", "q", "r"],
            "label_path": [None] * 5,
            "label_text": [None] * 5,
            "part": ["training", "training", "index", "index", "training"],
        },
        schema_overrides={"label_path": pl.String, "label_text": pl.String},
    )
    found = matrix_of(label_similarity(rows, SimilarityConfig(source="centroid"), bag_of_words))
    # p is the mean of x and y, q (index rows alone) is x, r is z.
    assert found[0] == pytest.approx([0, np.sqrt(0.5), 0])


def test_lexical_similarity_is_the_cosine_of_pieces_of_words():
    rows = ROWS.with_columns(query=pl.Series(["ab", "ab", "cd", "ab cd"]))
    found = matrix_of(label_similarity(rows, SimilarityConfig(source="lexical"), None))
    assert found[0, 1] == pytest.approx(1.0, abs=1e-6)
    assert found[0, 2] == 0.0
    # "ab cd" has the pieces of " ab " and those of " cd ", which are rarer (2 texts, not 3).
    common, rare = np.log(5 / 4) + 1, np.log(5 / 3) + 1
    assert found[0, 3] == pytest.approx(common / np.hypot(common, rare), abs=1e-6)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [(None, [1.0, 1 / np.sqrt(2), 0.0]), (2, [1.0, 1 / np.sqrt(2), 0.0]), (1, [1.0, 1.0, 0.0])],
)
def test_path_similarity_is_the_share_of_common_levels_down_to_a_depth(levels, expected):
    paths = ["pay/refund/late", "pay/refund/missing", "account/x/password", "pay/wallet"]
    rows = ROWS.with_columns(label_path=pl.Series(paths))
    found = matrix_of(label_similarity(rows, SimilarityConfig(source="path"), None, levels=levels))
    # late: pay, pay/refund; missing: the same; wallet: pay.
    assert [found[0, 1], found[0, 3], found[0, 2]] == pytest.approx(expected)


def test_without_any_level_the_path_tells_nothing():
    found = label_similarity(ROWS, SimilarityConfig(source="path"), None, levels=0)
    assert (matrix_of(found) == 0).all()


def test_path_similarity_without_paths_says_what_to_do():
    rows = ROWS.with_columns(pl.lit(None, dtype=pl.String).alias("label_path"))
    with pytest.raises(ConfigError, match="label_path column"):
        label_similarity(rows, SimilarityConfig(source="path"), None)


def test_what_a_source_lacks_is_counted():
    rows = ROWS.with_columns(label_path=pl.Series(["refunds/late", None, None, "refunds/wallet"]))
    text = label_similarity(rows, SimilarityConfig(source="text"), bag_of_words)
    assert text.warnings == (
        "similarity by text: 1 of 4 labels have no label_text; their path or name stands for it.",
    )
    path = label_similarity(rows, SimilarityConfig(source="path"), None)
    assert path.warnings[0] == "similarity by path: 2 of 4 labels have no label_path."
    assert "no source knows 2 of 4 labels" in path.warnings[1]
    blend = SimilarityConfig(source={"path": 1, "lexical": 1})
    assert label_similarity(rows, blend, None).warnings == path.warnings[:1]


def standardised(matrix: np.ndarray, known=slice(None)) -> np.ndarray:
    part = matrix[known][:, known]
    pairs = part[~np.eye(len(part), dtype=bool)]
    return (matrix - pairs.mean()) / pairs.std() * SPREAD


@pytest.mark.parametrize("block", [1, 3, 1024])
def test_a_blend_brings_its_sources_to_one_scale(monkeypatch, block):
    monkeypatch.setattr(similarity_module, "_BLOCK", block)
    rows = ROWS.with_columns(
        label_path=pl.Series(["refunds/late", None, "account/password", "refunds/wallet"])
    )
    alone = {
        source: matrix_of(label_similarity(rows, SimilarityConfig(source=source), bag_of_words))
        for source in ("centroid", "path")
    }
    config = SimilarityConfig(source={"centroid": 3, "path": 1})
    found = matrix_of(label_similarity(rows, config, bag_of_words))
    centroid = standardised(alone["centroid"])
    path = standardised(alone["path"], [0, 2, 3])  # `missing` has none: left to the centroid
    expected = 0.75 * centroid + 0.25 * path
    expected[1], expected[:, 1] = centroid[1], centroid[:, 1]
    np.fill_diagonal(expected, 0)
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_source_that_finds_all_alike_leaves_the_order_to_the_others():
    rows = ROWS.with_columns(label_path=pl.lit("all/") + pl.col("label"))
    alone = label_similarity(rows, SimilarityConfig(source="centroid"), bag_of_words)
    blend = SimilarityConfig(source={"centroid": 0.5, "path": 0.5})
    assert (label_similarity(rows, blend, bag_of_words).neighbours == alone.neighbours).all()


def test_beyond_some_labels_only_the_nearest_are_kept(monkeypatch):
    whole = label_similarity(ROWS, SimilarityConfig(), bag_of_words)
    monkeypatch.setattr(similarity_module, "DENSE_UP_TO", 3)
    monkeypatch.setattr(similarity_module, "NEIGHBOURS_BEYOND", 2)
    monkeypatch.setattr(similarity_module, "_BLOCK", 3)
    near = label_similarity(ROWS, SimilarityConfig(), bag_of_words)
    assert (near.neighbours == whole.neighbours[:, :2]).all()
    assert (near.scores == whole.scores[:, :2]).all()


def test_a_table_of_it_gives_it_back():
    found = label_similarity(ROWS, SimilarityConfig(), bag_of_words)
    again = LabelSimilarity.of_table(found.table())
    assert again.labels == found.labels
    assert (again.neighbours == found.neighbours).all()
    assert (again.scores == found.scores).all()


@pytest.mark.parametrize(("share", "moved"), [(0.0, 0), (0.25, 10), (0.5, 20), (1.0, 40)])
def test_shuffling_moves_a_share_of_the_labels_and_keeps_the_scores(share, moved):
    rng = np.random.default_rng(0)
    matrix = rng.uniform(0, 1, (40, 40))
    np.fill_diagonal(matrix, -1)
    order = np.argsort(-matrix, axis=1)[:, :39].astype(np.int32)
    scores = np.take_along_axis(matrix, order, axis=1).astype(np.float32)
    whole = LabelSimilarity(tuple(map(str, range(40))), order, scores)
    found = shuffled(whole, share, seed=3)
    assert (found.neighbours != np.arange(40)[:, None]).all()
    assert sorted(map(tuple, found.scores)) == sorted(map(tuple, scores))
    before, after = matrix_of(whole), matrix_of(found)
    # The scores among labels that stayed are theirs still; those of a moved label are another's.
    stayed = [label for label in range(40) if (found.scores[label] == scores[label]).all()]
    assert len(stayed) == 40 - moved
    assert (after[np.ix_(stayed, stayed)] == before[np.ix_(stayed, stayed)]).all()
    assert (shuffled(whole, share, seed=3).neighbours == found.neighbours).all()


PAIRS = pl.DataFrame(
    {
        "label": ["late", "late", "wallet", "missing"],
        "other": ["missing", "wallet", "late", "late"],
        "similarity": [0.9, 0.4, 0.2, 0.9],
    }
)
FULL = [[1, 0.9, 0.1, 0.4], [0.9, 1, 0, 0], [0.1, 0, 1, -0.5], [0.2, 0, -0.5, 1]]
MATRIX = pl.DataFrame({"label": LABELS, **dict(zip(LABELS, np.transpose(FULL), strict=True))})
WRITERS = {
    "csv": lambda frame, path: frame.write_csv(path),
    "tsv": lambda frame, path: frame.write_csv(path, separator="\t"),
    "jsonl": lambda frame, path: frame.write_ndjson(path),
    "parquet": lambda frame, path: frame.write_parquet(path),
}


def written(folder, frame, kind="csv"):
    path = folder / f"similarity.{kind}"
    WRITERS[kind](frame, path)
    return SimilarityConfig(source="file", file=path)


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_a_file_gives_pairs_or_a_matrix(tmp_path, kind):
    pairs = label_similarity(ROWS, written(tmp_path, PAIRS, kind), None)
    expected = np.zeros((4, 4))
    expected[[0, 1, 0, 3], [1, 0, 3, 0]] = [0.9, 0.9, 0.4, 0.2]  # the last way was given apart
    assert matrix_of(pairs) == pytest.approx(expected)
    assert pairs.warnings == (
        f"similarity.{kind}: 1 of 4 labels are not in it.",
        "similarity: no source knows 1 of 4 labels: all others are alike to them. Blend in "
        "another source, such as lexical.",
    )
    matrix = label_similarity(ROWS, written(tmp_path, MATRIX, kind), None)
    whole = np.array(FULL)
    np.fill_diagonal(whole, 0)
    assert matrix_of(matrix) == pytest.approx(whole)
    assert matrix.warnings == ()


def test_labels_that_the_knowledge_base_lacks_are_left_out_with_a_count(tmp_path):
    more = pl.DataFrame({"label": ["late", "lost"], "other": ["gone", "late"], "similarity": 0.5})
    config = written(tmp_path, pl.concat([PAIRS, more]))
    found = label_similarity(ROWS, config, None)
    assert found.warnings[1] == (
        "similarity.csv: 2 labels are not in the knowledge base and were left out, the first "
        "'lost'."
    )
    assert from_late(found) == pytest.approx({"missing": 0.9, "wallet": 0.4, "password": 0.0})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label,other,similarity\nlate,missing,0.5\nlate,wallet,high\n", "row 3: .* no number"),
        ("label,other,similarity\nlate,missing,\nlate,wallet,1\n", "row 2: the similarity is emp"),
        ("label,other,similarity\nlate,missing,0.5\n,wallet,0.5\n", "row 3: the label is empty"),
        ("label,other,similarity\nlate,missing,1.5\n", "row 2: .* from -1 to 1"),
        ("label,other,similarity\nlate,missing,nan\n", "row 2: .* from -1 to 1"),
        (
            "label,other,similarity\nlate,missing,0.5\nlate,wallet,0\nlate,missing,0.6\n",
            "row 4: the pair was given another similarity",
        ),
        ("label,other,similarity\nlate,missing,0.5,1\nlate,wallet,0.1\n", "row 2: 4 fields"),
        ("label,other,similarity\nx,y,0.5\n", "names no pair .* 'x'"),
        ("label,late,missing\nlate,1,0.5\nmissing,0.5,\nwallet,0,zero\n", "row 4: .* no number"),
        ("label,late,missing\nlate,1,\nmissing,0.5,1\n", "row 2: the similarity is empty"),
        ("label,x,y\nlate,1,0.5\n", "neither the columns other and similarity"),
        ("name,other,similarity\nlate,missing,0.5\n", "has no column label"),
    ],
)
def test_mistakes_in_a_file_are_named_with_their_row(tmp_path, text, said):
    path = tmp_path / "similarity.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        label_similarity(ROWS, SimilarityConfig(source="file", file=path), None)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_large_matrix_is_refused_and_pairs_are_proposed(tmp_path, monkeypatch):
    monkeypatch.setattr("monoglot.learning.similarity_file._LARGEST_MATRIX", 3)
    with pytest.raises(DataError, match="List pairs"):
        label_similarity(ROWS, written(tmp_path, MATRIX), None)
    assert label_similarity(ROWS, written(tmp_path, PAIRS), None).labels == tuple(LABELS)


@pytest.mark.parametrize(
    ("similarity", "said"),
    [
        ({"source": "centriod"}, "sampling.similarity.source: 'centriod' is no source"),
        ({"source": {"path": 0}}, "path: its weight must be a number above 0"),
        ({"source": {"path": True}}, "path: its weight must be a number above 0"),
        ({"source": {}}, "give at least one of centroid"),
        ({"source": ["path"]}, "name a source"),
        ({"source": "file"}, "file: name the file"),
        ({"file": "own.csv"}, "file: is given but not used"),
    ],
)
def test_a_wrong_source_is_refused_in_the_words_of_the_file(tmp_path, similarity, said):
    raw = {"knowledge_base": {"path": "kb.csv"}, "sampling": {"similarity": similarity}}
    with pytest.raises(ConfigError) as caught:
        parse_config(raw, tmp_path / "monoglot.yaml")
    assert said in str(caught.value)


def test_weights_add_up_to_one_and_files_are_found_beside_the_config(tmp_path):
    source = {"path": 1, "file": 3}
    raw = {
        "knowledge_base": {"path": "kb.csv"},
        "sampling": {"similarity": {"source": source, "file": "own.csv"}},
    }
    config = parse_config(raw, tmp_path / "monoglot.yaml").sampling.similarity
    assert config.file == tmp_path / "own.csv"
    assert config.weights == {"file": 0.75, "path": 0.25}
    assert not config.needs_model
    assert SimilarityConfig().needs_model
