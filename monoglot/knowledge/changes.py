"""What changed between two versions of a knowledge base, and the work it asks for."""

from dataclasses import dataclass
from typing import Literal

import polars as pl

from monoglot.config import PolicyConfig
from monoglot.contracts import KnowledgeBase, empty

_ABOUT = ("label_path", "label_text", "answer")


@dataclass(frozen=True)
class Changes:
    """Rows that differ between two versions, by kind; a row is in one kind only.

    Every table has row_id, query and label, and those of the old version as query_before and
    label_before (null for added rows; for removed rows the only ones known).

    Attributes:
        added: in the new version alone.
        removed: in the old version alone.
        relabelled: another label.
        edited: the same label, another query.
        answered: only the answer or the description of the label differs.
        new_labels, lost_labels: labels of one version alone, sorted.
        before: rows of the old version.
    """

    added: pl.DataFrame
    removed: pl.DataFrame
    relabelled: pl.DataFrame
    edited: pl.DataFrame
    answered: pl.DataFrame
    new_labels: tuple[str, ...]
    lost_labels: tuple[str, ...]
    before: int

    @property
    def count(self) -> int:
        """Rows that differ in any way."""
        return self.learnt + self.answered.height

    @property
    def learnt(self) -> int:
        """Rows that differ in what a model is trained on."""
        parts = (self.added, self.removed, self.relabelled, self.edited)
        return sum(part.height for part in parts)

    @property
    def counts(self) -> dict[str, int]:
        """Kind of change -> rows of it, or labels; nothing of what the rows say."""
        kinds = ("added", "removed", "edited", "relabelled", "answered")
        rows = {kind: getattr(self, kind).height for kind in kinds}
        return rows | {"new_labels": len(self.new_labels), "lost_labels": len(self.lost_labels)}

    @property
    def line(self) -> str:
        """The counts that are not 0, in a line: `added: 1, edited: 2, new labels: 1`."""
        said = [f"{kind}: {count:,}" for kind, count in self.counts.items() if count]
        return ", ".join(said).replace("_", " ") or "no row differs"

    @property
    def share(self) -> float:
        """Rows that differ in what a model is trained on, as a share of the old version's."""
        return self.learnt / max(1, self.before)


@dataclass(frozen=True)
class Work:
    """What to do, and why."""

    kind: Literal["nothing", "refresh", "retrain"]
    reasons: tuple[str, ...]


def compare(old: pl.DataFrame | None, new: pl.DataFrame) -> Changes:
    """Compare two versions (`contracts.KnowledgeBase`) by row id; None for no old version."""
    old = empty(KnowledgeBase) if old is None else old
    before = old.rename({name: f"{name}_before" for name in old.columns if name != "row_id"})
    both = new.join(before, on="row_id", how="full", coalesce=True).sort("row_id")
    added = pl.col("label_before").is_null()
    removed = pl.col("label").is_null()
    stays = ~(added | removed)
    relabelled = stays & (pl.col("label") != pl.col("label_before"))
    edited = stays & ~relabelled & (pl.col("query") != pl.col("query_before"))
    other = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_before")) for name in _ABOUT)
    shown = ("row_id", "query", "label", "query_before", "label_before")
    labels, labels_before = set(new["label"]), set(old["label"])
    return Changes(
        added=both.filter(added).select(shown),
        removed=both.filter(removed).select(shown),
        relabelled=both.filter(relabelled).select(shown),
        edited=both.filter(edited).select(shown),
        answered=both.filter(stays & ~relabelled & ~edited & other).select(shown),
        new_labels=tuple(sorted(labels - labels_before)),
        lost_labels=tuple(sorted(labels_before - labels)),
        before=old.height,
    )


def decide(changes: Changes, policy: PolicyConfig, *, first: bool, config_changed: bool) -> Work:
    """What the changes ask for under the policy.

    Args:
        changes: since the release in production.
        policy: when to retrain.
        first: there is no release in production.
        config_changed: anything but the knowledge base differs from what made the release.
    """
    if first:
        return Work("retrain", ("there is no release yet",))
    reasons = []
    if config_changed:
        reasons.append("the config, another file it names, or the code differs from the release's")
    if changes.new_labels and policy.retrain_on_new_label:
        shown = ", ".join(changes.new_labels[:5]) + (", ..." if len(changes.new_labels) > 5 else "")
        plural = "" if len(changes.new_labels) == 1 else "s"
        reasons.append(f"{len(changes.new_labels)} new label{plural}: {shown}")
    if changes.share > policy.retrain_share:
        reasons.append(
            f"{changes.learnt} of {changes.before} rows changed ({changes.share:.1%}), more than "
            f"policy.retrain_share ({policy.retrain_share:.1%})"
        )
    if reasons:
        return Work("retrain", tuple(reasons))
    if changes.count:
        return Work(
            "refresh",
            (
                f"{changes.count} of {changes.before} rows changed, within "
                f"policy.retrain_share ({policy.retrain_share:.1%}): the model is kept",
            ),
        )
    return Work("nothing", ("the knowledge base and the config are those of the release",))
