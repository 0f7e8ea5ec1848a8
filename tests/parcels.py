"""A knowledge base about parcels and what its translation is asked for, for tests of generation."""

import polars as pl

from monoglot.config import LanguageConfig
from monoglot.generation.translation import pending
from monoglot.generation_config import GenerationConfig

HINGLISH = LanguageConfig(code="hi-Latn", name="Hinglish", style="as typed on a phone")
CONFIG = GenerationConfig(model="toy", glossary=("SIM swap",))


def kb(count, start=0):
    numbers = range(start, start + count)
    return pl.DataFrame(
        {
            "row_id": [f"row-{n:04}" for n in numbers],
            "query": [f"where is my parcel number {n} from the shop" for n in numbers],
            "label": ["parcel" if n % 2 else "shop" for n in numbers],
        },
        schema=dict.fromkeys(("row_id", "query", "label"), pl.String),
    )


def plan(rows, server, ledger, language=HINGLISH, config=CONFIG, **changes):
    return pending(
        rows, language, config, kb_language="en", settings=server.settings(**changes), ledger=ledger
    )
