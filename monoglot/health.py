"""`Health`: when a run or a check of a store ended well last, and what people were told of it.

    health/
      good.json      when a run or check ended well
      failed.json    inputs of the training that failed last
      told.json      the last notices, by digest

One file per concern, each replaced whole: runs that end at the same moment lose nothing of each
other's. Nothing here says what a row or an error says: only digests and times.
"""

import json
from datetime import UTC, datetime, timedelta

from monoglot.runs import Runs
from monoglot.store import Store

_AGAIN = timedelta(hours=24)


class Health:
    """The health of one store. Unreadable files count as empty: the next check writes them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def last_good(self) -> datetime | None:
        """When a run or a check ended well last; None: never."""
        noted = self._read("good").get("when")
        run = Runs(self._store).last()
        times = [datetime.fromisoformat(it) for it in (noted, run and run.finished) if it]
        return max(times, default=None)

    def note_good(self, now: datetime | None = None) -> None:
        """A run or a check has ended well, whatever it found to do."""
        self._write("good", {"when": _now(now).isoformat(timespec="seconds")})

    def has_failed(self, inputs: str, now: datetime | None = None) -> bool:
        """Whether training on these inputs failed within a day, so that a check tries no more.

        It may cost money each time; the scheduled retrain and a person try again.
        """
        failed = self._read("failed")
        return failed.get("inputs") == inputs and _is_recent(failed.get("when"), _now(now))

    def note_failed(self, inputs: str, now: datetime | None = None) -> None:
        """Training on these inputs has failed."""
        when = _now(now).isoformat(timespec="seconds")
        self._write("failed", {"inputs": inputs, "when": when})

    def was_told(self, news: str, now: datetime | None = None) -> bool:
        """Whether this news (a digest) was told within a day."""
        return _is_recent(self._read("told").get(news), _now(now))

    def note_told(self, news: str, now: datetime | None = None) -> None:
        """This news was told."""
        now = _now(now)
        told = {it: when for it, when in self._read("told").items() if _is_recent(when, now)}
        self._write("told", told | {news: now.isoformat(timespec="seconds")})

    def _read(self, name: str) -> dict[str, str]:
        try:
            return dict(json.loads(self._store.files.read(f"health/{name}.json") or "{}"))
        except (OSError, ValueError, TypeError):
            return {}

    def _write(self, name: str, value: dict[str, str]) -> None:
        with self._store.explained():
            self._store.files.write(f"health/{name}.json", json.dumps(value))


def hours_since(when: datetime, now: datetime | None = None) -> float:
    """Hours from a time until now."""
    return (_now(now) - when) / timedelta(hours=1)


def _now(given: datetime | None) -> datetime:
    return given or datetime.now(UTC)


def _is_recent(when: str | None, now: datetime) -> bool:
    """Within a day; a time in the future, from a clock that was wrong, is not."""
    return when is not None and timedelta() <= now - datetime.fromisoformat(when) < _AGAIN
