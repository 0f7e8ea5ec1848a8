"""`Retriever`: a query in any language to the labels and answers of the knowledge base.

    retriever = Retriever("store")
    best, *others = retriever.search("mera paisa kab wapas aayega")
    print(best.answer if best.confident else "I don't know.")

A search always ranks: what comes first is there even where it is not to be trusted, so that a
service can offer it as a guess, or log it. Whether to answer with it is `Answer.confident`.

It holds one release, model and index together, until `refresh` is called and finds another one, or
its files go while it answers (`monoglot forget`). Whatever goes wrong then is logged as a warning,
and the release that it holds goes on answering.
"""

import contextlib
import gc
import itertools
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from monoglot.errors import InputError, MonoglotError, StaleVectorsError, StoreError
from monoglot.learning.encoder import Encoder
from monoglot.learning.votes import DEPTH, votes
from monoglot.remote.place import is_remote
from monoglot.serving.index import Index
from monoglot.serving.neighbours import Floats
from monoglot.serving.releases import NO_RELEASE, Release, Releases
from monoglot.store import Store

_MOST_MOVES = 3  # of a table, while one that it was moved to is loaded
_QUERIES_PER_SEARCH = 256  # 200 rows vote on each
# A threshold is a question's own confidence, and the same text in another batch has another one by
# a few units in the last place of a float32.
_ROUNDING = 1e-6
RETRY_S = 30.0  # after which a release that could not be loaded is tried again
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """One label that a query may mean, at its nearest row.

    Attributes:
        label: label of the row.
        score: cosine of the query and the row, at most 1.
        share: the label's share of the votes of the rows near the query, by which the answers are
            ordered; None: the release was made before rows had votes, and scores order them.
        query: the row's own text.
        answer: what to tell the user; None: the knowledge base has none for this row.
        row_id: id of the row.
        label_path: the label's place among others, such as `payments/refund`; None: not given.
        confident: whether to answer with it: it came first, with a `confidence` at which wrong
            answers are as rare as `abstention.max_wrong` asks for; see `Release.abstention`. False
            for all that come after the first, for which that was not measured. None: the release
            has no calibrated threshold, so this is not known.
    """

    label: str
    score: float
    share: float | None
    query: str
    answer: str | None
    row_id: str
    label_path: str | None
    confident: bool | None = None

    @property
    def confidence(self) -> float:
        """Score times share, by which `confident` is decided; see `learning.abstention`."""
        return self.score * (1.0 if self.share is None else self.share)


class Listener(Protocol):
    """Told what was asked and answered, such as `monoglot.QueryLog`."""

    def note(
        self,
        texts: Sequence[str],
        found: Sequence[Sequence[Answer]],
        *,
        language: str | None,
        release: str,
    ) -> None:
        """Take note of some queries, and of the answers to each."""


@dataclass(frozen=True)
class _Held:
    """A release with its model and its index, swapped as one."""

    release: Release
    encoder: Encoder
    index: Index


