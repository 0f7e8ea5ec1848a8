"""What a tuning found, and whether it may replace the present recipe."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monoglot.ablation import AblationReport
from monoglot.config_edit import Scalars
from monoglot.learning.comparison import Line
from monoglot.learning.search import Tried
from monoglot.wording import between, number, signed

TUNED = "tuned recipe"
_SHOWN = 10


@dataclass(frozen=True, eq=False)
class TuningReport:
    """The search, and the comparison that decides.

    Attributes:
        ablation: the present recipe and the best candidate under all seeds.
        tried: every candidate in every rung.
        changes: what the best candidate changes in the present recipe.
        max_english_loss: what the gate lets a candidate lose of the English control.
    """

    ablation: AblationReport
    tried: tuple[Tried, ...]
    changes: Scalars
    max_english_loss: float

    @property
    def adopted(self) -> bool:
        """Whether the best candidate is better on questions that it was not chosen by.

        On the validation questions the best of dozens is better than it is, by being chosen. A
        recipe that loses more English than the gate allows would have all its models rejected.
        """
        return self._is_better and self._keeps_english

    @property
    def _is_better(self) -> bool:
        own = self._own
        return own is not None and own.gain is not None and own.gain.low > 0 and own.is_real

    @property
    def _keeps_english(self) -> bool:
        lost = self._english_loss
        return lost is None or lost <= self.max_english_loss

    @property
    def reason(self) -> str:
        """Why it is adopted, or not."""
        own = self._own
        if own is None or own.gain is None:
            return (
                "Nothing is adopted: under all seeds no candidate is above the present recipe on "
                "the validation questions."
            )
        gain = f"{signed(own.gain.mean)} ({between(own.gain.low, own.gain.high)})"
        if self.adopted:
            return f"The tuned recipe is better on the held-back questions: {gain}."
        if self._is_better:
            return (
                f"Nothing is adopted: on the held-back questions the tuned recipe gains {gain}, "
                f"but loses {number(self._english_loss or 0.0)} of their English wordings, and the "
                f"gate allows {number(self.max_english_loss)} (gate.max_english_loss)."
            )
        return (
            f"Nothing is adopted: on the held-back questions the tuned recipe gains {gain}, which "
            "is not surely above 0 under every seed."
        )

    @property
    def evidence(self) -> str:
        """The comment that goes into the config."""
        own = self._own
        assert own is not None
        assert own.gain is not None
        metric = self.ablation.metric
        return (
            f"{metric} {number(own.values[metric] - own.gain.mean)} -> "
            f"{number(own.values[metric])} ({signed(own.gain.mean)}, 95 % "
            f"{between(own.gain.low, own.gain.high)}) on held-back questions, "
            f"{len(own.seeds)} seeds; {self.ablation.facts['written']}; "
            f"workshop/{self.ablation.path}"
        )

    @property
    def best_tried(self) -> list[Tried]:
        """The last rungs' best first."""
        known = [it for it in self.tried if it.score is not None]
        return sorted(known, key=lambda it: (-it.rung, -(it.score or 0.0)))[:_SHOWN]

    @property
    def _own(self) -> Line | None:
        return self._line(TUNED)

    @property
    def _english_loss(self) -> float | None:
        """In MRR of the English wordings; None where there are none."""
        own, present = self._own, self._line(self.ablation.reference)
        if own is None or present is None or own.english is None or present.english is None:
            return None
        return present.english - own.english

    def _line(self, cell: str) -> Line | None:
        return next((line for line in self.ablation.held_back if line.cell == cell), None)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        changes: Mapping[str, Any] = self.changes
        return {
            "adopted": self.adopted,
            "reason": self.reason,
            "changes": changes,
            "tried": [vars(it) for it in self.tried],
            "comparison": self.ablation.as_json(),
        }
