"""The result files of the grid: small, one a cell and seed, and enough to compare by themselves.

results/grid/<dataset>/questions.json       label, source and part of each question, once
results/grid/<dataset>/<cell>-<seed>.json   the place of the right label for each, a character
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.provenance import RESULTS
from monoglot.config import Config
from monoglot.identity import digest
from monoglot.learning.comparison import Cost, Measured
from monoglot.learning.grid import learning_settings_of

GRID = RESULTS / "grid"
_PLACES = "0123456789a"  # a place from 0 (not among the first ten) to 10


def pack(places: Sequence[int]) -> str:
    """Places as a character each."""
    return "".join(_PLACES[place] for place in places)


def unpack(packed: str) -> list[int]:
    """The same back."""
    return [_PLACES.index(character) for character in packed]


def result_path(folder: Path, cell: str, seed: int | None) -> Path:
    """Where the result of a cell goes; what no seed changes has none in its name."""
    slug = re.sub(r"[^a-z0-9]+", "-", cell.lower()).strip("-")
    return folder / (f"{slug}.json" if seed is None else f"{slug}-{seed}.json")


def write_json(path: Path, value: Any) -> None:
    """Write a file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    partial.replace(path)


def settings_in(config: Config) -> dict[str, Any]:
    """The learning settings of a cell, all of them, as a result file names them."""
    sections = {**learning_settings_of(config), "split": config.split}
    return {name: section.model_dump(mode="json") for name, section in sections.items()}


def is_done(path: Path, changes: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether a cell of this meaning and these settings is measured.

    A default that has changed since makes it another cell; a setting that is new since does not,
    since its default is what was done before.
    """
    if not path.exists():
        return False
    found = read(path)
    return bool(found["changes"] == changes) and _agrees(found["settings"], settings)


def _agrees(before: Any, now: Any) -> bool:
    if not isinstance(before, dict) or not isinstance(now, dict):
        return bool(before == now)
    return all(name in now and _agrees(value, now[name]) for name, value in before.items())


def read(path: Path) -> dict[str, Any]:
    """A result file."""
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def questions_of(outcomes: pl.DataFrame, parts: Mapping[str, str]) -> dict[str, Any]:
    """What `questions.json` holds: one entry a question, sorted by query id.

    Args:
        outcomes: `Outcomes` of any system on all questions.
        parts: query id -> part.
    """
    asked = outcomes.filter(~pl.col("control")).sort("query_id")
    controlled = outcomes.filter("control")["query_id"].implode()
    names = {name: asked[name].unique().sort().to_list() for name in ("label", "language")}
    return {
        "ids": digest(asked["query_id"].to_list()),
        "labels": names["label"],
        "languages": names["language"],
        "label": [names["label"].index(label) for label in asked["label"]],
        "language": [names["language"].index(language) for language in asked["language"]],
        "group": (asked["group"].rank("dense") - 1).to_list(),
        "part": [parts[query_id] for query_id in asked["query_id"]],
        "known": pack(asked["known"].cast(pl.Int64).to_list()),
        "control": pack(asked["query_id"].is_in(controlled).cast(pl.Int64).to_list()),
    }


def places_of(outcomes: pl.DataFrame, index_set: pl.DataFrame | None) -> dict[str, str]:
    """What a result file says of the questions: as asked, in English, over the index set alone."""
    asked = outcomes.sort("query_id")
    told = {
        "text": asked.filter(~pl.col("control")),
        "english": asked.filter("control"),
        "index_set": None if index_set is None else index_set.sort("query_id"),
    }
    return {name: pack(each["rank"].to_list()) for name, each in told.items() if each is not None}


def outcomes_of(questions: Mapping[str, Any], places: Mapping[str, str]) -> pl.DataFrame:
    """The columns of `Outcomes` that a comparison needs, and `part`, from the files alone."""
    count = len(questions["label"])
    asked = pl.DataFrame(
        {
            "query_id": [str(number) for number in range(count)],
            "label": [questions["labels"][code] for code in questions["label"]],
            "language": [questions["languages"][code] for code in questions["language"]],
            "group": [str(group) for group in questions["group"]],
            "part": questions["part"],
            "known": [place == 1 for place in unpack(questions["known"])],
            "control": False,
            "rank": pl.Series(unpack(places["text"]), dtype=pl.Int32),
        }
    )
    has_control = pl.Series(unpack(questions["control"])) == 1
    if not places.get("english"):
        return asked
    english = asked.filter(has_control).with_columns(
        control=pl.lit(value=True), rank=pl.Series(unpack(places["english"]), dtype=pl.Int32)
    )
    return pl.concat([asked, english])


def cost_in(result: Mapping[str, Any]) -> Cost | None:
    """What the training took; None: nothing was trained."""
    cost = result.get("cost")
    return None if cost is None else Cost(cost["seconds"], cost["steps"], cost["texts"])


def measured_of(questions: Mapping[str, Any], results: Mapping[int, Mapping[str, Any]]) -> Measured:
    """A cell from its files: seed -> result."""
    return Measured(
        outcomes={seed: outcomes_of(questions, it["places"]) for seed, it in results.items()},
        costs={seed: cost for seed, it in results.items() if (cost := cost_in(it)) is not None},
        failed={},
    )
