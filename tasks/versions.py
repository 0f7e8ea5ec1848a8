"""The stages, the version of each, and the code whose change asks for a new one.

Free of Prefect, since a run's key is made before Prefect is loaded. A version is bumped by hand
when a stage's results change; a test compares the syntax trees of the modules with the committed
digests and asks for it. A bump recomputes the stage, and what follows as far as rows differ.
"""

from typing import NamedTuple


class StageCode(NamedTuple):
    """Version of a stage, and the modules whose code makes its result."""

    version: int
    modules: tuple[str, ...]


STAGES: dict[str, StageCode] = {}


def versions() -> dict[str, int]:
    """The version of each stage, by name."""
    return {name: code.version for name, code in STAGES.items()}
