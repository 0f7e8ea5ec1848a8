"""The sections of `monoglot.yaml` on the LLM: what it is asked, shown, paid, and believed."""

import re
import unicodedata
from typing import Literal

from pydantic import Field, field_validator

from monoglot.section import Section, Share


class GenerationConfig(Section):
    """What the LLM is asked. The endpoint and its key are settings, not part of the identity."""

    model: str = Field(
        "", description="Model name at the endpoint. Empty: the setting MONOGLOT_LLM_MODEL."
    )
    temperature: float = Field(0.3, ge=0.0, le=2.0, description="Sampling temperature.")
    synthetic_per_label: int = Field(
        0, ge=0, description="Native queries the LLM writes per label and language (0: none)."
    )
    glossary: tuple[str, ...] = Field((), description="Terms that a translation must keep as is.")

    @field_validator("glossary")
    @classmethod
    def _as_in_texts(cls, terms: tuple[str, ...]) -> tuple[str, ...]:
        """In the form of a knowledge base's texts, or they would be found in none."""
        if not all(term.strip() for term in terms):
            raise ValueError("a term is empty; name what is to be kept")
        return tuple(" ".join(unicodedata.normalize("NFC", term).split()) for term in terms)


Gate = Literal[
    "empty",
    "meta_text",
    "hidden_characters",
    "copy_of_source",
    "wrong_script",
    "wrong_language",
    "not_translated",
    "length_ratio",
    "repetition",
    "number_lost",
    "number_changed",
    "address_lost",
    "address_added",
    "placeholder_lost",
    "glossary_lost",
]


class QualityConfig(Section):
    """The gates that a generated query must pass, each with its threshold."""

    skipped: tuple[Gate, ...] = Field(
        (), description="Gates to switch off, by name, e.g. [length_ratio]."
    )
    copy_words: int = Field(
        4,
        ge=1,
        description="Texts of at least this many words are rejected when they repeat the source, "
        "or are all in the source's language. Shorter ones are often the same in both.",
    )
    min_script_share: Share = Field(
        0.3, description="Least share of the letters that must be in the language's script."
    )
    language_margin: float = Field(
        0.5,
        ge=0.0,
        description="How much more common a text's words must be in another language before it is "
        "rejected: 0.5 is 3 times, 1 is 10 times. Lower rejects more.",
    )
    identifier_confidence: Share = Field(
        0.9,
        description="Languages without a word list: how sure the identifier must be that a text "
        "is in another language.",
    )
    max_longer: float = Field(
        3.0, gt=1.0, description="Translations this many times longer are rejected."
    )
    max_shorter: float = Field(
        2.0, gt=1.0, description="Translations this many times shorter are rejected."
    )
    min_distinct_words: Share = Field(
        0.5, description="Least share of distinct words, in texts of six words or more."
    )
    spelt_up_to: int = Field(
        2, ge=0, description="Numbers up to this may be written in words, so may be missing."
    )
    max_label_rank: int = Field(
        0,
        ge=0,
        le=10,
        description="Reject a query unless its own label is among this many nearest labels (0: no "
        "check; 3 rejects about 22 % of good Hinglish rows with the base model).",
    )
    label_model: Literal["base", "current"] = Field(
        "base",
        description="Which model judges label consistency: the untuned one, or the one in "
        "production (once there is one; it knows the queries it was trained on too well).",
    )
    judge: bool = Field(
        False,
        description="Ask the LLM about the queries that label consistency doubts; those it files "
        "under their own label are kept.",
    )
    min_round_trip: Share = Field(
        0.0,
        description="Translate back and reject below this similarity to the source (0 to 1; 0: "
        "off). Costs as much as the translation.",
    )


class PriceConfig(Section):
    """What a model costs, in US dollars per million tokens; 0 for a model of one's own."""

    input: float = Field(ge=0.0, description="USD per million tokens sent.")
    output: float = Field(ge=0.0, description="USD per million tokens received.")
    cached_input: float | None = Field(
        None, ge=0.0, description="USD per million sent tokens found in its cache. Empty: as input."
    )


class RedactionConfig(Section):
    """Personal data that the LLM does not see: a placeholder is sent and restored in the reply."""

    knowledge_base: bool = Field(
        False,
        description="Redact rows of the knowledge base, too. Off: its own contact numbers are "
        "content, and travel as they are.",
    )
    user_queries: bool = Field(True, description="Redact the queries of real users.")
    phone_regions: tuple[str, ...] = Field(
        ("IN", "US", "GB", "AE", "SA", "EG"),
        description="Countries (ISO 3166) whose phone numbers are known without country code.",
    )
    patterns: dict[str, str] = Field(
        default_factory=dict,
        description="Your own, name -> regular expression (Python), e.g. "
        "{employee: 'EMP-\\d{6}'}; sent as {{employee_1}}.",
    )

    @field_validator("patterns")
    @classmethod
    def _can_be_used(cls, patterns: dict[str, str]) -> dict[str, str]:
        for name, pattern in patterns.items():
            if not re.fullmatch(r"[a-z][a-z_]{0,30}[a-z]", name):
                raise ValueError(f"{name}: a name has 2 to 32 letters a-z, with _ between them")
            try:
                if re.compile(pattern).search(""):
                    raise ValueError(f"{name}: {pattern!r} also matches nothing at all")
            except re.error as error:
                raise ValueError(f"{name}: {pattern!r} is no regular expression: {error}") from None
        return patterns

    @field_validator("phone_regions")
    @classmethod
    def _are_codes(cls, regions: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [region for region in regions if not re.fullmatch(r"[A-Z]{2}", region)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no country code of two capitals, such as IN")
        return regions

    @property
    def for_rows(self) -> "RedactionConfig":
        """What of it bears on knowledge-base rows alone: nothing where they travel as they are.

        So a pattern for users' queries computes no translation again.
        """
        rows_only = self.model_copy(update={"user_queries": True})
        return rows_only if self.knowledge_base else RedactionConfig()


class SpendingConfig(Section):
    """What the LLM costs and may cost. Bears no identity: another price changes no result."""

    prices: dict[str, PriceConfig] = Field(
        default_factory=dict,
        description="Model -> its price in USD per million tokens, e.g. {gpt-x: {input: 0.4, "
        "output: 1.6}}. A model that is missing here has an unknown price.",
    )
    max_usd: float | None = Field(
        None,
        gt=0.0,
        description="A run stops before it buys for more than this. It counts over all stages and "
        "languages of one run; a run that is started again counts from 0. Empty: no limit.",
    )
    max_requests: int | None = Field(
        None, ge=1, description="Requests a run may send, repeated ones included. Empty: no limit."
    )
    batch: bool = Field(
        False,
        description="Ask by OpenAI's Batch API, at half the price, with answers within 24 hours: "
        "the run ends when its requests are submitted, and a later run goes on from there.",
    )
