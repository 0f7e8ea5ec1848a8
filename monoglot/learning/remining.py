"""Triplets drawn during a training, with the model as it is then; kept, so that a resume has them.

Mining with the model in training finds what it still mistakes, and not what the base model did
(ANCE, arXiv 2007.00808, refreshes its negatives so). An epoch's triplets are written before its
first step: a training that is killed and goes on takes the very same ones, whatever the model has
become since.
"""

from pathlib import Path

import polars as pl

from monoglot.learning.pairs import Partners
from monoglot.learning.similarity_sources import Encode

_PREFIX = "triplets-of-epoch-"


class Remined:
    """Draws each epoch's triplets once.

    Args:
        partners: draws them.
        scratch: folder that belongs to this very training alone.
    """

    def __init__(self, partners: Partners, scratch: Path) -> None:
        self._partners = partners
        self._scratch = scratch

    def __call__(self, epoch: int, encode: Encode) -> pl.DataFrame:
        """The `contracts.Triplets` of an epoch: those kept, or new ones by the present model."""
        path = self._scratch / f"{_PREFIX}{epoch:06}.parquet"
        if not path.exists():
            drawn = self._partners.of(epoch, self._partners.mined(encode))
            partial = path.with_name(f".{path.name}")
            drawn.write_parquet(partial)
            partial.replace(path)
        return pl.read_parquet(path, glob=False)

    def drawn(self) -> pl.DataFrame:
        """The triplets of all epochs that were drawn so far, those before a resume included."""
        paths = sorted(self._scratch.glob(f"{_PREFIX}*.parquet"))
        return pl.concat([pl.read_parquet(path, glob=False) for path in paths])
