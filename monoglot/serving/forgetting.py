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

    found = []
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
        if ids or raw or home_of(folder.stem) != folder.stem:
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
    one's place, where the next sync looks for its vectors, and that of all that a killed process
    left beside it.

    Args:
        store: whose index it is.
        name: of the table, `home_of` one that was found.
        pattern: what its rows match.

    Raises:
        InputError: a release would be left without rows.
        StoreError: the store cannot be written.
    """
    approval = Approval(store)
    there = [path.stem for path in Path(store.index_uri).glob("*.lance")]
    old = [it for it in there if home_of(it) == name]
    using = [release for release in approval.known() if release.index_table in old]
    aside = f"{name}-{uuid.uuid4().hex[:8]}"
    if using:
        versions = _rebuild(store, using, pattern, aside)
        for release in using:
            approval.amend(release.id, _seen_in(store, release, aside, versions))
    for it in old:
        _remove(store, it)
    if using:
        _copy(store, aside, name)
        for release in using:
            approval.amend(release.id, {"index_table": name})
        _remove(store, aside)


def _rebuild(
    store: Store, using: Sequence[Release], pattern: Pattern, aside: str
) -> dict[tuple[str, int], int]:
    """Write every version that is named into a new table, called `aside`.

    Returns:
        (table, version) -> version of the new table.
    """
    scratch = store.root / "tmp" / f"forget-{uuid.uuid4().hex}"
    versions = {}
    for place in sorted({(release.index_table, release.index_version) for release in using}):
        old = Index.at(store.index_uri, *place)
        rows, matrix = old.read(tables.TEXTS)
        kept = rows.filter(~pattern.in_rows(rows))
        if kept.is_empty():
            raise InputError(
                "every row of a release matches: there would be nothing left to answer with. Say "
                "more exactly what to forget, or remove the store."
            )
        new = Index.of_model(str(scratch), old.model_digest, old.dimensions)
        versions[place] = new.sync(kept, _lookup(rows, matrix)).version
    shutil.move(
        scratch / f"{tables.table_name(old.model_digest)}.lance",
        Path(store.index_uri) / f"{aside}.lance",
    )
    return versions


def _seen_in(
    store: Store, release: Release, table: str, versions: Mapping[tuple[str, int], int]
) -> dict[str, object]:
    """What a release says of itself in the new table, checked."""
    place = release.index_table, release.index_version
    index = Index.at(store.index_uri, table, versions[place])
    changes: dict[str, object] = {
        "index_table": table,
        "index_version": index.version,
        "index_content": index.content,
        "rows": len(index),
    }
    check_index(index, release.model_copy(update=changes))
    before = Index.at(store.index_uri, *place)
    if release.abstention is not None and index.temperature != before.temperature:
        # Confidence is a share of the votes: with another temperature it is another one.
        _LOGGER.warning(
            "release %s loses its thresholds, since its votes have another temperature without "
            "these rows: until `monoglot run --force` calibrates anew, no answer says whether it "
            "is confident",
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


def home_of(name: str) -> str:
    """Where a table belongs that may be beside it."""
    return _ASIDE.sub("", name)


def _remove(store: Store, name: str) -> None:
    store.files.remove_folder(f"index/{name}.lance")
