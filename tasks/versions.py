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


STAGES: dict[str, StageCode] = {
    "knowledge_base": StageCode(1, ("tasks.knowledge_base",)),
    "split": StageCode(1, ("tasks.split",)),
    "queries": StageCode(2, ("tasks.queries",)),
    "given_translations": StageCode(2, ("tasks.given_translations",)),
    "user_queries": StageCode(1, ("tasks.user_queries",)),
    "candidates": StageCode(1, ("tasks.candidates",)),
    "further_candidates": StageCode(1, ("tasks.candidates",)),
    "labelling": StageCode(2, ("tasks.labelling",)),
    "translation": StageCode(3, ("tasks.translation",)),
    "synthesis": StageCode(3, ("tasks.synthesis",)),
    "quality": StageCode(3, ("tasks.quality",)),
    "consistency": StageCode(2, ("tasks.consistency",)),
    "round_trip": StageCode(1, ("tasks.round_trip",)),
    "questions": StageCode(2, ("tasks.questions",)),
    "anchors": StageCode(2, ("tasks.anchors",)),
    "triplets": StageCode(3, ("tasks.triplets",)),
    "training": StageCode(2, ("tasks.training",)),
    "merging": StageCode(1, ("tasks.merging",)),
    "index": StageCode(1, ("tasks.index",)),
    "evaluation": StageCode(1, ("tasks.evaluation",)),
    "tfidf": StageCode(1, ("tasks.baseline",)),
}


def versions() -> dict[str, int]:
    """The version of each stage, by name."""
    return {name: code.version for name, code in STAGES.items()}
