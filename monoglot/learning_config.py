"""The sections of `monoglot.yaml` on learning: how a model is trained, and when it is promoted."""

from typing import Literal

from pydantic import Field

from monoglot.section import Section, Share


class SimilarityConfig(Section):
    """Label x label similarity, which makes a negative hard (Algorithm 1 of the paper)."""

    source: Literal["centroid", "text", "path"] = Field(
        "centroid",
        description="centroid: mean vector of the label's own English training queries; "
        "text: label_text; path: shared levels of label_path.",
    )
    temperature: float = Field(
        0.1, gt=0.0, description="Softmax temperature: lower makes negatives harder."
    )


class SamplingConfig(Section):
    """Positives and negatives of each anchor."""

    strategy: Literal["algorithm1", "random", "hardest", "weighted"] = Field(
        "algorithm1",
        description="algorithm1: random and similarity-weighted negatives, mixed (the paper); "
        "random, weighted and hardest: one kind alone.",
    )
    random_negatives: int = Field(1, ge=0, le=16, description="Random negatives per anchor.")
    hard_negatives: int = Field(2, ge=0, le=16, description="Hard negatives per anchor.")
    positives: Literal["index", "all"] = Field(
        "all",
        description="Draw the positive from the label's index set (the paper) or all its rows.",
    )
    own_source_share: Share = Field(
        0.3, description="Share of anchors paired with their own English source (positives: all)."
    )
    similarity: SimilarityConfig = SimilarityConfig()


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
    spelling_noise: Share = Field(
        0.0,
        description="Share of the romanised queries (hi-Latn and the like) that are spelt another "
        "way in each epoch, as people do: krna, karnaa; 0: none.",
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
