"""Knowledge bases where they live: fetched into the store, and read from there as files.

    store/sources/<place>-<digest>.csv      what came, named by its content
    store/sources/<place>.json              the last one, and the server's mark of its version

A run fetches once, so that all of it sees the same rows, and everything behind (rejects, digests,
the check whether there is anything to do) works on a file. Both go three days after the last fetch
from the place. The address and its password are read from the environment here, and stay here: what
is kept, shown or raised names the place without.
"""

import contextlib
import json
import os
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from monoglot.addresses import Limits, without_secrets
from monoglot.config import Config, KnowledgeBaseConfig
from monoglot.contracts import KnowledgeBase
from monoglot.errors import ConfigError
from monoglot.files import write_atomically
from monoglot.identity import file_digest, text_digest
from monoglot.knowledge.downloads import Download, download
from monoglot.knowledge.knowledge_base import load_knowledge_base
from monoglot.knowledge.sql import run_query
from monoglot.settings import Settings
from monoglot.store import Store

_KEPT_S = 3 * 86_400  # a guard's rows are read at the end of a run, which may train for a day


def fetched(config: Config, settings: Settings) -> Config:
    """The config with every knowledge base as a local file; those that are one stay as they are.

    Args:
        config: names the knowledge bases, the guards' among them, and the store.
        settings: how long to wait, and how much to take.

    Raises:
        ConfigError: the address is not set, or nothing here can read it; names the variable.
        DataError: what came is no knowledge base: a wrong address or query, an HTML page.
        SourceError: the place cannot be reached, or broke off.
        StoreError: the store cannot be written.
    """
    bases = {"knowledge_base": config.knowledge_base}
    for guard in config.guards:
        if guard.knowledge_base is not None:
            bases[f"guards {guard.name}: knowledge_base"] = guard.knowledge_base
    if not any(base.is_elsewhere for base in bases.values()):
        return config
    store = Store.open(config.store)
    with store.explained():
        store.sources.mkdir(exist_ok=True)
        here = {field: _local(base, field, store, settings) for field, base in bases.items()}
    guards = tuple(
        guard.model_copy(
            update={
                "knowledge_base": here.get(
                    f"guards {guard.name}: knowledge_base", guard.knowledge_base
                )
            }
        )
        for guard in config.guards
    )
    return config.model_copy(update={"knowledge_base": here["knowledge_base"], "guards": guards})


def rows_in(store: Store) -> dict[str, Path]:
    """What was fetched last from each place, by what people call it."""
    found = {}
    for path in sorted(store.sources.glob("*.json")):
        kept = _Kept.read(path)
        if kept is not None:
            found[kept.shown] = store.sources / kept.file
    return found


def count_rows(base: KnowledgeBaseConfig, field: str, settings: Settings) -> int:
    """How many good rows a knowledge base has; nothing of it is kept.

    Raises:
        MonoglotError: as `fetched`, or the rows cannot be used.
    """
    with tempfile.TemporaryDirectory() as folder:
        address, fresh = _address(base, field), Path(folder) / "rows"
        kind = _fetch(base, address, fresh, settings, known={}).kind
        here = base.kept_in(fresh.rename(fresh.with_suffix(kind)), _called(base, address))
        return load_knowledge_base(here).rows.height


@dataclass(frozen=True)
class _Kept:
    """The last fetch of a place.

    Attributes:
        shown: the place, for people.
        file: name of what came.
        mark: by which the server knows this version; empty: it is fetched anew each time.
    """

    shown: str
    file: str
    mark: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> "_Kept | None":
        try:
            raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return cls(str(raw["shown"]), str(raw["file"]), dict(raw["mark"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _local(
    base: KnowledgeBaseConfig, field: str, store: Store, settings: Settings
) -> KnowledgeBaseConfig:
    if not base.is_elsewhere:
        return base
    address = _address(base, field)
    place = _place(base, address)
    note, fresh = store.sources / f"{place}.json", store.sources / f"new-{uuid.uuid4().hex}"
    kept = _still_there(note, store.sources)
    try:
        got = _fetch(base, address, fresh, settings, known=kept.mark if kept else {})
        if kept is not None and got.is_unchanged:
            os.utime(store.sources / kept.file)
            note.touch()
            _remove_old(store.sources)
            return base.kept_in(store.sources / kept.file, kept.shown)
        final = store.sources / f"{place}-{file_digest(fresh)[:16]}{got.kind}"
        fresh.replace(final)
    finally:
        fresh.unlink(missing_ok=True)
    shown = _called(base, address)
    write_atomically(note, json.dumps({"shown": shown, "file": final.name, "mark": got.mark}))
    _remove_old(store.sources)
    return base.kept_in(final, shown)


def _fetch(
    base: KnowledgeBaseConfig,
    address: SecretStr,
    target: Path,
    settings: Settings,
    *,
    known: Mapping[str, str],
) -> Download:
    limits = Limits(settings.source_timeout_s, int(settings.source_max_mb * 1e6))
    if base.sql is None:
        return download(address, target, limits, known=known, shown=_called(base, address))
    columns = [base.columns.get(name, name) for name in KnowledgeBase.column_names()]
    run_query(base.sql, address, columns, target, limits, shown=_called(base, address))
    return Download(".jsonl", {})


def _place(base: KnowledgeBaseConfig, address: SecretStr) -> str:
    """Digest of a place; not of its password, which could be guessed from it."""
    url = address.get_secret_value()
    return text_digest(base.sql or "", without_secrets(url), url.partition("?")[2])


def _called(base: KnowledgeBaseConfig, address: SecretStr) -> str:
    """The place as people know it: a query by its variable, a file by its public address."""
    return base.shown if base.sql is not None else without_secrets(address.get_secret_value())


def _still_there(note: Path, folder: Path) -> _Kept | None:
    """What was fetched last, where its file is whole: its name says its content."""
    kept = _Kept.read(note)
    if kept is None or not (folder / kept.file).is_file():
        return None
    digest = file_digest(folder / kept.file)[:16]
    return kept if f"-{digest}." in kept.file else None


def _address(base: KnowledgeBaseConfig, field: str) -> SecretStr:
    if base.url_env is None:
        assert base.url is not None
        return SecretStr(base.url)
    found = os.environ.get(base.url_env, "").strip()
    if not found:
        what = "the file's address" if base.sql is None else "the database's SQLAlchemy URL"
        raise ConfigError(
            f"{field}.url_env: the environment variable {base.url_env} is not set. Set it to {what}"
            " in the environment of this process; of a Prefect worker's flows, in its own."
        )
    return SecretStr(found)


def _remove_old(folder: Path) -> None:
    """Remove what no run can be reading any more, and what a killed one left.

    A place is left for good where its query, address or token is edited: its note ends with it.
    """
    before = time.time() - _KEPT_S
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another process was faster
            if path.stat().st_mtime < before:
                path.unlink()
