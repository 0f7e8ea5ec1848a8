"""Grids by name, and grid files.

The built-in grids take their options from the types of the config's fields: a new strategy is in
the grid the day that it is in the config.
"""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from monoglot.config import Config
from monoglot.config_file import explain, read_settings_by_name
from monoglot.errors import ConfigError
from monoglot.learning.grid import PRESENT, Changes, Grid, updated
from monoglot.learning_config import SamplingConfig, TrainingConfig
from monoglot.section import Section

_PAPER_EPOCHS = 3
_PAPER_NEGATIVES = (1, 2)  # random and hard ones


def read_grid(name: str, config: Config) -> tuple[Grid, str]:
    """A built-in grid by name, or a grid file; and what to call it in errors and titles.

    Raises:
        ConfigError: no such grid or file, or a wrong field in it.
    """
    if name in BUILT_IN:
        return BUILT_IN[name](config), name
    path = Path(name)
    if not path.exists() and path.suffix.lower() not in {".yaml", ".yml"}:
        raise ConfigError(
            f"{name}: no such grid. Built in: {', '.join(BUILT_IN)}; or give a YAML file."
        )
    raw = read_settings_by_name(path, "Give a grid file, or one of: " + ", ".join(BUILT_IN))
    try:
        return Grid.model_validate(raw), str(path)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, Grid)}") from None


def options_of(section: type[Section], field: str) -> tuple[str, ...]:
    """The values that a field of the config may have, from its `Literal` type."""
    return tuple(str(option) for option in get_args(section.model_fields[field].annotation))


def _strategies(config: Config) -> Grid:
    """The paper's Table 1: every strategy under its objective, explicit negatives alone."""
    return Grid(
        base=_paper(config),
        axes={
            "strategy": {
                strategy: {"sampling": {"strategy": strategy}}
                for strategy in options_of(SamplingConfig, "strategy")
            }
        },
        reference="random",
    )


def _objectives(config: Config) -> Grid:
    """Every objective, in the present recipe."""
    return Grid(
        axes={
            "objective": {
                objective: {
                    "fine_tuning": {"objective": objective},
                    "sampling": _negatives_of(config) if objective == "explicit" else {},
                }
                for objective in options_of(TrainingConfig, "objective")
            }
        },
        reference=config.fine_tuning.objective,
    )


def _negatives(config: Config) -> Grid:
    """How many hard negatives Algorithm 1 wants, one random one always beside them."""
    return Grid(
        base=updated(
            _paper(config), {"sampling": {"strategy": "algorithm1", "random_negatives": 1}}
        ),
        axes={
            "k": {f"k = {k}": {"sampling": {"hard_negatives": k}} for k in (1, 2, 4, 7)},
        },
        reference="k = 2",
    )


def _recipe(config: Config) -> Grid:
    """The present recipe, and the same without one part of it at a time."""
    without: dict[str, Changes] = {
        "token embeddings at the common rate": {"fine_tuning": {"embedding_rate": 1.0}},
        "without spelling noise": {"fine_tuning": {"spelling_noise": 0.0}},
        "without English replay": {"fine_tuning": {"english_replay": False}},
        "without merging": {"merging": {"base_weight": 0.0}},
        "positives from the index set": {"sampling": {"positives": "index"}},
        "no own source as positive": {"sampling": {"own_source_share": 0.0}},
        "half the epochs": {"fine_tuning": {"epochs": max(1, config.fine_tuning.epochs // 2)}},
        "the paper's recipe": updated(_paper(config), {"sampling": {"strategy": "algorithm1"}}),
    }
    if not any("Latn" in (it.script or it.code) for it in config.languages):
        del without["without spelling noise"]  # of which there is none in other scripts
    present = config.model_dump()
    differing = {
        name: changes for name, changes in without.items() if updated(present, changes) != present
    }
    return Grid(cells={PRESENT: {}, **differing}, reference=PRESENT)


def _synthetic(config: Config) -> Grid:
    """The present recipe with 0, 1, 2 and 5 fifths of the synthetic queries that were bought.

    An epoch is as long with few of them as with all: what differs is their variety alone. The
    curve's slope at its end says whether more would help; a start above it that they do harm.
    """
    if not config.generation.synthetic_per_label:
        raise ConfigError(
            "grid synthetic: generation.synthetic_per_label is 0: there are no synthetic queries. "
            "Set it, 50 say, and run `monoglot plan` to see what they cost."
        )
    fifths = {"no synthetic": 0.0, "a fifth": 0.2, "two fifths": 0.4, "all": 1.0}
    return Grid(
        axes={
            "synthetic": {
                name: {"fine_tuning": {"mix": {"origin_shares": {"synthetic": share}}}}
                for name, share in fifths.items()
            }
        },
        reference="no synthetic",
    )


def _negatives_of(config: Config) -> dict[str, int]:
    """Negatives for an objective that needs some: the config's, or the paper's if it has none."""
    random, hard = config.sampling.random_negatives, config.sampling.hard_negatives
    if random + hard == 0:
        random, hard = _PAPER_NEGATIVES
    return {"random_negatives": random, "hard_negatives": hard}


def _paper(config: Config) -> Changes:
    """The setting of arXiv 2506.02527; rate, batch and similarity stay the user's."""
    return {
        # Re-mining is of some strategies alone; the grids go through all.
        "sampling": {"positives": "index", "remine": False, **_negatives_of(config)},
        "fine_tuning": {
            "objective": "explicit",
            "english_replay": False,
            "embedding_rate": 1.0,
            "spelling_noise": 0.0,
            "epochs": min(_PAPER_EPOCHS, config.fine_tuning.epochs),
        },
        "merging": {"base_weight": 0.0},
    }


BUILT_IN: dict[str, Callable[[Config], Grid]] = {
    "strategies": _strategies,
    "objectives": _objectives,
    "negatives": _negatives,
    "recipe": _recipe,
    "synthetic": _synthetic,
}