class Retriever:
    """Answers from a store's current release. Any number of threads may search at once.

    A large knowledge base it reads into temporary files, in the background, once it was asked often
    enough; see `kept_rows`. Where there is no room, a warning is logged. Lance's threads do not
    survive a fork: where a server forks its workers, make it in each of them.

    Args:
        store: the store's folder, as in `monoglot.yaml`.
        device: `cpu`, `cuda`, `mps`; empty for the best there is.
        log: is told each search; its trouble is no search's. None: nobody is.

    Raises:
        StoreError: there is no store, no release in it yet, or a part of the release is gone.
        StaleVectorsError: the model is not the one that made the index.
    """

    def __init__(self, store: str | Path, device: str = "", *, log: Listener | None = None) -> None:
        self._store = Store.existing(str(store))
        self._releases = Releases(self._store)
        self._device = device
        self._log = log
        self._refreshing = threading.Lock()
        # What could not be loaded (an id: for its manifest; None: for the pointer), and until when
        # it is left alone.
        self._failed: tuple[Release | str | None, float] = (None, 0.0)
        with _uncollected():
            self._held = self._load(self._current(), None)

    @property
    def release(self) -> Release:
        """The release that answers."""
        return self._held.release

    def refresh(self) -> bool:
        """Look whether another release is current; if so, answer from that one from now on.

        Searches under way, and those that start while the new release is being loaded, are
        answered by the old one; other threads that call this meanwhile return at once. If the new
        one cannot be loaded, or the store not be reached, the old one stays: a warning is logged,
        and the next try is `RETRY_S` seconds later, or at once where yet another release is
        current. Nothing is raised, since the service has an answer all the same.

        Returns:
            Whether this call changed the release.
        """
        if not self._refreshing.acquire(blocking=False):
            return False
        try:
            return self._follow()
        finally:
            self._refreshing.release()

    def _follow(self) -> bool:
        """Hold the release that is current, unless it has just failed to load.

        Compared whole, since `monoglot forget` changes what a release names, and not its id; but
        for stores in a bucket, which it refuses.
        """
        failed, until = self._failed
        is_pausing = time.monotonic() < until
        if is_pausing and failed is None:
            return False
        wanted: Release | str | None = None
        try:
            pointer = self._releases.pointer()
            wanted = pointer.release if pointer else None
            if is_pausing and wanted == failed:
                return False
            if wanted == self._held.release.id and is_remote(self._store.location):
                return False
            wanted = self._current()
            if wanted == self._held.release or (is_pausing and wanted == failed):
                return False
            before, self._held = self._held, self._load(wanted, self._held)
            before.index.stop_loading()
        except Exception as error:
            self._failed = (wanted, time.monotonic() + RETRY_S)
            _LOGGER.warning(
                "release %s goes on answering, since %s cannot be loaded: %s",
                self._held.release.id,
                wanted.id if isinstance(wanted, Release) else wanted or "the current one",
                error,
                exc_info=not isinstance(error, MonoglotError),
            )
            return False
        self._free_mirror()
        return True

    def _free_mirror(self) -> None:
        """Remove from this machine what the store has no more; its trouble is no search's."""
        model = self._held.release.model
        try:
            self._store.forget_mirrored(in_use=[model.location] if model else [])
        except Exception:
            _LOGGER.warning("the mirror was not freed of old models", exc_info=True)

    def search(self, text: str, k: int = 3, *, language: str | None = None) -> list[Answer]:
        """The k labels that a query most likely means, best first; see `search_many`."""
        return self.search_many([text], k, language=language)[0]

    def search_many(
        self, texts: Sequence[str], k: int = 3, *, language: str | None = None
    ) -> list[list[Answer]]:
        """For each query its k likeliest labels, each at its nearest row, best first.

        The nearest 200 rows vote for their labels, as in the evaluation (`learning.votes`). There
        are fewer than k where the knowledge base, or those rows, have fewer labels.

        Args:
            texts: the queries.
            k: labels for each.
            language: BCP 47 code of all the queries, which says whose threshold decides on
                `confident`. It is not guessed: None, or a language that was not evaluated, is
                judged by the most careful threshold of all languages. It changes no ranking.

        Raises:
            InputError: a text is empty or no valid Unicode, or k is not positive.
            StoreError: the index cannot be read, nor that of the release that is current by now.
        """
        _check_queries(texts, k)
        held, best = self._answered(texts, k)
        abstention = held.release.abstention
        if abstention is not None:
            best = _judged(best, abstention.score_of(language))
        self._tell(texts, best, language, held.release.id)
        return best

    def _answered(self, texts: Sequence[str], k: int) -> tuple[_Held, list[list[Answer]]]:
        """What answered, and what.

        Where the files of a release go, as they do where rows are forgotten, whatever is current by
        now answers in its place.
        """
        held = self._held
        while True:
            try:
                return held, _ranked(held, texts, k)
            except StoreError:
                before, held = held, self._held_after(held)
                if held is before:
                    raise

    def _held_after(self, held: _Held) -> _Held:
        """What answers instead of what cannot any more, or the same where there is nothing else."""
        with self._refreshing:
            for _ in range(_MOST_MOVES):
                if self._held is held:
                    self._follow()
            return self._held

    def _tell(
        self, texts: Sequence[str], found: list[list[Answer]], language: str | None, release: str
    ) -> None:
        if self._log is not None:
            try:
                self._log.note(texts, found, language=language, release=release)
            except Exception:
                _LOGGER.warning("the log of queries failed", exc_info=True)

    def _current(self) -> Release:
        release = self._releases.current()
        if release is None:
            raise StoreError(NO_RELEASE.format(self._store.location))
        return release

    def _load(self, release: Release, held: _Held | None) -> _Held:
        index = self._releases.index(release)
        self._releases.check_model(release)
        index.load()
        if held is not None and held.encoder.digest == release.model_digest:
            return _Held(release, held.encoder, index)
        encoder = Encoder.load(self._releases.model_location(release), device=self._device)
        if encoder.digest != release.model_digest:
            raise StaleVectorsError(
                f"release {release.id}: the model at {self._releases.model_location(release)} "
                f"({encoder.digest[:16]}) is not the one that made the index "
                f"({release.model_digest[:16]}). Restore its files, or `monoglot run` again."
            )
        return _Held(release, encoder, index)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection inside the block, where it was on.

    Importing torch and LanceDB makes a million objects that stay; looking through them again and
    again for what could be freed is a seventh of the time to the first answer.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _check_queries(texts: Sequence[str], k: int) -> None:
    """Refuse what has no answer, before the model sees it."""
    if k < 1:
        raise InputError(f"k is {k}: ask for one label at least.")
    if isinstance(texts, str):  # a sequence of strings as well: its characters would be searched
        raise InputError("`search_many` takes a list of queries; for a single one call `search`.")
    for number, text in enumerate(texts, 1):
        if not text.strip():
            raise InputError(f"query {number} of {len(texts)} is empty: nothing to search.")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(
                f"query {number} of {len(texts)} is not valid Unicode: it holds half of a "
                "surrogate pair, as JSON or a terminal may leave it. Decode it again."
            )


