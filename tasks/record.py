"""The record of a run, written last: its existence means that all it names is whole."""

import time
from collections.abc import Mapping
from typing import Literal

from monoglot.learning_config import Verdict
from monoglot.runs import RunRecord, Runs
from monoglot.serving.manifest import Release
from monoglot.store import Artifact
from tasks.artifacts import show_record
from tasks.workplace import Workplace


def keep_record(
    place: Workplace,
    key: str,
    run: str,
    *,
    flow: Literal["retrain", "refresh"],
    config: str,
    rows: Artifact,
    release: Release,
    verdict: Verdict,
    reasons: tuple[str, ...],
    report: str = "",
    systems: Mapping[str, Artifact] | None = None,
    inputs: str = "",
) -> RunRecord:
    """Write what a run did, so that the next one with the same inputs does nothing; and show it."""
    record = RunRecord(
        key=key,
        flow=flow,
        run=run,
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        config=config,
        knowledge_base=rows,
        release=release.id,
        verdict=verdict,
        reasons=reasons,
        report=report,
        systems=dict(systems or {}),
        stages=tuple(place.journal),
        inputs=inputs,
    )
    Runs(place.store).write(record)
    show_record(place.store, record)
    return record
