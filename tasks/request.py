"""What a flow is asked to do: its one parameter, and the form in Prefect's UI."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from monoglot.config import Config, QueriesFile
from monoglot.config_file import load_config
from monoglot.errors import ConfigError
from monoglot.knowledge.sources import fetched
from monoglot.settings import Settings, read_settings


class StoreRequest(BaseModel):
    """Which config, and so which store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config_file: Path = Field(
        Path("monoglot.yaml"), description="The monoglot.yaml to run, on the worker's machine."
    )
    store: str = Field("", description="Store to use instead of the config's. Empty: the config's.")
    why: str = Field(
        "", max_length=200, description="Why this run is started, in a few words; part of its name."
    )

    @property
    def title(self) -> str:
        """What a run is named after: the folder of its config, and why it was started."""
        folder = self.config_file.resolve().parent.name
        return f"{folder}: {self.why}" if self.why else folder

    def read(self) -> tuple[Config, Settings]:
        """The config, with the LLM's name filled in, and the settings of this process.

        Raises:
            ConfigError: the file or an environment variable is wrong.
        """
        settings = read_settings()
        config = settings.applied_to(load_config(self.config_file))
        if self.store:
            config = config.model_copy(update={"store": self.store})
        return config, settings

    def read_fetched(self) -> tuple[Config, Settings]:
        """`read`, with every knowledge base as a local file: for whatever reads its rows.

        Raises:
            ConfigError: as `read`, or a knowledge base's address is not set.
            DataError: a knowledge base's address or query is wrong.
            SourceError: the place where it lives cannot be reached.
            StoreError: what was fetched cannot be kept.
        """
        config, settings = self.read()
        return fetched(config, settings), settings


class RunRequest(StoreRequest):
    """Which config to run, and whether nothing changed is a reason not to."""

    force: bool = Field(
        False,
        description="Run although nothing changed, and put the result into production even where "
        "another release was chosen by hand, or serves another knowledge base. Finished stages are "
        "still reused.",
    )


class AblationRequest(RunRequest):
    """Which grid to measure, on which config."""

    grid: str = Field(
        "strategies", description="A built-in grid by name, or a YAML file of axes and cells."
    )
    seeds: tuple[int, ...] = Field((), description="Seeds to use instead of the grid's.")
    seconds: float | None = Field(
        None, gt=0.0, description="No further cell is begun after this time. Empty: no limit."
    )


class TuningRequest(RunRequest):
    """How long to look for a better recipe."""

    seconds: float = Field(
        3600.0, gt=0.0, description="Time for the search; the cells that decide come on top."
    )
    seed: int = Field(0, description="Seed of the candidates that are tried.")


class RollbackRequest(StoreRequest):
    """Which release to go back to."""

    release: str = Field(
        "", description="Id of a kept release. Empty: the one before the current one."
    )

    @property
    def target(self) -> str:
        """The release as a run's name says it."""
        return self.release or "the one before"


class PromoteRequest(StoreRequest):
    """Which release to put into production."""

    release: str = Field(
        "",
        description="Id of the candidate that awaits approval, or of a kept release. Empty: the "
        "candidate.",
    )

    @property
    def target(self) -> str:
        """The release as a run's name says it."""
        return self.release or "the candidate"


class EvaluationRequest(StoreRequest):
    """Which questions to ask the release in production."""

    queries: Path | None = Field(
        None,
        description="File of text, language, label [, english], on the worker's machine. Empty: "
        "the config's evaluation file.",
    )

    def read_with_queries(self) -> tuple[Config, Settings, QueriesFile]:
        """`read`, and the file of questions.

        Raises:
            ConfigError: neither the request nor the config names one.
        """
        config, settings = self.read()
        file = config.evaluation
        if self.queries is not None:
            file = file.model_copy(update={"path": self.queries})
        if file.path is None:
            raise ConfigError(
                f"{self.config_file}: there are no questions to ask. Name a file of them as "
                "`queries`, or under `evaluation: {path: ...}`."
            )
        return config, settings, file
