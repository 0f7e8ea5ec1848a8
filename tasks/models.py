"""`ModelRef`: a base model by name, or one that a run trained; found again by its digest."""

import functools
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from monoglot.errors import ModelError
from monoglot.learning.encoder import Encoder, Vectors
from monoglot.learning.models import model_digest
from monoglot.serving.manifest import Release
from monoglot.serving.releases import MODEL_FOLDER
from monoglot.store import Artifact, Store
from tasks.workplace import Job

_TUNED = ", tuned"
_MOST_KEPT = 10_000  # texts of a list: 40 MB of vectors at most for 1,024 dimensions


class ModelRef(BaseModel):
    """A model to encode with; only its digest bears identity.

    Attributes:
        name: how people call it.
        digest: of its weights, configuration, tokenizer and prefix.
        artifact: where a trained one is kept; None for a base model, which its name finds.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    digest: str
    artifact: Artifact | None = None

    @property
    def title(self) -> str:
        """The name in a log: of a folder, its last part."""
        folder, tuned, rest = self.name.partition(_TUNED)
        return f"{Path(folder).name if Path(folder).is_absolute() else folder}{tuned}{rest}"


def base_model(name: str) -> ModelRef:
    """The untuned model of a config; its files are hashed.

    Raises:
        ModelError: it cannot be found.
    """
    return ModelRef(name=name, digest=model_digest(name))


def trained_model(artifact: Artifact, base: ModelRef) -> ModelRef:
    """What `tasks.training.train` stored."""
    name = f"{base.name}{_TUNED} {artifact.digest[:8]}"
    return ModelRef(name=name, digest=artifact.digest, artifact=artifact)


def released_model(release: Release) -> ModelRef:
    """The model of a release."""
    return ModelRef(name=release.model_name, digest=release.model_digest, artifact=release.model)


def locate(store: Store, model: ModelRef) -> str:
    """What `Encoder.load` takes: the folder of a trained model, the name of a base model."""
    if model.artifact is None:
        return model.name
    return str(store.folder(model.artifact) / MODEL_FOLDER)


def load_encoder(job: Job, model: ModelRef) -> Encoder:
    """The model, ready to encode; the last one is kept, since several stages in a row use it.

    For encoding only: training changes a model's weights and loads its own.
    """
    return encoder_at(locate(job.store, model), model.digest, job.settings.device)


def encode(job: Job, model: ModelRef, texts: Sequence[str]) -> Vectors:
    """Vectors (n, d) of texts that several stages ask for, such as the questions; do not change.

    Those of the last few lists of moderate length are kept for the next stage.
    """
    place = locate(job.store, model), model.digest, job.settings.device
    if len(texts) > _MOST_KEPT:
        return encoder_at(*place).encode(texts, on_progress=job.on_progress)
    return _encoded(*place, tuple(texts))


@functools.lru_cache(maxsize=8)
def _encoded(place: str, digest: str, device: str, texts: tuple[str, ...]) -> Vectors:
    return encoder_at(place, digest, device).encode(texts)


@functools.lru_cache(maxsize=1)
def encoder_at(place: str, digest: str, device: str) -> Encoder:
    """The model at a place that `locate` named, which has this digest.

    Raises:
        ModelError: it is not there, or has another digest.
    """
    encoder = Encoder.load(place, device=device)
    if encoder.digest != digest:
        raise ModelError(f"{place}: the model's files changed since this run began. Run again.")
    return encoder
