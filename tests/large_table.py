"""A table too large for memory, by a limit that is set low: built once for a file of tests."""

import hashlib
import shutil

import numpy as np
import polars as pl
import pytest
from test_index import knowledge_base, open_index

from monoglot.serving import index as index_module
from monoglot.serving import neighbours


def clustered(texts):
    """Unit vectors around 200 centres, as those of real queries are; the text names its centre."""
    centres = np.random.default_rng(0).normal(size=(200, 32))
    seeds = [int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) for text in texts]
    noise = np.array([np.random.default_rng(seed).normal(size=32) for seed in seeds])
    vectors = centres[[int(text.split()[1]) for text in texts]] + 0.4 * noise.reshape(-1, 32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def large():
    return knowledge_base([f"about {number % 200} case {number}" for number in range(21_000)])


@pytest.fixture(scope="module")
def little_memory():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "EXACT_NUMBERS", 20_000 * 32)
        yield


@pytest.fixture(scope="module")
def large_table(large, little_memory, tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    result = open_index(folder, dimensions=32).sync(large, clustered)
    assert result.recall >= neighbours.ENOUGH_RECALL
    return folder


@pytest.fixture
def large_folder(large_table, tmp_path):
    return shutil.copytree(large_table, tmp_path / "large")


def exact_scores(index, queries, k):
    return -np.sort(-(queries @ index.vectors().matrix.T), axis=1)[:, :k]


def some_edited(large, number):
    """60 rows with another text, each time others."""
    chosen = pl.int_range(pl.len()) // 60 == number
    return large.with_columns(
        query=pl.when(chosen).then(pl.col("query") + " edited").otherwise("query")
    )


def files_of(index):
    return index._table.to_lance().get_fragments()
