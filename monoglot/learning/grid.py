"""A grid of cells: named changes of the learning sections of `monoglot.yaml`, each under each seed.

A cell is a config like the user's own but for what it names, so it learns by the same code. What a
cell may change is all but `FIXED`: cells that answer from other rows, or other questions, could
not be compared, and none may buy anything.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from monoglot.config import Config
from monoglot.config_file import parse_config
from monoglot.errors import ConfigError
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
        "review",
        "baselines",
        "gate",
        "guards",
        "abstention",
        "policy",
        "retention",
    )
)
# Bears on how a cell learns alone. A section that is named nowhere here bears on both.
_LEARNING = frozenset(("sampling", "fine_tuning", "merging", "base_model"))
Changes = dict[str, Any]  # section -> setting -> value, as in monoglot.yaml
PRESENT = "present recipe"


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
        return parse_config(updated(config.model_dump(), changes), config_file)
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
        merged = updated(merged, part)
    return updated(base, merged)


def _leaves(changes: Any, above: str = "") -> list[str]:
    """The dotted names of all settings that are changed."""
    if not isinstance(changes, dict) or not changes:
        return [above] if above else []
    return [
        leaf
        for name, value in changes.items()
        for leaf in _leaves(value, f"{above}.{name}" if above else str(name))
    ]


def updated(settings: Changes, changes: Changes) -> Changes:
    """Settings with some of them changed, at any depth; neither argument is touched."""
    changed = dict(settings)
    for name, value in changes.items():
        before = changed.get(name)
        both = isinstance(before, dict) and isinstance(value, dict)
        changed[name] = updated(before, value) if both else value  # type: ignore[arg-type]
    return changed
