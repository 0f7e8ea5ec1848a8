"""`monoglot quality`: what the gates kept and dropped, and how right they are where that is known.

Two questions. What did the gates do in the last run: read from its artifacts, nothing is computed
again. And how good are they on a file whose rows somebody looked at: `measure_gates`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from monoglot.config import Config, LanguageConfig
from monoglot.contracts import Queries, empty
from monoglot.errors import DataError
from monoglot.generation.quality import keep_good
from monoglot.knowledge.files import read_table, refuse_no_file
from monoglot.knowledge.rejects import cleaned
from monoglot.runs import StageRecord
from monoglot.store import Artifact

_YES = {"1", "true", "yes", "y", "ok", "good"}
_NO = {"0", "false", "no", "n", "bad"}


@dataclass(frozen=True)
class Example:
    """A dropped text, and why."""

    text: str
    reason: str


@dataclass(frozen=True)
class GateYield:
    """What one gate dropped.

    Attributes:
        rule: the gate.
        dropped: rows it dropped.
        examples: the first of them.
        bad: rows among them that are marked bad; None: nobody looked at them.
        good: rows among them that are marked good.
    """

    rule: str
    dropped: int
    examples: tuple[Example, ...]
    bad: int | None = None
    good: int | None = None

    @property
    def precision(self) -> float | None:
        """Share of the marked rows it dropped that are bad; None where none is marked."""
        marked = (self.bad or 0) + (self.good or 0)
        return None if self.bad is None or not marked else self.bad / marked


@dataclass(frozen=True)
class Yield:
    """What the gates of one stage made of the queries of one language.

    Attributes:
        language: BCP 47 code.
        origin: translated, synthetic, none (nothing came in), or file.
        stage: which gates.
        checked: rows that came in.
        kept: rows that passed.
        gates: what each gate dropped, the most first.
        bad: rows that are marked bad; None: nobody looked at them.
        good: rows that are marked good.
        bad_kept: rows marked bad that passed.
    """

    language: str
    origin: str
    stage: str
    checked: int
    kept: int
    gates: tuple[GateYield, ...] = field(default=())
    bad: int | None = None
    good: int | None = None
    bad_kept: int | None = None

    @property
    def dropped(self) -> int:
        """Rows that some gate dropped."""
        return self.checked - self.kept


def yields_of(
    stages: Iterable[StageRecord],
    rejects_of: Callable[[Artifact], pl.DataFrame],
    examples: int = 3,
) -> tuple[Yield, ...]:
    """What the gates did in a run.

    Args:
        stages: the run's; those that checked queries are told by their facts.
        rejects_of: reads a stage's rejects; called only where there are any.
        examples: how many dropped texts to show per gate.
    """
    found = []
    for stage in stages:
        facts = stage.artifact.facts
        if "checked" in facts:
            rejects = rejects_of(stage.artifact) if facts.get("rejected") else None
            found.append(
                Yield(
                    language=facts["language"],
                    origin=facts["origin"] or "none",
                    stage=stage.key.stage,
                    checked=facts["checked"],
                    kept=stage.rows,
                    gates=() if rejects is None else _gates(rejects, examples),
                )
            )
    return tuple(found)


def measure_gates(config: Config, path: Path, examples: int = 3) -> tuple[Yield, ...]:
    """What the gates of form make of a file's rows, and how right they are.

    Args:
        config: thresholds, languages and glossary.
        path: a file with columns text, language and optionally english (the source) and ok (1 or
            0, yes or no, good or bad), as somebody judged the row.
        examples: how many dropped texts to show per gate.

    Raises:
        DataError: the file cannot be used, or a mark is none.
    """
    refuse_no_file(path)
    raw, rejects = read_table(path, None, ("text", "language"), ("english", "ok"))
    if rejects.entries:
        raise DataError(f"{path}: {rejects.first()} Mend the file.")
    rows = raw.with_columns(*cleaned("text", "language", "english", "ok"))
    rows = rows.filter(pl.col("language").is_not_null())
    rows = rows.with_columns(pl.col("text").fill_null(""), _marks(rows, path))
    known = {language.code: language for language in config.languages}
    return tuple(
        _measured(part, known.get(code) or LanguageConfig(code=code, name=code), config, examples)
        for (code,), part in rows.group_by("language", maintain_order=True)
    )


def _measured(rows: pl.DataFrame, language: LanguageConfig, config: Config, examples: int) -> Yield:
    asked = rows.select(
        query_id=pl.int_range(pl.len()).cast(pl.String),
        text="text",
        language="language",
        label=pl.lit(""),
        origin=pl.lit("translated"),
        source_row_id=pl.lit(None, pl.String),
        english="english",
    ).cast(empty(Queries).schema)
    kept, rejects = keep_good(
        asked,
        language,
        config.quality,
        config.generation.glossary,
        config.knowledge_base.language,
    )
    passed = set(kept["query_id"])
    marks = rows["ok"].to_list()
    dropped = [mark for place, mark in enumerate(marks) if str(place) not in passed]
    is_marked = rows["ok"].null_count() < rows.height
    return Yield(
        language=language.code,
        origin="file",
        stage="quality",
        checked=rows.height,
        kept=kept.height,
        gates=_gates(rejects, examples, dropped if is_marked else None),
        bad=marks.count(False) if is_marked else None,
        good=marks.count(True) if is_marked else None,
        bad_kept=marks.count(False) - dropped.count(False) if is_marked else None,
    )


def _gates(
    rejects: pl.DataFrame, examples: int, marks: Sequence[bool | None] | None = None
) -> tuple[GateYield, ...]:
    """Rejects by rule, the most first; `marks` tells of each whether it is a good row."""
    marked = rejects.with_columns(
        pl.Series("_ok", marks or [None] * rejects.height, dtype=pl.Boolean)
    )
    gates = [
        GateYield(
            rule=str(rule),
            dropped=part.height,
            examples=tuple(
                Example(text or "", reason)
                for text, reason in part.select("value", "reason").head(examples).iter_rows()
            ),
            bad=None if marks is None else part["_ok"].to_list().count(False),
            good=None if marks is None else part["_ok"].to_list().count(True),
        )
        for (rule,), part in marked.group_by("rule", maintain_order=True)
    ]
    return tuple(sorted(gates, key=lambda gate: -gate.dropped))


def _marks(rows: pl.DataFrame, path: Path) -> pl.Series:
    """Column `ok` as truth values; null where a row has no mark."""
    marks: list[bool | None] = []
    for line, mark in rows.select("_row", "ok").iter_rows():
        told = (mark or "").lower()
        if told and told not in _YES | _NO:
            raise DataError(
                f"{path}, row {line}, column ok: {mark!r} is no mark. Write yes or no, or leave "
                "it empty."
            )
        marks.append(told in _YES if told else None)
    return pl.Series("ok", marks, dtype=pl.Boolean)
