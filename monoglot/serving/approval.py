"""`Approval`: the candidate that passed the gate and waits for a person.

    releases/candidate.json   a release's manifest, and the model it was compared with

It never answers anyone, and nothing is held while it waits: no lock, no process, no run. There is
one at most, since a later candidate was compared on a later knowledge base: the former gives way.
"""

from collections.abc import Mapping
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict

from monoglot.errors import InputError, RunError, StoreBusyError, StoreError
from monoglot.serving.manifest import Release
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

    def says_as(self, other: "Candidate") -> bool:
        """Whether both would answer alike, and were decided on the same grounds."""
        ours = self.compared_with, self.release.knowledge_base.digest
        theirs = other.compared_with, other.release.knowledge_base.digest
        return ours == theirs and self.release.answers_like(other.release)

    def overtaken_by(self, current: Release) -> str | None:
        """Why it may not take over from a release; None: it may.

        It was decided on grounds that are no more where that one has another model than it was
        compared with, or another knowledge base.
        """
        release = self.release
        if current.model_digest != self.compared_with:
            return (
                f"candidate {release.id} was compared with another model than that of release "
                f"{current.id}, which is in production: whether it is better than that one is not "
                f"known. {_AGAIN}."
            )
        if current.knowledge_base.digest != release.knowledge_base.digest:
            return (
                f"candidate {release.id} answers from {release.rows:,} rows of an earlier or later "
                f"knowledge base than release {current.id}, which is in production with "
                f"{current.rows:,} rows: promoting it would undo or skip that change. {_AGAIN}."
            )
        return None


class Approval:
    """The candidate of a store. Reading it needs no lock, and writes nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._releases = Releases(store)

    def keep(self, release: Release, *, compared_with: str) -> Release:
        """Keep a candidate until it is approved, or another one takes its place.

        A run that is started again after a crash finds its own candidate; one whose index was lost
        and built again takes its place.

        Raises:
            RunError: its index does not hold what it says; see `Releases.verify`.
            StoreError: a part of it is gone, or the store cannot be written.
        """
        kept = Candidate(release=release, compared_with=compared_with)
        waiting = self._read()
        if waiting and waiting.says_as(kept) and self._releases.answers(waiting.release):
            return waiting.release
        self._releases.verify(release)
        self._write(kept)
        return release

    def known(self) -> list[Release]:
        """All releases, and the candidate after them."""
        waiting = self.waiting()
        return [*self._releases.history(), *([waiting] if waiting else [])]

    def amend(self, release: str, changes: Mapping[str, object]) -> None:
        """Change one of `known`: only where what it names must not be kept (`forget`).

        The candidate first, then the release that it may have become meanwhile: a promotion finds
        the candidate changed, or its manifest is there already.

        Args:
            release: its id.
            changes: fields and their values; the others stay as they are by now.

        Raises:
            StoreError: the store cannot be written.
        """
        found = self._read()
        if found is not None and found.release.id == release:
            amended = found.release.model_copy(update=dict(changes))
            self._write(found.model_copy(update={"release": amended}))
        self._releases.amend(release, changes)

    def waiting(self) -> Release | None:
        """The candidate that waits, or None."""
        found = self._read()
        return None if found is None else found.release

    def overtaken_by(self, current: Release | None) -> str | None:
        """Why what waits may not take over from a release; None: it may, or nothing waits."""
        found = self._read()
        return None if found is None or current is None else found.overtaken_by(current)

    def promote(self, release: str | None = None) -> Release:
        """Put the candidate, or a kept release, into production.

        Args:
            release: id of either; None: the candidate.

        Raises:
            InputError: no candidate waits, or there is no such release.
            RunError: the candidate fits no more: what it was compared with, or the knowledge base
                in production, is another by now; or it does not hold what it says.
            StoreBusyError: the pointer moved at this very moment, or the candidate changed.
            StoreError: a part of it is gone, or the store cannot be written.
        """
        found = self._read()
        if found is None or release not in {None, found.release.id}:
            return self._reinstate(release)
        pointer = self._releases.pointer()
        overtaken = found.overtaken_by(self._releases.get(pointer.release)) if pointer else None
        if overtaken is not None:
            raise RunError(overtaken)
        done = self._releases.promote(
            found.release,
            seq=pointer.seq if pointer else 0,
            check=lambda: self._check_unchanged(found),
        )
        kept = self._kept()
        if kept is not None and kept.release.id == done.id:  # else a later one, which waits
            with self._store.explained():
                self._store.files.remove(CANDIDATE)
        return done

    def _check_unchanged(self, candidate: Candidate) -> None:
        if self._read() != candidate:
            raise StoreBusyError(
                f"candidate {candidate.release.id} was changed, or gave way to another one, at "
                "this very moment; it was not promoted. Run again."
            )

    def _reinstate(self, release: str | None) -> Release:
        """Make a kept release current again, after a look at its index."""
        if release is None:
            raise InputError(
                "no candidate awaits approval. Name a kept release: `monoglot releases` lists them."
            )
        self._releases.verify(self._releases.get(release))
        return self._releases.rollback(release)

    def _write(self, candidate: Candidate) -> None:
        with self._store.explained():
            self._store.files.write(CANDIDATE, candidate.model_dump_json(indent=1))

    def _read(self) -> Candidate | None:
        """What waits; not what was approved by a process killed before it could clear up."""
        found = self._kept()
        return None if found is None or self._releases.was_current(found.release.id) else found

    def _kept(self) -> Candidate | None:
        """What the file holds."""
        try:
            text = self._store.files.read(CANDIDATE)
            return None if text is None else Candidate.model_validate_json(text)
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{self._store.files.told(CANDIDATE)}: cannot be read ({error}). Remove it, "
                "and run with --force for a new candidate."
            ) from error


class Awaiting(NamedTuple):
    """The candidate that awaits approval.

    Attributes:
        id: of the candidate.
        overtaken: why it can be approved no more; None: it can.
    """

    id: str
    overtaken: str | None

    @classmethod
    def of(cls, store: Store | None) -> Self | None:
        """That of a store; None: none waits, or there is no store yet.

        Raises:
            StoreError: the candidate, or the release in production, cannot be read.
        """
        approval = None if store is None else Approval(store)
        found = None if approval is None else approval.waiting()
        if store is None or approval is None or found is None:
            return None
        return cls(found.id, approval.overtaken_by(Releases(store).current()))

    @property
    def line(self) -> str:
        """What to do about it."""
        approve = f"`monoglot promote {self.id}`"
        return self.overtaken or f"candidate {self.id} awaits approval: {approve}"
