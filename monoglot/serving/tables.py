"""The index's LanceDB tables: columns, digests, facts kept with a version, and errors.

Facts of a whole table (model, format) are schema metadata; facts of one version (content, search)
are metadata of the vector column, which LanceDB can change by a commit and keeps per version.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.errors import DataError, StoreError
from monoglot.remote.place import is_remote, storage_options

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb import DBConnection
    from lancedb.table import LanceTable

Floats = NDArray[np.float32]

TEXTS = ("row_id", "query", "label", "label_path", "label_text", "answer")
_FORMAT = "1"


def table_name(model_digest: str) -> str:
    """The table of a model's vectors."""
    return f"kb-{model_digest[:16]}"


def schema(model_digest: str, dimensions: int) -> "pa.Schema":
    """Arrow schema of a table for vectors of `dimensions`.

    The key is declared from the start: without one, two processes that insert the same rows at
    once leave each row twice, and no error.
    """
    import pyarrow as pa

    key = {"lance-schema:unenforced-primary-key": "true"}
    return pa.schema(
        [
            pa.field("row_id", pa.string(), nullable=False, metadata=key),
            *(pa.field(name, pa.string()) for name in TEXTS[1:]),
            pa.field("text_digest", pa.string()),
            pa.field("row_digest", pa.string()),
            pa.field("vector", pa.list_(pa.float32(), dimensions)),
        ],
        metadata={"monoglot:format": _FORMAT, "monoglot:model": model_digest},
    )


def model_of(found: "pa.Schema") -> str:
    """Digest of the model that made a table's vectors, empty where the table says none."""
    return str((found.metadata or {}).get(b"monoglot:model", b"").decode())


def facts_of(found: "pa.Schema") -> dict[str, Any]:
    """Facts kept with a version: `content` and `effort`; empty until a sync has ended."""
    kept = (found.field("vector").metadata or {}).get(b"monoglot:facts", b"{}")
    return dict(json.loads(kept))


def facts_update(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The argument of LanceDB's `update_field_metadata` that keeps facts with a version."""
    return {"path": "vector", "metadata": {"monoglot:facts": json.dumps(facts)}}


def with_digests(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with the digest of the query alone and of all their texts.

    128 bits, since two texts with one digest would share a vector unnoticed.

    Raises:
        DataError: there is no row, or a row id twice.
    """
    if rows.is_empty():
        raise DataError("the knowledge base has no rows: there is nothing to search.")
    twice = rows.filter(pl.col("row_id").is_duplicated())["row_id"]
    if len(twice):
        raise DataError(
            f"{len(twice)} rows share their row_id with another one, the first: {twice[0]!r}. "
            "Give each row an id of its own."
        )
    whole = pl.struct(TEXTS).struct.json_encode()
    return rows.select(
        *TEXTS,
        text_digest=pl.col("query").map_batches(_digests, return_dtype=pl.String),
        row_digest=whole.map_batches(_digests, return_dtype=pl.String),
    )


def _digests(texts: pl.Series) -> pl.Series:
    # Polars' own hash changes with its version; SHA-256 of a million short texts takes a second.
    return pl.Series([hashlib.sha256(text.encode()).hexdigest()[:32] for text in texts])


def content_digest(row_digests: pl.Series) -> str:
    """Digest of a set of rows, in whatever order a table keeps them."""
    return hashlib.sha256("".join(row_digests.sort().to_list()).encode()).hexdigest()


def connect(uri: str) -> "DBConnection":
    """LanceDB at a folder, or at S3 with the same settings as the rest of the store."""
    import lancedb

    return lancedb.connect(uri, storage_options=storage_options(uri))


def open_or_create(uri: str, model_digest: str, dimensions: int) -> "LanceTable":
    """The newest version of a model's table, for writing.

    Raises:
        StoreError: it cannot be opened or created.
    """
    name = table_name(model_digest)
    with explained("opened"):
        base = connect(uri)
        try:
            return base.open_table(name)
        except ValueError:  # there is none, or the creation of one was killed
            return base.create_table(name, schema=schema(model_digest, dimensions))


def open_at(uri: str, name: str, version: int) -> "LanceTable":
    """One version of a table, for reading; what is written later is not seen.

    Raises:
        StoreError: the table or the version is gone.
    """
    if not is_remote(uri) and not (Path(uri) / f"{name}.lance").is_dir():
        # Connecting would create the folder.
        raise StoreError(f"{uri}: has no index table {name}. `monoglot run` builds it again.")
    with explained(f"opened at version {version} of {name}"):
        table = connect(uri).open_table(name)
        table.checkout(version)
        return table


def dimensions_of(found: "pa.Schema") -> int:
    """Length d of a table's vectors."""
    return int(found.field("vector").type.list_size)


def digests_of(table: "LanceTable") -> pl.DataFrame:
    """What a table holds, without texts and vectors: row_id, digests and LanceDB's `_rowid`."""
    query = table.search().select(["row_id", "text_digest", "row_digest"]).with_row_id(True)
    with explained("read"):
        return pl.DataFrame(query.to_arrow())


def sample_of(table: "LanceTable", count: int) -> pl.DataFrame:
    """Rows drawn by their digest, always the same ones: row_id, label, vector."""
    ids = digests_of(table).sort("row_digest").head(count)["_rowid"].to_list()
    with explained("read"):
        found = table.take_row_ids(ids).select(["row_id", "label", "vector"]).to_arrow()
    return pl.DataFrame(found).sort("row_id")


def matrix_of(found: "pa.Table | pa.RecordBatch") -> Floats:
    """The column `vector` as an (n, d) matrix."""
    import pyarrow as pa

    column = found["vector"]
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    flat = column.flatten().to_numpy()
    return np.asarray(flat.reshape(len(column), column.type.list_size), np.float32)


def hits(query: Any, columns: Sequence[str], k: int) -> pl.DataFrame:
    """Run a vector query: the k nearest rows per question, best first.

    Returns:
        `question` (number of the query), the columns, `score` (cosine).
    """
    with explained("searched"):
        # `_distance` is named, since LanceDB prints a warning per query where it is not.
        found = pl.DataFrame(query.select([*columns, "_distance"]).limit(k).to_arrow())
    number = pl.col("query_index") if "query_index" in found.columns else pl.lit(0)
    return found.select(
        number.cast(pl.UInt32).alias("question"),
        *columns,
        score=1 - pl.col("_distance"),
    ).sort("question", "score", "row_id", descending=[False, True, False])


@contextlib.contextmanager
def explained(work: str) -> Iterator[None]:
    """Turn LanceDB's errors inside the block into one that says what to do."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else repr(error)
        raise StoreError(
            f"the index cannot be {work} ({reason}). Check the free space and the owner of the "
            "store's folder; `monoglot run` builds again what is missing."
        ) from error
