"""What every gate's stage tells of itself, for `monoglot quality` to read from a run."""

from typing import Any

import polars as pl

from monoglot.config import LanguageConfig


def checked(rows: pl.DataFrame, language: LanguageConfig) -> dict[str, Any]:
    """Facts of a stage that was given these rows of one language and origin to check."""
    origin = rows["origin"].cast(pl.String).first() if rows.height else ""
    return {"language": language.code, "origin": origin, "checked": rows.height}
