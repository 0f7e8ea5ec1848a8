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
    from lance import LanceDataset
    from lancedb import DBConnection
    from lancedb.table import LanceTable

Floats = NDArray[np.float32]

TEXTS = ("row_id", "query", "label", "label_path", "label_text", "answer")
ANSWERING = ("row_id", "query", "label", "label_path", "answer")
_FORMAT = "1"
_ROWS_PER_BLOCK = 32_768


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
    """Facts kept with a version, as `Index` records them when a sync ends; empty until then.

    `version` that they are facts of, `content` (digest of the rows), `effort` of an approximate
    search and the version that it reads (`undeleted`), the votes' `temperature`, and how many rows
    changed since effort or temperature was measured: `unmeasured` and `drift`.
    """
    kept = (found.field("vector").metadata or {}).get(b"monoglot:facts", b"{}")
    return dict(json.loads(kept))


def facts_update(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The argument of LanceDB's `update_field_metadata` that keeps facts with a version."""
    return {"path": "vector", "metadata": {"monoglot:facts": json.dumps(facts)}}


def with_row_digests(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with the digest of all their texts.

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
    return rows.select(*TEXTS, row_digest=whole.map_batches(_digests, return_dtype=pl.String))


def with_text_digests(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with the digest of the query alone, by which a vector is found again."""
    return rows.with_columns(
        text_digest=pl.col("query").map_batches(_digests, return_dtype=pl.String)
    )


def _digests(texts: pl.Series) -> pl.Series:
    # 128 bits, since two texts with one digest would share a vector unnoticed. Polars' own hash
    # changes with its version; SHA-256 of a million short texts takes two seconds.
    encoded = texts.cast(pl.Binary).to_list()
    return pl.Series([hashlib.sha256(text).hexdigest()[:32] for text in encoded])


def content_digest(row_digests: pl.Series) -> str:
    """Digest of a set of rows, in whatever order a table keeps them."""
    whole: str = row_digests.sort().str.join("").item()
    return hashlib.sha256(whole.encode()).hexdigest()


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


def by_lance(table: "LanceTable") -> "LanceDataset":
    """A table by Lance's own library, which does some things that LanceDB does not pass on."""
    return table.to_lance()


def digests_of(table: "LanceTable") -> pl.DataFrame:
    """What a table holds, without texts and vectors: row_id, digests and LanceDB's `_rowid`."""
    return _columns_of(table, "row_id", "text_digest", "row_digest", with_row=True)


def sample_of(table: "LanceTable", count: int, digests: pl.DataFrame) -> pl.DataFrame:
    """Rows drawn by their digest, always the same ones: row_id, label, vector.

    Args:
        table: to draw from.
        count: of rows.
        digests: its `digests_of`.
    """
    ids = digests.bottom_k(count, by="row_digest")["_rowid"].to_list()
    with explained("read"):
        found = table.take_row_ids(ids).select(["row_id", "label", "vector"]).to_arrow()
    return pl.DataFrame(found).sort("row_id")


def ids_of(table: "LanceTable") -> pl.Series:
    """The id of every row."""
    return _columns_of(table, "row_id")["row_id"]


def rows_of(table: "LanceTable") -> NDArray[np.uint64]:
    """LanceDB's id of every row, ascending."""
    query = table.search().select(["_rowid"])
    with explained("read"):
        parts = [it["_rowid"].to_numpy() for it in query.to_batches(batch_size=_ROWS_PER_BLOCK)]
    return np.sort(np.concatenate(parts))


def _columns_of(table: "LanceTable", *columns: str, with_row: bool = False) -> pl.DataFrame:
    """Some columns of all rows; `to_arrow` reads a thousand at a time, which takes three times."""
    query = table.search().select(list(columns)).with_row_id(with_row)
    with explained("read"):
        batches = list(query.to_batches(batch_size=_ROWS_PER_BLOCK))
    kinds = {**dict.fromkeys(columns, pl.String), **({"_rowid": pl.UInt64} if with_row else {})}
    return pl.concat([pl.DataFrame(schema=kinds), *map(pl.DataFrame, batches)], rechunk=True)


def blocks_of(
    table: "LanceTable", columns: Sequence[str] = (), *, with_row: bool = False
) -> Iterator[tuple[pl.DataFrame, Floats]]:
    """Some columns of all rows and their vectors, a part at a time.

    Args:
        table: to read.
        columns: of texts.
        with_row: LanceDB's `_rowid` as well.
    """
    wanted = [*columns, *(["_rowid"] if with_row else [])]
    with explained("read"):
        query = table.search().select([*columns, "vector"]).with_row_id(with_row)
        for batch in query.to_batches(batch_size=_ROWS_PER_BLOCK):
            # Copied: a batch is freed as a whole, so that its texts would keep its vectors.
            texts = batch.select(wanted).take(np.arange(len(batch)))
            yield pl.DataFrame(texts), matrix_of(batch)


def matrix_of(found: "pa.Table | pa.RecordBatch") -> Floats:
    """The column `vector` as an (n, d) matrix."""
    import pyarrow as pa

    column = found["vector"]
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    flat = column.flatten().to_numpy()
    return np.asarray(flat.reshape(len(column), column.type.list_size), np.float32)


def labels_of(table: "LanceTable") -> pl.DataFrame:
    """Every row's `row` (LanceDB's id in this version), row_id and label, by `row`."""
    return (
        _columns_of(table, "row_id", "label", with_row=True).rename({"_rowid": "row"}).sort("row")
    )


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
