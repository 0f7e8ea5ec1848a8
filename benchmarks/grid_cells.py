"""The cells of the public grid: what `RESULTS.md` compares, in one table a data set.

On `hinglish_top` and `banking77_ar` all but the default recipe learn by the paper's recipe
(`hinglish_files.PAPER`) with one thing changed, so that a difference is that thing's; elsewhere all
learn by the default recipe. Strategies and objectives are those of the config.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.grid_data import SYNTHETIC_PER_ROW
from benchmarks.hinglish_files import PAPER
from benchmarks.static_base import STATIC
from monoglot.learning.grid import Cells, Changes
from monoglot.learning.grids import options_of
from monoglot.learning_config import Baseline, SamplingConfig, TrainingConfig
from tasks.comparison import BM25, CLASSIFIER, DISTILLED, LOGISTIC, MINED, TFIDF, TRANSLATED
from tasks.systems import UNTUNED

REFERENCE = "random, explicit"
DEFAULT = "default recipe"
NO_SYNTHETIC = "no synthetic"
ALL_TRANSLATIONS = "all translations"
_PAPERS = ("random", "weighted", "hardest", "algorithm1")
# Objective -> what a table calls it; the others keep the config's name.
_OBJECTIVES = {"explicit": "explicit", "both": "in-batch"}


@dataclass(frozen=True)
class Peer:
    """Another method, as `tasks.comparison` has it.

    Attributes:
        asked: its name in `baselines.also`; None: every report has it.
        changes: what its training changes in the default recipe.
        is_seeded: whether a seed changes it.
    """

    asked: Baseline | None = None
    changes: Changes = field(default_factory=dict)
    is_seeded: bool = True


# Distillation and the classifier take as many steps as the default recipe. Negatives mined by
# sentence-transformers are learned from as the other cells learn from theirs.
PEERS: dict[str, Peer] = {
    BM25: Peer(is_seeded=False),
    LOGISTIC: Peer(is_seeded=False),
    TRANSLATED: Peer("translate_query", is_seeded=False),
    MINED: Peer("st_mined", PAPER),
    DISTILLED: Peer("distillation"),
    CLASSIFIER: Peer("classifier"),
}
# Measured with every grid, under no seed.
GIVEN = (UNTUNED, TFIDF)
_PEERS = {
    "hinglish_top": tuple(PEERS),
    # No English wording to distil from, and no lexicon of Arabic.
    "banking77_ar": (LOGISTIC, MINED, CLASSIFIER),
}


def cells_for(dataset: str) -> Cells:
    """The cells of a data set, and the seeds they are measured under."""
    return _CELLS[dataset]()


def _hinglish_top() -> Cells:
    strategies = {
        f"{strategy}, {named}": _paper(
            sampling={"strategy": strategy}, fine_tuning={"objective": objective}
        )
        for objective, named in _OBJECTIVES.items()
        for strategy in options_of(SamplingConfig, "strategy")
    }
    remined = {
        f"top_k re-mined, {named}": _paper(
            sampling={"strategy": "top_k", "remine": True}, fine_tuning={"objective": objective}
        )
        for objective, named in _OBJECTIVES.items()
    }
    objectives = {
        f"objective {objective}": _paper(fine_tuning={"objective": objective})
        for objective in options_of(TrainingConfig, "objective")
        if objective not in _OBJECTIVES
    }
    # A share of 30 % and k = 2 are the paper's own, measured as `algorithm1, explicit`.
    shares = {f"index share {s} %": _paper(split={"index_share": s / 100}) for s in (10, 50)}
    negatives = {f"k = {k}": _paper(sampling={"hard_negatives": k}) for k in (1, 4, 7)}
    changes = {**strategies, **remined, **objectives, **shares, **negatives}
    return Cells({DEFAULT: {}, **changes}, REFERENCE, (0, 1, 2))


def _hinglish_synthetic() -> Cells:
    """The default recipe with so many synthetic queries for each row, and as many steps."""
    shares = {NO_SYNTHETIC: 0.0} | {
        f"{n} a row": n / SYNTHETIC_PER_ROW for n in (1, 2, SYNTHETIC_PER_ROW)
    }
    changes: dict[str, Changes] = {
        name: {"fine_tuning": {**STATIC, "mix": {"origin_shares": {"native": share}}}}
        for name, share in shares.items()
    }
    return Cells(changes, NO_SYNTHETIC, (0, 1, 2))


def _hinglish_fewer() -> Cells:
    """The default recipe with ever more of the translations, and as many steps."""
    parts = {"an eighth": 0.125, "a quarter": 0.25, "half": 0.5}
    changes: dict[str, Changes] = {
        f"{part} of the translations": {
            "fine_tuning": {"mix": {"origin_shares": {"translated": share}}}
        }
        for part, share in parts.items()
    }
    return Cells({**changes, ALL_TRANSLATIONS: {}}, ALL_TRANSLATIONS, (0,))


def _banking77_ar() -> Cells:
    cells = {f"{it}, explicit": _paper(sampling={"strategy": it}) for it in _PAPERS}
    return Cells({**cells, DEFAULT: {}}, REFERENCE, (0, 1))


def peers_for(dataset: str) -> tuple[str, ...]:
    """The peers that are measured on a data set."""
    return _PEERS.get(dataset, ())


def _paper(**changes: dict[str, Any]) -> Changes:
    """The paper's recipe with some settings changed."""
    names = dict.fromkeys((*PAPER, *changes))
    return {name: {**PAPER.get(name, {}), **changes.get(name, {})} for name in names}


_CELLS: dict[str, Callable[[], Cells]] = {
    "hinglish_top": _hinglish_top,
    "hinglish_lexicon": lambda: Cells({DEFAULT: {}}, UNTUNED, (0, 1, 2)),
    "hinglish_synthetic": _hinglish_synthetic,
    "hinglish_fewer": _hinglish_fewer,
    "banking77_ar": _banking77_ar,
}
