"""`monoglot forget`: a text leaves the store, and the user learns what only they can remove.

What is derived is removed, not edited: an artifact is named by its content, and one that is gone
is computed again by the next run, from files that no longer hold the text. Two things are edited,
since they cannot be had again or must go on answering: the ledger, whose other rows stay paid for,
and the releases, which keep their model and lose the rows from their index. What cannot be done
here is said: the user's own files, the weights of models that learned from the text, backups,
copies that running services hold in memory, and what the LLM's provider keeps.
"""

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from pydantic import BaseModel

from monoglot.config import Config
from monoglot.errors import ConfigError, RunError
from monoglot.feedback.query_log import forget_in_log, lines_with, log_folder
from monoglot.generation.batch_records import outstanding_in
from monoglot.generation.forgetting import LedgerMatches, find_in_ledger, forget_in_ledger
from monoglot.identity import digest, frame_digest
from monoglot.knowledge.sources import rows_in
from monoglot.matching import Pattern
from monoglot.remote.place import is_remote
from monoglot.retention import MODEL_STAGES
from monoglot.runs import Runs
from monoglot.serving.approval import CANDIDATE, Approval
from monoglot.serving.forgetting import TableMatches, find_in_index, forget_in_table, home_of
from monoglot.serving.manifest import Release
from monoglot.serving.releases import MODEL_FOLDER, Releases
from monoglot.store import Artifact, Key, Store

_LEARNED_FROM = frozenset(("split", "anchors"))  # stages whose texts a model is trained on
_EXAMPLES = 5


@dataclass
class Found:
    """Where a pattern is.

    Attributes:
        ledger: replies of the LLM.
        tables: of the index.
        artifacts: location -> masked example.
        files: run records, reports and logs in the store -> masked example.
        resumable: folders of unfinished work, which may hold anything.
        manifests: of releases, and of the candidate, that name it, in a path or a reason; they
            stay.
        own: the user's file -> its matching lines (of a Parquet file: rows), from 1.
        queries: file of the query log -> its lines.
        elsewhere: place of a knowledge base that was fetched -> the same, in what came last.
        models: digests of models that were trained on the text.
        releases: ids of releases that answer with such a model, or would once approved.
    """

    ledger: LedgerMatches
    tables: list[TableMatches] = field(default_factory=list)
    artifacts: dict[str, str] = field(default_factory=dict)
    files: dict[Path, str] = field(default_factory=dict)
    resumable: list[Path] = field(default_factory=list)
    manifests: list[Path] = field(default_factory=list)
    own: dict[Path, list[int]] = field(default_factory=dict)
    queries: dict[Path, list[str]] = field(default_factory=dict)
    elsewhere: dict[str, list[int]] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    releases: list[str] = field(default_factory=list)

    @property
    def is_in_store(self) -> bool:
        """Whether there is anything to remove."""
        return bool(self.ledger or self.tables or self.artifacts or self.files or self.queries)

    @property
    def counts(self) -> dict[str, int]:
        """How much would go, by place."""
        return {
            "rows in the ledger": len(self.ledger.rows),
            "other texts in the ledger": len(self.ledger.cells),
            "index tables": len(self.tables),
            "rows in the index": sum(len(table.rows) for table in self.tables),
            "artifacts": len(self.artifacts),
            "logged queries": sum(map(len, self.queries.values())),
            "records, reports and logs": len(self.files),
        }

    @property
    def examples(self) -> list[str]:
        """A few matches, masked, from different places."""
        sources: tuple[Iterable[str], ...] = (
            self.ledger.examples,
            *(table.examples for table in self.tables),
            self.artifacts.values(),
        )
        return list(dict.fromkeys(text for source in sources for text in source))[:_EXAMPLES]


def find(config: Config, store: Store, pattern: Pattern) -> Found:
    """Look through the store and the files that the config names; writes nothing.

    Raises:
        ConfigError: the store is in a bucket, where other machines' mirrors hold the text as well.
        StoreError: a release's or the candidate's manifest cannot be read.
    """
    if is_remote(store.location):
        raise ConfigError(
            f"{store.location}: `monoglot forget` works on stores in a folder alone so far. Remove "
            "the text from your files, empty this prefix of the bucket and every machine's mirror "
            f"of it ({store.root} here), and run again."
        )
    found = Found(find_in_ledger(store.ledger_path, pattern), find_in_index(store, pattern))
    for folder in sorted((store.root / "artifacts").glob("*/*")):
        example = _example_in(_files_of(folder), pattern)
        if example is not None:
            found.artifacts[str(folder.relative_to(store.root))] = example
    for path in _other_files(store):
        example = _example_in((path,), pattern)
        if example is not None:
            found.files[path] = example
    found.resumable = sorted(
        folder
        for root in (store.root, store.workshop)
        for folder in (root / "tmp").glob("resume-*")
    )
    found.manifests = [path for path in _manifests(store) if pattern.in_file(path) is not None]
    paths = files_named_in(config).values()
    found.own = {path: lines for path in paths if (lines := _lines(path, pattern))}
    found.queries = lines_with(log_folder(config, store), pattern)
    last = rows_in(store).items()
    found.elsewhere = {it: lines for it, path in last if (lines := _lines(path, pattern))}
    _trace_models(store, found)
    return found


