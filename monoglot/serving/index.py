"""`Index`: the knowledge base's rows and their vectors in LanceDB, one table per model.

A table grows by versions. A release names one version and reads that one for ever, while the next
is being written: `Index.at` never follows. Nothing here removes a version, since a release may name
it: that is what `pruning` does, which knows the versions that are named.
"""

import functools
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from monoglot.errors import StaleVectorsError
from monoglot.learning import votes
from monoglot.serving import approximate, compaction, neighbours, syncing, tables
from monoglot.serving.approximate import Measured
from monoglot.serving.drift import has_drifted
from monoglot.serving.neighbours import Effort, Floats
from monoglot.serving.row_labels import RowLabels
from monoglot.serving.syncing import Encode, Progress
from monoglot.serving.table_search import TableSearch
from monoglot.serving.tables import ANSWERING
from monoglot.serving.vectors import Asked, Vectors

if TYPE_CHECKING:
    from lancedb.table import LanceTable

# Numbers in all vectors: so many (80 MB) are kept in memory. One query is compared with all of them
# in 5 ms on two cores (benchmarks/results/speed.md); an approximate search of twice as many takes
# no longer.
EXACT_NUMBERS = 20_000_000
_ONCE_EXACT_NUMBERS = 40_000_000  # in versions that were made when so many were kept in memory


@dataclass(frozen=True)
class SyncResult:
    """What a sync did, and the version it left.

    Attributes:
        table: name of the table.
        version: the version that holds exactly the rows that were asked for.
        rows: rows in it.
        added: rows whose id is new, in this process's share.
        updated: rows with another text, label or answer, in this process's share.
        removed: rows deleted.
        encoded: texts that were encoded; the others had a vector already.
        content: digest of the rows, in no order.
        recall: of the approximate search against the exact one; None: the search is exact.
    """

    table: str
    version: int
    rows: int
    added: int
    updated: int
    removed: int
    encoded: int
    content: str
    recall: float | None


class _Seen(NamedTuple):
    """A version's facts, read once: each look at the table costs a millisecond of a search."""

    version: int
    rows: int
    dimensions: int
    model_digest: str
    content: str
    effort: Effort | None
    unmeasured: int | None
    temperature: float | None
    drift: int
    undeleted: int | None
    is_whole: bool


def _look(table: "LanceTable") -> _Seen:
    schema = table.schema
    facts = tables.facts_of(schema)
    effort = facts.get("effort")
    # Facts stay with the table as it is written on, by a sync that is cut off.
    is_whole = facts.get("version", table.version) == table.version
    return _Seen(
        version=int(table.version),
        rows=int(table.count_rows()),
        dimensions=tables.dimensions_of(schema),
        model_digest=tables.model_of(schema),
        content=str(facts.get("content", "")),
        effort=None if effort is None else Effort(**effort),
        unmeasured=facts.get("unmeasured"),
        temperature=facts.get("temperature"),
        drift=int(facts.get("drift", 0)),
        undeleted=facts.get("undeleted") if is_whole else None,
        is_whole=is_whole,
    )


def _measured(before: _Seen, edits: int) -> Measured | None:
    """How a version was searched, after some edits; None: not by an index, or it does not tell."""
    if before.effort is None or before.unmeasured is None:
        return None
    return Measured(before.effort, before.unmeasured + edits)


