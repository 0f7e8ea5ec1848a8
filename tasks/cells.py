"""One cell of a grid: trained by the stages of every run, measured, and its weights let go.

A cell's result is keyed by how it learns and from what, not by its weights: these are removed once
they are measured, or a grid of dozens of cells would fill the disk. Killed halfway, a cell goes on
at the last checkpoint of its training stage.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from monoglot.generation.scripts import romanised_among
from monoglot.identity import digest, identity_of
from monoglot.knowledge.validation import is_validation
from monoglot.learning.evaluation import evaluate_vectors, with_english
from monoglot.learning.grid import Trial, learning_settings_of
from monoglot.learning.metrics import ALL, METRICS, summarise
from monoglot.serving.index import temperature_of
from monoglot.store import Artifact, Store
from tasks.caching import stage
from tasks.models import ModelRef, locate
from tasks.sources import Data
from tasks.versions import versions
from tasks.workplace import Job

if TYPE_CHECKING:
    from monoglot.learning.encoder import Encoder

HELD_BACK = "held_back.parquet"
INDEX_SET = "index_set.parquet"
CURVE = "curve.parquet"
POINTS = 5
_CURVE_QUESTIONS = 1000  # enough to see which curve is above, at a few seconds a look
_CURVE_SO_FAR = "curve.jsonl"
_CURVE_SCHEMA = {"step": pl.Int64, **dict.fromkeys(METRICS, pl.Float64)}
# The stages between the data, which the key names by content, and the candidate.
_LEARNING = ("triplets", "training", "merging")


@dataclass(frozen=True)
class Bench:
    """What all cells that share their data learn from, and are asked.

    Attributes:
        rows: the knowledge base.
        data: split, questions and training set.
        seed: of the halves of the questions; see `validation.is_validation`.
    """

    rows: Artifact
    data: Data
    seed: int


@dataclass(frozen=True)
class Learned:
    """A model to measure, and the stages that made it; a base model has none."""

    model: ModelRef
    stages: tuple[Artifact, ...] = ()


@dataclass(frozen=True)
class Learning:
    """How a system comes to its weights; only `digest`, which says so, bears identity.

    Attributes:
        title: cell and seed, for people.
        digest: of all that its weights depend on.
        work: trains it, with a watcher of its weights; or finds it.
        keep: stages whose results outlive the measurement, since another cell goes on from them.
    """

    title: str
    digest: str
    work: Callable[["Curve"], Learned]
    keep: frozenset[str] = frozenset()


def learning_digest(trial: Trial, bench: Bench, base: ModelRef) -> str:
    """Identity of a cell's weights: data by content, the cell's settings, the code's versions."""
    code = versions()
    return digest(
        {
            "rows": bench.rows.digest,
            "parts": bench.data.parts.digest,
            "questions": bench.data.questions.digest,
            "anchors": bench.data.anchors.digest,
            "user_labels": [labelled.digest for labelled in bench.data.labelled.queries],
            "base": base.digest,
            "romanised": romanised_among(trial.config.languages),
            "settings": identity_of(learning_settings_of(trial.config)),
            "code": {name: code[name] for name in _LEARNING},
        }
    )


@stage("cell", title="cell {learning.title}", tags=["gpu"])
def measure_cell(
    job: Job,
    *,
    learning: Learning,
    knowledge_base: Artifact,
    parts: Artifact,
    questions: Artifact,
    seed: int,
) -> None:
    """`contracts.Outcomes` on the validation questions.

    Beside them those on the held-back questions, on all over the index set alone (the paper's
    setting), and the scores during the training.

    Args:
        job: the stage's job.
        learning: how the system comes to its weights.
        knowledge_base: the rows that answer.
        parts: the split.
        questions: the evaluation set, which is halved.
        seed: of the halves.
    """
    rows, asked = job.table(knowledge_base), job.table(questions)
    validation = is_validation(asked, seed)
    curve = Curve(job.scratch / _CURVE_SO_FAR, rows, asked.filter(validation))
    learned = learning.work(curve)
    encoder = _loaded(job, learned.model)
    outcomes = answers(encoder, asked, rows, batch_size=job.settings.encode_batch)
    in_index = job.table(parts).filter(pl.col("part").cast(pl.String) == "index")
    alone = rows.join(in_index, on="row_id", how="semi")
    chosen = pl.col("query_id").is_in(asked.filter(validation)["query_id"].implode())
    job.write(outcomes.filter(chosen), **_cost(learned, curve))
    job.draft.write_table(outcomes.filter(~chosen), HELD_BACK)
    job.draft.write_table(answers(encoder, asked, alone, control=False), INDEX_SET)
    job.draft.write_table(curve.points(), CURVE)
    let_go(job.store, learned, learning.keep)


