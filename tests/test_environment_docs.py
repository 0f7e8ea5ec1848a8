"""Every variable of the environment stands in the documentation."""

from pathlib import Path

import pytest

from monoglot.settings import Settings

PAGE = Path(__file__).parents[1] / "deployments" / "README.md"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_is_in_the_table_of_the_environment(name):
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:3] == "| `"]
    assert any(f"`{name.upper()}`" in row for row in rows)
