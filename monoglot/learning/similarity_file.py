"""A user's own similarity of labels, read from a file of pairs or a matrix.

Pairs have the columns label, other and similarity; a pair counts both ways unless the other way is
listed, too, and one that is not listed has similarity 0. A matrix has a column label and one column
for each label, all cells filled. Every mistake names the file and the row.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.errors import DataError
from monoglot.knowledge.files import read_table
from monoglot.knowledge.rejects import ROW, RejectList, cleaned

_LARGEST_MATRIX = 2048  # labels: a larger one has more cells than a text file should

_PAIR = ("other", "similarity")


@dataclass(frozen=True)
class Given:
    """Similarities that a file lists, as a sparse array (L, L); 0 where it lists none."""

    sparse: Any
    known: NDArray[np.bool_]
    warnings: tuple[str, ...]

    def scores(self, start: int, stop: int) -> NDArray[np.float32]:
        """Similarities of some labels with all."""
        return np.asarray(self.sparse[start:stop].toarray(), dtype=np.float32)


def read_similarity(path: Path, labels: pl.Series) -> Given:
    """Read a file of similarities.

    Args:
        path: .csv, .tsv, .jsonl or .parquet.
        labels: of the knowledge base, sorted. Others that the file names are left out, with a
            count; those that it lacks are unknown to this source.

    Raises:
        DataError: the file cannot be used; says where and why.
    """
    from scipy.sparse import csr_array

    pairs, rejects = _pairs(path, labels)
    if rejects.entries:
        raise DataError(f"{path}: a record cannot be read. {rejects.first()} Mend it.")
    values = _checked(path, pairs)
    names = pl.DataFrame({"name": labels, "code": np.arange(len(labels))})
    coded = values.join(names, left_on="label", right_on="name", how="left").join(
        names, left_on="other", right_on="name", how="left", suffix="_other"
    )
    ours = coded.drop_nulls(["code", "code_other"])
    if ours.is_empty():
        raise DataError(
            f"{path}: names no pair of the knowledge base's labels. The first row is on "
            f"{values['label'][0]!r} and {values['other'][0]!r}; write labels as they are there."
        )
    both = _both_ways(ours)
    known = np.zeros(len(labels), dtype=np.bool_)
    known[ours["code"].to_numpy()] = known[ours["code_other"].to_numpy()] = True
    at = (both["code"].to_numpy(), both["code_other"].to_numpy())
    sparse = csr_array((both["similarity"].to_numpy(), at), shape=(len(labels), len(labels)))
    return Given(sparse, known, _warnings(path, known, coded))


def _pairs(path: Path, labels: pl.Series) -> tuple[pl.DataFrame, RejectList]:
    """Columns `_row`, label, other and similarity, as texts, of either form of file."""
    raw, rejects = read_table(path, None, ("label",), _PAIR)
    if raw["other"].null_count() < raw.height and raw["similarity"].null_count() < raw.height:
        return raw.with_columns(*cleaned("label", *_PAIR)), rejects
    columns = [label for label in labels if label not in ("label", *_PAIR)]
    if len(columns) > _LARGEST_MATRIX:
        raise DataError(
            f"{path}: has no columns other and similarity, and a matrix of {len(columns):,} labels "
            f"is too large (at most {_LARGEST_MATRIX:,}). List pairs: label, other, similarity."
        )
    wide, rejects = read_table(path, None, ("label",), columns)
    there = [name for name in columns if wide[name].null_count() < wide.height]
    if not there:
        raise DataError(
            f"{path}: has neither the columns other and similarity (pairs) nor a column named as "
            f"a label of the knowledge base (a matrix), such as {labels[0]!r}."
        )
    long = wide.unpivot(there, index=[ROW, "label"], variable_name="other", value_name="similarity")
    return long.sort(ROW, maintain_order=True).with_columns(
        *cleaned("label", "similarity")
    ), rejects


def _checked(path: Path, pairs: pl.DataFrame) -> pl.DataFrame:
    """The pairs with similarity as a number, each ordered pair once.

    Raises:
        DataError: names the first row that breaks a rule.
    """
    pairs = pairs.filter(pl.col("label").ne_missing(pl.col("other")))  # a matrix has a diagonal
    for column in ("label", "other", "similarity"):
        _refuse(path, pairs.filter(pl.col(column).is_null()), f"the {column} is empty")
    number = pl.col("similarity").cast(pl.Float64, strict=False)
    values = pairs.with_columns(number=number)
    _refuse(path, values.filter(pl.col("number").is_null()), "the similarity is no number")
    outside = ~pl.col("number").is_between(-1.0, 1.0)
    _refuse(path, values.filter(outside), "the similarity must be from -1 to 1")
    values = values.with_columns(similarity="number").drop("number")
    different = pl.col("similarity").n_unique().over("label", "other") > 1
    earlier = pl.col("similarity").first().over("label", "other") != pl.col("similarity")
    _refuse(path, values.filter(different & earlier), "the pair was given another similarity above")
    return values.unique(["label", "other"], keep="first", maintain_order=True)


def _refuse(path: Path, bad: pl.DataFrame, reason: str) -> None:
    if bad.height:
        row: dict[str, Any] = bad.row(0, named=True)
        _raise(
            f"{path}: row {row[ROW]}: {reason} (label {row['label']!r}, other {row['other']!r}, "
            f"similarity {row['similarity']!r}). {bad.height:,} such in all; mend the file."
        )


def _raise(message: str) -> NoReturn:
    raise DataError(message)


def _both_ways(pairs: pl.DataFrame) -> pl.DataFrame:
    """Each pair and, where it is not listed itself, its reverse."""
    columns = ["code", "code_other", "similarity"]
    reverse = pairs.select(
        pl.col("code_other").alias("code"), pl.col("code").alias("code_other"), "similarity"
    )
    missing = reverse.join(pairs, on=["code", "code_other"], how="anti")
    return pl.concat([pairs.select(columns), missing.select(columns)])


def _warnings(path: Path, known: NDArray[np.bool_], coded: pl.DataFrame) -> tuple[str, ...]:
    lacking = int((~known).sum())
    strange = pl.concat(
        [
            coded.filter(pl.col("code").is_null())["label"],
            coded.filter(pl.col("code_other").is_null())["other"],
        ]
    ).unique(maintain_order=True)
    said = []
    if lacking:
        said.append(f"{path.name}: {lacking:,} of {len(known):,} labels are not in it.")
    if len(strange):
        said.append(
            f"{path.name}: {len(strange):,} labels are not in the knowledge base and were left "
            f"out, the first {strange[0]!r}."
        )
    return tuple(said)
