"""What a flow is asked to do: its one parameter, and the form in Prefect's UI."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from monoglot.config import Config
from monoglot.config_file import load_config
from monoglot.settings import Settings, read_settings


class RunRequest(BaseModel):
    """Which config to run, and where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config_file: Path = Field(
        Path("monoglot.yaml"), description="The monoglot.yaml to run, on the worker's machine."
    )
    store: str = Field("", description="Store to use instead of the config's. Empty: the config's.")
    force: bool = Field(
        False,
        description="Run although nothing changed, and put the result into production even where "
        "another release was chosen by hand. Finished stages are still reused.",
    )

    @property
    def title(self) -> str:
        """What a run is named after: the folder of its config."""
        return self.config_file.resolve().parent.name

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