def _ranked(held: _Held, texts: Sequence[str], k: int) -> list[list[Answer]]:
    """The k likeliest labels of each text."""
    vectors = held.encoder.encode(texts)
    return [
        answers
        for start in range(0, len(texts), _QUERIES_PER_SEARCH)
        for answers in _best(held.index, vectors[start : start + _QUERIES_PER_SEARCH], k)
    ]


def _best(index: Index, vectors: Floats, k: int) -> list[list[Answer]]:
    """The k likeliest labels of each vector.

    In plain Python, since a few hundred rows a query are too few for polars' steps to pay.
    """
    found = index.nearest(vectors, DEPTH)
    scores = np.minimum(found["score"].to_numpy(), 1.0)  # rounding may leave more
    labels, rows = found["label"].to_list(), found["row"].to_list()
    starts = np.searchsorted(found["question"].to_numpy(), np.arange(len(vectors) + 1))
    best = [
        [
            (start + place, share)
            for place, share in _likeliest(
                labels[start:stop], scores[start:stop], index.temperature, k
            )
        ]
        for start, stop in itertools.pairwise(starts)
    ]
    named = [rows[place] for chosen in best for place, _ in chosen]
    texts = index.rows_at(pl.Series(named, dtype=found["row"].dtype))
    by_row = {row.pop("row"): row for row in texts.iter_rows(named=True)}
    return [
        [
            Answer(score=float(scores[place]), share=share, **by_row[rows[place]])
            for place, share in chosen
        ]
        for chosen in best
    ]


def _likeliest(
    labels: list[str], scores: Floats, temperature: float | None, k: int
) -> Sequence[tuple[int, float | None]]:
    """Of the rows near one query, best first: the k likeliest labels' nearest, and their shares."""
    nearest: dict[str, int] = {}
    for place, label in enumerate(labels):
        nearest.setdefault(label, place)
    if temperature is None:
        return [(place, None) for place in nearest.values()][:k]
    shares = dict.fromkeys(nearest, 0.0)
    for label, vote in zip(labels, votes(scores, temperature).tolist(), strict=True):
        shares[label] += vote
    # Sorting is stable: of labels with equal shares the one with the nearest row comes first.
    ordered = sorted(nearest, key=lambda label: -shares[label])[:k]
    return [(nearest[label], shares[label]) for label in ordered]


def _judged(best: list[list[Answer]], least: float | None) -> list[list[Answer]]:
    """The answers with whether each is confident: the first of a query may be, from a score on."""
    return [
        [
            replace(
                answer,
                confident=place == 0
                and least is not None
                and answer.confidence >= least - _ROUNDING,
            )
            for place, answer in enumerate(answers)
        ]
        for answers in best
    ]
