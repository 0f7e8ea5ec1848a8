"""The wheel carries the library alone, and the constraints pin everything that is installed."""

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from email import message_from_bytes
from email.message import Message
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.!]+)")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def wheel_metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return message_from_bytes(wheel.read(name))


def test_the_wheel_carries_every_module_of_the_library_and_nothing_else(wheel):
    library = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "monoglot").rglob("*.py")
        if "sample" not in path.parts
    }
    carried = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {name for name in carried if name.endswith(".py")} == library
    assert {name.split("/")[0] for name in carried} == {"monoglot"}
    assert not [name for name in carried if name.startswith("monoglot/sample/")]


def test_the_wheel_brings_no_command_that_it_cannot_run(wheel):
    assert not [name for name in wheel.namelist() if name.endswith("entry_points.txt")]


def test_the_wheel_asks_for_no_orchestration_unless_the_extra_is_named(wheel):
    required = map(Requirement, wheel_metadata(wheel).get_all("Requires-Dist"))
    plain = {line.name for line in required if not line.marker or "extra" not in str(line.marker)}
    assert plain == {Requirement(line).name for line in PROJECT["dependencies"]}
    assert not plain & {"prefect", "openai", "fastapi", "typer", "matplotlib"}


def test_a_service_can_search_with_what_the_wheel_brings():
    """`monoglot.Retriever` imports where only the plain dependencies are installed."""
    present = closure(PROJECT["dependencies"])
    absent = sorted(
        name
        for name, owners in metadata.packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & (present | {"monoglot"})
    )
    assert "prefect" in absent
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {{"tasks", "flows", *{absent!r}}}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
from monoglot import Retriever
print(Retriever.__name__)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "Retriever"), ran.stderr


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [PIN.fullmatch(line) for line in lines if not line.startswith("#")]
    assert all(found), "constraints.txt holds `name==version` lines and comments, nothing else"
    return {canonicalize_name(pin[1]): pin[2] for pin in found}


def closure(requirements: Iterable[str]) -> set[str]:
    """Names of all installed distributions that these requirements bring, themselves included."""
    names: set[str] = set()
    seen: set[str] = set()
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        wanted = waiting.pop()
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        name = canonicalize_name(wanted.name)
        names.add(name)
        for line in requires(name):
            further = Requirement(line)
            extras = ({"extra": extra} for extra in ("", *wanted.extras))
            if further.marker is None or any(map(further.marker.evaluate, extras)):
                waiting.append(further)
    return names


def requires(name: str) -> list[str]:
    """What a distribution asks for; nothing for one that is not installed here."""
    if name == "monoglot":  # as pyproject.toml has it now, not as it was when it was installed
        groups = PROJECT["optional-dependencies"].items()
        extras = [f"{line}; extra == '{group}'" for group, lines in groups for line in lines]
        return [*PROJECT["dependencies"], *extras]
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def test_the_constraints_pin_everything_that_is_installed():
    extras = ",".join(PROJECT["optional-dependencies"])
    brought = closure([f"monoglot[{extras}]"]) - {"monoglot"}
    # torch pins its own GPU libraries exactly, and which ones differs by platform.
    brought -= closure(
        line for line in requires("torch") if "==" in str(Requirement(line).specifier)
    )
    assert len(brought) > 100
    assert sorted(brought - pins().keys()) == []


def test_the_constraints_satisfy_the_projects_own_requirements():
    pinned = pins()
    groups = PROJECT["optional-dependencies"].values()
    for line in [*PROJECT["dependencies"], *(line for group in groups for line in group)]:
        wanted = Requirement(line)
        if wanted.name != "monoglot":
            assert wanted.specifier.contains(pinned[canonicalize_name(wanted.name)]), line
    assert pinned["torch"] == "2.13.0"
