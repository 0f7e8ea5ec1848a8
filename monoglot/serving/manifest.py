"""`Release` and `Pointer`: what a store says about what answers."""

import uuid
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from monoglot.learning.thresholds import Abstention
from monoglot.store import Artifact


def now_utc() -> str:
    """The time as manifests write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _new_id() -> str:
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
    return f"{now}-{uuid.uuid4().hex[:4]}"


class Release(BaseModel):
    """What answers: one model, one version of its index, and where they come from.

    Attributes:
        id: sorts by time.
        created: UTC.
        model: the trained model; None: the base model called `model_name`.
        model_name: how people call the model; of a base model also what loads it.
        model_digest: of weights, configuration, tokenizer and prefix.
        index_table: table in the store's index.
        index_version: the version of it that was checked, and that is read for ever.
        index_content: digest of the rows in that version.
        rows: rows in it: all of the knowledge base.
        knowledge_base: its rows as they were loaded.
        config_digest: of all that was configured.
        evaluation: what the model answered to the evaluation questions; None: none were asked.
        measured_on: the rows over which `evaluation` was asked, where few have changed since; None:
            `knowledge_base`.
        metrics: the headline numbers, as JSON.
        questions: what was asked in `evaluation`, and is asked again when the index is refreshed.
        out_of_scope: the out-of-scope queries beside them; None: there were none.
        abstention: the scores below which this release does not know. None: not calibrated,
            because nothing was asked or the release was made before this was kept.
        reason: why this became a release.
        previous: id of the release it took over from; filled in by `Releases.promote`.
        seq: the pointer's `seq` when this became current; filled in likewise. 0: made before this
            was kept.
    """

    model_config = ConfigDict(frozen=True)

    id: str = Field(default_factory=_new_id, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    created: str = Field(default_factory=now_utc)
    model: Artifact | None
    model_name: str
    model_digest: str
    index_table: str
    index_version: int
    index_content: str
    rows: int
    knowledge_base: Artifact
    config_digest: str
    evaluation: Artifact | None = None
    measured_on: Artifact | None = None
    metrics: dict[str, Any] = {}
    questions: Artifact | None = None
    out_of_scope: Artifact | None = None
    abstention: Abstention | None = None
    reason: str = ""
    previous: str | None = None
    seq: int = 0

    def answers_like(self, other: "Release") -> bool:
        """Whether another release has the same model, rows and thresholds."""
        ours = self.model_digest, self.index_content, self.abstention
        return ours == (other.model_digest, other.index_content, other.abstention)


class Pointer(BaseModel):
    """Which release is current. `seq` grows by one with every move, back or forth."""

    model_config = ConfigDict(frozen=True)

    seq: int
    release: str
    moved: str
    reason: str
