"""Forgetting in the index: a table's versions are written anew without the matching rows.

LanceDB keeps what was deleted in older versions and in its data files, so the table is rebuilt
beside the old one: each version that a release names, oldest first, with the vectors it has. The
manifests then name the new versions, and the old folder goes. At every moment each manifest names
a table that is there, so a killed run leaves every release answering; the command is given again,
and takes up a table that was left beside its place. A service that reads of a folder that goes
looks what its release names by now (`Retriever`).
"""

import logging
import os
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from monoglot.errors import InputError
from monoglot.matching import Pattern
from monoglot.serving import tables
from monoglot.serving.approval import Approval
from monoglot.serving.index import Index
from monoglot.serving.manifest import Release
from monoglot.serving.neighbours import Floats
from monoglot.serving.syncing import Encode
from monoglot.serving.verification import check_index
from monoglot.store import Store

_ASIDE = re.compile("-[0-9a-f]{8}$")  # ends the name of a table that is being rebuilt
_LOGGER = logging.getLogger(__name__)


class TableMatches(NamedTuple):
    """What a table holds of a pattern, in any of its versions.

    Attributes:
        name: of the table.
        rows: ids of the rows that match.
        examples: their texts, masked.
    """

    name: str
    rows: tuple[str, ...]
    examples: tuple[str, ...]


def find_in_index(store: Store, pattern: Pattern) -> list[TableMatches]:
    """The tables that hold the pattern, every version of which is read; and unfinished ones."""
    import lancedb

    found, named = [], {release.index_table for release in Approval(store).known()}
    for folder in sorted(Path(store.index_uri).glob("*.lance")):
        ids: dict[str, str] = {}
        with tables.explained("read"):
            newest = lancedb.connect(store.index_uri).open_table(folder.stem)
            versions = [listed["version"] for listed in newest.list_versions()]
        # What was deleted can still be read in the version that is searched.
        for version in [*versions, *_undeleted(store, folder.stem, versions)]:
            table = tables.open_at(store.index_uri, folder.stem, version)
            with tables.explained("read"):
                held = pl.DataFrame(table.search().select([*tables.TEXTS]).to_arrow())
            for row in held.filter(pattern.in_rows(held)).iter_rows(named=True):
                text = next(text for text in row.values() if text and pattern.is_in(text))
                ids[row["row_id"]] = pattern.example(text)
        raw = any(pattern.in_file(path) for path in folder.rglob("*") if path.is_file())
        home = _home(folder.stem)
        is_left = home != folder.stem and not {home, folder.stem} <= named
        if ids or raw or is_left:
            found.append(TableMatches(folder.stem, tuple(ids), tuple(ids.values())))
    return found


def _undeleted(store: Store, name: str, versions: Sequence[int]) -> set[int]:
    """The versions of `approximate.undeleted_version` that these name and that are there."""
    found = set()
    for version in versions:
        schema = tables.open_at(store.index_uri, name, version).schema
        undeleted = tables.facts_of(schema).get("undeleted")
        manifest = Path(store.index_uri) / f"{name}.lance" / "_versions" / f"d{undeleted}.manifest"
        if undeleted is not None and manifest.exists():
            found.add(int(undeleted))
    return found


def forget_in_table(store: Store, name: str, pattern: Pattern) -> None:
    """Rebuild a table without the matching rows, and have the releases name the new one.

    So does the candidate that awaits approval, which is no release yet. The new one takes the old
    one's place, where the next sync looks for its vectors.

    Raises:
        InputError: a release would be left without rows.
        StoreError: the store cannot be written.
    """
    approval = Approval(store)
    using = [release for release in approval.known() if release.index_table == name]
    if not using:
        _remove(store, name)
        return
    home = _home(name)
    aside = f"{home}-{uuid.uuid4().hex[:8]}"
    versions = _rebuild(store, name, using, pattern, aside)
    for release in using:
        approval.amend(release.id, _seen_in(store, release, aside, versions))
    _remove(store, name)
    if name != home and any(it.index_table == home for it in approval.known()):
        return  # a sync went on there since this was killed
    if name != home and _is_there(store, home):
        _remove(store, home)
    _copy(store, aside, home)
    for release in using:
        approval.amend(release.id, {"index_table": home})
    _remove(store, aside)


def _rebuild(
    store: Store, name: str, using: Sequence[Release], pattern: Pattern, aside: str
) -> dict[int, int]:
    """Write every version that is named into a new table, called `aside`: old version -> new."""
    scratch = store.root / "tmp" / f"forget-{uuid.uuid4().hex}"
    versions = {}
    for version in sorted({release.index_version for release in using}):
        old = Index.at(store.index_uri, name, version)
        rows, matrix = old.read(tables.TEXTS)
        kept = rows.filter(~pattern.in_rows(rows))
        if kept.is_empty():
            raise InputError(
                "every row of a release matches: there would be nothing left to answer with. Say "
                "more exactly what to forget, or remove the store."
            )
        new = Index.of_model(str(scratch), old.model_digest, old.dimensions)
        versions[version] = new.sync(kept, _lookup(rows, matrix)).version
    shutil.move(
        scratch / f"{tables.table_name(old.model_digest)}.lance",
        Path(store.index_uri) / f"{aside}.lance",
    )
    return versions


def _seen_in(
    store: Store, release: Release, table: str, versions: Mapping[int, int]
) -> dict[str, object]:
    """What a release says of itself in the new table, checked."""
    index = Index.at(store.index_uri, table, versions[release.index_version])
    changes: dict[str, object] = {
        "index_table": table,
        "index_version": index.version,
        "index_content": index.content,
        "rows": len(index),
    }
    check_index(index, release.model_copy(update=changes))
    before = Index.at(store.index_uri, release.index_table, release.index_version)
    if release.abstention is not None and index.temperature != before.temperature:
        # Confidence is a share of the votes: with another temperature it is another one.
        _LOGGER.warning(
            "release %s loses its thresholds, since its votes have another temperature without "
            "these rows: until `monoglot run` calibrates anew, no answer says whether it is "
            "confident",
            release.id,
        )
        changes["abstention"] = None
    return changes


def _lookup(rows: pl.DataFrame, matrix: Floats) -> Encode:
    """An encoder that knows the texts of a table alone."""
    place = {text: number for number, text in enumerate(rows["query"])}
    return lambda texts: np.asarray(matrix[[place[text] for text in texts]], np.float32)


def _copy(store: Store, name: str, to: str) -> None:
    """The same files under another name; they are never changed, so both may share them."""
    source, target = (Path(store.index_uri) / f"{table}.lance" for table in (name, to))
    half = store.root / "tmp" / f"forget-{uuid.uuid4().hex}"
    shutil.copytree(source, half, copy_function=os.link)
    half.rename(target)


def _home(name: str) -> str:
    """Where a table belongs that may be beside it."""
    return _ASIDE.sub("", name)


def _is_there(store: Store, name: str) -> bool:
    return (Path(store.index_uri) / f"{name}.lance").is_dir()


def _remove(store: Store, name: str) -> None:
    store.files.remove_folder(f"index/{name}.lance")
