"""Imports go one way: deployments -> flows -> tasks -> monoglot, and downwards inside monoglot."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"benchmarks", "deployments", "flows", "monoglot", "tasks", "tests"}

# What each layer may import of the project beside itself.
LAYERS = {
    "monoglot": set(),
    "tasks": {"monoglot"},
    "flows": {"tasks", "monoglot"},
    "deployments": {"flows", "tasks", "monoglot"},
    "benchmarks": {"flows", "tasks", "monoglot"},
}
# What each room of the library may import of the other rooms. Modules beside the rooms (config,
# errors, store, ...) are the foundation: any room may import them, and they import no room.
ROOMS = {
    "knowledge": set(),
    "generation": {"knowledge"},
    "learning": {"knowledge"},
    "serving": {"knowledge", "learning"},
    "feedback": {"knowledge", "generation", "serving"},
    "sample": set(),
}
# A folder of the foundation: how a store lies in a bucket.
FOUNDATION = {"remote"}
# The package's face, and what looks at all rooms: the report, plans, measurements.
ABOVE_THE_ROOMS = {
    "monoglot",
    "monoglot.ablation",
    "monoglot.due",
    "monoglot.forgetting",
    "monoglot.measuring",
    "monoglot.planning",
    "monoglot.report",
    "monoglot.retention",
    "monoglot.standing",
    "monoglot.tuning",
    "monoglot.yields",
}
NOT_IN_THE_LIBRARY = {"prefect", "typer"}
HEAVY = (
    "torch",
    "transformers",
    "sentence_transformers",
    "prefect",
    "lancedb",
    "sklearn",
    "matplotlib",
    "openai",
)


def imports_against_the_arrows(root: Path) -> list[str]:
    """Every import under `root` that points the wrong way, as `file:line imports module`."""
    return [
        f"{path.relative_to(root)}:{line} imports {target}"
        for layer in LAYERS
        for path in sorted((root / layer).rglob("*.py"))
        for line, target in imports_of(path, root)
        if not allowed(module_name(path, root), target)
    ]


def allowed(importer: str, target: str) -> bool:
    """Whether module `importer` may import `target`, be it ours or another's."""
    layer, other = importer.partition(".")[0], target.partition(".")[0]
    if other != layer:
        ours = other in LAYERS or other == "tests"
        banned = layer == "monoglot" and other in NOT_IN_THE_LIBRARY
        return other in LAYERS[layer] if ours else not banned
    if layer != "monoglot" or importer in ABOVE_THE_ROOMS:
        return True
    room, other_room = room_of(importer), room_of(target)
    if other_room is None:
        return target not in ABOVE_THE_ROOMS - {"monoglot"}
    return room is not None and (room == other_room or other_room in ROOMS[room])


def room_of(module: str) -> str | None:
    """The room of a module of the library, or None for the foundation."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else None


def module_name(path: Path, root: Path) -> str:
    """The dotted name of a source file."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Line and module of each import in a file, wherever it stands, relative ones resolved.

    `from a import b` is taken as `a.b`, which names the module in `from monoglot import report`.
    """
    package = path.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *(node.module.split(".") if node.module else ())))
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and called(node) in {"import_module", "__import__"}:
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value


def called(node: ast.Call) -> str:
    """The last name of what a call calls."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def test_imports_go_one_way():
    assert imports_against_the_arrows(ROOT) == []


def test_every_room_of_the_library_has_its_rule():
    rooms = {path.parent.name for path in (ROOT / "monoglot").glob("*/__init__.py")}
    assert rooms - FOUNDATION <= set(ROOMS)


@pytest.mark.parametrize(
    ("file", "line", "target"),
    [
        ("monoglot/knowledge/split.py", "import prefect", "prefect"),
        ("monoglot/store.py", "from prefect.states import State", "prefect.states.State"),
        ("monoglot/store.py", "from tasks.caching import stage", "tasks.caching.stage"),
        ("monoglot/serving/index.py", "import flows.cli", "flows.cli"),
        ("monoglot/config.py", "from tests import conftest", "tests.conftest"),
        ("tasks/training.py", "from flows.retrain import retrain", "flows.retrain.retrain"),
        ("tasks/training.py", "import benchmarks.grid", "benchmarks.grid"),
        ("flows/retrain.py", "import deployments.run", "deployments.run"),
        ("monoglot/knowledge/split.py", "from monoglot import learning", "monoglot.learning"),
        ("monoglot/knowledge/split.py", "from ..serving import index", "monoglot.serving.index"),
        ("monoglot/generation/llm.py", "import monoglot.learning.gate", "monoglot.learning.gate"),
        ("monoglot/learning/gate.py", "import monoglot.serving.index", "monoglot.serving.index"),
        ("monoglot/learning/gate.py", "from monoglot import report", "monoglot.report"),
        ("monoglot/errors.py", "from monoglot.knowledge import split", "monoglot.knowledge.split"),
        ("monoglot/errors.py", "from . import report", "monoglot.report"),
        (
            "monoglot/errors.py",
            "import importlib\nimportlib.import_module('tasks.caching')",
            "tasks.caching",
        ),
    ],
)
def test_a_planted_back_arrow_is_seen(tmp_path, file, line, target):
    lines = line.split("\n")
    body = "".join(f"    {part}\n" for part in lines)
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(f"def work():\n{body}", encoding="utf-8")
    assert imports_against_the_arrows(tmp_path) == [f"{file}:{1 + len(lines)} imports {target}"]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("deployments/run.py", "from flows.retrain import retrain"),
        ("flows/retrain.py", "import prefect"),
        ("flows/retrain.py", "from tasks.training import train"),
        ("tasks/training.py", "from prefect import task"),
        ("tasks/training.py", "from monoglot.learning.training import fine_tune"),
        ("monoglot/__init__.py", "from monoglot.serving.retriever import Retriever"),
        ("monoglot/report.py", "from monoglot.learning.metrics import Summary"),
        ("monoglot/serving/retriever.py", "from monoglot.learning.encoder import Encoder"),
        ("monoglot/learning/pairs.py", "from .negatives import draw"),
        ("monoglot/learning/pairs.py", "from monoglot.knowledge.split import split_rows"),
        ("monoglot/generation/llm.py", "from ..errors import EndpointError"),
        ("monoglot/generation/llm.py", "import openai, prefectly"),
    ],
)
def test_an_arrow_that_points_forward_passes(tmp_path, file, line):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(f"{line}\n", encoding="utf-8")
    assert imports_against_the_arrows(tmp_path) == []


def test_the_project_has_the_designs_folders_and_no_further_one():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, where the project's own folders cannot be told from yours")
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    tracked = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    folders = {name.split("/")[0] for name in tracked.split("\0") if "/" in name}
    assert {folder for folder in folders if not folder.startswith(".")} == FOLDERS


@pytest.mark.parametrize(
    "module",
    ["flows.cli", "monoglot", "monoglot.config", "monoglot.settings", "monoglot.store"],
)
def test_importing_the_edge_pulls_in_nothing_heavy(module):
    code = f"import sys, {module}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "[]"), ran.stderr
