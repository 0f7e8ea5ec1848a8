"""Sums of vectors by label, in one pass over a million of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS_PER_BLOCK = 65_536


def label_sums(
    codes: NDArray[np.int64], vectors: NDArray[Any], labels: int, dtype: type[np.floating[Any]]
) -> NDArray[Any]:
    """(labels, d): the sum of the vectors of each label.

    Products with sparse matrices of ones: `numpy.add.at` does the same and takes far longer.

    Args:
        codes: (n,) label of each vector.
        vectors: (n, d).
        labels: number of labels; those without a vector have 0.
        dtype: of the sums.
    """
    from scipy.sparse import csc_array

    sums = np.zeros((labels, vectors.shape[1]), dtype)
    for start in range(0, len(vectors), _ROWS_PER_BLOCK):
        block = vectors[start : start + _ROWS_PER_BLOCK].astype(dtype, copy=False)
        places = codes[start : start + len(block)], np.arange(len(block) + 1)
        sums += csc_array((np.ones(len(block), dtype), *places), shape=(labels, len(block))) @ block
    return sums
