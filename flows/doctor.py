"""`monoglot doctor`: looks at all that a run needs, and says what to do about what is missing.

Looks only: nothing is created, downloaded or bought.
"""

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from flows.operation import Finding, last_check, prefect_server, worker
from monoglot.config import Config
from monoglot.errors import MonoglotError
from monoglot.forgetting import files_named_in
from monoglot.generation.access import check_endpoint
from monoglot.knowledge.sources import count_rows
from monoglot.learning.models import OFFLINE_MINILM, model_folder
from monoglot.remote.place import is_remote, local_part
from monoglot.serving.approval import Awaiting
from monoglot.settings import Settings
from monoglot.store import Store

_ENOUGH_GB = 2.0
_LOG = "review.log"  # a folder, which services make when they write first


def examine(config: Config, settings: Settings) -> list[Finding]:
    """Everything a run with this config needs, each looked at on its own."""
    looks: tuple[Callable[[Config, Settings], Finding], ...] = (
        _versions,
        _files,
        _elsewhere,
        _sources,
        _endpoint,
        _store,
        _disk,
        _base_model,
        _device,
        prefect_server,
        worker,
        last_check,
        _candidate,
    )
    return [look(config, settings) for look in looks]


def _candidate(config: Config, _settings: Settings) -> Finding:
    """A candidate that nobody has looked at, or that can be promoted no more."""
    try:
        store = Store.if_any(config.store)
    except MonoglotError:
        return Finding("candidate", "ok", "not looked for: see the store")
    try:
        waits = Awaiting.of(store)
    except MonoglotError as error:
        return Finding("candidate", "problem", str(error))
    if waits is None:
        return Finding("candidate", "ok", "none awaits approval")
    return Finding("candidate", "warning", waits.line)


def _versions(_config: Config, _settings: Settings) -> Finding:
    wrong = list(_broken_requirements())
    if wrong:
        return Finding(
            "packages",
            "problem",
            f"{'; '.join(wrong)}. Install with the constraints: `make setup`, or "
            "`pip install -c constraints.txt -e .[pipeline]`.",
        )
    return Finding("packages", "ok", f"Python {platform.python_version()}, all within their bounds")


def _broken_requirements() -> Iterator[str]:
    """What this project asks for and does not find, in its own words."""
    for text in metadata.requires("monoglot") or ():
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": "pipeline"}):
            continue
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield f"{requirement.name} is not installed"
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name} is {found}, wanted {requirement.specifier}"


def _files(config: Config, _settings: Settings) -> Finding:
    missing = [
        f"{field}: {path} is not there or cannot be read"
        for field, path in files_named_in(config).items()
        if field != _LOG and not (path.is_file() and os.access(path, os.R_OK))
    ]
    if missing:
        return Finding("files", "problem", f"{'; '.join(missing)}. Correct monoglot.yaml.")
    return Finding("files", "ok", "all files that the config names can be read")


def _elsewhere(config: Config, settings: Settings) -> Finding:
    """Knowledge bases that are no local files, read once."""
    bases = {"knowledge_base": config.knowledge_base} | {
        f"guards {it.name}: knowledge_base": it.knowledge_base
        for it in config.guards
        if it.knowledge_base
    }
    told = []
    for field, base in bases.items():
        if base.is_elsewhere:
            try:
                told.append(f"{base.shown}: {count_rows(base, field, settings):,} rows")
            except MonoglotError as error:
                return Finding("knowledge base", "problem", str(error))
    return Finding("knowledge base", "ok", "; ".join(told) or "a local file")


def _sources(config: Config, settings: Settings) -> Finding:
    from monoglot.standing import refuse_without_training_data

    try:
        refuse_without_training_data(config, settings)
    except MonoglotError as error:
        return Finding("training data", "problem", str(error))
    return Finding("training data", "ok", "there is something to train on")


def _endpoint(config: Config, settings: Settings) -> Finding:
    if not settings.has_endpoint:
        return Finding(
            "LLM endpoint",
            "ok",
            "none set (MONOGLOT_LLM_BASE_URL): needed only where the LLM translates or writes",
        )
    try:
        check_endpoint(settings, config.generation.model)
    except MonoglotError as error:
        return Finding("LLM endpoint", "problem", str(error))
    key = "with a key" if settings.llm_api_key.get_secret_value() else "without a key"
    return Finding("LLM endpoint", "ok", f"answers ({key})")


def _store(config: Config, _settings: Settings) -> Finding:
    if is_remote(config.store):
        return _bucket(config.store)
    root = Path(config.store)
    if not (root / "store.json").exists():
        parent = _existing(root)
        if os.access(parent, os.W_OK | os.X_OK):
            return Finding("store", "ok", f"{root}: none yet, the first run makes one")
        return Finding("store", "problem", f"{parent}: not yours to write. Set `store:` elsewhere.")
    try:
        Store.existing(config.store)
    except MonoglotError as error:
        return Finding("store", "problem", str(error))
    if not os.access(root, os.W_OK | os.X_OK):
        return Finding("store", "problem", f"{root}: not yours to write. Mend its owner or rights.")
    return Finding("store", "ok", f"{root}")


def _bucket(location: str) -> Finding:
    """A store in a bucket: reached, and written on a condition as every run does."""
    try:
        if Store.if_any(location) is None:
            return Finding("store", "ok", f"{location}: none yet, the first run makes one")
        mirror = Store.open(location).root
    except MonoglotError as error:
        return Finding("store", "problem", str(error))
    return Finding("store", "ok", f"{location}, mirrored in {mirror}")


def _disk(config: Config, _settings: Settings) -> Finding:
    try:
        folder = _existing(local_part(config.store))
    except MonoglotError as error:
        return Finding("disk", "problem", str(error))
    free = shutil.disk_usage(folder).free / 1e9
    if free < _ENOUGH_GB:
        return Finding(
            "disk", "warning", f"{free:.1f} GB free at {folder}; a run may need {_ENOUGH_GB:.0f}."
        )
    return Finding("disk", "ok", f"{free:.0f} GB free")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(it for it in (folder, *folder.parents) if it.exists())


def _base_model(config: Config, _settings: Settings) -> Finding:
    name = config.base_model
    if name != OFFLINE_MINILM and not Path(name).is_absolute() and not _in_hub_cache(name):
        return Finding(
            "base model", "warning", f"{name}: not downloaded yet; the first run fetches it."
        )
    try:
        return Finding("base model", "ok", f"{name}: {model_folder(name)}")
    except MonoglotError as error:
        return Finding("base model", "problem", str(error))


def _in_hub_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = name.partition("@")
    found = try_to_load_from_cache(repository, "config.json", revision=revision or None)
    return isinstance(found, str)


def _device(_config: Config, settings: Settings) -> Finding:
    import torch

    have = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    wanted = settings.device.partition(":")[0]
    if wanted and not have.get(wanted, False):
        there = ", ".join(kind for kind, is_there in have.items() if is_there)
        return Finding(
            "device",
            "problem",
            f"MONOGLOT_DEVICE={settings.device}, but torch {torch.__version__} sees: {there}. "
            "Unset it, or install torch for your GPU (see the README).",
        )
    best = next(kind for kind in ("cuda", "mps", "cpu") if have[kind])
    return Finding("device", "ok", f"{settings.device or best}, torch {torch.__version__}")


def _has_mps() -> bool:
    import torch

    return torch.backends.mps.is_available()
