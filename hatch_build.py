"""Build hook: the wheel carries the library alone, so it brings no `monoglot` command.

The command starts flows, which only a checkout has. In an editable install it is there; in a
wheel it would fail with a traceback for whoever typed it.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class LibraryOnly(BuildHookInterface[Any]):
    """Leaves the console scripts out of every wheel but the editable one."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Called by hatchling before a wheel is built; `version` is its kind."""
        if version == "standard":
            self.metadata.core.scripts.clear()
