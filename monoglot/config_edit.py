"""Changing settings in a user's `monoglot.yaml` and nothing else: comments and layout are theirs.

A YAML writer would lay the whole file out anew. Here the parser says where each value stands, and
only that text is replaced; the result is parsed again and refused if it says anything else than
the file with these settings changed.
"""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from monoglot.config_file import settings_in
from monoglot.errors import ConfigError
from monoglot.files import write_atomically

MARK = "# monoglot tune: "
Scalars = Mapping[str, Mapping[str, str | int | float | bool]]
_Edit = tuple[int, int, str]  # from, to, the text instead


def edit_config(path: Path, changes: Scalars, evidence: str) -> Path:
    """Set some settings in a file, with a comment that says why; returns the backup beside it.

    Raises:
        ConfigError: the file cannot be edited safely, or not written; it is as it was.
    """
    path = path.resolve()
    try:
        text = path.read_bytes().decode("utf-8")
        new = edited(text, changes, evidence, path)
        backup = path.with_name(f"{path.name}.{time.strftime('%Y%m%dT%H%M%S')}.bak")
        shutil.copy2(path, backup)
        write_atomically(path, new)
        shutil.copymode(backup, path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be edited: {error}") from error
    return backup


def edited(text: str, changes: Scalars, evidence: str, path: Path) -> str:
    """The text of a config with some settings of its sections changed.

    Args:
        text: of the file.
        changes: section -> setting -> value.
        evidence: a sentence for the comment above the first changed section, in place of an
            earlier one.
        path: the file, for errors.

    Raises:
        ConfigError: the file is laid out in a way that cannot be edited; says what to set by hand.
    """
    line_end = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith(MARK))
    expected = settings_in(text, path)
    for section, settings in changes.items():
        expected[section] = {**(expected.get(section) or {}), **settings}
    root = yaml.compose(text, yaml.SafeLoader)
    edits: list[_Edit] = []
    comments: list[int] = []
    missing = ""
    for section, settings in changes.items():
        place = _entry(root, section)
        if place is None:
            missing += f"{section}:\n" + "".join(f"  {_setting(*it)}\n" for it in settings.items())
        else:
            comments.append(text.rfind("\n", 0, place[0].start_mark.index) + 1)
            edits += _section_edits(text, *place, settings)
    if comments:
        edits.append((min(comments), min(comments), f"{MARK}{evidence}\n"))
    for start, end, new in sorted(edits, key=lambda edit: edit[:2], reverse=True):
        text = text[:start] + new.replace("\n", line_end) + text[end:]
    if missing:
        head = "" if comments else f"{MARK}{evidence}\n"
        text = text.rstrip("\r\n") + f"\n\n{head}{missing}".replace("\n", line_end)
    if not _says(text, expected, path):
        by_hand = "; ".join(
            f"{section}.{_setting(*it)}" for section, all_ in changes.items() for it in all_.items()
        )
        raise ConfigError(
            f"{path}: is laid out in a way that is not edited. Set by hand: {by_hand}"
        )
    return text


def _says(text: str, expected: Mapping[str, Any], path: Path) -> bool:
    """Whether a text is a config with these very settings."""
    try:
        return settings_in(text, path) == expected
    except ConfigError:
        return False


def _entry(node: yaml.Node | None, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    """The key and value nodes of a setting in a mapping."""
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((entry for entry in node.value if entry[0].value == name), None)


def _section_edits(
    text: str, key: yaml.Node, section: yaml.Node, settings: Mapping[str, Any]
) -> list[_Edit]:
    """What to replace and to insert in one section."""
    added = [_setting(name, value) for name, value in settings.items() if not _entry(section, name)]
    edits = [
        _value_edit(text, *entry, value)
        for name, value in settings.items()
        if (entry := _entry(section, name)) is not None
    ]
    if not added:
        return edits
    if isinstance(section, yaml.MappingNode) and section.flow_style:
        inside = section.start_mark.index + 1
        return [*edits, (inside, inside, ", ".join(added) + (", " if section.value else ""))]
    if isinstance(section, yaml.MappingNode):
        first = section.value[0][0].start_mark
        indent = " " * first.column
        start = first.index - first.column
        return [*edits, (start, start, "".join(f"{indent}{line}\n" for line in added))]
    # Without a value: all of it may be comments.
    start, end = _after_colon(text, key), section.end_mark.index
    end = end if text[start:end].strip() in {"null", "~"} else start
    return [*edits, (start, end, "".join(f"\n  {line}" for line in added))]


def _value_edit(text: str, key: yaml.Node, value: yaml.Node, new: Any) -> _Edit:
    """One value in place of another; an empty one stands right behind its colon."""
    if isinstance(value, yaml.ScalarNode) and value.start_mark.index == value.end_mark.index:
        start = _after_colon(text, key)
        return start, start, f" {_scalar(new)}"
    return value.start_mark.index, value.end_mark.index, _scalar(new)


def _after_colon(text: str, key: yaml.Node) -> int:
    return text.index(":", key.end_mark.index) + 1


def _setting(name: str, value: Any) -> str:
    return f"{name}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    """A value as YAML, which takes 5e-05 for text: a number has a point or no exponent."""
    if isinstance(value, float):
        return f"{value:.10f}".rstrip("0") + ("0" if value == int(value) else "")
    return json.dumps(value) if not isinstance(value, str) else value
