"""How much the queries that a model wrote resemble each other: a model that repeats itself."""

from dataclasses import dataclass

import polars as pl

from monoglot.knowledge.duplicates import overlap

# Texts of a label whose pairs are compared: 1,225 pairs tell the mean well enough.
_SAMPLE = 50
# The human queries of one label of Hinglish-TOP's train split overlap by .18 in the median, those
# of nine labels in ten by less than .32, and those of none by more than .48.
_REPETITIVE = 0.4
_TWINS = 0.25  # share of what was written that says again what was written before


@dataclass(frozen=True)
class Variety:
    """How alike queries of one label are.

    Attributes:
        overlap: mean share of common character trigrams (Jaccard) of two queries of one label,
            over the labels; unlike a count of distinct n-grams it does not fall with the number.
        twins: share of the written queries that were dropped as repeats.
    """

    overlap: float
    twins: float

    def warnings(self, title: str) -> list[str]:
        """A sentence where the model repeats itself."""
        if self.overlap <= _REPETITIVE and self.twins <= _TWINS:
            return []
        return [
            f"{title}: the model repeats itself: two queries of a label share {self.overlap:.0%} "
            f"of their letter groups (people's about 20%), and {self.twins:.0%} of the queries "
            "were dropped as repeats. Raise generation.temperature, ask for fewer "
            "(generation.synthetic_per_label) or name another model."
        ]


def variety_of(queries: pl.DataFrame, dropped: int) -> Variety:
    """Variety of a table `Queries`, of which so many more were dropped as repeats."""
    texts = queries.group_by("label").agg(pl.col("text").head(_SAMPLE))["text"].to_list()
    several = [overlap(own) for own in texts if len(own) > 1]
    return Variety(
        overlap=round(sum(several) / len(several), 4) if several else 0.0,
        twins=round(dropped / max(1, queries.height + dropped), 4),
    )
