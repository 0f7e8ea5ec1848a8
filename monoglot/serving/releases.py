"""`Releases`: which model and which version of its index answer now, and which did before.

    releases/
      manifests/<id>.json   one per release, written once; only `forget` changes it
      pins/<id>             an empty file: this release is never retired
      retired/<id>.json     manifests of releases that are gone, until their files are
      current.json          {seq, release, ...}: the pointer, replaced whole
      lock                  held for the moment in which the pointer moves (`Files.still`)

A reader reads the pointer, then the manifest it names: each is whole, and the manifest names model
and index together, so that no reader ever sees the one without the other. Folders in a manifest
are seen from the store's own, which may be moved.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from monoglot.errors import InputError, StaleVectorsError, StoreBusyError, StoreError
from monoglot.serving.index import Index
from monoglot.serving.manifest import Pointer, Release, now_utc
from monoglot.serving.verification import check_index
from monoglot.store import Store, unwritable

__all__ = ["MODEL_FOLDER", "NO_RELEASE", "Pointer", "Release", "Releases"]

MODEL_FOLDER = "model"  # in the artifact of a trained model
CURRENT = "releases/current.json"
NO_RELEASE = "{}: has no release yet. `monoglot run` makes the first one."


class Releases:
    """The releases of a store. Reading them needs no lock, and writes nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._files = store.files

    def pointer(self) -> Pointer | None:
        """The pointer as it is now; None before the first release.

        Raises:
            StoreError: it cannot be read.
        """
        return self._pointed()[0]

    def _pointed(self) -> tuple[Pointer | None, str | None]:
        """The pointer, and its text, which must be the same still when it is replaced."""
        try:
            text = self._files.read(CURRENT)
            return (None if text is None else Pointer.model_validate_json(text)), text
        except (OSError, ValidationError) as error:
            raise _unreadable(self._files.told(CURRENT), error) from error

    def current(self) -> Release | None:
        """The release that answers now; None before the first one."""
        pointer = self.pointer()
        return None if pointer is None else self.get(pointer.release)

    def get(self, release: str) -> Release:
        """A release by id.

        Raises:
            InputError: there is none with this id.
            StoreError: its manifest cannot be read.
        """
        if release not in self._ids():  # also keeps an id from naming a file elsewhere
            known = ", ".join(self._ids()[:5]) or "none yet"
            raise InputError(f"{release}: no such release. The newest: {known}.")
        return self._kept(release)

    def _kept(self, release: str) -> Release:
        name = _manifest(release)
        try:
            text = self._files.read(name)
            if text is None:
                raise FileNotFoundError("it is gone")
            return Release.model_validate_json(text)
        except (OSError, ValidationError) as error:
            raise _unreadable(self._files.told(name), error) from error

    def history(self) -> list[Release]:
        """All releases that were ever current, the newest first."""
        now = self.pointer()
        reached = now.seq if now else 0
        # A promotion killed just before the pointer moved leaves a manifest ahead of it.
        return [kept for kept in map(self._kept, self._ids()) if kept.seq <= reached]

    def _ids(self) -> list[str]:
        names = [PurePosixPath(it.name) for it in self._files.below("releases/manifests")]
        # A dot: being written.
        found = (it.stem for it in names if it.suffix == ".json" and it.name[0] != ".")
        return sorted(found, reverse=True)

    def model_location(self, release: Release) -> str:
        """What `Encoder.load` takes: a trained model's folder, or a base model's name."""
        if release.model is None:
            return release.model_name
        return str(self._store.folder(release.model) / MODEL_FOLDER)

    def index(self, release: Release) -> Index:
        """The version of the index that a release names.

        Raises:
            StoreError: it is gone.
            StaleVectorsError: another model made it.
        """
        index = Index.at(self._store.index_uri, release.index_table, release.index_version)
        if index.model_digest != release.model_digest:
            raise StaleVectorsError(
                f"release {release.id} names model {release.model_digest[:16]}, its index "
                f"{release.index_table} is of model {index.model_digest[:16]}. "
                "`monoglot rollback` goes back to an older release."
            )
        return index

    def check_model(self, release: Release) -> None:
        """See that a release's model is still there; a hub model may be had from the hub again.

        Raises:
            StoreError: the store lacks a trained model's weights, or a base model's folder is gone.
        """
        place = Path(self.model_location(release))
        if release.model is not None and not any(place.rglob("*.safetensors")):
            raise StoreError(
                f"release {release.id}: its model is gone ({place}). Choose another release: "
                "`monoglot releases` lists them."
            )
        if release.model is None and place.is_absolute() and not place.is_dir():
            raise StoreError(f"release {release.id}: its base model's folder {place} is gone.")

    def verify(self, release: Release) -> None:
        """Ask the release's index for its own rows: what is there is found, and is what it says.

        A sample of rows must find themselves first, or a row with an equal vector; where search
        is approximate, as many as its recall promises.

        Raises:
            RunError: a row does not find itself, or rows are missing or others than it says.
            StaleVectorsError: another model made the vectors.
            StoreError: the model or the index version is gone.
        """
        self.check_model(release)
        index = self.index(release)
        check_index(index, release)

    def promote(self, release: Release, *, seq: int | None = None) -> Release:
        """Check a release, write its manifest, and make it current by one swap of the pointer.

        Promoting the release that is current again, after a crash for instance, changes nothing.

        Args:
            release: `previous` and `seq` are filled in here.
            seq: what the pointer's `seq` must be still (0: there is none yet); None: whatever.

        Raises:
            StoreBusyError: another run moved the pointer meanwhile.
            RunError: the release does not hold what it says; see `verify`.
            StoreError: a part of it is gone, or the store cannot be written.
        """
        self.verify(release)
        with self._moving() as (now, text):
            if now is not None and now.release == release.id:
                return self.get(release.id)
            if seq is not None and seq != (now.seq if now else 0):
                raise StoreBusyError(
                    f"another run made {now.release if now else 'no release'} current meanwhile; "
                    f"release {release.id} was not promoted. Run again."
                )
            kept = release.model_copy(
                update={
                    "previous": now.release if now else None,
                    "seq": now.seq + 1 if now else 1,
                }
            )
            self._keep(kept)
            self._move(now, text, kept, kept.reason)
            return kept

    def amend(self, release: Release) -> None:
        """Write a manifest anew: only where what it names must not be kept (`monoglot forget`).

        Raises:
            StoreError: the store cannot be written.
        """
        self.get(release.id)
        with self._store.explained():
            self._files.write(_manifest(release.id), release.model_dump_json(indent=1))

    def _keep(self, release: Release) -> None:
        """Write the manifest of the release about to become current."""
        name = _manifest(release.id)
        if not self._files.create(name, release.model_dump_json(indent=1)):
            told = self._files.told(name)
            raise StoreError(f"{told}: another release has this id. Promote under a new one.")

    def rollback(self, release: str | None = None) -> Release:
        """Make an older release current again. Nothing is built: only the pointer moves.

        Args:
            release: its id; None: the one that the current release took over from.

        Raises:
            InputError: there is no such release, or none before the current one.
            StoreError: its model or its index is gone, or the store cannot be written.
        """
        with self._moving() as (now, text):
            if now is None:
                raise StoreError(NO_RELEASE.format(self._store.location))
            current = self.get(now.release)
            chosen = release or current.previous
            if chosen is None:
                raise InputError(f"{current.id} is the first release: there is none before it.")
            target = self.get(chosen)
            self.index(target)
            self.check_model(target)
            if target.id != current.id:
                self._move(now, text, target, f"rolled back from {current.id}")
            return target

    def pinned(self) -> frozenset[str]:
        """Ids of the releases that are never retired."""
        names = (PurePosixPath(it.name).name for it in self._files.below("releases/pins"))
        return frozenset(name for name in names if name[0] != ".")

    def pin(self, release: str) -> Release:
        """Keep a release whatever comes after it.

        Raises:
            InputError: there is none with this id.
            StoreError: the store cannot be written.
        """
        with self._moving():  # it cannot be retired meanwhile
            found = self.get(release)
            self._files.write(f"releases/pins/{release}", "")
            return found

    def unpin(self, release: str) -> Release:
        """Let a release be retired in its turn; nothing happens to one that was not pinned.

        Raises:
            InputError: there is none with this id.
            StoreError: the store cannot be written.
        """
        with self._moving():
            found = self.get(release)
            self._files.remove(f"releases/pins/{release}")
            return found

    def expendable(self, keep: int) -> list[Release]:
        """The releases that `retire` would retire, the newest first.

        Never the current one, the one that `rollback` goes back to, or a pinned one.

        Args:
            keep: how many of the newest stay. Newest by `seq`, since a clock can jump.
        """
        current = self.current()
        if current is None:
            return []
        staying = self.pinned() | {current.id, current.previous}
        by_seq = sorted(self.history(), key=lambda release: (release.seq, release.id), reverse=True)
        return [release for release in by_seq[keep:] if release.id not in staying]

    def retire(self, keep: int) -> list[Release]:
        """Take the releases that are not kept out of the history; their files stay for now.

        One by one, while the pointer cannot move: a release is there whole, or is not there.
        Nobody can roll back to it or pin it any more, so that its files can go later: their age
        is reckoned from now on.

        Args:
            keep: see `expendable`.

        Raises:
            StoreError: the store cannot be written.
        """
        with self._moving():
            going = self.expendable(keep)
            for release in going:
                self._files.move(_manifest(release.id), f"releases/retired/{release.id}.json")
            return going

    def _forget_killed(self, now: Pointer | None) -> None:
        """Remove what a promotion killed before the pointer moved has left: it was never live."""
        reached = now.seq if now else 0
        for release in self._ids():
            if self._kept(release).seq > reached:
                self._files.remove(_manifest(release))

    def _move(self, now: Pointer | None, text: str | None, release: Release, reason: str) -> None:
        """Swap the pointer where it is as it was read.

        Raises:
            StoreBusyError: it is not, although the lock is ours: between machines a lock can be
                lost unnoticed, this comparison cannot.
        """
        following = now.seq + 1 if now else 1
        moved = Pointer(seq=following, release=release.id, moved=now_utc(), reason=reason)
        if not self._files.replace(CURRENT, moved.model_dump_json(indent=1), text):
            raise StoreBusyError(
                f"{self._store.location}: another machine moved the pointer at this very moment; "
                f"release {release.id} was not made current. Run again."
            )

    @contextlib.contextmanager
    def _moving(self) -> Iterator[tuple[Pointer | None, str | None]]:
        """Keep the pointer still for all other processes, and give it as it is, with its text.

        No one holds the lock for longer than it takes to write two small files.
        """
        try:
            with self._files.still("releases/lock"):
                now, text = self._pointed()
                self._forget_killed(now)
                yield now, text
        except OSError as error:
            raise unwritable(self._store.root, error) from error


def _manifest(release: str) -> str:
    return f"releases/manifests/{release}.json"


def _unreadable(path: str, error: Exception) -> StoreError:
    return StoreError(
        f"{path}: cannot be read ({error}). Restore it from a backup of the store, or run again "
        "with a new store."
    )
