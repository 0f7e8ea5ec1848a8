"""The sections of `monoglot.yaml` on learning: how a model is trained, and when it is promoted."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from monoglot.section import Section, Share

MAX_RANK = 1000  # an anchor keeps as many rows as the window reaches


SimilaritySource = Literal["centroid", "text", "path", "lexical", "file"]
_READ_BY_MODEL = {"centroid", "text"}


class SimilarityConfig(Section):
    """Label x label similarity, which makes a negative hard (Algorithm 1 of the paper)."""

    source: SimilaritySource | dict[SimilaritySource, float] = Field(
        "centroid",
        description="centroid: mean vector of the label's own English training queries; "
        "text: label_text; path: shared levels of label_path; lexical: shared pieces of words in "
        "the label's queries; file: your own. Or several with their weights, e.g. "
        "{centroid: 0.7, path: 0.3}: each is brought to the same mean and spread, and one that "
        "lacks a label leaves it to the others.",
    )
    file: Path | None = Field(
        None,
        description="For the source file: pairs (columns label, other, similarity), or a matrix "
        "(column label, and one column a label); from -1 to 1. CSV, TSV, JSONL or Parquet.",
    )
    temperature: float = Field(
        0.1, gt=0.0, description="Softmax temperature: lower makes negatives harder."
    )

    @field_validator("source", mode="before")
    @classmethod
    def _known_and_weighted(cls, given: Any) -> Any:
        known = get_args(SimilaritySource)
        if not isinstance(given, str | dict):
            raise ValueError(f"name a source ({', '.join(known)}), or sources with their weights")
        weights = given if isinstance(given, dict) else {given: 1.0}
        if not weights:
            raise ValueError(f"give at least one of {', '.join(known)}")
        for name, weight in weights.items():
            if name not in known:
                raise ValueError(f"{name!r} is no source; there are {', '.join(known)}")
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight > 0:
                raise ValueError(f"{name}: its weight must be a number above 0, not {weight!r}")
        return given

    @model_validator(mode="after")
    def _file_is_used(self) -> "SimilarityConfig":
        if "file" in self.weights and self.file is None:
            raise ValueError("file: name the file of your own similarities")
        if "file" not in self.weights and self.file is not None:
            raise ValueError("file: is given but not used; add file to source, or leave it out")
        return self

    @property
    def weights(self) -> dict[SimilaritySource, float]:
        """The weight of each source that is used; they add up to 1."""
        given = self.source if isinstance(self.source, dict) else {self.source: 1.0}
        total = sum(given.values())
        return {name: weight / total for name, weight in sorted(given.items())}

    @property
    def needs_model(self) -> bool:
        """Whether a source reads texts by the base model."""
        return bool(_READ_BY_MODEL & self.weights.keys())


RANKED = ("top_k", "rank_window", "positive_aware", "simans", "confusion")


class SamplingConfig(Section):
    """Positives and negatives of each anchor."""

    strategy: Literal[
        "algorithm1",
        "algorithm1_label_first",
        "random",
        "weighted",
        "hardest",
        "curriculum",
        "top_k",
        "rank_window",
        "positive_aware",
        "simans",
        "confusion",
    ] = Field(
        "algorithm1",
        description="What negatives are sampled, where fine_tuning.objective is explicit or both; "
        "the others sample none. By label similarity: algorithm1: random and similarity-weighted, "
        "mixed (the paper: a larger label has more of them); algorithm1_label_first: every label "
        "alike, whatever its size; random, weighted, hardest: one kind alone; curriculum: from "
        "random to weighted over the epochs. By the model's scores: top_k: the nearest rows; "
        "rank_window: any of a window of ranks; positive_aware: the nearest below the positive; "
        "simans: those about as near as the positive; confusion: the labels it is taken for.",
    )
    random_negatives: int = Field(
        1,
        ge=0,
        le=16,
        description="Random negatives per anchor; strategies of one kind take more of that kind.",
    )
    hard_negatives: int = Field(2, ge=0, le=16, description="Hard negatives per anchor.")
    rank_window: tuple[int, int] = Field(
        (10, 100), description="rank_window: the first and the last rank that is drawn from."
    )
    margin_quantile: float = Field(
        0.25,
        ge=0.0,
        le=0.5,
        description="positive_aware: how far below its positive an anchor's negatives must score: "
        "as far as this quantile of the positives' scores lies below their median.",
    )
    simans_a: float = Field(
        20.0,
        gt=0.0,
        description="simans: how sharply negatives gather about one score, in units of the "
        "distance from a random row to a positive (20: a standard deviation of 0.16 of it).",
    )
    simans_b: float = Field(
        0.0, description="simans: that score, from the positive's on, in the same units."
    )
    remine: bool = Field(
        False,
        description="Strategies by the model's scores: rank the rows anew with the model in "
        "training before each epoch, instead of once with the base model.",
    )
    positives: Literal["index", "all"] = Field(
        "all",
        description="Draw the positive from the label's index set (the paper) or all its rows.",
    )
    own_source_share: Share = Field(
        0.3, description="Share of anchors paired with their own English source (positives: all)."
    )
    similarity: SimilarityConfig = SimilarityConfig()

    @model_validator(mode="after")
    def _window_holds_the_negatives(self) -> "SamplingConfig":
        first, last = self.rank_window
        if not 1 <= first <= last <= MAX_RANK:
            raise ValueError(f"rank_window: ranks rise from 1 to at most {MAX_RANK}")
        if self.strategy == "rank_window" and last - first + 1 < self.negatives:
            raise ValueError(
                f"rank_window: holds {last - first + 1} rows, but {self.negatives} negatives are "
                "drawn"
            )
        return self

    @model_validator(mode="after")
    def _remines_what_is_mined(self) -> "SamplingConfig":
        if self.remine and self.strategy not in RANKED:
            raise ValueError(
                f"remine: {self.strategy} ranks no rows by the model; use it with "
                f"{', '.join(RANKED)}"
            )
        return self

    @property
    def negatives(self) -> int:
        """Negatives per anchor."""
        return self.random_negatives + self.hard_negatives

    @property
    def of_positives(self) -> "SamplingConfig":
        """The positives as here and no negatives, for objectives that read none.

        To draw them would cost rows of other labels, which a small knowledge base may not have,
        and rankings by a model.
        """
        none = SamplingConfig(strategy="random", random_negatives=0, hard_negatives=0)
        kept = {"positives": self.positives, "own_source_share": self.own_source_share}
        return none.model_copy(update=kept)

    @property
    def for_training(self) -> "SamplingConfig | None":
        """What the training itself must know to draw triplets; None: they are drawn before."""
        return self if self.remine else None


TEMPERATURES = (0.01, 1.0)  # a learned one stays between CLIP's bound (arXiv 2103.00020) and 1
Origin = Literal["native", "translated", "synthetic", "user"]


class DataMixConfig(Section):
    """Which anchors an epoch shows how often; it has as many places as there are anchors."""

    origin_weights: dict[Origin, Annotated[float, Field(ge=0.0)]] = Field(
        default_factory=dict,
        description="How often an anchor of an origin is shown beside those of the others, which "
        "have 1, e.g. {user: 3, synthetic: 0.5}; 0: never.",
    )
    origin_shares: dict[Origin, Share] = Field(
        default_factory=dict,
        description="Share of the anchors of an origin that is learned from at all, e.g. "
        "{synthetic: 0.2}; those of a smaller share are among those of a larger one. It tells "
        "how many queries are enough, and buys nothing.",
    )
    language_temperature: float = Field(
        1.0,
        ge=1.0,
        description="A language with n anchors has n^(1/T) parts of an epoch. 1: as many as it "
        "has; higher: languages with few are shown more often, nearly alike from 5 on.",
    )
    batches: Literal["mixed", "in_turn"] = Field(
        "mixed",
        description="mixed: a batch has anchors of all languages; in_turn: of one, so that its "
        "language tells an anchor from none of its negatives.",
    )

    @property
    def by_language(self) -> bool:
        """Whether the language of an anchor makes a difference."""
        return self.language_temperature > 1.0 or self.batches == "in_turn"


class TrainingConfig(Section):
    """InfoNCE fine-tuning."""

    objective: Literal["in_batch", "explicit", "both", "supervised", "guided", "hardness"] = Field(
        "in_batch",
        description="What an anchor is told from. explicit: the sampled negatives (the paper); "
        "in_batch: every row of the batch with another label; both: all of them, at 2.5 times "
        "the cost. As in_batch, but: supervised: all rows of its label are positives; guided: "
        "without rows that the base model puts nearer than the positive; hardness: near rows "
        "weigh more.",
    )
    hardness_strength: float = Field(
        9.0,
        ge=0.0,
        description="hardness: a negative weighs exp(strength x its cosine); 0: all alike.",
    )
    epochs: int = Field(7, ge=1, description="Passes over the anchors.")
    batch_size: int = Field(128, ge=2, description="Anchors per optimiser step.")
    learning_rate: float | None = Field(
        None,
        gt=0.0,
        description="Peak learning rate (AdamW). Empty: 2e-4 for vectors of 384 dimensions, less "
        "for wider models with the square of the width (5e-5 at 768).",
    )
    embedding_rate: float = Field(
        20.0,
        gt=0.0,
        description="A transformer's token embeddings learn at so many times the rate: a word that "
        "the base does not know is in few batches, and everything is to learn of it. 1: like the "
        "other weights.",
    )
    warmup_share: Share = Field(0.1, description="Share of the steps with a rising rate.")
    temperature: float = Field(0.025, gt=0.0, description="InfoNCE temperature.")
    learn_temperature: bool = Field(
        False,
        description="Learn the temperature, from the given one on, between 0.01 and 1.",
    )
    english_replay: bool = Field(
        True,
        description="Also ask the English query of each pair for its translation, against "
        "forgetting; costs no further encoding.",
    )
    mix: DataMixConfig = DataMixConfig()
    spelling_noise: Share = Field(
        0.5,
        description="Share of the romanised queries (hi-Latn and the like) that are spelt another "
        "way in each epoch, as people do: krna, karnaa; 0: none.",
    )
    matryoshka_dimensions: tuple[int, ...] = Field(
        (),
        description="Prefixes of the vectors that are trained to be used alone, e.g. [64, 128], "
        "beside the whole ones.",
    )
    gradient_cache: bool = Field(
        False,
        description="Large batches in little memory: encode a batch twice, a part at a time, for "
        "about a third more work. Changes no result.",
    )
    lora_rank: int = Field(
        0,
        ge=0,
        le=256,
        description="Train low-rank adapters of this rank in the place of all weights, and merge "
        "them afterwards (needs the package peft); 0: all weights.",
    )
    max_tokens: int = Field(128, ge=8, le=512, description="Longer texts are cut, with a count.")
    seed: int = Field(0, description="Seed of sampling and shuffling.")

    @field_validator("matryoshka_dimensions")
    @classmethod
    def _are_prefixes(cls, dimensions: tuple[int, ...]) -> tuple[int, ...]:
        if any(size < 1 for size in dimensions) or len(set(dimensions)) < len(dimensions):
            raise ValueError(f"{list(dimensions)}: give distinct numbers of at least 1")
        return tuple(sorted(dimensions))

    @model_validator(mode="after")
    def _starts_in_bounds(self) -> "TrainingConfig":
        least, most = TEMPERATURES
        if self.learn_temperature and not least <= self.temperature <= most:
            raise ValueError(
                f"temperature: to learn it, start between {least} and {most}, not at "
                f"{self.temperature}"
            )
        return self


class MergingConfig(Section):
    """How much of the untuned model the candidate keeps (arXiv 2109.01903)."""

    base_weight: Share = Field(
        0.25,
        description="Share of the untuned weights in the candidate, against forgetting; 0: none.",
    )


# What becomes of a candidate; unchanged: the training gave the model that is in production already.
Verdict = Literal["promoted", "awaits approval", "rejected", "unchanged"]


class GateConfig(Section):
    """When a candidate replaces the release in production."""

    metric: Literal["mrr", "hit@1", "hit@3", "hit@5"] = Field(
        "mrr", description="The metric that decides, over all target-language queries."
    )
    min_gain: float = Field(0.0, description="The candidate must gain more than this.")
    certain: bool = Field(
        True,
        description="The gain's whole 95% interval must lie above min_gain, so that chance alone "
        "replaces no model. false: the measured gain decides.",
    )
    max_english_loss: float = Field(
        0.01,
        ge=0.0,
        description="The English control may lose at most this much, and so may labels that "
        "nothing was trained on (split.untrained_labels).",
    )
    approval: bool = Field(
        False,
        description="A candidate that passes waits for a person: `monoglot promote`, or the "
        "deployment of that name, puts it into production. Nothing else waits meanwhile.",
    )


class OutOfScopeFile(Section):
    """Queries that no row of the knowledge base answers: a column text and, optionally, language.

    Real ones are best: what users asked and nobody could answer. Any that are surely out of scope
    serve, such as those of a public data set on other matters.
    """

    path: Path | None = Field(None, description="CSV, TSV, JSONL or Parquet file.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Our column name -> yours, where they differ. Ours: text, language.",
    )
    share: float = Field(
        0.1,
        gt=0.0,
        lt=1.0,
        description="Share of what users ask that is out of scope: how much these queries weigh "
        "against the evaluation questions, whatever their number.",
    )


class AbstentionConfig(Section):
    """When `Retriever` says that it does not know: below a score calibrated for each release."""

    max_wrong: float = Field(
        0.05,
        gt=0.0,
        lt=1.0,
        description="Of the queries that are answered, at most this share may be answered wrongly. "
        "Lower answers fewer.",
    )
    out_of_scope: OutOfScopeFile = OutOfScopeFile()


Baseline = Literal["translate_query", "random_negatives", "st_mined", "distillation", "classifier"]


class BaselinesConfig(Section):
    """What the report compares with beside the untuned model, TF-IDF, BM25 and a logistic head."""

    also: tuple[Baseline, ...] = Field(
        (),
        description="Dearer ones. translate_query: the untuned model asked in English, by LLM or "
        "lexicon; random_negatives: the same training with random negatives alone; st_mined: with "
        "those of sentence-transformers' mine_hard_negatives; distillation: English vectors taught "
        "to translations; classifier: the base model with a head on labels. Each of the last four "
        "takes about as long as the training itself, once.",
    )
    lexicon: Path | None = Field(
        None,
        description="For translate_query where no LLM is set: a file of words (columns source, "
        "as users write it, and target, in the knowledge base's language).",
    )

    @model_validator(mode="after")
    def _lexicon_is_used(self) -> "BaselinesConfig":
        if self.lexicon is not None and "translate_query" not in self.also:
            raise ValueError("lexicon: only translate_query reads it; add that to baselines.also")
        return self
