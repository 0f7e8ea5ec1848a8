"""Renderings: how each translation into a code-switched language is to be mixed, and how it came.

Which mix a rendering is asked for follows from the query's text and the rendering's number alone:
no other row changes it, and a further rendering leaves the earlier ones as they are. A text's place
in [0, 1) is a hash; its renderings step on from there by the golden ratio, so that each is spread
evenly over the levels' shares, and those of one text fall into different levels where they can.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any, NamedTuple, get_args

import polars as pl

from monoglot.config import LanguageConfig, MixingConfig, MixingLevel
from monoglot.generation.mixing import code_mixing_index
from monoglot.generation.scripts import is_romanised

LEVELS: tuple[MixingLevel, ...] = get_args(MixingLevel)
# Code-Mixing Index above which a text is balanced, and heavy. Of the 2,993 human train queries of
# Hinglish-TOP, 8 % are not mixed, 25 % light, 35 % balanced and 32 % heavy.
_BALANCED_FROM, _HEAVY_FROM = 20.0, 35.0
NOT_MIXED = "none"

# Where the languages change within a text, by level; the first word is what a row is told.
SWITCHES: Mapping[MixingLevel, tuple[str, ...]] = {
    "light": ("words", "tags"),
    "balanced": ("phrases", "verbs"),
    "heavy": ("inside", "clauses"),
}
SPELLINGS = ("standard", "phone")
ROMANISED_SPELLINGS = (*SPELLINGS, "short")

_GOLDEN = 0.6180339887498949
# Beyond these a sample tells as much: of the renderings by their ids, of the base every so-many-th.
_MOST_RENDERINGS, _MOST_KNOWLEDGE = 50_000, 200_000
_FEWEST = 20  # renderings below which a distribution is too noisy to warn of
_FAR = 0.25  # total variation distance between asked and measured shares
_HARDLY = 0.5  # share of renderings that are not mixed at all


class Mix(NamedTuple):
    """How one rendering is mixed: how much, where, and in which spelling."""

    level: MixingLevel
    switch: str
    spelling: str


def mixes_of(text: str, language: LanguageConfig) -> list[Mix]:
    """The mix of each rendering of a text, by number; none for a language without mixing."""
    if language.mixing is None:
        return []
    sha = hashlib.sha256(f"mix\x1f{language.code}\x1f{text}".encode()).digest()
    place = int.from_bytes(sha[:6]) / 2**48
    spellings = spellings_of(language)
    mixes = []
    for number in range(language.mixing.renderings):
        level = _level_at((place + number * _GOLDEN) % 1.0, language.mixing)
        switches = SWITCHES[level]
        mixes.append(
            Mix(
                level,
                switches[(sha[6] + number) % len(switches)],
                spellings[(sha[7] + number) % len(spellings)],
            )
        )
    return mixes


def spellings_of(language: LanguageConfig) -> tuple[str, ...]:
    """Ways of spelling; Latin letters for a language of another script can drop their vowels."""
    return ROMANISED_SPELLINGS if is_romanised(language) else SPELLINGS


def shares_of(mixing: MixingConfig) -> dict[MixingLevel, float]:
    """The share of each level in all renderings, in the order of the levels."""
    total = sum(mixing.shares.values())
    return {level: mixing.shares.get(level, 0.0) / total for level in LEVELS}


def _level_at(place: float, mixing: MixingConfig) -> MixingLevel:
    shares = {level: share for level, share in shares_of(mixing).items() if share > 0}
    for level, end in zip(shares, accumulate(shares.values()), strict=True):
        if place < end:
            return level
    return list(shares)[-1]  # the sum of the shares may fall short of 1 by a rounding


@dataclass(frozen=True)
class Mixture:
    """How the renderings of a language are mixed, against what was asked.

    Attributes:
        language: BCP 47 code.
        renderings: how many were measured, 50,000 at most.
        mean_cmi: mean Code-Mixing Index, 0 to 50.
        english_share: mean share of English among the words that belong to a language.
        asked: level -> share of what was asked for.
        measured: level, or none -> share of what came back.
    """

    language: str
    renderings: int
    mean_cmi: float
    english_share: float
    asked: Mapping[str, float]
    measured: Mapping[str, float]

    def line(self) -> str:
        """The same in one line."""
        shares = ", ".join(
            f"{level} {share:.0%}" + (f" (asked {self.asked[level]:.0%})" if asked else "")
            for level, share in self.measured.items()
            if (asked := level in self.asked) or share
        )
        return (
            f"mean Code-Mixing Index {self.mean_cmi:.1f} over {self.renderings:,} renderings: "
            f"{shares}"
        )

    def warnings(self) -> list[str]:
        """What to tell if the translator did not deliver."""
        if self.renderings < _FEWEST:
            return []
        unmixed = self.measured[NOT_MIXED]
        if unmixed > _HARDLY:
            return [
                f"{self.language}: {unmixed:.0%} of the {self.renderings:,} renderings are not "
                f"mixed at all ({self.english_share:.0%} of the words are English). Describe the "
                "mixing in the language's style, or choose another model."
            ]
        far = sum(abs(share - self.asked.get(level, 0.0)) for level, share in self.measured.items())
        if far / 2 > _FAR:
            return [f"{self.language}: the translator does not mix as asked: {self.line()}."]
        return []

    def facts(self) -> dict[str, Any]:
        """The same as JSON, to be kept with a stage's result."""
        return asdict(self)


def measure(
    rows: pl.DataFrame,
    language: LanguageConfig,
    kb_language: str,
    *,
    queries: pl.Series,
    knowledge: pl.Series,
) -> Mixture:
    """How renderings are mixed, against what was asked.

    Args:
        rows: table `Queries`: the renderings.
        language: the target, with mixing.
        kb_language: BCP 47 code of the sources.
        queries: what was translated, a text for each row.
        knowledge: all queries of the knowledge base.
    """
    some = rows if rows.height <= _MOST_RENDERINGS else rows.sort("query_id").head(_MOST_RENDERINGS)
    known = knowledge.gather_every(max(1, len(knowledge) // _MOST_KNOWLEDGE))
    index = code_mixing_index(some, language, kb_language, known)
    asked = pl.Series(
        [mix.level for text in queries for mix in mixes_of(text, language)], dtype=pl.String
    )
    return Mixture(
        language=language.code,
        renderings=some.height,
        mean_cmi=round(_mean(index["cmi"]), 3),
        english_share=round(_mean(index["english_share"]), 4),
        asked=_shares(asked, LEVELS),
        measured=_shares(level_of(index["cmi"]), (NOT_MIXED, *LEVELS)),
    )


def level_of(cmi: pl.Series) -> pl.Series:
    """The level that a text of this Code-Mixing Index is of; none: it is not mixed."""
    value = pl.col("cmi")
    return cmi.to_frame("cmi").select(
        pl.when(value <= 0)
        .then(pl.lit(NOT_MIXED))
        .when(value <= _BALANCED_FROM)
        .then(pl.lit("light"))
        .when(value <= _HEAVY_FROM)
        .then(pl.lit("balanced"))
        .otherwise(pl.lit("heavy"))
        .alias("level")
    )["level"]


def _shares(levels: pl.Series, names: tuple[str, ...]) -> dict[str, float]:
    count = max(len(levels), 1)
    return {name: round(int((levels == name).sum()) / count, 4) for name in names}


def _mean(values: pl.Series) -> float:
    return float(values.sum()) / max(len(values), 1)
