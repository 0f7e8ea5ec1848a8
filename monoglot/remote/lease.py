"""`Lease`: a lock between machines, which are told apart by nothing but what they write.

An object says who holds it. The holder writes it anew every quarter of its term, each time on the
condition that it is as it left it; whoever finds one that was not renewed for a whole term takes
it over, on the condition that it is still that one. Ages are those of the object store's clock, so
machines' clocks need not agree. A holder that was overtaken, or could not renew in time, is told so
by `check`: what it does then is refused, before it reaches a release. Whose it is, its token says:
that it is not as it was left may be the holder's own doing, where the network kept an answer back.
"""

import contextlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Iterator

from monoglot.errors import MonoglotError, StoreBusyError
from monoglot.remote.bucket import Bucket, Seen

TERM_S = 60.0
_SAFE = 0.75  # of a term, after which a holder that could not renew no longer trusts its lease
_LOGGER = logging.getLogger(__name__)


class Lease:
    """One lock of a store; `held` takes it, renews it and gives it up.

    Args:
        bucket: where.
        name: of its object.
        machine: who asks. Nobody else of this name lives: the caller holds a kernel lock.
        holder: the same for people: process, host, since when.
        term: seconds after which one that was not renewed is free.
    """

    def __init__(
        self, bucket: Bucket, name: str, *, machine: str, holder: str, term: float = TERM_S
    ) -> None:
        self._bucket = bucket
        self._name = name
        self._machine = machine
        self._holder = holder
        self._term = term
        self._token = uuid.uuid4().hex
        self._beat = 0
        self._seen: Seen | None = None  # as it was left; None: not taken yet, or lost
        self._renewed = 0.0
        self._ended = threading.Event()

    @contextlib.contextmanager
    def held(self, *, patience: float = 0.0) -> Iterator["Lease"]:
        """Hold it for a block, renewing it from a thread.

        Args:
            patience: seconds to wait for another holder.

        Raises:
            StoreBusyError: another machine holds it; names the holder.
        """
        self._take(time.monotonic() + patience)
        thread = threading.Thread(target=self._renew, name=f"lease {self._name}", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()
            self._give_up()

    def check(self) -> None:
        """Refuse to go on where the lease is lost, or may be.

        Raises:
            StoreBusyError: it is.
        """
        if self._seen is None or time.monotonic() > self._renewed + _SAFE * self._term:
            raise StoreBusyError(
                f"{self._bucket.place.location}: this run lost the store's lock, since it could "
                f"not renew it for {self._term:g} s (a suspended machine, or the network); another "
                "may be writing now. Nothing it does from here on counts; what is finished is "
                "kept. Run again."
            )

    def _take(self, until: float) -> None:
        while True:
            began = time.monotonic()
            found = self._bucket.read(self._name)
            if found is None:
                if self._bucket.create(self._name, self._text().encode()):
                    break
            elif self._is_free(found):
                if self._bucket.swap(self._name, self._text(), found.tag):
                    break
            elif time.monotonic() > until:
                raise StoreBusyError(
                    f"{self._bucket.place.location}: another machine is writing to this store "
                    f"({_read(found).get('holder', 'holder unknown')}). Wait for it, or stop it; "
                    f"one that is dead blocks nobody for longer than {self._term:g} s."
                )
            else:
                time.sleep(0.2)
        self._renewed, self._seen = began, self._ours()

    def _is_free(self, found: Seen) -> bool:
        told = _read(found)
        if not told.get("token") or told.get("machine") == self._machine:
            return True
        return self._bucket.now() - found.changed > float(told.get("term", self._term))

    def _text(self) -> str:
        return json.dumps(
            {
                "token": self._token,
                "beat": self._beat,
                "machine": self._machine,
                "holder": self._holder,
                "term": self._term,
            }
        )

    def _ours(self) -> Seen | None:
        """It as it is now; None: it is another's, or gone."""
        found = self._bucket.read(self._name)
        return found if found is not None and _read(found).get("token") == self._token else None

    def _swap(self, text: str) -> bool:
        """Write this where it is still ours, as it was left or not; whether this did."""
        if self._seen is not None and self._bucket.swap(self._name, text, self._seen.tag):
            return True
        self._seen = self._ours()
        return self._seen is not None and self._bucket.swap(self._name, text, self._seen.tag)

    def _renew(self) -> None:
        while self._seen is not None and not self._ended.wait(self._term / 4):
            self._beat += 1
            began = time.monotonic()
            try:
                if self._swap(self._text()):
                    self._renewed = began  # before the look, which may fail
                self._seen = self._ours()
            except MonoglotError as error:  # the next beat may come through; `check` knows the time
                _LOGGER.warning("the store's lock could not be renewed: %s", error)

    def _give_up(self) -> None:
        """Leave it free, unless it is another's by now; a failure frees it after its term."""
        with contextlib.suppress(MonoglotError):
            if self._seen is not None:
                self._swap(json.dumps({"token": ""}))


def _read(found: Seen) -> dict[str, str]:
    try:
        return dict(json.loads(found.text))
    except (ValueError, TypeError):
        return {}