def forget(store: Store, found: Found, pattern: Pattern) -> Release | None:
    """Remove what was found. Hold the store's writer lock.

    Killed and given again, it goes on: every step leaves a store that works.

    Returns:
        The release that is in production, where it changed; else None.

    Raises:
        InputError: a release would be left without rows.
        RunError: batches are out, whose answers may bring the text back.
        StoreError: the store cannot be written, or another process has the ledger open.
    """
    if out := outstanding_in(store.ledger_path):
        raise RunError(
            f"{out.line}, and what comes back may hold the text again. Take the answers in first "
            "(`monoglot run`), or `monoglot batches --cancel` and then `monoglot run`."
        )
    before = Releases(store).current()
    with store.explained():
        for name in sorted({home_of(table.name) for table in found.tables}):
            forget_in_table(store, name, pattern)
        _amend(store, found, pattern)
        for location in found.artifacts:
            store.files.remove_folder(location)
        for folder in found.resumable:
            shutil.rmtree(folder)
        for path in found.files:
            _remove_file(path)
        for folder in {path.parent for path in found.queries}:
            forget_in_log(folder, pattern)
    forget_in_ledger(store.ledger_path, found.ledger)
    now = Releases(store).current()
    return None if now == before else now


def _amend(store: Store, found: Found, pattern: Pattern) -> None:
    """Have no release, nor the candidate that awaits approval, name what is to be removed."""
    approval = Approval(store)
    for release in approval.known():
        changes = _without_artifacts(store, release, found, pattern)
        if changes:
            approval.amend(release.id, changes)


def _without_artifacts(
    store: Store, release: Release, found: Found, pattern: Pattern
) -> dict[str, object]:
    """What a release is to say in place of naming what is to be removed."""
    changes: dict[str, object] = {}
    if release.knowledge_base.location in found.artifacts:
        rows = store.table(release.knowledge_base)
        rows = rows.filter(~pattern.in_rows(rows))
        kept = _keep_rows(store, rows)
        changes["knowledge_base"] = kept
    if (release.measured_on or release.knowledge_base).location in found.artifacts:
        # How many rows differ from those cannot be known any more: the next refresh measures again.
        changes |= {"measured_on": None, "evaluation": None}
    for name in ("evaluation", "questions", "out_of_scope"):
        asked = getattr(release, name)
        if asked is not None and asked.location in found.artifacts:
            changes[name] = None
    return changes


def _keep_rows(store: Store, rows: pl.DataFrame) -> Artifact:
    """The rest of a knowledge base, to compare the next one with; no stage finds it by its key."""
    content = frame_digest(rows)
    key = Key(stage="knowledge_base", version=0, digest=digest({"forgotten": content}))
    kept = store.find(key)
    if kept is None:
        with store.writing(key) as draft:
            draft.write_table(rows)
            draft.digest = content
            draft.facts = {"labels": rows["label"].n_unique(), "warnings": []}
        kept = store.find(key)
    assert kept is not None
    return kept


def _trace_models(store: Store, found: Found) -> None:
    """Which models were trained on what was found, and which releases answer with them."""
    for record in Runs(store).records():
        stages = [stage for stage in record.stages if stage.key.stage in _LEARNED_FROM]
        if not any(stage.artifact.location in found.artifacts for stage in stages):
            continue
        for stage in record.stages:
            if stage.key.stage in MODEL_STAGES:
                found.models[stage.artifact.digest] = record.run
    known = Approval(store).known()
    found.releases = [it.id for it in known if it.model_digest in found.models]


def _manifests(store: Store) -> Iterator[Path]:
    """Of every release, and of the candidate that awaits approval."""
    yield from sorted((store.releases / "manifests").glob("*.json"))
    candidate = store.root / CANDIDATE
    if candidate.is_file():
        yield candidate


def _files_of(artifact: Path) -> Iterator[Path]:
    """An artifact's files but those of a model: numbers, and the base model's vocabulary."""
    for path in sorted(artifact.rglob("*")):
        if path.is_file() and path.relative_to(artifact).parts[0] != MODEL_FOLDER:
            yield path


def _other_files(store: Store) -> Iterator[Path]:
    """Files that are removed one by one: records and reports of runs, Prefect's database, logs.

    And what was fetched of knowledge bases, and all of the workshop, where an artifact without
    its file is computed again.
    """
    for folder in (
        store.runs,
        store.sources,
        store.root / ".prefect",
        store.root / "tmp",
        store.workshop,
    ):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith("resume-"):
                yield path


def _remove_file(path: Path) -> None:
    """Remove a file; of a database also its log, which would bring the text back."""
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)
    if path.name.endswith(("-wal", "-shm")):
        path.with_name(path.name[:-4]).unlink(missing_ok=True)


def _example_in(paths: Iterable[Path], pattern: Pattern) -> str | None:
    for path in paths:
        text = pattern.in_file(path)
        if text is not None:
            return pattern.example(text)
    return None


def files_named_in(section: BaseModel, at: str = "") -> dict[str, Path]:
    """Every file that a config names, at any depth, by the field that names it.

    Args:
        section: the config, or a part of it.
        at: what comes before the names of its fields.
    """
    found: dict[str, Path] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Path):
            found[f"{at}{name}"] = value
        elif isinstance(value, BaseModel):
            found |= files_named_in(value, f"{at}{name}.")
        elif isinstance(value, tuple):
            for number, item in enumerate(value, 1):
                if isinstance(item, BaseModel):
                    found |= files_named_in(item, f"{at}{name} {_called(item, number)}: ")
    return found


def _called(item: BaseModel, number: int) -> str:
    """One of several sections, as people know it: a language's code, a guard's name."""
    return str(getattr(item, "code", None) or getattr(item, "name", None) or number)


def _lines(path: Path, pattern: Pattern) -> list[int]:
    """The lines of a user's file that hold the pattern, from 1; of a Parquet file, the rows."""
    if not path.is_file():
        return []
    if path.suffix.lower() == ".parquet":
        frame = pl.read_parquet(path, glob=False)
        return [row + 1 for row in pattern.in_rows(frame).arg_true()]
    with path.open("rb") as stream:
        return [n for n, line in enumerate(stream, 1) if pattern.in_bytes(line) is not None]
