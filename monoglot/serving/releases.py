"""`Releases`: which model and which version of its index answer now, and which did before.

    releases/
      manifests/<id>.json   one per release, written once; only `forget` changes it
      pins/<id>             an empty file: this release is never retired
      retired/<id>.json     manifests of releases that are gone, until their files are; and of those
                            that were never live, since their promotion was killed
      current.json          {seq, release, ...}: the pointer, replaced whole
      lock                  held for the moment in which the pointer moves (`Files.still`)

A reader reads the pointer, then the manifest it names: each is whole, and the manifest names model
and index together, so that no reader ever sees the one without the other. Folders in a manifest
are seen from the store's own, which may be moved.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from monoglot.errors import InputError, RunError, StaleVectorsError, StoreBusyError, StoreError
from monoglot.remote.place import is_remote
from monoglot.serving.history import CURRENT, History, manifest_of
from monoglot.serving.index import Index
from monoglot.serving.manifest import Pointer, Release, now_utc
from monoglot.serving.verification import check_index
from monoglot.store import unwritable

__all__ = ["MODEL_FOLDER", "NO_RELEASE", "Pointer", "Release", "Releases"]

MODEL_FOLDER = "model"  # in the artifact of a trained model
NO_RELEASE = "{}: has no release yet. `monoglot run` makes the first one."


class _Still(NamedTuple):
    """The pointer while no other process can move it.

    Attributes:
        pointer: None before the first release.
        text: of its file, which must be the same still when it is replaced.
        seq: of the last move that anything tells of: more than the pointer's where that is not the
            last one that was written.
    """

    pointer: Pointer | None
    text: str | None
    seq: int


class Releases(History):
    """The releases of a store: those that `History` tells of, their parts, and every move."""

    def model_location(self, release: Release) -> str:
        """What `Encoder.load` takes: a trained model's folder, or a base model's name."""
        if release.model is None:
            return release.model_name
        return str(self._store.folder(release.model) / MODEL_FOLDER)

    def index(self, release: Release) -> Index:
        """The version of the index that a release names.

        Raises:
            StoreError: it is gone, or holds other rows: a table that was lost and built again has
                taken its number anew.
            StaleVectorsError: another model made it.
        """
        index = Index.at(self._store.index_uri, release.index_table, release.index_version)
        if index.model_digest != release.model_digest:
            raise StaleVectorsError(
                f"release {release.id} names model {release.model_digest[:16]}, its index "
                f"{release.index_table} is of model {index.model_digest[:16]}. "
                "`monoglot rollback` goes back to an older release."
            )
        if index.content != release.index_content or len(index) != release.rows:
            raise StoreError(
                f"release {release.id}: version {release.index_version} of its index "
                f"{release.index_table} holds {len(index):,} rows and not the {release.rows:,} "
                "that the release names, or others: the table was lost and built again. "
                "`monoglot run --force` makes a release of what is there now."
            )
        return index

    def has_table(self, release: Release) -> bool:
        """Whether a release's table is there at all, told without opening it, or LanceDB.

        In a bucket that would be a request; a search tells.
        """
        uri = self._store.index_uri
        return is_remote(uri) or (Path(uri) / f"{release.index_table}.lance").is_dir()

    def answers(self, release: Release) -> bool:
        """Whether a release still holds what it says; see `verify`."""
        try:
            self.verify(release)
        except (RunError, StoreError, StaleVectorsError):
            return False
        return True

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

    def promote(
        self,
        release: Release,
        *,
        seq: int | None = None,
        check: Callable[[], None] | None = None,
    ) -> Release:
        """Check a release, write its manifest, and make it current by one swap of the pointer.

        Promoting the release that is current again, after a crash for instance, changes nothing.

        Args:
            release: `previous` and `seq` are filled in here.
            seq: what the pointer's `seq` must be still (0: there is none yet); None: whatever.
            check: called while the pointer cannot move, and raises where it must not.

        Raises:
            StoreBusyError: another run moved the pointer meanwhile.
            RunError: the release does not hold what it says; see `verify`.
            StoreError: a part of it is gone, or the store cannot be written.
        """
        self.verify(release)
        with self._moving() as still:
            now = still.pointer
            if now is not None and now.release == release.id:
                return self.get(release.id)
            if seq is not None and seq != (now.seq if now else 0):
                raise StoreBusyError(
                    f"another run made {now.release if now else 'no release'} current meanwhile; "
                    f"release {release.id} was not promoted. Run again."
                )
            if check is not None:
                check()
            kept = release.model_copy(
                update={"previous": now.release if now else None, "seq": still.seq + 1}
            )
            self._write(kept)
            self._move(still, kept, kept.reason)
            # Anew where it is gone: another machine set it aside as that of a killed promotion, had
            # this one lost the lock for the moment.
            self._files.create(manifest_of(kept.id), kept.model_dump_json(indent=1))
            return kept

    def _write(self, release: Release) -> None:
        """Write the manifest of the release about to become current."""
        name = manifest_of(release.id)
        if not self._files.create(name, release.model_dump_json(indent=1)):
            told = self._files.told(name)
            raise StoreError(f"{told}: another release has this id. Promote under a new one.")

    def amend(self, release: str, changes: Mapping[str, object]) -> None:
        """Change a manifest: only where what it names must not be kept (`monoglot forget`).

        Args:
            release: its id; nothing happens where there is no such manifest.
            changes: fields and their values; the others stay as they are by now.

        Raises:
            StoreError: the store cannot be written.
        """
        with self._moving():
            found = self._read(release)
            if found is not None:
                amended = found.model_copy(update=dict(changes))
                self._files.write(manifest_of(release), amended.model_dump_json(indent=1))

    def rollback(self, release: str | None = None) -> Release:
        """Make an older release current again. Nothing is built: only the pointer moves.

        This is also how a pointer that was lost, or replaced by an older one, is written anew: by
        naming the release.

        Args:
            release: its id; None: the one that the current release took over from.

        Raises:
            InputError: there is no such release, or none before the current one.
            StoreError: its model or its index is gone, the store cannot be written, or the pointer
                is not the last that was written and no release is named.
        """
        with self._moving(named=release) as still:
            now = still.pointer
            target = self.get(release or self._before(now))
            self.index(target)
            self.check_model(target)
            if now is None:
                self._move(still, target, "named where the pointer was missing")
            elif target.id != now.release or still.seq > now.seq:
                self._move(still, target, f"rolled back from {now.release}")
            return target

    def _before(self, now: Pointer | None) -> str:
        """Id of the release that the current one took over from."""
        if now is None:
            raise StoreError(NO_RELEASE.format(self._store.location))
        previous = self.get(now.release).previous
        if previous is None:
            raise InputError(f"{now.release} is the first release: there is none before it.")
        return previous

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
                self._set_aside(release.id)
            return going

    def _move(self, still: _Still, release: Release, reason: str) -> None:
        """Swap the pointer where it is as it was read.

        Raises:
            StoreBusyError: it is not, although the lock is ours: between machines a lock can be
                lost unnoticed, this comparison cannot.
        """
        moved = Pointer(seq=still.seq + 1, release=release.id, moved=now_utc(), reason=reason)
        if not self._files.replace(CURRENT, moved.model_dump_json(indent=1), still.text):
            raise StoreBusyError(
                f"{self._store.location}: another machine moved the pointer at this very moment; "
                f"release {release.id} was not made current. Run again."
            )

    @contextlib.contextmanager
    def _moving(self, named: str | None = None) -> Iterator[_Still]:
        """Keep the pointer still for all other processes, and give it as it is.

        No one holds the lock for longer than it takes to read the manifests and to write two small
        files.

        Args:
            named: see `History._settle`.

        Raises:
            StoreBusyError: another machine keeps it still.
            StoreError: it is not the last that was written, or the store cannot be written.
        """
        try:
            with self._files.still("releases/lock"):
                now, text = self._pointed()
                yield _Still(now, text, self._settle(now, named))
        except OSError as error:
            raise unwritable(self._store.root, error) from error
