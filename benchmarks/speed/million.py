"""A large knowledge base end to end, by the command line: what each stage takes, and how it grows.

Rows are made (`rows`), translated word by word, and encoded with a static-embedding model, since a
transformer's share is known from `encoding` and grows with the number of texts alone.
"""

import json
import re
import sys
import tempfile
from pathlib import Path

import polars as pl
import yaml

from benchmarks.speed.commands import monoglot, stages_of
from benchmarks.speed.figures import Figure, exponent
from benchmarks.speed.rows import doubling, made_rows
from benchmarks.speed.static import static_model
from monoglot.generation.query_translation import by_lexicon

TITLE = "A million rows, end to end"
_QUESTIONS, _EDITED = 1_000, 3
_DIGEST = re.compile(" [0-9a-f]{8}$")  # of a tuned model, another in each run
_STAGES = ("knowledge base", "split", "translations", "training set", "triplets", "index")


def measure(*, quick: bool, data: Path | None) -> list[Figure]:
    """Runs at doubling sizes."""
    most, times = (62_500, 3) if quick else (1_000_000, 5)
    sizes = list(doubling(most, times))
    found: dict[int, dict[str, float]] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            found[size] = _measured(Path(folder), size, data)
        print(size, json.dumps(found[size]), file=sys.stderr, flush=True)
    last = found[most]
    figures = [
        Figure(f"{name}, {most:,} rows", value, "GiB" if name.startswith("peak") else "s", most=bar)
        for name, value in last.items()
        for bar in [_bar(name) if not quick else None]
    ]
    grown = [name for name in last if name in _STAGES or name.startswith(("run", "refresh"))]
    return figures + [
        Figure(
            f"exponent of {name}, {sizes[0]:,} to {most:,} rows",
            exponent(sizes, [found[size].get(name, 0.0) for size in sizes]),
            "",
            most=1.1,
        )
        for name in grown
        if last[name] >= 1.0  # below a second, start-up hides the growth
    ]


def _bar(name: str) -> float | None:
    bars = {"refresh with 3 edited rows": 30.0, "peak memory of the run": 6.0, "rollback": 5.0}
    return bars.get(name)


def _measured(folder: Path, size: int, data: Path | None) -> dict[str, float]:
    """Seconds of each stage and command, and GiB, at one size."""
    rows = made_rows(size, 10_000, data)
    config = _write(folder, rows, data)
    planned = monoglot("plan", config)
    ran = monoglot("run", config)
    stages = _stages(folder / "store")
    nothing = monoglot("run", config)
    edited = rows.with_columns(
        query=pl.when(pl.int_range(pl.len()) < _EDITED)
        .then(pl.col("query") + " please")
        .otherwise("query")
    )
    edited.write_csv(folder / "kb.csv")
    refreshed = monoglot("refresh", config)
    back = monoglot("rollback", config)
    return {
        "plan": planned.seconds,
        **stages,
        "run, all of it": ran.seconds,
        "peak memory of the run": ran.peak_gib,
        "run with nothing to do": nothing.seconds,
        "refresh with 3 edited rows": refreshed.seconds,
        "peak memory of the refresh": refreshed.peak_gib,
        "rollback": back.seconds,
    }


def _write(folder: Path, rows: pl.DataFrame, data: Path | None) -> Path:
    lexicon = _lexicon(rows, data)
    told = rows.with_columns(
        translation=pl.col("query").map_elements(
            lambda text: by_lexicon(text, lexicon)[0], return_dtype=pl.String
        )
    )
    rows.write_csv(folder / "kb.csv")
    told.select("row_id", "translation").write_csv(folder / "translations.csv")
    asked = told.sample(_QUESTIONS, seed=0).select(
        "label", text="translation", language=pl.lit("hi-Latn"), english="query"
    )
    asked.write_csv(folder / "questions.csv")
    config = {
        "knowledge_base": {"path": "kb.csv"},
        "languages": [{"code": "hi-Latn", "name": "Hinglish", "translations": "translations.csv"}],
        "evaluation": {"path": "questions.csv"},
        "base_model": str(static_model()),
        "store": "store",
        "fine_tuning": {"epochs": 1, "batch_size": 512, "learning_rate": 0.01},
    }
    path = folder / "monoglot.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def _lexicon(rows: pl.DataFrame, data: Path | None) -> dict[str, str]:
    """English words to Hinglish ones; without the public lexicon, words written backwards."""
    path = None if data is None else data / "lexicons/en_hinglish_induced.tsv"
    if path is not None and path.is_file():
        words = pl.read_csv(path, separator="\t", quote_char=None).sort("score_sym")
        return dict(words.select("en", "hinglish").iter_rows())
    words_used = {word.lower() for query in rows["query"].head(50_000) for word in query.split()}
    return {word: word[::-1] for word in words_used}


def _stages(store: Path) -> dict[str, float]:
    """Seconds of each kind of stage in the run's record."""
    seconds: dict[str, float] = {}
    for stage in stages_of(store):
        title = _DIGEST.sub("", stage["title"])
        name = next((name for name in _STAGES if title.startswith(name)), title)
        seconds[name] = seconds.get(name, 0.0) + stage["seconds"]
    return seconds
