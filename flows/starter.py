"""The `monoglot.yaml` that `monoglot init` writes: every setting with its default and its help.

Made from the fields of `Config`, so that it cannot drift from what is read.
"""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from monoglot.config import Config, LanguageConfig
from monoglot.errors import ConfigError

_WIDTH = 96
_HEAD = """\
# Monoglot: answer queries in any language from a knowledge base kept in one.
#
# Only knowledge_base.path and what to train on (languages, or training.path) are needed; every
# other line shows its default and may be left out. Relative paths are taken from this folder.
#   monoglot plan    shows what a run would do         monoglot run       does it
#   monoglot doctor  checks keys, rights and versions  monoglot search    asks a question
"""
# What has no default, or an empty one that would teach nothing.
_EXAMPLES: dict[str, Any] = {"knowledge_base.path": "kb.csv"}
_LANGUAGE = LanguageConfig(
    code="hi-Latn", name="Hinglish", style="Hindi in Latin letters, as typed"
)


def write_starter(folder: Path) -> Path:
    """Write a `monoglot.yaml` into a folder, which is made if need be.

    Raises:
        ConfigError: there is one already, or the folder cannot be written.
    """
    path = folder / "monoglot.yaml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(starter_text())
    except FileExistsError:
        raise ConfigError(f"{path}: is there already. Edit it, or choose another folder.") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}).") from error
    return path


def starter_text() -> str:
    """The text of a complete `monoglot.yaml`."""
    return _HEAD + "\n".join(_section(Config, "", 0)) + "\n"


def _section(section: type[BaseModel], above: str, depth: int) -> Iterator[str]:
    """The lines of one section; `above` is its dotted name and a dot."""
    for name, field in section.model_fields.items():
        where = above + name
        if depth == 0:
            yield ""
        yield from _help(field, depth)
        indent = "  " * depth
        if where == "languages":
            yield "languages:"
            yield from _language()
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield f"{indent}{name}:"
            yield from _section(field.annotation, f"{where}.", depth + 1)
        else:
            yield f"{indent}{name}: {_scalar(_EXAMPLES.get(where, _default(field)))}"


def _language() -> Iterator[str]:
    """One language, as an example."""
    for number, (name, field) in enumerate(LanguageConfig.model_fields.items()):
        yield from _help(field, 2)
        value = getattr(_LANGUAGE, name)
        yield f"{'  - ' if number == 0 else '    '}{name}: {_scalar(value)}"


def _help(field: FieldInfo, depth: int) -> Iterator[str]:
    text = field.description
    if not text and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
        text = (field.annotation.__doc__ or "").partition("\n")[0]
    indent = "  " * depth + "# "
    yield from textwrap.wrap(
        text or "", _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


def _scalar(value: Any) -> str:
    """A value as YAML; JSON is YAML, and says `null`, `true` and `[]` plainly."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
