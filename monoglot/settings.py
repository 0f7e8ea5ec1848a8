"""Where and how a run happens: endpoint, key, device, concurrency.

Read from the environment (`MONOGLOT_...`) once, at the edge, and handed on. Nothing here bears
identity: two runs that differ only in settings share every cached result. The one exception is
the LLM's model name, which `Settings.applied_to` copies into the config before any key is made.
"""

from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from monoglot.config import Config
from monoglot.errors import ConfigError


class Settings(BaseSettings):
    """The environment of one process; build it with `read_settings`."""

    model_config = SettingsConfigDict(env_prefix="MONOGLOT_", frozen=True, extra="ignore")

    llm_base_url: str = Field("", description="Base URL of an OpenAI-compatible endpoint.")
    llm_api_key: SecretStr = Field(SecretStr(""), description="Its key; local servers need none.")
    llm_model: str = Field("", description="Model name used where the config names none.")
    llm_concurrency: int = Field(
        8, ge=1, description="Requests in flight; on a cluster, those of each worker."
    )
    llm_requests_per_minute: int = Field(
        0, ge=0, description="Requests a minute, shared by all of a process; 0: no limit."
    )
    llm_tokens_per_minute: int = Field(
        0, ge=0, description="Tokens a minute, in and out together, likewise; 0: no limit."
    )
    llm_rows_per_request: int = Field(10, ge=1, le=100, description="Rows packed in a request.")
    llm_batch_requests: int = Field(
        50_000,
        ge=1,
        le=50_000,
        description="Requests in a batch at most; less where the account's queue is short.",
    )
    llm_timeout_s: float = Field(300.0, gt=0, description="Seconds until a request is given up.")
    llm_attempts: int = Field(6, ge=1, description="Attempts at a request that finds trouble.")
    llm_retry_wait_s: float = Field(
        0.5, gt=0, description="Seconds before the second attempt; doubled for each one after."
    )
    llm_structured: Literal["json_schema", "json_object", "prompt"] = Field(
        "json_schema", description="How the endpoint is asked for JSON."
    )
    device: str = Field(
        "",
        description="cpu, cuda, cuda:1 or mps. Empty: the best there is. Training uses all GPUs of "
        "the machine where this is empty or cuda.",
    )
    encode_batch: int = Field(256, ge=1, description="Texts per encoding batch.")
    training_deployment: str = Field(
        "",
        description="Prefect deployment that trains, e.g. fine-tune/gpu, on a machine that reaches "
        "the same store. Empty: training happens where the run does.",
    )
    cluster: str = Field(
        "",
        description="Address of a Dask scheduler, e.g. tcp://10.0.0.5:8786: its workers send the "
        "LLM's requests, encode, and mine by the model. Empty: all of it happens where the run "
        "does.",
    )
    webhook_url: SecretStr = Field(
        SecretStr(""), description="Where failures, rejections and stale stores are told, by POST."
    )
    stale_hours: float = Field(
        26.0, gt=0, description="A store is stale when no run or check ended well for this long."
    )
    source_timeout_s: float = Field(
        60.0, gt=0, description="Seconds to wait for a knowledge base's server, each time."
    )
    source_max_mb: float = Field(
        1000.0, gt=0, description="A fetched knowledge base that is larger than this is refused."
    )

    def applied_to(self, config: Config) -> Config:
        """The config with the LLM's model name filled in from the environment if it has none."""
        if config.generation.model or not self.llm_model:
            return config
        generation = config.generation.model_copy(update={"model": self.llm_model})
        return config.model_copy(update={"generation": generation})

    @property
    def has_endpoint(self) -> bool:
        """Whether an endpoint is set, so that translation by LLM can be planned."""
        return bool(self.llm_base_url)


def read_settings() -> Settings:
    """Read the environment.

    Raises:
        ConfigError: a variable has a value of the wrong kind; names the variable.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(
            f"MONOGLOT_{str(problem['loc'][0]).upper()}: {problem['msg']}"
            for problem in error.errors()
        )
        raise ConfigError(f"environment: {problems}") from None
