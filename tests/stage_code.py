"""The code each stage uses, as digests of syntax trees: what `test_stage_versions.py` compares.

Starts at the modules that `tasks/versions.py` lists for a stage and follows what they name into
the rest of the library and of the tasks, definition by definition: a stage that uses one function
of a module does not depend on the others there. Comments, docstrings, layout and the version of
Python do not count.

Not followed, since they cannot change a stage's rows: errors (texts), settings and store (where
and how), runs (bookkeeping), config (its values are in the key already), and what binds a stage
to Prefect.
"""

import ast
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

PLUMBING = {
    *(f"monoglot.{name}" for name in ("errors", "settings", "store", "runs", "config")),
    *(f"tasks.{name}" for name in ("caching", "versions", "workplace")),
}

BUMP = (
    "If results can differ, raise the version in tasks/versions.py, or stale ones will be reused; "
    "if they cannot, leave it."
)
RECORD = "Record it: make record-versions"

Code = dict[str, str]  # dotted name of a definition -> digest of its syntax tree
Record = dict[str, dict[str, Any]]  # the committed file: "stages" and "code"
Listed = Mapping[str, tuple[int, Iterable[str]]]  # stage -> version, modules


class Module:
    """One source file: its definitions by name, what its imports stand for, and the rest."""

    def __init__(self, name: str, path: Path, text: str) -> None:
        self.name = name
        self._read: dict[str, tuple[str, list[str]]] = {}
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, list[tuple[str, str | None]]] = {}
        self.rest: list[ast.stmt] = []
        tree = ast.parse(text, str(path))
        for node in ast.walk(tree):
            for bound, meant in _imported(node, name, is_package=path.name == "__init__.py"):
                self.imports.setdefault(bound, []).append(meant)
        for statement in tree.body:
            names = list(_defined(statement))
            for defined in names:
                self.definitions.setdefault(defined, []).append(statement)
            if not names and not _is_text(statement) and not _is_import(statement):
                self.rest.append(statement)

    def read(self, where: str, statements: list[ast.stmt]) -> tuple[str, list[str]]:
        """Digest of a definition, and the names in it: worked out once for all stages."""
        if where not in self._read:
            names = dict.fromkeys(
                node.id
                for statement in statements
                for node in ast.walk(statement)
                if isinstance(node, ast.Name)
            )
            found = _digest([canonical(statement) for statement in statements])
            self._read[where] = (found, list(names))
        return self._read[where]


@functools.lru_cache(maxsize=1024)
def _parsed(name: str, path: Path, text: str) -> Module:
    return Module(name, path, text)


def _defined(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement at the top of a module defines."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _imported(
    node: ast.AST, module: str, *, is_package: bool
) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """For each name that an import binds: the module, and the name in it (None: all of it)."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0], (alias.name, None)
    elif isinstance(node, ast.ImportFrom):
        parts = module.split(".")
        above = parts[: len(parts) - node.level + is_package] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            yield alias.asname or alias.name, (base, alias.name)


class Walk:
    """Collects the definitions reachable from some modules of the tree under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules: dict[str, Module] = {}
        self.entire: set[str] = set()
        self.code: Code = {}

    def module(self, name: str) -> Module | None:
        """The module of that name, or None where there is no such file."""
        if name not in self.modules:
            stem = self.root.joinpath(*name.split("."))
            for path in (stem.with_suffix(".py"), stem / "__init__.py"):
                if path.is_file():
                    self.modules[name] = _parsed(name, path, path.read_text(encoding="utf-8"))
        return self.modules.get(name)

    def whole(self, name: str) -> None:
        """Take every definition of a module."""
        if name in self.entire:
            return
        self.entire.add(name)
        module = self.module(name)
        if module is None:
            raise FileNotFoundError(f"tasks/versions.py lists {name}, which does not exist")
        self._take(name, module, module.rest)
        for definition in module.definitions:
            self.one(module, definition)

    def one(self, module: Module, name: str) -> None:
        """Take one definition of a module, and what it uses."""
        where = f"{module.name}.{name}"
        if where not in self.code:
            self._take(where, module, module.definitions[name])

    def _take(self, where: str, module: Module, statements: list[ast.stmt]) -> None:
        if not statements or where in self.code:
            return
        self.code[where], names = module.read(where, statements)
        for name in names:
            self._follow(module, name)

    def _follow(self, module: Module, name: str) -> None:
        if name in module.definitions:
            self.one(module, name)
        elif name in module.imports:
            for base, meant in module.imports[name]:
                self._follow_import(base, meant)

    def _follow_import(self, base: str, name: str | None) -> None:
        """Take what an import stands for: a module, or a definition (perhaps re-exported)."""
        as_module = base if name is None else f"{base}.{name}"
        ours = base.partition(".")[0] in {"monoglot", "tasks"}
        if not ours or {base, as_module} & PLUMBING:
            return
        if name is None or self.module(as_module):
            self.whole(as_module)
        elif module := self.module(base):
            self._follow(module, name)


def canonical(node: object) -> object:
    """A syntax tree as JSON values, without docstrings, positions and empty fields.

    Not `ast.dump`, whose text differs from one Python version to the next.
    """
    if isinstance(node, list):
        return [canonical(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {}
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(value, list):
            value = [item for item in value if not _is_text(item)]  # noqa: PLW2901
        if value is not None and value != []:
            fields[name] = canonical(value)
    return [type(node).__name__, fields]


def _is_text(statement: ast.stmt) -> bool:
    """Whether a statement is a docstring or another string that nothing uses."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _is_import(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Import | ast.ImportFrom)


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_of(root: Path, modules: Iterable[str]) -> Code:
    """The code that some modules of the tree under `root` use, themselves included."""
    walk = Walk(root)
    for name in modules:
        walk.whole(name)
    return dict(sorted(walk.code.items()))


def record_of(root: Path, stages: Listed) -> Record:
    """What is committed: each stage's version and the digest of its code; and all that code."""
    code: Code = {}
    recorded: dict[str, dict[str, int | str]] = {}
    for stage, (version, modules) in sorted(stages.items()):
        used = code_of(root, modules)
        code |= used
        recorded[stage] = {"version": version, "digest": _digest(used)}
    return {"stages": recorded, "code": dict(sorted(code.items()))}


def complaints(root: Path, stages: Listed, record: Record) -> list[str]:
    """For each stage that is not as it was recorded, what to do about it."""
    known = record["stages"]
    lines = [
        f"{stage}: is recorded, but no stage. {RECORD}" for stage in sorted(known - stages.keys())
    ]
    for stage, (version, modules) in sorted(stages.items()):
        used = code_of(root, modules)
        if stage not in known:
            lines.append(f"{stage}: a new stage. {RECORD}")
        elif version < known[stage]["version"]:
            lines.append(
                f"{stage}: version {version} was used before; cached results of then would be "
                f"taken for those of now. The last one was {known[stage]['version']}."
            )
        elif version > known[stage]["version"]:
            lines.append(f"{stage}: has a new version. {RECORD}")
        elif _digest(used) != known[stage]["digest"]:
            lines.append(f"{stage}: {_changed(used, record['code'])}. {BUMP} {RECORD}")
    return lines


def _changed(used: Code, before: Code) -> str:
    names = [name for name, digest in used.items() if before.get(name) != digest]
    return f"changed: {', '.join(names)}" if names else "no longer uses some of its code"
