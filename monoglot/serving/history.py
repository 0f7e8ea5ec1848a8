"""`History`: what a store tells of its releases, and what to do where it tells too little.

The pointer and the manifests are files that people restore, lose and damage. So a manifest that
cannot be read hides no other one from people, while whoever removes things is refused; and where
the pointer is not the last that was written, nothing moves until a person has named the release
that is to answer.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from monoglot.errors import InputError, StoreError
from monoglot.serving.manifest import Pointer, Release
from monoglot.store import Store

CURRENT = "releases/current.json"
_NAMED = 5  # ids, in a message
_MEND = (
    "Restore it from a backup of the store, or choose another release: `monoglot rollback ID` "
    "(`monoglot releases` lists them)."
)


class Listing(NamedTuple):
    """A store's releases for people, whatever is wrong with some of them.

    Attributes:
        current: id of the one in production; None: there is none, or the pointer does not tell.
        releases: that were ever current, the newest first; where the pointer is not the last that
            was written, all that there are.
        warnings: what is wrong, and what to do.
    """

    current: str | None
    releases: list[Release]
    warnings: list[str]


class DamagedManifestError(StoreError):
    """A manifest is there and cannot be read."""


class History:
    """The pointer and the manifests of a store. Reading them needs no lock, and writes nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._files = store.files

    def pointer(self) -> Pointer | None:
        """The pointer as it is now; None before the first release.

        Raises:
            StoreError: it cannot be read, or is missing although there are releases.
        """
        now, _ = self._pointed()
        lost = None if now else self._lost(now, [])
        if lost is not None:
            raise lost
        return now

    def _pointed(self) -> tuple[Pointer | None, str | None]:
        """The pointer, and its text, which must be the same still when it is replaced."""
        try:
            text = self._files.read(CURRENT)
            return (None if text is None else Pointer.model_validate_json(text)), text
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{self._files.told(CURRENT)}: cannot be read ({_reason(error)}). Remove it, and "
                "name the release that is to answer: `monoglot rollback ID`. The newest: "
                f"{self._newest()}."
            ) from error

    def current(self) -> Release | None:
        """The release that answers now; None before the first one.

        Raises:
            StoreError: the pointer or its manifest is missing, or cannot be read.
        """
        pointer = self.pointer()
        if pointer is None:
            return None
        found = self._read(pointer.release)
        if found is None:
            raise StoreError(f"{self._files.told(manifest_of(pointer.release))}: is gone. {_MEND}")
        return found

    def get(self, release: str) -> Release:
        """A release by id.

        Raises:
            InputError: there is none with this id.
            StoreError: its manifest cannot be read.
        """
        # Only what is listed: else an id could name a file elsewhere.
        found = self._read(release) if release in self._ids() else None
        if found is None:
            raise InputError(f"{release}: no such release. The newest: {self._newest()}.")
        return found

    def was_current(self, release: str) -> bool:
        """Whether there is such a release, and it was current at some time."""
        found = self._read(release)
        return found is not None and found.seq <= _seq(self._pointed()[0])

    def history(self) -> list[Release]:
        """All releases that were ever current, the newest first; `listing` is for people.

        Raises:
            StoreError: the pointer or a manifest cannot be read, so that not all are known.
        """
        reached = _seq(self.pointer())
        found, damaged = self._read_all()
        if damaged:
            raise damaged[0]
        # A promotion killed just before the pointer moved leaves a manifest ahead of it.
        return [release for release in found if release.seq <= reached]

    def listing(self) -> Listing:
        """The same for people, who choose among what can be read."""
        found, damaged = self._read_all()
        warnings = [str(error) for error in damaged]
        try:
            now, _ = self._pointed()
            lost = self._lost(now, _ahead(now, found))
        except StoreError as error:
            now, lost = None, error
        if lost is None:
            found = [release for release in found if release.seq <= _seq(now)]
        else:
            warnings.insert(0, str(lost))
        return Listing(now.release if now else None, found, warnings)

    def pinned(self) -> frozenset[str]:
        """Ids of the releases that are never retired."""
        names = (PurePosixPath(it.name).name for it in self._files.below("releases/pins"))
        return frozenset(name for name in names if name[0] != ".")

    def _read(self, release: str) -> Release | None:
        """What a manifest says; None: it is not there."""
        name = manifest_of(release)
        try:
            text = self._files.read(name)
            return None if text is None else Release.model_validate_json(text)
        except (OSError, ValueError) as error:
            told = self._files.told(name)
            raise DamagedManifestError(
                f"{told}: cannot be read ({_reason(error)}). {_MEND}"
            ) from error

    def _read_all(self) -> tuple[list[Release], list[DamagedManifestError]]:
        """What all manifests say, the newest id first, and what is wrong with those that do not.

        Each is read, since its name does not tell by which move it became current, and clocks jump.
        """
        found, damaged = [], []
        for release in self._ids():
            try:
                kept = self._read(release)
            except DamagedManifestError as error:
                damaged.append(error)
            else:
                found += [kept] if kept else []  # else retired since it was listed
        return found, damaged

    def _ids(self) -> list[str]:
        names = [PurePosixPath(it.name) for it in self._files.below("releases/manifests")]
        # A dot: being written.
        found = (it.stem for it in names if it.suffix == ".json" and it.name[0] != ".")
        return sorted(found, reverse=True)

    def _newest(self) -> str:
        """The newest ids, for a message."""
        return ", ".join(self._ids()[:_NAMED]) or "none yet"

    def _settle(self, now: Pointer | None, named: str | None) -> int:
        """See that the pointer is the last that was written, before it moves.

        What a promotion killed just before the pointer moved has left is set aside, since it was
        never live.

        Args:
            now: the pointer, which cannot move meanwhile.
            named: the release that a person names, who is taken at their word: it was checked
                before its manifest was written. None: nobody names one.

        Returns:
            The number of the last move that pointer or manifests tell of.

        Raises:
            StoreError: the pointer is not the last, and no release is named.
        """
        ahead = _ahead(now, self._read_all()[0])
        lost = self._lost(now, ahead)
        if lost is not None and named is None:
            raise lost
        if lost is None and ahead and ahead[0].id != named:
            self._set_aside(ahead.pop().id)
        return max([_seq(now), *(release.seq for release in ahead)])

    def _lost(self, now: Pointer | None, ahead: Sequence[Release]) -> StoreError | None:
        """What to do where the pointer is not the last that was written; None: it is.

        A promotion killed before the pointer moved leaves one manifest ahead of it, that of the
        very next move, which nobody can have pinned. Whatever else is ahead was live.

        Args:
            now: the pointer.
            ahead: the releases that are ahead of it.
        """
        killed = [release.seq for release in ahead] == [_seq(now) + 1]
        killed = killed and ahead[0].id not in self.pinned()
        if (killed or not ahead) and (now is not None or len(self._ids()) < 2):
            return None
        what = f"is older than release {ahead[0].id}" if now else "is missing"
        return StoreError(
            f"{self._files.told(CURRENT)}: {what}. Nothing was changed. Name the release that is "
            f"to answer: `monoglot rollback ID`. The newest: {self._newest()}."
        )

    def _set_aside(self, release: str) -> None:
        """Take a manifest out of the history; it is kept until the files that it names go."""
        self._files.move(manifest_of(release), f"releases/retired/{release}.json")


def manifest_of(release: str) -> str:
    """Name of a release's manifest in the store."""
    return f"releases/manifests/{release}.json"


def _seq(pointer: Pointer | None) -> int:
    return pointer.seq if pointer else 0


def _reason(error: Exception) -> str:
    """An error in a line, without pydantic's link."""
    return " ".join(str(error).partition("    For further information")[0].split())


def _ahead(now: Pointer | None, releases: Sequence[Release]) -> list[Release]:
    """Those that were made after all that the pointer tells of."""
    return [release for release in releases if release.seq > _seq(now)]
