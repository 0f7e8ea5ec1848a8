"""Which anchors make each batch of an epoch: the mix of origins and languages.

An epoch has as many places as there are anchors, whatever the mix, so that recipes cost the same.
The places are shared out among groups of one language and one origin, in whole numbers and alike
in every epoch; a group with more places than anchors repeats all of them as often as it can, one
with fewer shows another random part in each epoch. Only which anchors fill a rest, and the order of
all, is drawn. Of an origin of which a share is learned from, the share's anchors are its group.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.errors import DataError
from monoglot.knowledge import split
from monoglot.learning_config import DataMixConfig

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class Batches:
    """The batches of every epoch; the same for the same seed and epoch.

    Args:
        anchors: a row for each anchor, of which `query_id`, `language` and `origin`
            (`contracts.Queries`) are read where the mix asks for them; batches are positions in
            this table.
        mix: which anchors are shown, and how often.
        size: anchors per batch.
        seed: of all draws.

    Raises:
        DataError: the mix shows no anchor at all.
    """

    def __init__(self, anchors: pl.DataFrame, mix: DataMixConfig, size: int, seed: int) -> None:
        self._size, self._seed, self._mix = size, seed, mix
        kept = _kept(anchors, mix, seed)
        shown = anchors[kept] if mix.origin_shares else anchors
        languages = _codes(shown, "language", used=mix.by_language)
        origins = _codes(shown, "origin", used=bool(mix.origin_weights))
        self._groups, group_of = np.unique(
            np.stack([languages, origins]), axis=1, return_inverse=True
        )
        weights = np.ones(shown.height)
        if mix.origin_weights:
            weights = _weights(shown["origin"].cast(pl.String), mix)
        masses = np.bincount(group_of, weights).astype(np.float64)
        self.places = _places(_tempered(masses, self._groups[0], mix), anchors.height)
        self._members = np.split(
            kept[np.argsort(group_of, kind="stable")], np.cumsum(np.bincount(group_of))[:-1]
        )
        self._epoch, self._batches = 0, self._drawn(0)
        self.per_epoch = len(self._batches)

    def of(self, epoch: int) -> list[Integers]:
        """Positions of the anchors of each batch; as many batches in every epoch."""
        if self._epoch != epoch:
            self._epoch, self._batches = epoch, self._drawn(epoch)
        return self._batches

    def _drawn(self, epoch: int) -> list[Integers]:
        rng = np.random.default_rng([self._seed, epoch])
        pairs = zip(self._members, self.places, strict=True)
        drawn = [_fill(members, int(places), rng) for members, places in pairs]
        if self._mix.batches == "mixed":
            order = rng.permutation(np.sort(np.concatenate(drawn)))
            return [order[at : at + self._size] for at in range(0, len(order), self._size)]
        batches = []
        for language in np.unique(self._groups[0]):
            its = [d for d, own in zip(drawn, self._groups[0], strict=True) if own == language]
            order = rng.permutation(np.concatenate(its))
            if not len(order):  # whose anchors all have a weight of 0, or nearly
                continue
            # Parts of like size: a last batch of one anchor would have no negatives in it.
            batches += np.array_split(order, -(-len(order) // self._size))
        return [batches[number] for number in rng.permutation(len(batches))]


def _kept(anchors: pl.DataFrame, mix: DataMixConfig, seed: int) -> Integers:
    """Positions of the anchors that are learned from, in ascending order."""
    if not mix.origin_shares:
        return np.arange(anchors.height)
    origins = anchors["origin"].cast(pl.String)
    shares = origins.replace_strict(mix.origin_shares, default=1.0, return_dtype=pl.Float64)
    at = split.places(anchors["query_id"].to_list(), f"{seed}/origin_shares")
    kept = np.flatnonzero(np.array(at) < shares.to_numpy())
    if not len(kept):
        raise DataError(
            "fine_tuning.mix.origin_shares: no anchor is left (their origins: "
            f"{', '.join(sorted(origins.unique()))}). Give one of these a larger share."
        )
    return kept


def _codes(anchors: pl.DataFrame, column: str, *, used: bool) -> Integers:
    """A number for each distinct value of a column, or 0 for all where it is not looked at."""
    if not used:
        return np.zeros(anchors.height, dtype=np.int64)
    names = anchors[column].cast(pl.String).to_numpy()
    return np.asarray(np.unique(names, return_inverse=True)[1], dtype=np.int64)


def _weights(origins: pl.Series, mix: DataMixConfig) -> Floats:
    """(n,) how often each anchor is shown, beside the others."""
    weights = origins.replace_strict(mix.origin_weights, default=1.0, return_dtype=pl.Float64)
    if not weights.sum() > 0:
        raise DataError(
            "fine_tuning.mix.origin_weights: every anchor has the weight 0 (their origins: "
            f"{', '.join(sorted(origins.unique()))}). Give one of these a weight above 0."
        )
    return weights.to_numpy()


def _tempered(masses: Floats, languages: Integers, mix: DataMixConfig) -> Floats:
    """Mass of each group after a language of mass n got n^(1/T) (arXiv 1907.05019, section 3)."""
    whole = np.bincount(languages, masses)
    target = np.where(whole > 0, whole ** (1 / mix.language_temperature), 0.0)
    factor = np.divide(target, whole, out=np.zeros_like(whole), where=whole > 0)
    return np.asarray(masses * factor[languages])


def _places(masses: Floats, total: int) -> Integers:
    """`total` places in proportion to the masses, in whole numbers: the largest rests first."""
    exact = total * masses / masses.sum()
    places: Integers = np.floor(exact).astype(np.int64)
    rests = np.argsort(places - exact, kind="stable")
    places[rests[: total - places.sum()]] += 1
    return places


def _fill(members: Integers, places: int, rng: np.random.Generator) -> Integers:
    """The members as often as they all fit in, and some of them once more."""
    times, rest = divmod(places, len(members))
    some = rng.choice(members, rest, replace=False) if rest else members[:0]
    return np.concatenate([np.repeat(members, times), some])