class Index:
    """One model's table, or one version of it. Open it with `of_model` or `at`."""

    def __init__(self, uri: str, table: "LanceTable") -> None:
        self._uri = uri
        self._table = table
        with tables.explained("read"):
            self._seen = _look(table)
        self._held: tuple[int, pl.DataFrame, Floats] | None = None
        self._labels: tuple[int, RowLabels] | None = None
        self._known: tuple[int, pl.DataFrame] | None = None
        self._searched: tuple[int, TableSearch] | None = None
        self._comparing = threading.Lock()
        self._reading = threading.Lock()  # by the first search alone, if many come at once

    @classmethod
    def of_model(cls, uri: str, model_digest: str, dimensions: int) -> "Index":
        """Open the newest version of a model's table for writing; create it where there is none.

        Raises:
            StaleVectorsError: the table was made by another model, or has other dimensions.
            StoreError: it cannot be opened or created.
        """
        table = tables.open_or_create(uri, model_digest, dimensions)
        index = cls(uri, table)
        index._check_model(model_digest, dimensions)
        return index

    @classmethod
    def at(cls, uri: str, table: str, version: int) -> "Index":
        """Open one version of a table for reading. It never follows later writes.

        Raises:
            StoreError: the table or the version is gone.
        """
        return cls(uri, tables.open_at(uri, table, version))

    def _check_model(self, model_digest: str, dimensions: int) -> None:
        if self.model_digest != model_digest or self.dimensions != dimensions:
            raise StaleVectorsError(
                f"{self._uri}: table {self.name} holds vectors of {self.dimensions} dimensions of "
                f"model {self.model_digest[:16] or 'unknown'}, not {dimensions} of model "
                f"{model_digest[:16]}. Remove the table's folder; `monoglot run` builds it again."
            )

    @property
    def name(self) -> str:
        """Name of the table."""
        return str(self._table.name)

    @property
    def version(self) -> int:
        """Version that is read."""
        return self._seen.version

    @property
    def model_digest(self) -> str:
        """Digest of the model that made the vectors."""
        return self._seen.model_digest

    @property
    def dimensions(self) -> int:
        """Length d of a vector."""
        return self._seen.dimensions

    @property
    def content(self) -> str:
        """Digest of the rows as the sync that made this version recorded it; empty before one."""
        return self._seen.content

    @property
    def effort(self) -> Effort | None:
        """How hard an approximate search of this version looks; None: it is searched exactly."""
        return self._seen.effort

    @property
    def temperature(self) -> float | None:
        """Of the rows' votes for their labels; None: made before it was measured, or never."""
        return self._seen.temperature

    @property
    def promised_recall(self) -> float:
        """Share of the true neighbours that a search finds, at least."""
        return 1.0 if self._is_exact() else neighbours.ENOUGH_RECALL

    def _is_exact(self) -> bool:
        return self.effort is None or self.effort.recall < neighbours.ENOUGH_RECALL

    def __len__(self) -> int:
        return self._seen.rows

    def sync(
        self,
        rows: pl.DataFrame,
        encode: Encode,
        *,
        on_progress: Progress | None = None,
        chunk: int = syncing.CHUNK,
    ) -> SyncResult:
        """Make the table hold exactly these rows, in a new version; encode only new texts.

        A row whose text has a vector in the table already takes that one: a new answer or label,
        or a text under another id, costs no encoding. Chunks are committed as they are finished,
        so that a killed sync, run again, goes on where it was. Readers of older versions see
        nothing of it.

        Args:
            rows: `contracts.KnowledgeBase`.
            encode: n texts to (n, d) vectors of length 1, by the model of this table.
            on_progress: told `(rows written, rows to write)`.
            chunk: distinct texts encoded at a time.

        Raises:
            DataError: no rows, or an id twice.
            StaleVectorsError: the encoder's vectors have another length.
            ModelError: a vector is zero, not finite or not normalised.
            StoreError: the table cannot be written.
        """
        wanted = tables.with_row_digests(rows)
        before = tables.open_at(self._uri, self.name, self.version)
        have = tables.digests_of(before)
        changed = wanted.join(have, on=["row_id", "row_digest"], how="anti")
        removed = have.join(wanted, on="row_id", how="anti")["row_id"]
        updated = changed.join(have, on="row_id", how="semi").height
        content = tables.content_digest(wanted["row_digest"])
        # By a kill, before.
        cut_off = (
            not self._seen.is_whole or tables.content_digest(have["row_digest"]) != self.content
        )
        encoded = 0
        try:
            if changed.height:
                encoded = syncing.write_rows(
                    self._table,
                    before,
                    have,
                    tables.with_text_digests(changed),
                    encode,
                    rows=wanted.height,
                    on_progress=on_progress,
                    chunk=chunk,
                )
            syncing.delete_rows(self._table, removed)
            edits = changed.height + len(removed)
            anew = cut_off or self.temperature is None
            if anew or edits:
                approximate.extend(self._table)
                compaction.compact(self._table)
                self._finish(content, edits, anew=anew)
        finally:
            self._seen = _look(self._table)
        return SyncResult(
            table=self.name,
            version=self.version,
            rows=len(self),
            added=changed.height - updated,
            updated=updated,
            removed=len(removed),
            encoded=encoded,
            content=content,
            recall=self.effort.recall if self.effort else None,
        )

    def _finish(self, content: str, edits: int, *, anew: bool) -> None:
        """Record what the table now holds and how it is to be searched: the sync's last commit.

        Args:
            content: digest of the rows.
            edits: rows that changed.
            anew: measure all again, however few they are.
        """
        before, self._seen = self._seen, _look(self._table)
        asked = functools.cache(self._asked)  # both measurements take the same pass over all rows
        searched = None
        if not _fits_memory(len(self), self.dimensions):
            searched = approximate.make_searchable(
                self._uri,
                self._table,
                None if anew else _measured(before, edits),
                lambda: asked().known_neighbours(),
            )
        temperature, drift = before.temperature, before.drift + edits
        if anew or has_drifted(drift, len(self)):
            temperature, drift = asked().temperature(), 0
        facts = {
            "version": int(self._table.version) + 1,
            "content": content,
            "effort": searched and asdict(searched.effort),
            "unmeasured": searched and searched.changed,
            "undeleted": searched and searched.undeleted,
            "temperature": temperature,
            "drift": drift,
        }
        with tables.explained("written"):
            self._table.update_field_metadata(tables.facts_update(facts))

    def _asked(self) -> Asked:
        """Ask some rows, and compare them with all."""
        sample = self.sample(votes.SAMPLE)
        parts: list[pl.DataFrame] = []

        def blocks() -> Iterator[Floats]:
            for part, matrix in tables.blocks_of(self._table, ("row_id", "label")):
                parts.append(part)
                yield matrix

        positions, scores = neighbours.nearest_in_blocks(blocks(), sample.matrix, votes.DEPTH + 1)
        return Asked(sample, pl.concat(parts), positions, scores)

    def vectors(self) -> Vectors:
        """Every row's id, label and vector, in the order of the ids."""
        rows, matrix = self.read(("row_id", "label"))
        return Vectors(rows["row_id"], rows["label"], matrix, self.temperature)

    def sample(self, count: int) -> Vectors:
        """Some rows as `vectors` gives them, always the same ones for the same content."""
        found = tables.sample_of(self._table, count, self._digests())
        matrix = found["vector"].to_numpy()
        return Vectors(found["row_id"], found["label"], matrix, self.temperature)

    def content_of_rows(self) -> str:
        """Digest of the rows that are there, to compare with what `content` says they are."""
        return tables.content_digest(self._digests()["row_digest"])

    def _digests(self) -> pl.DataFrame:
        """`tables.digests_of` this version, read once."""
        if self._known is None or self._known[0] != self.version:
            self._known = (self.version, tables.digests_of(self._table))
        return self._known[1]

    def read(self, columns: tuple[str, ...]) -> tuple[pl.DataFrame, Floats]:
        """Some columns of all rows and their vectors, in the order of the ids."""
        ids = tables.ids_of(self._table).sort()
        matrix = np.empty((len(ids), self.dimensions), np.float32)
        parts = [pl.DataFrame(schema=dict.fromkeys(("row_id", *columns), pl.String))]
        for part, block in tables.blocks_of(self._table, parts[0].columns):
            # Placed one part at a time: sorting a million vectors would hold them twice.
            matrix[ids.search_sorted(part["row_id"]).to_numpy()] = block
            parts.append(part)
        return pl.concat(parts).sort("row_id").select(columns), matrix

    def search(self, vectors: Floats, k: int) -> pl.DataFrame:
        """The k rows nearest to each vector with their texts; see `nearest`.

        Returns:
            `question`, row_id, query, label, label_path, answer, `score`.
        """
        found = self.nearest(vectors, k)
        texts = self.rows_at(found["row"])
        return found.join(texts, on="row", how="left", maintain_order="left").select(
            "question", *ANSWERING, "score"
        )

    def nearest(self, vectors: Floats, k: int) -> pl.DataFrame:
        """The k rows nearest to each vector, best first, equal scores in the order of the ids.

        Their texts are not read, since most of them only vote: `rows_at` has those of the few that
        answer.

        Args:
            vectors: (q, d), of length 1, by the model of this table.
            k: rows per vector; there are fewer where the table has fewer.

        Returns:
            `question` (number of the vector), `row` (for `rows_at`), label, `score` (cosine).

        Raises:
            StaleVectorsError: the vectors have another length than the table's.
            StoreError: the table cannot be searched.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dimensions:
            raise StaleVectorsError(
                f"vectors of shape {vectors.shape} cannot be searched in {self.name}, which holds "
                f"{self.dimensions} dimensions. Encode with the model of the index."
            )
        if self._in_memory():
            return self._nearest_in_memory(vectors, k)
        if self._is_exact():
            found = self._search().nearest(vectors, k, None)
        else:
            # The effort was measured at this depth: fewer candidates would find less.
            found = self._search().nearest(vectors, max(k, votes.DEPTH), self.effort)
        return self._row_labels().best(found, k)

    def load(self) -> None:
        """Read what a search needs into memory, which the first one would do otherwise.

        From now on a large index keeps its rows once it was asked often enough, to be searched in
        less time; see `kept_rows`.
        """
        if self._in_memory():
            self._whole()
        else:
            self._row_labels()
            self._search().keep_rows()

    def stop_loading(self) -> None:
        """Read no more rows to be kept: another version is searched from now on."""
        if not self._in_memory():
            self._search().stop_keeping()

    def finish_loading(self) -> None:
        """Wait for the rows, if they are being read: whoever measures a search does."""
        if not self._in_memory() and (keeping := self._search().keeping):
            keeping.finish()

    def rows_at(self, rows: pl.Series) -> pl.DataFrame:
        """`row`, row_id, query, label, label_path and answer of rows that `nearest` named."""
        if not self._in_memory():
            return self._search().rows_at(rows.unique())
        distinct = rows.unique()
        return self._whole()[0][distinct].with_columns(row=distinct)

    def _in_memory(self) -> bool:
        if self.effort is None:
            return len(self) * self.dimensions <= _ONCE_EXACT_NUMBERS
        return _fits_memory(len(self), self.dimensions)

    def _nearest_in_memory(self, vectors: Floats, k: int) -> pl.DataFrame:
        rows, matrix = self._whole()
        # One at a time: each uses all cores, and several would wait for one another's memory.
        with self._comparing:
            found = neighbours.nearest(matrix, vectors, k)
        return found.select(
            "question",
            row="position",
            label=rows["label"].gather(found["position"]),
            score="score",
        )

    def _whole(self) -> tuple[pl.DataFrame, Floats]:
        """The texts of all rows, and their vectors."""
        with self._reading:
            held = self._held
            if held is None or held[0] != self.version:
                held = self._held = (self.version, *self.read(ANSWERING))
            return held[1:]

    def _search(self) -> TableSearch:
        """What searches this version."""
        with self._reading:
            held = self._searched
            if held is None or held[0] != self.version:
                held = self._searched = (
                    self.version,
                    TableSearch(self._uri, self.name, self.version, self._seen.undeleted),
                )
            return held[1]

    def _row_labels(self) -> RowLabels:
        """Of this version, read once."""
        with self._reading:
            known = self._labels
            if known is None or known[0] != self.version:
                known = self._labels = (self.version, RowLabels(tables.labels_of(self._table)))
            return known[1]


def _fits_memory(rows: int, dimensions: int) -> bool:
    """Whether so many vectors are kept in memory and searched one and all."""
    return rows * dimensions <= EXACT_NUMBERS


def temperature_of(rows: pl.DataFrame, vectors: Floats) -> float:
    """Temperature of the votes that an index of these rows would measure: it asks the same ones.

    Args:
        rows: `contracts.KnowledgeBase`.
        vectors: (rows, d), in their order.
    """
    digests = tables.with_row_digests(rows)["row_digest"]
    asked = digests.arg_sort().head(votes.SAMPLE).to_numpy().astype(np.int64)
    return votes.temperature_in_memory(lambda own: vectors[own] @ vectors.T, rows["label"], asked)
