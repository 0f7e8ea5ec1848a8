"""`monoglot evaluate`: the release in production and the untuned model, asked a file's questions.

Reads only: a service may be answering from the store, and a run may be writing to it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from monoglot.config import Config, QueriesFile
from monoglot.errors import DataError, StoreError
from monoglot.knowledge.files import read_table, refuse_no_file
from monoglot.knowledge.queries import load_queries, unknown_labels
from monoglot.learning.encoder import Encoder, Vectors
from monoglot.learning.evaluation import as_json, evaluate_vectors, with_english
from monoglot.learning.metrics import summarise
from monoglot.serving.index import temperature_of
from monoglot.serving.manifest import Release
from monoglot.serving.releases import NO_RELEASE, Releases
from monoglot.settings import Settings
from monoglot.store import Store

_OURS = ("text", "language", "label")  # that a file of questions must have


@dataclass(frozen=True)
class Measurement:
    """What both systems answered, by name, and what is worth a look."""

    release: Release
    systems: Mapping[str, pl.DataFrame]
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """What `monoglot evaluate --json` prints."""
        return {
            "release": self.release.id,
            **{name: as_json(summarise(outcomes)) for name, outcomes in self.systems.items()},
            "english_control": as_json(summarise(self.systems["current"], control=True)),
            "warnings": list(self.warnings),
        }


def measure_release(config: Config, settings: Settings, file: QueriesFile) -> Measurement:
    """Ask the release in production, and the untuned model over the same rows.

    Args:
        config: names the store, the languages and the untuned model.
        settings: where and how fast texts are encoded.
        file: the questions; see `as_given` for one that is not the config's own.

    Raises:
        DataError: the file cannot be used.
        StoreError: there is no store, or no release in it.
    """
    file = as_given(file, config)
    store = Store.existing(config.store)
    releases = Releases(store)
    release = releases.current()
    if release is None:
        raise StoreError(NO_RELEASE.format(store.location))
    loaded = load_queries(file, codes=config.language_codes)
    index = releases.index(release)
    held = index.vectors()
    rows = held.in_order(store.table(release.knowledge_base))
    lacking = unknown_labels(loaded.rows, rows)
    current = Encoder.load(releases.model_location(release), device=settings.device)
    systems = {"current": _answers(current, loaded.rows, rows, held.matrix, index.temperature)}
    untuned = Encoder.load(config.base_model, device=settings.device)
    if untuned.digest == release.model_digest:
        systems["untuned"] = systems["current"]
    else:
        vectors = untuned.encode(rows["query"].to_list(), batch_size=settings.encode_batch)
        temperature = temperature_of(rows, vectors)
        systems["untuned"] = _answers(untuned, loaded.rows, rows, vectors, temperature)
    rejected = f"{file.path}: {loaded.rejects.height} rows were rejected"
    return Measurement(
        release,
        systems,
        (
            *loaded.warnings,
            *([rejected] if loaded.rejects.height else []),
            *([lacking] if lacking else []),
        ),
    )


def as_given(file: QueriesFile, config: Config) -> QueriesFile:
    """A file of questions with the column names that it goes by.

    The config's names were made for its own file. Another one may have ours; where it has all of
    both, it is laid out as the config's is.

    Args:
        file: with the config's `columns`.
        config: whose own file is left as it is.

    Raises:
        DataError: the file is not the config's, and is not there.
    """
    if file.path is None or file.path == config.evaluation.path:
        return file
    refuse_no_file(file.path)
    if _has(file.path, file.columns.values()) or not _has(file.path, _OURS):
        return file
    return file.model_copy(update={"columns": {}})


def _has(path: Path, names: Collection[str]) -> bool:
    """Whether a file can be read and has the columns."""
    try:
        read_table(path, None, tuple(names), ())
    except DataError:
        return False
    return True


def _answers(
    encoder: Encoder,
    questions: pl.DataFrame,
    rows: pl.DataFrame,
    vectors: Vectors,
    temperature: float | None,
) -> pl.DataFrame:
    english = with_english(questions)["english"].to_list()
    return evaluate_vectors(
        questions,
        encoder.encode(questions["text"].to_list()),
        encoder.encode(english) if english else np.zeros((0, encoder.dimensions), np.float32),
        rows,
        vectors,
        temperature=temperature,
    )
