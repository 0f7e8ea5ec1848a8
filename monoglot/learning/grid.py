"""A grid of cells: named changes of the learning sections of `monoglot.yaml`, each under each seed.

A cell is a config like the user's own but for what it names, so it learns by the same code. What a
cell may change is all but `FIXED`: cells that answer from other rows, or other questions, could
not be compared, and none may buy anything. The built-in grids take their options from the types of
the config's fields: a new strategy is in the grid the day that it is in the config.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import Field, ValidationError, field_validator

from monoglot.config import Config
from monoglot.config_file import explain, parse_config, read_settings_by_name
from monoglot.errors import ConfigError
from monoglot.learning_config import SamplingConfig, TrainingConfig
from monoglot.section import Section

FIXED = frozenset(
    (
        "knowledge_base",
        "languages",
        "evaluation",
        "training",
        "user_queries",
        "store",
        "generation",
        "redaction",
        "quality",
        "spending",
        "gate",
        "policy",
    )
)
# Bears on how a cell learns alone. A section that is named nowhere here bears on both.
_LEARNING = frozenset(("sampling", "fine_tuning", "merging", "base_model"))
Changes = dict[str, Any]  # section -> setting -> value, as in monoglot.yaml
PRESENT = "present recipe"
_PAPER_EPOCHS = 3


class Grid(Section):
    """A grid file: the cells are all combinations of the axes' options, and the further cells."""

    base: Changes = Field(
        default_factory=dict, description="Changes that all combinations of the axes share."
    )
    axes: dict[str, dict[str, Changes]] = Field(
        default_factory=dict, description="Axis -> name of an option -> its changes."
    )
    cells: dict[str, Changes] = Field(
        default_factory=dict,
        description="Further cells, name -> changes of monoglot.yaml; {} is the present recipe.",
    )
    seeds: tuple[int, ...] = Field(
        (0, 1, 2), min_length=1, description="Each cell is trained once with each."
    )
    reference: str = Field(
        "", description="The cell that the others are compared with. Empty: the first."
    )

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is listed twice")
        return seeds


@dataclass(frozen=True)
class Trial:
    """One cell under one seed: what is trained once.

    Attributes:
        cell: its name.
        seed: of sampling, of shuffling and, where `Cells` says so, of the split.
        config: the user's, with the cell's changes and the seed.
    """

    cell: str
    seed: int
    config: Config


@dataclass(frozen=True)
class Cells:
    """A grid's cells as changes, checked against a config.

    Attributes:
        changes: name of the cell -> its changes.
        reference: name of the cell that the others are compared with.
        seeds: each cell is trained once with each.
    """

    changes: Mapping[str, Changes]
    reference: str
    seeds: tuple[int, ...]


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


def cells_of(grid: Grid, where: str) -> Cells:
    """The cells of a grid by name: all combinations of its axes' options, then its further cells.

    Raises:
        ConfigError: no cell, two of one name, an unknown reference, two options that set one
            field, or a section that cannot differ between cells; names cell and field.
    """
    cells: dict[str, Changes] = {}
    axes = [list(options.items()) for options in grid.axes.values()]
    empty = [axis for axis, options in grid.axes.items() if not options]
    if empty:
        raise ConfigError(f"{where}: axes.{empty[0]}: has no option")
    for combination in itertools.product(*axes) if axes else ():
        name = ", ".join(option for option, _ in combination)
        if name in cells:
            raise ConfigError(f"{where}: axes: two combinations are called {name!r}; rename one")
        cells[name] = _merged(where, name, grid.base, [changes for _, changes in combination])
    for name, changes in grid.cells.items():
        if name in cells:
            raise ConfigError(f"{where}: cells.{name}: a combination of the axes has this name")
        cells[name] = changes
    if not cells:
        raise ConfigError(f"{where}: has no cell. Give `axes:` or `cells:`.")
    for name, changes in cells.items():
        fixed = sorted(FIXED & changes.keys())
        if fixed:
            raise ConfigError(
                f"{where}: cell {name!r}: {fixed[0]}: must be the same for all cells, which answer "
                "the same questions from the same rows and buy nothing"
            )
    reference = grid.reference or next(iter(cells))
    if reference not in cells:
        raise ConfigError(
            f"{where}: reference: no cell is called {reference!r}. Cells: {', '.join(cells)}."
        )
    return Cells(cells, reference, grid.seeds)


