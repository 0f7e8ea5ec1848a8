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
    "knowledge_base": StageCode(3, ("tasks.knowledge_base",)),
    "split": StageCode(2, ("tasks.split",)),
    "queries": StageCode(4, ("tasks.queries",)),
    "given_translations": StageCode(4, ("tasks.given_translations",)),
    "user_queries": StageCode(3, ("tasks.user_queries",)),
    "candidates": StageCode(1, ("tasks.candidates",)),
    "further_candidates": StageCode(1, ("tasks.candidates",)),
    "labelling": StageCode(4, ("tasks.labelling",)),
    "translation": StageCode(5, ("tasks.translation",)),
    "synthesis": StageCode(5, ("tasks.synthesis",)),
    "quality": StageCode(5, ("tasks.quality",)),
    "consistency": StageCode(4, ("tasks.consistency",)),
    "round_trip": StageCode(3, ("tasks.round_trip",)),
    "questions": StageCode(4, ("tasks.questions",)),
    "anchors": StageCode(5, ("tasks.anchors",)),
    "triplets": StageCode(3, ("tasks.triplets",)),
    "training": StageCode(4, ("tasks.training",)),
    "merging": StageCode(1, ("tasks.merging",)),
    "index": StageCode(2, ("tasks.index",)),
    "evaluation": StageCode(3, ("tasks.evaluation",)),
    "probe": StageCode(2, ("tasks.evaluation",)),
    "encodings": StageCode(2, ("tasks.evaluation",)),
    "guard": StageCode(3, ("tasks.guards",)),
    "out_of_scope": StageCode(3, ("tasks.abstention",)),
    "calibration": StageCode(2, ("tasks.abstention",)),
    "tfidf": StageCode(4, ("tasks.baseline",)),
    "bm25": StageCode(2, ("tasks.baseline",)),
    "logistic_head": StageCode(2, ("tasks.baseline",)),
    "question_translation": StageCode(3, ("tasks.query_translation",)),
    "question_lexicon": StageCode(3, ("tasks.query_translation",)),
    "translated_questions": StageCode(2, ("tasks.query_translation",)),
    "mining": StageCode(1, ("tasks.peer_training",)),
    "distillation": StageCode(1, ("tasks.peer_training",)),
    "classifier_training": StageCode(1, ("tasks.peer_training",)),
    "diagnostics": StageCode(4, ("tasks.diagnostics",)),
    "classifier": StageCode(2, ("tasks.peer_training",)),
    "cell": StageCode(2, ("tasks.cells",)),
}


def versions() -> dict[str, int]:
    """The version of each stage, by name."""
    return {name: code.version for name, code in STAGES.items()}
