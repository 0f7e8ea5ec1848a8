"""`Config`: all that is set in `monoglot.yaml`, and, but for `spending`, bears identity.

One frozen model per stage, so that a stage's cache key takes exactly the slice it uses. Where and
how a run happens (device, keys, concurrency) lives in `settings.py` and never enters a key. The
field descriptions are the help text of the Prefect form and of the file `monoglot init` writes.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from monoglot.addresses import without_secrets
from monoglot.generation_config import (
    GenerationConfig,
    QualityConfig,
    RedactionConfig,
    SpendingConfig,
)
from monoglot.learning_config import (
    AbstentionConfig,
    BaselinesConfig,
    GateConfig,
    MergingConfig,
    SamplingConfig,
    TrainingConfig,
)
from monoglot.section import Section, Share

MixingLevel = Literal["light", "balanced", "heavy"]
_SHARES: dict[MixingLevel, float] = {"light": 0.25, "balanced": 0.5, "heavy": 0.25}
# A language of the registry (two or three letters; no longer one is registered), then a script, a
# region, variants and extensions, in any case (RFC 5646, section 2.1); pt_BR is as common as pt-BR.
_CODE = re.compile(
    r"[a-z]{2,3}([-_][a-z]{4})?([-_]([a-z]{2}|\d{3}))?([-_][a-z\d]{1,8})*", re.IGNORECASE
)
# The scripts that text can be checked for; see `generation/scripts.py`.
Script = Literal[
    "Arab", "Armn", "Beng", "Cyrl", "Deva", "Ethi", "Geor", "Grek", "Gujr", "Guru", "Hans", "Hant",
    "Hebr", "Jpan", "Khmr", "Knda", "Kore", "Laoo", "Latn", "Mlym", "Mymr", "Orya", "Sinh", "Taml",
    "Telu", "Thaa", "Thai", "Tibt",
]  # fmt: skip


class KnowledgeBaseConfig(Section):
    """The rows that answer: a CSV, TSV, JSONL or Parquet file, or the rows of a SQL query.

    What is no local file is fetched once at the start of a run (`knowledge.sources.fetched`),
    which gives a config with the `path` of what came, and without the place it came from: so the
    same rows are the same knowledge base wherever they live.
    """

    path: Path | None = Field(
        None, description="Knowledge base file: .csv, .tsv, .jsonl or .parquet."
    )
    url: str | None = Field(
        None,
        description="Instead of path: a file's address, https://, s3://, gs:// or abfs://. Object "
        "stores take their credentials from the environment, as their own tools do.",
    )
    url_env: str | None = Field(
        None,
        description="Environment variable that holds an address with a password or token in it, "
        "e.g. MONOGLOT_KB_URL: of a file instead of url, or of sql's database.",
    )
    sql: str | None = Field(
        None,
        description="Instead of path: a query that gives the rows, run read-only. Its database is "
        "a SQLAlchemy URL in url_env. End it with ORDER BY: of rows with one query the first "
        "counts.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Our column name -> yours, where they differ, e.g. {query: question}. "
        "Ours: row_id, query, label, label_path, label_text, answer.",
    )
    language: str = Field("en", description="BCP 47 code of the knowledge base's language.")
    max_chars: int = Field(2000, ge=1, description="A longer query is rejected with its reason.")
    max_reject_share: Share = Field(
        0.2, description="Stop when more than this share of the rows is rejected."
    )
    _shown: str = ""  # what was fetched is told by where it came from

    @model_validator(mode="after")
    def _one_place(self) -> "KnowledgeBaseConfig":
        places = [name for name in ("path", "url", "sql") if getattr(self, name) is not None]
        if len(places) > 1:
            raise ValueError(f"{places[1]}: {places[0]} is given as well; leave one out")
        if not places and self.url_env is None:
            raise ValueError("path: is required, or one of url, url_env, or sql with url_env")
        if self.sql is not None and self.url_env is None:
            raise ValueError(
                "url_env: is required with sql: the environment variable that holds the "
                "database's SQLAlchemy URL, e.g. MONOGLOT_KB_URL"
            )
        if self.url_env is not None and places in (["path"], ["url"]):
            raise ValueError(f"url_env: {places[0]} is given as well; leave one out")
        if self.url is not None and "@" in self.url.partition("://")[2].partition("/")[0]:
            raise ValueError(  # without the address, since errors are shown and logged
                "url: holds a user name or password; put the whole address into an environment "
                "variable, and name that under url_env"
            )
        return self

    @property
    def is_elsewhere(self) -> bool:
        """Whether it must be fetched before it can be read."""
        return self.path is None

    @property
    def file(self) -> Path:
        """The local file with the rows; the caller has fetched it where it lives elsewhere."""
        if self.path is None:
            raise RuntimeError("a knowledge base that lives elsewhere is fetched before it is read")
        return self.path

    @property
    def shown(self) -> str:
        """Where the rows are, for people: never with a password or token."""
        if self._shown or self.path is not None:
            return self._shown or str(self.path)
        if self.sql is not None:
            return f"the query to {self.url_env}"
        return without_secrets(self.url) if self.url else f"the file that {self.url_env} names"

    @property
    def name(self) -> str:
        """`shown`, in short."""
        return self._shown.rpartition("/")[2] or self.file.name

    def kept_in(self, path: Path, shown: str) -> "KnowledgeBaseConfig":
        """The same knowledge base as a local file that was fetched from where `shown` says."""
        here = {"path": path, "url": None, "url_env": None, "sql": None}
        made = self.model_copy(update=here)
        made._shown = shown
        return made


class MixingConfig(Section):
    """Several renderings of each query in a code-switched language, mixed to different degrees.

    The degrees are levels of the Code-Mixing Index (see `generation/mixing.py`), which is 0 for a
    text of one language and 50 for half and half. Setting or changing shares buys anew only the
    renderings that change their level; a further rendering buys itself alone.
    """

    renderings: int = Field(
        3, ge=1, le=12, description="Translations of each query; each is paid for."
    )
    shares: dict[MixingLevel, Annotated[float, Field(ge=0.0)]] = Field(
        default_factory=_SHARES.copy,
        description="Level -> its share of the renderings, in any unit. light: a few English "
        "words; balanced: about every third word; heavy: about every second.",
    )

    @model_validator(mode="after")
    def _some_share(self) -> "MixingConfig":
        if not sum(self.shares.values()) > 0:
            raise ValueError("shares: give at least one level a share above 0")
        return self


class LanguageConfig(Section):
    """One target language: what users write in."""

    code: str = Field(description="BCP 47 code, e.g. hi-Latn, ar, es.")
    name: str = Field(description="The language's name as one would tell a translator.")
    script: Script | None = Field(
        None,
        description="Script it is written in (ISO 15924), e.g. Latn, Deva. Left out: by its code. "
        "Text in another script is rejected.",
    )
    style: str = Field("", description="How users type it, e.g. 'mixed with English, on a phone'.")
    translations: Path | None = Field(
        None,
        description="File of existing translations (columns source or row_id, translation). "
        "Left out: the LLM translates.",
    )
    mixing: MixingConfig | None = Field(
        None,
        description="For a language that is mixed with English: several renderings of each query, "
        "e.g. {renderings: 3, shares: {light: 1, balanced: 2, heavy: 1}}; light: a few English "
        "words, balanced: about every third, heavy: about every second. Left out: one translation.",
    )

    @field_validator("code")
    @classmethod
    def _is_code(cls, code: str) -> str:
        if not _CODE.fullmatch(code):
            raise ValueError(f"{code!r} is no BCP 47 code, such as es, pt-BR or hi-Latn")
        return code

    @model_validator(mode="after")
    def _one_source(self) -> "LanguageConfig":
        if self.translations is not None and self.mixing is not None:
            raise ValueError(
                "mixing: says how the LLM translates, but translations are given; leave one out"
            )
        return self


class QueriesFile(Section):
    """Labelled target-language queries: columns text, language, label and optionally english."""

    path: Path | None = Field(None, description="CSV, TSV, JSONL or Parquet file.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Our column name -> yours. Ours: text, language, label, english, query_id.",
    )


class UserQueriesFile(Section):
    """Real user queries that nobody has labelled: the LLM files each under a label, or as a gap."""

    path: Path | None = Field(None, description="CSV, TSV, JSONL or Parquet file.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Our column name -> yours. Ours: text and, where several languages are "
        "listed, language.",
    )


class GuardConfig(Section):
    """Questions that training must not make worse: of an untouched language, or of another base."""

    name: str = Field(min_length=1, description="What the report and the gate call it.")
    path: Path = Field(description="File of labelled queries: text, label [, language].")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Our column name -> yours. Ours: text, language, label, english, query_id.",
    )
    language: str | None = Field(
        None, description="BCP 47 code of its queries, where the file has no column language."
    )
    knowledge_base: KnowledgeBaseConfig | None = Field(
        None, description="The rows it asks about. Left out: those of this config."
    )
    max_loss: float = Field(
        0.01, ge=0.0, description="A candidate that loses more of gate.metric is not promoted."
    )


class SplitConfig(Section):
    """Index set and training set, per label (arXiv 2506.02527, section 3.1)."""

    index_share: float = Field(
        0.3,
        gt=0.0,
        lt=1.0,
        description="Share of the rows (drawn by hash, one of each label at least) kept as index "
        "set: no translation of these is bought. Given ones are learned from, except by the "
        "paper's recipe (sampling.positives: index).",
    )
    evaluation_share: float = Field(
        0.15,
        ge=0.0,
        lt=1.0,
        description="Share of the training rows whose translations are held out for evaluation "
        "when no evaluation file is given.",
    )
    seed: int = Field(0, description="Seed of the split; rows do not move when others change.")
    untrained_labels: tuple[str, ...] = Field(
        (),
        description="Labels that nothing is trained on, to see what training does to the labels "
        "you will add: their rows answer all the same, and the gate guards them.",
    )


class PolicyConfig(Section):
    """What a change of the knowledge base asks for."""

    retrain_share: Share = Field(
        0.05,
        description="Retrain when more than this share of the rows changed in query or label since "
        "the last training; below: refresh.",
    )
    retrain_on_new_label: bool = Field(True, description="Retrain when a label is new.")


class RetentionConfig(Section):
    """How long the store keeps what nothing in production needs. Bears no identity."""

    releases: int = Field(
        5,
        ge=1,
        description="So many of the newest releases are kept to roll back to; beside them the "
        "current one, the one before it, and what `monoglot pin` pinned. The rest goes at the end "
        "of a run, or by `monoglot clean`.",
    )
    grace_hours: float = Field(
        24.0,
        ge=0.0,
        description="Files that nothing names go once they are this old, and those of a release "
        "once it was dropped so long ago: for services that still hold it, and for runs that wait "
        "for a batch. Longer than your services take to call `Retriever.refresh()`.",
    )


class ReviewConfig(Section):
    """Queries that services logged, for people to label (`monoglot review`). No identity."""

    log: Path | None = Field(
        None,
        description="Folder of the query log, where services do not write it into the store "
        "(queries/ there).",
    )


class Config(Section):
    """The whole of `monoglot.yaml`. See `config_file.load_config` for reading it."""

    knowledge_base: KnowledgeBaseConfig
    languages: tuple[LanguageConfig, ...] = Field(
        (), description="Target languages; may be empty when labelled native queries are given."
    )
    evaluation: QueriesFile = QueriesFile()
    training: QueriesFile = Field(
        QueriesFile(), description="Labelled native queries to train on, where you have them."
    )
    user_queries: UserQueriesFile = Field(
        UserQueriesFile(),
        description="Real user queries without labels: the LLM picks the row that answers each "
        "and another that is easily mistaken for it, or says that none fits, which the report "
        "lists.",
    )
    base_model: str = Field(
        "intfloat/multilingual-e5-base",
        min_length=1,
        description="A hub name (name@revision to pin it), a folder, or offline-minilm.",
    )
    store: str = Field(
        "./store",
        min_length=1,
        description="Folder for artifacts, index, ledger and releases, or s3://bucket/prefix.",
    )
    guards: tuple[GuardConfig, ...] = Field(
        (),
        description="What training must not make worse, e.g. [{name: es, path: spanish.csv, "
        "language: es}]: asked before and after, each with a floor in the gate. English needs "
        "none: where the evaluation file has a column english it is guarded anyway.",
    )
    split: SplitConfig = SplitConfig()
    generation: GenerationConfig = GenerationConfig()
    redaction: RedactionConfig = RedactionConfig()
    quality: QualityConfig = QualityConfig()
    spending: SpendingConfig = SpendingConfig()
    sampling: SamplingConfig = SamplingConfig()
    fine_tuning: TrainingConfig = TrainingConfig()
    merging: MergingConfig = MergingConfig()
    baselines: BaselinesConfig = BaselinesConfig()
    gate: GateConfig = GateConfig()
    abstention: AbstentionConfig = AbstentionConfig()
    policy: PolicyConfig = PolicyConfig()
    retention: RetentionConfig = RetentionConfig()
    review: ReviewConfig = ReviewConfig()

    @property
    def language_codes(self) -> tuple[str, ...]:
        """BCP 47 codes of the target languages."""
        return tuple(language.code for language in self.languages)

    @model_validator(mode="after")
    def _explicit_has_negatives(self) -> "Config":
        if self.fine_tuning.objective == "explicit" and self.sampling.negatives == 0:
            raise ValueError(
                "fine_tuning.objective: explicit needs sampled negatives: set "
                "sampling.random_negatives or sampling.hard_negatives"
            )
        return self

    @model_validator(mode="after")
    def _user_queries_have_a_language(self) -> "Config":
        if self.user_queries.path is not None and not self.languages:
            raise ValueError(
                "user_queries: the LLM must be told their language: list it under languages"
            )
        return self

    @model_validator(mode="after")
    def _guards_are_distinct(self) -> "Config":
        names = [guard.name for guard in self.guards]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"guards: {', '.join(twice)} is the name of two")
        return self

    @model_validator(mode="after")
    def _languages_are_distinct(self) -> "Config":
        codes = [language.code.lower() for language in self.languages]  # a tag has no case
        twice = sorted({lan.code for lan in self.languages if codes.count(lan.code.lower()) > 1})
        if twice:
            raise ValueError(f"languages: {', '.join(twice)} is listed twice")
        return self