def trials_of(
    cells: Cells, config: Config, config_file: Path, where: str, *, resplit: bool
) -> tuple[Trial, ...]:
    """Every cell under every seed, all cells of one seed before the next.

    In that order an interrupted grid has compared all its cells, if on fewer seeds.

    Args:
        cells: by name.
        config: the user's.
        config_file: where it was read from: its folder is what a `base_model` folder is seen from.
        where: the grid, for errors.
        resplit: whether the seed also sets `split.seed`, so that the spread over seeds holds what
            depends on which rows train. Not where translations of other rows would be bought, or
            where the split decides on the questions.

    Raises:
        ConfigError: a cell's field is unknown or wrong, or a cell changes the split although that
            would change the questions or buy translations; names the cell and the field.
    """
    trials = []
    for seed, (name, changes) in itertools.product(cells.seeds, cells.changes.items()):
        if "split" in changes and not resplit:
            raise ConfigError(
                f"{where}: cell {name!r}: split: can differ between cells only where an evaluation "
                "file and a file of translations for each language are given: it would change the "
                "questions, or buy translations"
            )
        made = with_changes(config, changes, config_file, f"{where}: cell {name!r}")
        trials.append(Trial(name, seed, seeded(made, seed, resplit=resplit)))
    return tuple(trials)


def with_changes(config: Config, changes: Changes, config_file: Path, where: str) -> Config:
    """A config with some settings changed, checked as if it had been read so.

    Raises:
        ConfigError: a field is unknown or wrong.
    """
    try:
        return parse_config(_updated(config.model_dump(), changes), config_file)
    except ConfigError as error:
        raise ConfigError(f"{where}: {str(error).removeprefix(f'{config_file}: ')}") from None


def seeded(config: Config, seed: int, *, resplit: bool) -> Config:
    """The config of one seed."""
    update: dict[str, Any] = {
        "fine_tuning": config.fine_tuning.model_copy(update={"seed": seed}),
    }
    if resplit:
        update["split"] = config.split.model_copy(update={"seed": seed})
    return config.model_copy(update=update)


def data_settings_of(config: Config) -> dict[str, Any]:
    """The sections that a cell may change and that bear on its data, rather than its learning."""
    known = FIXED | _LEARNING
    return {name: getattr(config, name) for name in Config.model_fields if name not in known}


def learning_settings_of(config: Config) -> dict[str, Any]:
    """All sections that a cell may change, but for the split and the model, known by content."""
    known = FIXED | {"split", "base_model"}
    return {name: getattr(config, name) for name in Config.model_fields if name not in known}


def _merged(where: str, cell: str, base: Changes, parts: Iterable[Changes]) -> Changes:
    """The changes of several options in one; two that set one field contradict each other.

    What an option sets overrules the base.
    """
    merged: Changes = {}
    for part in parts:
        twice = sorted(set(_leaves(merged)) & set(_leaves(part)))
        if twice:
            raise ConfigError(f"{where}: cell {cell!r}: {twice[0]}: two of its options set it")
        merged = _updated(merged, part)
    return _updated(base, merged)


def _leaves(changes: Any, above: str = "") -> list[str]:
    """The dotted names of all settings that are changed."""
    if not isinstance(changes, dict) or not changes:
        return [above] if above else []
    return [
        leaf
        for name, value in changes.items()
        for leaf in _leaves(value, f"{above}.{name}" if above else str(name))
    ]


def _updated(settings: Changes, changes: Changes) -> Changes:
    """Settings with some of them changed, at any depth; neither argument is touched."""
    updated = dict(settings)
    for name, value in changes.items():
        before = updated.get(name)
        both = isinstance(before, dict) and isinstance(value, dict)
        updated[name] = _updated(before, value) if both else value  # type: ignore[arg-type]
    return updated


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
                objective: {"fine_tuning": {"objective": objective}}
                for objective in options_of(TrainingConfig, "objective")
            }
        },
        reference=config.fine_tuning.objective,
    )


def _negatives(config: Config) -> Grid:
    """How many hard negatives Algorithm 1 wants, one random one always beside them."""
    return Grid(
        base=_updated(
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
        "without English replay": {"fine_tuning": {"english_replay": False}},
        "without merging": {"merging": {"base_weight": 0.0}},
        "positives from the index set": {"sampling": {"positives": "index"}},
        "no own source as positive": {"sampling": {"own_source_share": 0.0}},
        "half the epochs": {"fine_tuning": {"epochs": max(1, config.fine_tuning.epochs // 2)}},
        "the paper's recipe": _updated(_paper(config), {"sampling": {"strategy": "algorithm1"}}),
    }
    present = config.model_dump()
    differing = {
        name: changes for name, changes in without.items() if _updated(present, changes) != present
    }
    return Grid(cells={PRESENT: {}, **differing}, reference=PRESENT)


def _paper(config: Config) -> Changes:
    """The setting of arXiv 2506.02527; rate, batch and similarity stay the user's."""
    return {
        "sampling": {"positives": "index"},
        "fine_tuning": {
            "objective": "explicit",
            "english_replay": False,
            "epochs": min(_PAPER_EPOCHS, config.fine_tuning.epochs),
        },
        "merging": {"base_weight": 0.0},
    }


BUILT_IN: dict[str, Callable[[Config], Grid]] = {
    "strategies": _strategies,
    "objectives": _objectives,
    "negatives": _negatives,
    "recipe": _recipe,
}
