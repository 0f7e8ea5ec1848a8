"""Helpers that the tests own and benchmarks use, too."""

import importlib
import sys
from typing import Any

from benchmarks.provenance import ROOT


def from_tests(name: str) -> Any:
    """A module of the tests, such as `tiny_models`."""
    folder = str(ROOT / "tests")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(name)
