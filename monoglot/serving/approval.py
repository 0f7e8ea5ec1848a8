"""`Approval`: the candidate that passed the gate and waits for a person.

    releases/candidate.json   a release's manifest, and the model it was compared with

It never answers anyone, and nothing is held while it waits: no lock, no process, no run. There is
one at most, since a later candidate was compared on a later knowledge base: the former gives way.
"""

from pydantic import BaseModel, ConfigDict, ValidationError

from monoglot.errors import InputError, RunError, StoreError
from monoglot.serving.manifest import Pointer, Release
from monoglot.serving.releases import Releases
from monoglot.store import Store

_AGAIN = "`monoglot run` compares anew"
CANDIDATE = "releases/candidate.json"


class Candidate(BaseModel):
    """A release that could be, and what the gate compared it with.

    Attributes:
        release: names model and index together, as every release does.
        compared_with: digest of the model that was in production, or of the untuned one.
    """

    model_config = ConfigDict(frozen=True)

    release: Release
    compared_with: str


class Approval:
    """The candidate of a store. Reading it needs no lock, and writes nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._releases = Releases(store)

    def keep(self, release: Release, *, compared_with: str) -> Release:
        """Keep a candidate until it is approved, or another one takes its place.

        A run that is started again after a crash finds its own candidate.

        Raises:
            RunError: its index does not hold what it says; see `Releases.verify`.
            StoreError: a part of it is gone, or the store cannot be written.
        """
        waiting = self.waiting()
        if waiting is not None and waiting.answers_like(release):
            return waiting
        self._releases.verify(release)
        kept = Candidate(release=release, compared_with=compared_with)
        with self._store.explained():
            self._store.files.write(CANDIDATE, kept.model_dump_json(indent=1))
        return release

    def waiting(self) -> Release | None:
        """The candidate that waits, or None."""
        found = self._read()
        return None if found is None else found.release

    def promote(self, release: str | None = None) -> Release:
        """Put the candidate, or a kept release, into production.

        Args:
            release: id of either; None: the candidate.

        Raises:
            InputError: no candidate waits, or there is no such release.
            RunError: the candidate fits no more: what it was compared with, or the knowledge base
                in production, is another by now; or it does not hold what it says.
            StoreBusyError: the pointer moved at this very moment.
            StoreError: a part of it is gone, or the store cannot be written.
        """
        found = self._read()
        if found is None or release not in {None, found.release.id}:
            return self._reinstate(release)
        pointer = self._releases.pointer()
        self._refuse_overtaken(found, pointer)
        done = self._releases.promote(found.release, seq=pointer.seq if pointer else 0)
        with self._store.explained():
            self._store.files.remove(CANDIDATE)
        return done

    def _reinstate(self, release: str | None) -> Release:
        """Make a kept release current again, after a look at its index."""
        if release is None:
            raise InputError(
                "no candidate awaits approval. Name a kept release: `monoglot releases` lists them."
            )
        self._releases.verify(self._releases.get(release))
        return self._releases.rollback(release)

    def _refuse_overtaken(self, candidate: Candidate, pointer: Pointer | None) -> None:
        """Refuse what was decided on grounds that are no more."""
        release = candidate.release
        if pointer is None:
            return
        current = self._releases.get(pointer.release)
        if current.model_digest != candidate.compared_with:
            raise RunError(
                f"candidate {release.id} was compared with another model than that of release "
                f"{current.id}, which is in production since {pointer.moved}: whether it is better "
                f"than that one is not known. {_AGAIN}."
            )
        if current.knowledge_base.digest != release.knowledge_base.digest:
            raise RunError(
                f"candidate {release.id} answers from {release.rows:,} rows of an earlier or later "
                f"knowledge base than release {current.id}, which is in production with "
                f"{current.rows:,} rows: promoting it would undo or skip that change. {_AGAIN}."
            )

    def _read(self) -> Candidate | None:
        """What waits; not what was approved by a process killed before it could clear up."""
        try:
            text = self._store.files.read(CANDIDATE)
            if text is None:
                return None
            found = Candidate.model_validate_json(text)
        except (OSError, ValidationError) as error:
            raise StoreError(
                f"{self._store.files.told(CANDIDATE)}: cannot be read ({error}). Remove it, "
                "and run with --force for a new candidate."
            ) from error
        released = {release.id for release in self._releases.history()}
        return None if found.release.id in released else found
