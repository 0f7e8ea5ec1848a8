"""`Releases`: which model and which version of its index answer now, and which did before.

    releases/
      manifests/<id>.json   one per release, written once; only `forget` changes it
      pins/<id>             an empty file: this release is never retired
      retired/<id>.json     manifests of releases that are gone, until their files are
      current.json          {seq, release, ...}: the pointer, replaced whole
      lock                  held for the moment in which the pointer moves

A reader reads the pointer, then the manifest it names: each is whole, and the manifest names model
and index together, so that no reader ever sees the one without the other. Folders in a manifest
are seen from the store's own, which may be moved.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from monoglot.errors import InputError, StaleVectorsError, StoreBusyError, StoreError
from monoglot.serving.index import Index
from monoglot.serving.manifest import Pointer, Release, now_utc
from monoglot.serving.verification import check_index
from monoglot.store import Store, sync_folder, unwritable, write_atomically

__all__ = ["MODEL_FOLDER", "NO_RELEASE", "Pointer", "Release", "Releases"]

MODEL_FOLDER = "model"  # in the artifact of a trained model
NO_RELEASE = "{}: has no release yet. `monoglot run` makes the first one."


class Releases:
    """The releases of a store. Reading them needs no lock, and writes nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.releases

    def pointer(self) -> Pointer | None:
        """The pointer as it is now; None before the first release.

        Raises:
            StoreError: it cannot be read.
        """
        path = self._folder / "current.json"
        try:
            return Pointer.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise _unreadable(path, error) from error

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
        path = self._manifest(release)
        try:
            return Release.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise _unreadable(path, error) from error

    def history(self) -> list[Release]:
        """All releases that were ever current, the newest first."""
        now = self.pointer()
        reached = now.seq if now else 0
        # A promotion killed just before the pointer moved leaves a manifest ahead of it.
        return [kept for kept in map(self.get, self._ids()) if kept.seq <= reached]

    def _ids(self) -> list[str]:
        manifests = (self._folder / "manifests").glob("[!.]*.json")  # a dot: being written
        return sorted((path.stem for path in manifests), reverse=True)

    def _manifest(self, release: str) -> Path:
        return self._folder / "manifests" / f"{release}.json"

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
        with self._moving() as now:
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
            self._move(now, kept, kept.reason)
            return kept

    def amend(self, release: Release) -> None:
        """Write a manifest anew: only where what it names must not be kept (`monoglot forget`).

        Raises:
            StoreError: the store cannot be written.
        """
        self.get(release.id)
        with self._store.explained():
            write_atomically(self._manifest(release.id), release.model_dump_json(indent=1))

    def _keep(self, release: Release) -> None:
        """Write the manifest of the release about to become current."""
        path = self._manifest(release.id)
        if path.exists():
            raise StoreError(f"{path}: another release has this id. Promote under a new one.")
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, release.model_dump_json(indent=1))

    def rollback(self, release: str | None = None) -> Release:
        """Make an older release current again. Nothing is built: only the pointer moves.

        Args:
            release: its id; None: the one that the current release took over from.

        Raises:
            InputError: there is no such release, or none before the current one.
            StoreError: its model or its index is gone, or the store cannot be written.
        """
        with self._moving() as now:
            if now is None:
                raise StoreError(NO_RELEASE.format(self._store.root))
            current = self.get(now.release)
            chosen = release or current.previous
            if chosen is None:
                raise InputError(f"{current.id} is the first release: there is none before it.")
            target = self.get(chosen)
            self.index(target)
            self.check_model(target)
            if target.id != current.id:
                self._move(now, target, f"rolled back from {current.id}")
            return target

    def pinned(self) -> frozenset[str]:
        """Ids of the releases that are never retired."""
        return frozenset(path.name for path in (self._folder / "pins").glob("[!.]*"))

    def pin(self, release: str) -> Release:
        """Keep a release whatever comes after it.

        Raises:
            InputError: there is none with this id.
            StoreError: the store cannot be written.
        """
        with self._moving():  # it cannot be retired meanwhile
            found = self.get(release)
            (self._folder / "pins").mkdir(exist_ok=True)
            write_atomically(self._folder / "pins" / release, "")
            return found

    def unpin(self, release: str) -> Release:
        """Let a release be retired in its turn; nothing happens to one that was not pinned.

        Raises:
            InputError: there is none with this id.
            StoreError: the store cannot be written.
        """
        with self._moving():
            found = self.get(release)
            (self._folder / "pins" / release).unlink(missing_ok=True)
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

        One rename each, while the pointer cannot move: a release is there whole, or is not there.
        Nobody can roll back to it or pin it any more, so that its files can go later.

        Args:
            keep: see `expendable`.

        Raises:
            StoreError: the store cannot be written.
        """
        with self._moving():
            going = self.expendable(keep)
            (self._folder / "retired").mkdir(exist_ok=True)
            for release in going:
                target = self.retired_manifest(release.id)
                self._manifest(release.id).touch()  # its age from now on: since it was retired
                self._manifest(release.id).rename(target)
                sync_folder(target.parent)
            return going

    def retired_manifest(self, release: str) -> Path:
        """Where the manifest of a retired release is, until its files are removed."""
        return self._folder / "retired" / f"{release}.json"

    def _forget_killed(self, now: Pointer | None) -> None:
        """Remove what a promotion killed before the pointer moved has left: it was never live."""
        reached = now.seq if now else 0
        for release in self._ids():
            if self.get(release).seq > reached:
                self._manifest(release).unlink()

    def _move(self, now: Pointer | None, release: Release, reason: str) -> None:
        following = now.seq + 1 if now else 1
        moved = Pointer(seq=following, release=release.id, moved=now_utc(), reason=reason)
        write_atomically(self._folder / "current.json", moved.model_dump_json(indent=1))

    @contextlib.contextmanager
    def _moving(self) -> Iterator[Pointer | None]:
        """Keep the pointer still for all other processes, and give it as it is.

        The kernel frees the lock of a killed process, and no one holds it for longer than it
        takes to write two small files.
        """
        try:
            self._folder.mkdir(exist_ok=True)
            with (self._folder / "lock").open("a") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                now = self.pointer()
                self._forget_killed(now)
                yield now
        except OSError as error:
            raise unwritable(self._store.root, error) from error


def _unreadable(path: Path, error: Exception) -> StoreError:
    return StoreError(
        f"{path}: cannot be read ({error}). Restore it from a backup of the store, or run again "
        "with a new store."
    )
