"""Reading `monoglot.yaml`: paths made absolute, and errors in the words of the file."""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from monoglot.config import Config
from monoglot.errors import ConfigError


def load_config(path: Path) -> Config:
    """Read and check `monoglot.yaml`; relative paths in it are taken from its own folder.

    Raises:
        ConfigError: the file is missing, is not YAML, or a field is wrong; names file and field.
    """
    return parse_config(
        read_settings_by_name(path, "`monoglot init DIR` writes one to start from."), path
    )


def read_settings_by_name(path: Path, advice: str) -> dict[str, Any]:
    """The contents of a YAML file that holds settings by name; `advice` is for a missing one.

    Raises:
        ConfigError: the file is missing, or is not such a file.
    """
    try:
        return settings_in(path.read_text(encoding="utf-8"), path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file. {advice}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from error


def settings_in(text: str, path: Path) -> dict[str, Any]:
    """What a YAML text says, which came from `path`.

    Raises:
        ConfigError: it is not YAML, or not settings by name.
    """
    try:
        raw = yaml.load(text, _Loader)  # noqa: S506, a safe loader
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # a date of month 13 is the second
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected settings by name, such as `knowledge_base:`.")
    return raw


def parse_config(raw: dict[str, Any], path: Path) -> Config:
    """Check an already parsed config; `path` is the file it came from (for errors and folders)."""
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error)}") from None
    try:
        return _resolved(config, path.resolve().parent)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"{path}: a path in it cannot be used: {error}") from error


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a setting given twice, where YAML would take the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names: set[str] = set()
        for name, _ in node.value:
            if isinstance(name, yaml.ScalarNode) and name.value in names:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{name.value} is given twice", name.start_mark
                )
            names.add(name.value if isinstance(name, yaml.ScalarNode) else "")
        return node


_NAMED = re.compile(r"[\w.]+: ")  # a message that names a setting within the place
_IN_WORDS = {"model_type": "expected settings by name", "tuple_type": "expected a list"}


def _is_bare(value: Any) -> bool:
    """Whether YAML took something for a number or truth value that may have been meant as text."""
    return isinstance(value, bool | int | float)


def explain(error: ValidationError, root: type[BaseModel] = Config) -> str:
    """One line per wrong field, in the words of the file; `root` is what was read."""
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        kind, given = problem["type"], problem["input"]
        if kind == "extra_forbidden":
            lines.append(f"{where}: unknown setting (a typo?). {_known_near(where, root)}")
        elif kind == "missing":
            lines.append(f"{where}: is required")
        elif kind == "value_error":
            said = str(problem["ctx"]["error"])
            joint = "." if _NAMED.match(said) else ": "
            lines.append(f"{where}{joint if where else ''}{said}")
        else:
            said = _IN_WORDS.get(kind, problem["msg"])
            quote = "; put it in quotes" if kind == "string_type" and _is_bare(given) else ""
            lines.append(f"{where}: {said} (got {given!r}{quote})"[:300])
    return "; ".join(lines)


def _known_near(where: str, root: type[BaseModel]) -> str:
    """The settings that exist beside an unknown one."""
    section: type[BaseModel] | None = root
    for part in where.split(".")[:-1]:
        if part.isdigit():
            continue
        section = _section_of(section, part) if section else None
    return f"Known here: {', '.join(section.model_fields)}." if section else ""


def _section_of(section: type[BaseModel], name: str) -> type[BaseModel] | None:
    field = section.model_fields.get(name)
    kinds = (field.annotation, *getattr(field.annotation, "__args__", ())) if field else ()
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _resolved(config: Config, folder: Path) -> Config:
    """The config with every file and folder made absolute, seen from the config's own folder."""

    def absolute(path: Path | None) -> Path | None:
        return None if path is None else (folder / path.expanduser()).resolve()

    base = config.base_model
    if (base.startswith((".", "/", "~"))) or (folder / base).is_dir():
        base = str((folder / Path(base).expanduser()).resolve())
    store = config.store
    if "://" not in store:
        store = str((folder / Path(store).expanduser()).resolve())
    return config.model_copy(
        update={
            "knowledge_base": config.knowledge_base.model_copy(
                update={"path": absolute(config.knowledge_base.path)}
            ),
            "languages": tuple(
                language.model_copy(update={"translations": absolute(language.translations)})
                for language in config.languages
            ),
            "evaluation": config.evaluation.model_copy(
                update={"path": absolute(config.evaluation.path)}
            ),
            "training": config.training.model_copy(update={"path": absolute(config.training.path)}),
            "user_queries": config.user_queries.model_copy(
                update={"path": absolute(config.user_queries.path)}
            ),
            "guards": tuple(
                guard.model_copy(
                    update={
                        "path": absolute(guard.path),
                        "knowledge_base": guard.knowledge_base
                        and guard.knowledge_base.model_copy(
                            update={"path": absolute(guard.knowledge_base.path)}
                        ),
                    }
                )
                for guard in config.guards
            ),
            "abstention": config.abstention.model_copy(
                update={
                    "out_of_scope": config.abstention.out_of_scope.model_copy(
                        update={"path": absolute(config.abstention.out_of_scope.path)}
                    )
                }
            ),
            "baselines": config.baselines.model_copy(
                update={"lexicon": absolute(config.baselines.lexicon)}
            ),
            "sampling": config.sampling.model_copy(
                update={
                    "similarity": config.sampling.similarity.model_copy(
                        update={"file": absolute(config.sampling.similarity.file)}
                    )
                }
            ),
            "review": config.review.model_copy(update={"log": absolute(config.review.log)}),
            "base_model": base,
            "store": store,
        }
    )
