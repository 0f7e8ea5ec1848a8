"""Grid files: which cells they mean, and errors that name file, cell and field."""

from pathlib import Path

import pytest
import yaml

from monoglot.config import Config
from monoglot.errors import ConfigError
from monoglot.learning.grid import FIXED, cells_of, trials_of, updated
from monoglot.learning.grids import BUILT_IN, options_of, read_grid
from monoglot.learning_config import SamplingConfig

CONFIG = Config(
    knowledge_base={"path": "/kb.csv"}, store="/store", generation={"synthetic_per_label": 50}
)


def grid_of(tmp_path, text):
    path = tmp_path / "grid.yaml"
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text, sort_keys=False))
    return read_grid(str(path), CONFIG)


def trials(tmp_path, text, *, resplit=True):
    grid, where = grid_of(tmp_path, text)
    return trials_of(cells_of(grid, where), CONFIG, Path("/monoglot.yaml"), where, resplit=resplit)


AXES = {
    "base": {"fine_tuning": {"epochs": 3}},
    "axes": {
        "rate": {
            "slow": {"fine_tuning": {"learning_rate": 1e-5}},
            "fast": {"fine_tuning": {"learning_rate": 1e-3}},
        },
        "negatives": {"random": {"sampling": {"strategy": "random"}}},
    },
    "cells": {"as it is": {}},
    "seeds": [3, 5],
}


def test_cells_are_the_product_of_the_axes_and_all_of_a_seed_come_first(tmp_path):
    made = trials(tmp_path, AXES)
    names = ["slow, random", "fast, random", "as it is"]
    assert [(trial.cell, trial.seed) for trial in made] == [
        (name, seed) for seed in (3, 5) for name in names
    ]
    slow, _, present = made[:3]
    assert slow.config.fine_tuning.learning_rate == 1e-5
    assert slow.config.fine_tuning.epochs == 3
    assert slow.config.sampling.strategy == "random"
    assert present.config.fine_tuning.epochs == CONFIG.fine_tuning.epochs
    assert (made[3].config.fine_tuning.seed, made[3].config.split.seed) == (5, 5)
    assert trials(tmp_path, AXES, resplit=False)[3].config.split.seed == 0


@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"strategy": "top_k", "remine": True},  # which algorithm1 refuses
        {"random_negatives": 0, "hard_negatives": 0},  # which the objective explicit refuses
    ],
)
@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_grid_is_made_of_configs(name, sampling):
    config = Config.model_validate(updated(CONFIG.model_dump(), {"sampling": sampling}))
    grid, where = read_grid(name, config)
    cells = cells_of(grid, where)
    made = trials_of(cells, config, Path("/monoglot.yaml"), where, resplit=False)
    assert len(made) == len(cells.changes) * 3
    assert cells.reference in cells.changes


def test_the_strategies_are_those_of_the_config_under_the_papers_objective():
    cells = cells_of(*read_grid("strategies", CONFIG))
    assert (
        set(cells.changes) == set(options_of(SamplingConfig, "strategy")) >= {"random", "hardest"}
    )
    assert {it["fine_tuning"]["objective"] for it in cells.changes.values()} == {"explicit"}


def test_what_the_recipe_lacks_already_is_no_cell():
    bare = CONFIG.model_copy(
        update={"merging": CONFIG.merging.model_copy(update={"base_weight": 0.0})}
    )
    assert "without merging" in BUILT_IN["recipe"](CONFIG).cells
    hinglish = Config.model_validate(
        CONFIG.model_dump() | {"languages": [{"code": "hi-Latn", "name": "Hinglish"}]}
    )
    assert "without spelling noise" in BUILT_IN["recipe"](hinglish).cells
    assert "without spelling noise" not in BUILT_IN["recipe"](CONFIG).cells
    assert "without merging" not in BUILT_IN["recipe"](bare).cells


def test_the_scaling_of_synthetic_queries_needs_some():
    none = CONFIG.model_copy(
        update={"generation": CONFIG.generation.model_copy(update={"synthetic_per_label": 0})}
    )
    with pytest.raises(ConfigError, match=r"synthetic: generation\.synthetic_per_label is 0"):
        read_grid("synthetic", none)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            {"cells": {"a": {"sampling": {"strateg": "random"}}}},
            "cell 'a': sampling.strateg: unknown",
        ),
        ({"cells": {"a": {"sampling": {"strategy": "best"}}}}, "cell 'a': sampling.strategy: "),
        ({"cells": {"a": {"fine_tunning": {}}}}, "cell 'a': fine_tunning: unknown setting"),
        ({"cells": {"a": {"store": "/x"}}}, "cell 'a': store: must be the same for all cells"),
        ({"cells": {"a": {"languages": []}}}, "cell 'a': languages: must be the same"),
        ({"cels": {}}, "cels: unknown setting (a typo?). Known here: base, axes, cells"),
        ({"cells": {"a": 3}}, "cells.a: "),
        ({"seeds": [1, 1], "cells": {"a": {}}}, "seeds: a seed is listed twice"),
        ({"seeds": [], "cells": {"a": {}}}, "seeds: "),
        ({}, "has no cell"),
        ({"axes": {"rate": {}}}, "axes.rate: has no option"),
        ({"cells": {"a": {}}, "reference": "b"}, "reference: no cell is called 'b'. Cells: a."),
        ("cells: [", "is not valid YAML"),
        (
            {
                "axes": {
                    "one": {"x": {"fine_tuning": {"epochs": 1}}},
                    "two": {"y": {"fine_tuning": {"epochs": 2}}},
                }
            },
            "cell 'x, y': fine_tuning.epochs: two of its options set it",
        ),
        (
            {"axes": {"one": {"x": {"merging": {"base_weight": 0.0}}}}, "cells": {"x": {}}},
            "cells.x: a combination of the axes has this name",
        ),
    ],
)
def test_an_error_names_file_cell_and_field(tmp_path, text, said):
    with pytest.raises(ConfigError) as error:
        trials(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path}/grid.yaml: ")
    assert said in str(error.value)


def test_a_new_section_of_the_config_is_either_learned_by_or_fixed():
    """Else a setting that has nothing to do with learning would train every cell anew."""
    varied = {"sampling", "fine_tuning", "merging", "split", "base_model"}
    assert set(Config.model_fields) - FIXED == varied


def test_an_unknown_grid_lists_those_there_are():
    with pytest.raises(ConfigError, match=r"strategys: no such grid. Built in: strategies, "):
        read_grid("strategys", CONFIG)
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such file\. Give a grid file"):
        read_grid("gone.yaml", CONFIG)
