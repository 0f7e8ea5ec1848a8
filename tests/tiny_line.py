"""A whole line in seconds: a corner of the sample, and a model made by the tests."""

from pathlib import Path

import polars as pl
import yaml
from tiny_models import static_model

from monoglot.store import Store
from tasks.request import RunRequest

SAMPLE = Path(__file__).parents[1] / "monoglot/sample"
LABELS = 6


def write_line(folder: Path, **settings) -> Path:
    """Write the files of a small line into a folder; the path of its `monoglot.yaml`.

    Six labels of the sample with their 12 rows each, their translations and native questions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kb = pl.read_csv(SAMPLE / "kb.csv")
    kept = kb["label"].unique(maintain_order=True).head(LABELS).implode()
    kb = kb.filter(pl.col("label").is_in(kept))
    translations = pl.read_csv(SAMPLE / "hinglish.csv").filter(
        pl.col("source").is_in(kb["query"].implode())
    )
    questions = pl.read_csv(SAMPLE / "queries.csv").filter(pl.col("label").is_in(kept))
    kb.write_csv(folder / "kb.csv")
    translations.write_csv(folder / "hinglish.csv")
    questions.write_csv(folder / "queries.csv")
    texts = [*kb["query"], *translations["translation"], *questions["text"]]
    static_model(folder / "model", texts)
    config = {
        "knowledge_base": {"path": "kb.csv"},
        "languages": [
            {"code": "hi-Latn", "name": "Hinglish", "translations": "hinglish.csv"},
        ],
        "evaluation": {"path": "queries.csv"},
        "base_model": "./model",
        "store": "store",
        "fine_tuning": {
            "epochs": 40,
            "batch_size": 32,
            "learning_rate": 0.02,
            "spelling_noise": 0.0,  # so few queries are not learned through it
        },
    }
    path = folder / "monoglot.yaml"
    path.write_text(yaml.safe_dump(config | settings))
    return path


def edit_kb(folder: Path, change) -> None:
    """Rewrite kb.csv; `change` maps a frame to a frame."""
    path = folder / "kb.csv"
    change(pl.read_csv(path)).write_csv(path)


def configure(folder: Path, **settings) -> Path:
    """Set whole sections of the line's `monoglot.yaml`; its path."""
    path = folder / "monoglot.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | settings))
    return path


def request_of(folder: Path, **more) -> RunRequest:
    """What a flow is asked to do with the line in a folder."""
    return RunRequest(config_file=folder / "monoglot.yaml", **more)


def store_of(folder: Path) -> Store:
    """The line's store."""
    return Store.existing(str(folder / "store"))
