"""What each run did: its stages with their keys, and the release it left in production.

    store/runs/<key>.json       record of the last run with these inputs, written last
    store/runs/last.json        key of the run that ended last, and of the last that trained
    store/runs/<run>/           report of one run

A run's key covers all it depends on, so that a record under the key of the present inputs means
there is nothing to do, and that can be told without loading Prefect or torch.
"""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from monoglot.config import Config
from monoglot.generation_config import RedactionConfig
from monoglot.identity import digest, identity_of
from monoglot.learning_config import Verdict
from monoglot.store import Artifact, Key, Store


class StageRecord(BaseModel):
    """What one stage of a run did, and why."""

    model_config = ConfigDict(frozen=True)

    title: str
    key: Key
    outcome: Literal["done", "reused"]
    reason: str
    rows: int
    seconds: float
    artifact: Artifact

    def reused(self) -> "StageRecord":
        """The same stage as a later run finds it."""
        reason = f"same inputs, config and code: {self.key}"
        return self.model_copy(update={"outcome": "reused", "reason": reason, "seconds": 0.0})

    def line(self) -> str:
        """The stage in one line of a log."""
        rejected = self.artifact.facts.get("rejected")
        return (
            f"{self.title}: {self.outcome}, {self.rows:,} rows"
            + (f", {rejected:,} rejected" if rejected else "")
            + f", {self.seconds:.1f} s ({self.reason})"
            + (f"; {told}" if (told := self.artifact.facts.get("told")) else "")
        )


class RunRecord(BaseModel):
    """One finished run.

    Attributes:
        key: digest of everything the run depended on; see `run_key`.
        flow: which flow it was.
        run: name of the run, and of its folder.
        finished: when, in UTC.
        config: digest of all but the knowledge base; see `config_digest`.
        knowledge_base: the rows it worked on.
        release: id of the release that was current when the run ended.
        verdict: what became of its candidate; a refresh has none, and leaves the model unchanged.
        reasons: of the gate, or of the refresh.
        report: path of the report in the store; empty: it wrote none.
        systems: name -> outcomes of each system that was evaluated.
        stages: what each stage did.
        inputs: of a refresh: the key that a run of the same files, config and code would have.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    flow: Literal["retrain", "refresh"]
    run: str
    finished: str
    config: str
    knowledge_base: Artifact
    release: str
    verdict: Verdict
    reasons: tuple[str, ...]
    report: str
    systems: dict[str, Artifact]
    stages: tuple[StageRecord, ...]
    inputs: str = ""

    @property
    def unanswered(self) -> int:
        """Rows that the LLM gave no reply to: this run is not all there is to be done."""
        return sum(stage.artifact.unanswered for stage in self.stages)

    @property
    def promoted(self) -> bool:
        """Whether it put a new model into production."""
        return self.verdict == "promoted"


def config_digest(
    config: Config, base_model_digest: str, versions: Mapping[str, int], *, asks_llm: bool
) -> str:
    """Identity of everything but the knowledge base: settings, other files, models, code.

    Args:
        config: with the LLM's name filled in (`Settings.applied_to`).
        base_model_digest: digest of the base model's files, since a name can come to mean others.
        versions: version of each stage's code.
        asks_llm: whether the LLM is asked for anything; else what it would be does not matter.

    Raises:
        DataError: a file that the config names cannot be read.
    """
    bearing = config.model_copy(
        update={
            "base_model": base_model_digest,
            "store": "",
            "spending": None,
            "retention": None,
            "review": None,
            "knowledge_base": config.knowledge_base.model_copy(update={"path": None}),
            "generation": config.generation if asks_llm else None,
            "user_queries": config.user_queries if asks_llm else None,
            "redaction": _redaction(config) if asks_llm else None,
        }
    )
    return digest({"config": identity_of(bearing), "versions": dict(versions)})


def _redaction(config: Config) -> RedactionConfig:
    """What of it matters: that of users' queries only where there are any."""
    return config.redaction if config.user_queries.path else config.redaction.for_rows


def run_key(config: Config, config_identity: str) -> str:
    """Identity of a whole run: `config_digest` and the bytes of the knowledge base."""
    return digest(
        {"config": config_identity, "knowledge_base": identity_of(config.knowledge_base.path)}
    )


def new_run_name(key: str) -> str:
    """A name that sorts by time and tells which inputs were used."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{key[:8]}"


class Runs:
    """The run records of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, key: str) -> RunRecord | None:
        """The last run with this key, or None."""
        try:
            text = self._store.files.read(f"runs/{key}.json")
            return None if text is None else RunRecord.model_validate_json(text)
        except (OSError, ValidationError):
            return None

    def records(self) -> Iterator[RunRecord]:
        """Every run record that can be read."""
        names = [PurePosixPath(it.name) for it in self._store.files.below("runs")]
        for name in (it for it in names if len(it.parts) == 2 and it.suffix == ".json"):
            record = self.find(name.stem)  # None: the pointers, or a damaged one
            if record is not None:
                yield record

    def last(self) -> RunRecord | None:
        """The run that ended last, or None."""
        return self._pointed("last")

    def last_retrain(self) -> RunRecord | None:
        """The run that trained last, whether its model went into production or not; or None."""
        return self._pointed("retrain")

    def _pointed(self, what: str) -> RunRecord | None:
        key = self._pointers().get(what)
        return None if key is None else self.find(key)

    def _pointers(self) -> dict[str, str]:
        try:
            return dict(json.loads(self._store.files.read("runs/last.json") or "{}"))
        except (OSError, ValueError, TypeError):
            return {}

    def write(self, record: RunRecord) -> None:
        """Keep a finished run; its existence means that all it names is whole.

        Raises:
            StoreError: the store cannot be written.
        """
        pointers = self._pointers() | {"last": record.key, record.flow: record.key}
        with self._store.explained():
            self._store.files.write(f"runs/{record.key}.json", record.model_dump_json(indent=1))
            self._store.files.write("runs/last.json", json.dumps(pointers))
