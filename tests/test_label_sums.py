"""Sums by label are those of a plain loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monoglot.learning import label_sums as module
from monoglot.learning.label_sums import label_sums


@pytest.fixture(autouse=True)
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROWS_PER_BLOCK", 7)
        yield


@settings(max_examples=50, deadline=None)
@given(
    rows=st.integers(0, 40),
    labels=st.integers(1, 6),
    seed=st.integers(0, 9),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_sums_are_those_of_a_plain_loop(rows, labels, seed, dtype):
    rng = np.random.default_rng(seed)
    codes, vectors = rng.integers(0, labels, rows), rng.normal(size=(rows, 3)).astype(np.float32)
    plain = np.zeros((labels, 3))
    for code, vector in zip(codes, vectors, strict=True):
        plain[code] += vector
    found = label_sums(codes, vectors, labels, dtype)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, plain, atol=1e-5)
