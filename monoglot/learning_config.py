"""The sections of `monoglot.yaml` on learning: how a model is trained, and when it is promoted."""

from pathlib import Path
from typing import Any, Literal, get_args

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
        description="By label similarity: algorithm1: random and similarity-weighted negatives, "
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
        negatives = self.random_negatives + self.hard_negatives
        if self.strategy == "rank_window" and last - first + 1 < negatives:
            raise ValueError(
                f"rank_window: holds {last - first + 1} rows, but {negatives} negatives are drawn"
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
    def for_training(self) -> "SamplingConfig | None":
        """What the training itself must know to draw triplets; None: they are drawn before."""
        return self if self.remine else None


class TrainingConfig(Section):
    """InfoNCE fine-tuning."""

    objective: Literal["in_batch", "explicit", "both"] = Field(
        "in_batch",
        description="The negatives of an anchor. explicit: the sampled ones (the paper); "
        "in_batch: every row of the batch with another label; both: all of them, at 2.5 times "
        "the cost.",
    )
    epochs: int = Field(10, ge=1, description="Passes over the anchors.")
    batch_size: int = Field(128, ge=2, description="Anchors per optimiser step.")
    learning_rate: float | None = Field(
        None,
        gt=0.0,
        description="Peak learning rate (AdamW). Empty: 2e-4 for vectors of 384 dimensions, less "
        "for wider models with the square of the width (5e-5 at 768).",
    )
    warmup_share: Share = Field(0.1, description="Share of the steps with a rising rate.")
    temperature: float = Field(0.05, gt=0.0, description="InfoNCE temperature.")
    english_replay: bool = Field(
        True,
        description="Also ask the English query of each pair for its translation, against "
        "forgetting; costs no further encoding.",
    )
    max_tokens: int = Field(128, ge=8, le=512, description="Longer texts are cut, with a count.")
    seed: int = Field(0, description="Seed of sampling and shuffling.")


class MergingConfig(Section):
    """How much of the untuned model the candidate keeps (arXiv 2109.01903)."""

    base_weight: Share = Field(
        0.25,
        description="Share of the untuned weights in the candidate, against forgetting; 0: none.",
    )


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
        0.01, ge=0.0, description="The English control may lose at most this much."
    )
