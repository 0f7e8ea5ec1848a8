"""`Bucket`: the objects of one store on S3, and their errors told as ours.

By obstore, Python's face of the Rust library that LanceDB uses, since pyarrow, which fetches
knowledge bases, cannot write on a condition: `create` (If-None-Match) and `swap` (If-Match) are
what a pointer and a lock between machines are made of.
"""

import contextlib
import re
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from monoglot.addresses import s3_endpoint
from monoglot.errors import ConfigError, MonoglotError, StoreError
from monoglot.files import Entry
from monoglot.remote.place import Place, connection

if TYPE_CHECKING:
    from obstore.store import S3Store as Objects

_PIECE = 1 << 22
_PATIENCE = timedelta(seconds=60)
_SET = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE), AWS_REGION and, where it is "
    "not Amazon's, AWS_ENDPOINT_URL"
)


class Seen(NamedTuple):
    """A small object as it was read.

    Attributes:
        text: what it says.
        tag: changes with its content; `Bucket.swap` compares it.
        changed: seconds since the epoch, by the clock of the object store.
    """

    text: str
    tag: str
    changed: float


class Bucket:
    """One store's objects; names are relative to it. Threads may share one."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._objects = _connect(place)

    def told(self, name: str) -> str:
        """Where an object is, for people."""
        return f"{self.place.location}/{name}"

    def read(self, name: str) -> Seen | None:
        """A small object; None: there is none."""
        import obstore

        try:
            with self._explained(f"read {name}"):
                got = obstore.get(self._objects, name)
                text = bytes(got.bytes()).decode()
        except FileNotFoundError:
            return None
        return Seen(text, str(got.meta["e_tag"]), got.meta["last_modified"].timestamp())

    def is_there(self, name: str) -> bool:
        """Whether there is such an object."""
        import obstore

        try:
            with self._explained(f"read {name}"):
                obstore.head(self._objects, name)
        except FileNotFoundError:
            return False
        return True

    def write(self, name: str, text: str) -> None:
        """Write a small object, whatever is there."""
        self.put(name, text.encode())

    def put(self, name: str, content: bytes | Path) -> None:
        """Write an object, from memory or from a file; it is there whole or not at all."""
        import obstore

        with self._explained(f"write {name}"):
            obstore.put(self._objects, name, content)

    def create(self, name: str, content: bytes) -> bool:
        """Write an object where there is none; whether this did.

        A request whose answer was lost is sent again and then finds its own object: what is there
        is compared. Contents must therefore tell writers apart where it matters.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            with self._explained(f"write {name}", AlreadyExistsError, PreconditionError):
                obstore.put(self._objects, name, content, mode="create", use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            return self._holds(name, content)
        return True

    def swap(self, name: str, text: str, tag: str) -> bool:
        """Write a small object where its tag is still this one; whether this did. See `create`."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        content = text.encode()
        refused = (AlreadyExistsError, PreconditionError)
        try:
            with self._explained(f"write {name}", *refused):
                obstore.put(self._objects, name, content, mode={"e_tag": tag}, use_multipart=False)
        except (*refused, FileNotFoundError):
            return self._holds(name, content)
        return True

    def _holds(self, name: str, content: bytes) -> bool:
        found = self.read(name)
        return found is not None and found.text.encode() == content

    def fetch(self, name: str, target: Path) -> None:
        """Read an object into a file.

        Raises:
            FileNotFoundError: there is none.
        """
        import obstore

        with self._explained(f"read {name}"):
            stream = obstore.get(self._objects, name).stream(min_chunk_size=_PIECE)
            with target.open("wb") as file:
                for piece in stream:
                    file.write(piece)

    def below(self, folder: str) -> list[Entry]:
        """All objects whose names begin with a folder's, by name."""
        import obstore

        with self._explained(f"list {folder}"):
            found = [
                Entry(it["path"], it["size"], it["last_modified"].timestamp())
                for page in obstore.list(self._objects, prefix=folder or None)
                for it in page
            ]
        return sorted(found)

    def folders(self, folder: str) -> list[str]:
        """The folders directly within one, by their last part."""
        import obstore

        with self._explained(f"list {folder}"):
            listed = obstore.list_with_delimiter(self._objects, prefix=folder)["common_prefixes"]
        return sorted(it.rstrip("/").rpartition("/")[2] for it in listed)

    def remove(self, *names: str) -> None:
        """Remove objects; nothing happens where there is none."""
        import obstore

        with self._explained(f"remove {names[0] if names else 'nothing'}"):
            for start in range(0, len(names), 1000):
                with contextlib.suppress(FileNotFoundError):
                    obstore.delete(self._objects, list(names[start : start + 1000]))

    def now(self) -> float:
        """The time by the object store's clock: machines' own need not agree."""
        import obstore

        name = f"locks/clock-{uuid.uuid4().hex}"
        self.put(name, b"?")
        with self._explained("tell the time"):
            written = obstore.head(self._objects, name)["last_modified"]
        self.remove(name)
        return written.timestamp()

    def refuse_unconditional(self, name: str) -> None:
        """Refuse an object store that writes whatever the condition: nothing would hold there.

        Args:
            name: of an object that is there; it is written again as it is.

        Raises:
            StoreError: it does.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        found = self.read(name)
        content = b"" if found is None else found.text.encode()
        refused = (AlreadyExistsError, PreconditionError, FileNotFoundError)
        conditions: tuple[Any, ...] = ("create", {"e_tag": '"0"'})
        for condition in conditions:
            try:
                with self._explained(f"write {name}", *refused):
                    obstore.put(self._objects, name, content, mode=condition, use_multipart=False)
            except refused:
                continue
            raise StoreError(
                f"{self.place.location}: this object store ignores conditional writes "
                "(If-None-Match, If-Match), without which machines would overwrite one another's "
                "releases. Use one that has them, or a local folder."
            )

    @contextlib.contextmanager
    def _explained(self, work: str, *awaited: type[Exception]) -> Iterator[None]:
        """Errors of the object store as ours, with what to set.

        Those that are awaited come as they are, and a missing object as a `FileNotFoundError`.
        """
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            yield
        except MonoglotError:
            raise
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise StoreError(
                f"{self.place.location}: one may not {work} ({_line(error)}). {_SET}."
            ) from None
        except (BaseError, OSError, ValueError) as error:
            if isinstance(error, awaited):
                raise
            where = s3_endpoint() or "Amazon S3"
            if "NoSuchBucket" in str(error):
                raise StoreError(
                    f"{self.place.location}: there is no bucket {self.place.bucket} at {where}. "
                    "Create it, or correct `store:`, AWS_ENDPOINT_URL and AWS_REGION."
                ) from None
            if isinstance(error, FileNotFoundError):
                raise
            raise StoreError(
                f"{self.place.location}: cannot {work} at {where} ({_line(error)}). {_SET}; then "
                "check the network."
            ) from None


def _connect(place: Place) -> "Objects":
    try:
        from obstore.store import S3Store
    except ModuleNotFoundError:
        raise ConfigError(
            f"store: {place.location}: needs obstore: `pip install 'monoglot[s3]'`."
        ) from None
    options: dict[str, Any] = connection()
    plain = options.pop("allow_http", None)
    return S3Store(
        place.bucket,
        prefix=place.prefix or None,
        client_options={"allow_http": plain is not None, "connect_timeout": timedelta(seconds=5)},
        retry_config={"max_retries": 6, "retry_timeout": _PATIENCE},
        **options,
    )


def _line(error: BaseException) -> str:
    """What an error says in a line: obstore tells how it came about, and the answer, in pages."""
    text = " ".join(re.split(r"\n\nDebug source|<\?xml|<Error>", str(error))[0].split())
    code = re.search(r"<Code>(\w+)</Code>", str(error))
    return f"{text[:300].rstrip(': ')}{f': {code[1]}' if code else ''}"