def answers(
    encoder: "Encoder",
    questions: pl.DataFrame,
    rows: pl.DataFrame,
    *,
    batch_size: int = 256,
    control: bool = True,
) -> pl.DataFrame:
    """`contracts.Outcomes` of a model over rows that are in no index; with the English control."""
    english = None
    if control:
        english = encoder.encode(with_english(questions)["english"].to_list())
    vectors = encoder.encode(rows["query"].to_list(), batch_size=batch_size)
    return evaluate_vectors(
        questions,
        encoder.encode(questions["text"].to_list(), batch_size=batch_size),
        english,
        rows,
        vectors,
        temperature=temperature_of(rows, vectors),
    )


class Curve:
    """Scores on validation questions at a few steps of a training, kept as they are made.

    A watcher of a workplace. What it takes is told apart from the training's own time.
    """

    def __init__(self, path: Path, rows: pl.DataFrame, questions: pl.DataFrame) -> None:
        self._path = path
        self._rows = rows
        self._questions = questions.sort("query_id").head(_CURVE_QUESTIONS)

    def __call__(self, encoder: "Encoder", done: int, of: int) -> None:
        """Measure where the step is one of `POINTS` evenly spread ones."""
        if done not in {-(-of * point // POINTS) for point in range(1, POINTS + 1)}:
            return
        started = time.perf_counter()
        outcomes = answers(encoder, self._questions, self._rows, control=False)
        point = {"step": done, **summarise(outcomes)[ALL].micro}
        point["seconds"] = time.perf_counter() - started
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(point) + "\n")

    def points(self) -> pl.DataFrame:
        """The metrics by step; empty where the training was found finished."""
        looks = [look for _, look in sorted(self._looks().items())]
        return pl.DataFrame(looks, schema=_CURVE_SCHEMA)

    @property
    def seconds(self) -> float:
        """What the looks of the finished training took."""
        return sum(look["seconds"] for look in self._looks().values())

    def _looks(self) -> dict[int, dict[str, float]]:
        """Step -> the last look at it: a training that had to start anew was looked at anew."""
        if not self._path.exists():
            return {}
        lines = self._path.read_text(encoding="utf-8").split("\n")
        looks = [json.loads(line) for line in lines if line.endswith("}")]  # not a torn last one
        return {look["step"]: look for look in looks}


def _loaded(job: Job, model: ModelRef) -> "Encoder":
    """The model, loaded anew: its weights are of no use to a later stage."""
    from monoglot.learning.encoder import Encoder

    return Encoder.load(locate(job.store, model), device=job.settings.device)


def _cost(learned: Learned, curve: Curve) -> dict[str, Any]:
    """Facts of the training stage among those that made the model."""
    for made in learned.stages:
        if "steps" in made.facts:
            whole = not made.facts["resumed_at"]
            return {
                "steps": made.facts["steps"],
                "seconds": round(made.facts["seconds"] - curve.seconds, 1) if whole else None,
                "texts": made.facts["texts"] if whole else None,
                "resumed_at": made.facts["resumed_at"],
            }
    return {}


def let_go(store: Store, learned: Learned, keep: frozenset[str]) -> None:
    """Remove the weights that a measured cell was made of, but for stages to keep."""
    for made in learned.stages:
        if made.stage not in keep:
            shutil.rmtree(store.folder(made))


def let_all_go(store: Store) -> None:
    """Remove all weights and checkpoints of a workshop, when there is nothing to go on from."""
    for folder in (
        store.root / "artifacts" / "training",
        store.root / "artifacts" / "merging",
        *(store.root / "tmp").glob("resume-*"),
    ):
        shutil.rmtree(folder, ignore_errors=True)


def adopt(store: Store, source: Store, artifact: Artifact) -> None:
    """Copy an artifact of another store to the same place in this one, whatever is there."""
    final = store.folder(artifact)
    shutil.rmtree(final, ignore_errors=True)
    with store.explained():
        shutil.copytree(source.folder(artifact), final)
