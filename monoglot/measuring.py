"""`monoglot evaluate`: the release in production and the untuned model, asked a file's questions.

Reads only: a service may be answering from the store, and a run may be writing to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from monoglot.config import Config, QueriesFile
from monoglot.errors import StoreError
from monoglot.knowledge.queries import load_queries, unknown_labels
from monoglot.learning.encoder import Encoder, Vectors
from monoglot.learning.evaluation import as_json, evaluate_vectors, with_english
from monoglot.learning.metrics import summarise
from monoglot.serving.index import temperature_of
from monoglot.serving.manifest import Release
from monoglot.serving.releases import NO_RELEASE, Releases
from monoglot.settings import Settings
from monoglot.store import Store


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

    Raises:
        DataError: the file cannot be used.
        StoreError: there is no store, or no release in it.
    """
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
