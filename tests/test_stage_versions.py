"""A stage whose code changed gets a new version, or someone has said that it needs none.

Run as a script (`make record-versions`), it records the code and the versions as they are.
"""

import json
from pathlib import Path

import pytest
from stage_code import PLUMBING, code_of, complaints, record_of

from tasks.versions import STAGES

ROOT = Path(__file__).parents[1]
RECORD = Path(__file__).with_name("stage_versions.json")

SPLIT = '''"""Module."""
import numpy as np
from monoglot.identity import text_digest
from monoglot.errors import DataError

SHARE = 0.3

def split(rows):
    """Split."""
    from monoglot.knowledge import seats
    if not rows:
        raise DataError("empty")
    return [text_digest(row) for row in seats.keep(rows, SHARE)]

async def unused():
    return 1
'''
IDENTITY = """
import hashlib

def text_digest(text):
    return _sha(text)[:16]

def _sha(text):
    return hashlib.sha256(text.encode()).hexdigest()

def other(text):
    return text
"""
SEATS = """
from ..identity import text_digest as digest

def keep(rows, share):
    return [row for row in rows if digest(row) < str(share)]
"""
STAGE = {"split": (1, ("monoglot.knowledge.split",))}


def test_every_stage_is_as_recorded():
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    found = complaints(ROOT, STAGES, record)
    assert not found, "\n".join(found)


@pytest.fixture
def tree(tmp_path):
    files = {
        "monoglot/__init__.py": "",
        "monoglot/errors.py": "class DataError(Exception): ...\n",
        "monoglot/identity.py": IDENTITY,
        "monoglot/knowledge/__init__.py": "",
        "monoglot/knowledge/split.py": SPLIT,
        "monoglot/knowledge/seats.py": SEATS,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def edit(tree, name, old, new):
    path = tree / "monoglot" / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_code_is_followed_by_what_is_used(tree):
    assert list(code_of(tree, ["monoglot.knowledge.split"])) == [
        "monoglot.identity._sha",
        "monoglot.identity.text_digest",
        "monoglot.knowledge.seats.keep",
        "monoglot.knowledge.split.SHARE",
        "monoglot.knowledge.split.split",
        "monoglot.knowledge.split.unused",
    ]


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("knowledge/split.py", "SHARE = 0.3", "SHARE = 0.4", "knowledge.split.SHARE"),
        ("knowledge/split.py", "not rows", "rows", "knowledge.split.split"),
        ("knowledge/seats.py", "<", "<=", "knowledge.seats.keep"),
        ("identity.py", "sha256", "sha512", "identity._sha"),
        ("identity.py", "[:16]", "[:12]", "identity.text_digest"),
    ],
)
def test_a_changed_expression_asks_for_a_version(tree, file, old, new, changed):
    record = record_of(tree, STAGE)
    edit(tree, file, old, new)
    (line,) = complaints(tree, STAGE, record)
    assert line.startswith(f"split: changed: monoglot.{changed}. If results can differ")
    assert line.endswith("make record-versions")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("knowledge/split.py", '"""Split."""', '"""Cut."""\n    # A comment.'),
        ("knowledge/split.py", '    """Split."""\n', ""),
        ("knowledge/split.py", "SHARE = 0.3", "SHARE = (\n    0.30  # of the rows\n)"),
        ("knowledge/split.py", '"""Module."""', "import json"),
        ("identity.py", "return text\n", "return text + text\n"),
        ("errors.py", "...", "exit_code = 2"),
    ],
)
def test_words_layout_plumbing_and_unused_code_do_not(tree, file, old, new):
    record = record_of(tree, STAGE)
    edit(tree, file, old, new)
    assert complaints(tree, STAGE, record) == []


def test_a_change_asks_until_it_is_recorded(tree):
    record = record_of(tree, STAGE)
    edit(tree, "identity.py", "sha256", "sha512")
    raised = {"split": (2, STAGE["split"][1])}
    assert complaints(tree, raised, record) == [
        "split: has a new version. Record it: make record-versions"
    ]
    assert complaints(tree, raised, record_of(tree, raised)) == []
    assert complaints(tree, STAGE, record_of(tree, STAGE)) == []  # kept: results are the same
    (line,) = complaints(tree, STAGE, record_of(tree, raised))
    assert line.startswith("split: version 1 was used before")


def test_new_and_removed_stages_are_to_be_recorded(tree):
    record = record_of(tree, STAGE)
    renamed = {"cut": STAGE["split"]}
    assert [line.partition(":")[0] for line in complaints(tree, renamed, record)] == [
        "split",
        "cut",
    ]


def test_a_listed_module_that_does_not_exist_is_named(tree):
    with pytest.raises(FileNotFoundError, match=r"monoglot\.splitting"):
        code_of(tree, ["monoglot.splitting"])


def test_the_plumbing_exists():
    assert all((ROOT / f"{name.replace('.', '/')}.py").is_file() for name in PLUMBING)


if __name__ == "__main__":
    before = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else None
    now = record_of(ROOT, STAGES)
    RECORD.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    print(f"{RECORD.name}: {'as before' if now == before else f'{len(STAGES)} stages recorded'}")  # noqa: T201
