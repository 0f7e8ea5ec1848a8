"""`Outstanding`: what was handed to an LLM endpoint in batches and has not come back yet."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Outstanding:
    """Batches that are out; false where there are none.

    Attributes:
        batches: how many.
        requests: those in them whose answers are awaited.
        rows: rows that these requests ask for.
        since: when the oldest was submitted, in UTC.
    """

    batches: int = 0
    requests: int = 0
    rows: int = 0
    since: str = ""

    def __bool__(self) -> bool:
        return self.batches > 0

    def __add__(self, other: "Outstanding") -> "Outstanding":
        return Outstanding(
            self.batches + other.batches,
            self.requests + other.requests,
            self.rows + other.rows,
            min(filter(None, (self.since, other.since)), default=""),
        )

    @property
    def line(self) -> str:
        """What is out, in words, without a full stop."""
        batches = "1 batch" if self.batches == 1 else f"{self.batches:,} batches"
        requests = "1 request" if self.requests == 1 else f"{self.requests:,} requests"
        verb = "is" if self.batches == 1 else "are"
        return f"{batches} with {requests} {verb} out since {self.since}"
