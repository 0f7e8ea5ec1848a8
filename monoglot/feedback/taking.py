"""`monoglot review --take`: a table that people filled in, appended to a file of the user's.

All of it or nothing: every line is checked first, and each that cannot be used is told with its
row and column. Nothing is overwritten, and what is there already is not added again, so that a
table may be taken twice, or taken when half of it is filled in and again when all of it is.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from monoglot.errors import DataError
from monoglot.feedback.appending import COLUMNS_OF, Into, Target, appended, write_anew
from monoglot.feedback.reviewing import unguarded
from monoglot.identity import normalised, text_digest
from monoglot.knowledge.files import read_table, refuse_no_file
from monoglot.knowledge.rejects import ROW, RejectList, cleaned, trimmed, without_control

NOTHING_FITS = "-"  # written as a label: no row answers this, and none should
_PLACEHOLDER = re.compile(r"\{\{\s*[a-z][a-z0-9_]*_\d+\s*\}\}", re.IGNORECASE)
_SHOWN = 20
_WANTED = {
    "text": "the query stands there",
    "english": "write the query as the knowledge base would have it",
    "language": "write its BCP 47 code, such as hi-Latn",
}


@dataclass(frozen=True)
class Added:
    """What became of the lines that belong into one file.

    Attributes:
        into: what they are there.
        target: the file.
        added: rows that are new there.
        known: rows that were there already.
    """

    into: Into
    target: Target
    added: int
    known: int


@dataclass(frozen=True)
class Taken:
    """What became of a table.

    Attributes:
        files: by file that rows belong into.
        unlabelled: lines that nobody has labelled yet.
        new_labels: labels that the knowledge base does not have.
    """

    files: tuple[Added, ...]
    unlabelled: int
    new_labels: tuple[str, ...]


def take(
    file: Path,
    into: Into,
    targets: Callable[[Into], Target],
    kb: pl.DataFrame,
    *,
    language: str | None,
    new_labels: bool,
) -> Taken:
    """Append the labelled rows of a table to the user's files.

    Args:
        file: a table as `reviewing.write_review` writes it: text, label [, language, english,
            answer]; lines without a label are left for later, those with `-` are out of scope.
        into: what the others become. Rows of the knowledge base need `english`, their query there.
        targets: the file for each of these.
        kb: `contracts.KnowledgeBase`, for the labels that there are, and their answers.
        language: of lines that name none; None: each must.
        new_labels: whether a label may be new.

    Raises:
        DataError: a file cannot be used, or lines of the table; names the first twenty. Nothing
            was written.
    """
    refuse_no_file(file)
    problems = RejectList(str(file))
    rows, unlabelled = _labelled(file, problems)
    rows = rows.with_columns(pl.col("language").fill_null(pl.lit(language, pl.String)))
    outside = pl.col("label") == NOTHING_FITS
    parts: dict[Into, pl.DataFrame] = {
        into: rows.filter(~outside),
        "out_of_scope": rows.filter(outside),
    }
    have = set(kb["label"])
    unknown = sorted(set(parts[into]["label"]) - have)
    if not new_labels:
        _refuse_unknown(parts[into], have, problems)
    found = []
    for kind, part in parts.items():
        if not part.is_empty():
            _check_texts(part, kind, problems)
            records = [_record(row, kind, kb, problems) for row in part.iter_rows(named=True)]
            found.append((kind, targets(kind), *_new_ones(records, kind, targets(kind), problems)))
    if problems.entries:
        raise DataError(_told(problems))
    changes = [
        appended(target, kind, [record for _, record in kept])
        for kind, target, kept, _ in found
        if kept
    ]
    for path, before, text in changes:  # after all of them were made without an error
        write_anew(path, before, text)
    return Taken(
        tuple(Added(kind, target, len(kept), known) for kind, target, kept, known in found),
        unlabelled,
        tuple(unknown),
    )


def _labelled(file: Path, problems: RejectList) -> tuple[pl.DataFrame, int]:
    """The lines that have a label, and the number of those that have none yet."""
    raw, unreadable = read_table(file, None, ("text", "label"), ("language", "english", "answer"))
    problems.entries += unreadable.entries
    plain = raw.with_columns(
        pl.Series(name, [text and unguarded(text) for text in raw[name]], dtype=pl.String)
        for name in ("text", "label", "language", "english", "answer")
    )
    rows = plain.with_columns(*cleaned("text", "label", "language", "english"), *trimmed("answer"))
    labelled = rows.filter(pl.col("label").is_not_null())
    if labelled.is_empty() and not problems.entries:
        raise DataError(f"{file}: no line has a label. Fill in the column label, and take it then.")
    checked = without_control(labelled, ("text", "label", "language", "english"), problems)
    return checked, rows.height - labelled.height


def _refuse_unknown(rows: pl.DataFrame, have: set[str], problems: RejectList) -> None:
    for row, label in rows.select(ROW, "label").iter_rows():
        if label not in have:
            near = difflib.get_close_matches(label, have, 1, 0.6)
            meant = f" (did you mean {near[0]}?)" if near else ""
            reason = f"no label {label} in the knowledge base{meant}; if it is new: --new-labels"
            problems.add(row, "label", label, "unknown_label", reason)


def _check_texts(rows: pl.DataFrame, into: Into, problems: RejectList) -> None:
    needed = {"knowledge_base": "english", "out_of_scope": "text"}.get(into, "language")
    for row in rows.iter_rows(named=True):
        for column in dict.fromkeys(("text", needed)):
            if row[column] is None:
                problems.add(row[ROW], column, None, "empty", f"is empty: {_WANTED[column]}")
        for column in ("english",) if into == "knowledge_base" else ("text", "english"):
            if row[column] and (hidden := _PLACEHOLDER.search(row[column])):
                reason = f"holds {hidden[0]}, which hides something; write an invented one"
                problems.add(row[ROW], column, row[column], "placeholder", reason)


_Record = tuple[int, dict[str, str | None]]


def _record(
    row: Mapping[str, str | None], into: Into, kb: pl.DataFrame, problems: RejectList
) -> _Record:
    """A line of the table as a row of the target, under our names."""
    number = int(row[ROW] or 0)
    if into != "knowledge_base":
        required, optional = COLUMNS_OF[into]
        return number, {name: row[name] for name in (*required, *optional)}
    same = kb.filter(pl.col("label") == row["label"])
    record = {"query": row["english"], "label": row["label"], "answer": row["answer"]}
    for name in ("label_path", "label_text", "answer"):
        values = same[name].drop_nulls().unique()
        if record.get(name) is None and values.len() == 1:
            record[name] = values[0]
        elif name == "answer" and record[name] is None and values.len() > 1:
            reason = f"is empty, and label {row['label']} has {values.len()} answers: write one"
            problems.add(number, "answer", None, "empty", reason)
    record["row_id"] = text_digest(row["label"] or "", row["english"] or "")
    return number, record


def _new_ones(
    records: Iterable[_Record], into: Into, target: Target, problems: RejectList
) -> tuple[list[_Record], int]:
    """The rows that the target lacks, and the number of those it has; contradictions are told.

    A record without a text is neither: it has been told already, and is the same as no other.
    """
    seen = {key: (label, f"{target.path}, row {row}") for key, label, row in _there(target, into)}
    kept, known = [], 0
    for number, record in records:
        if not record[_text_of(into)]:
            continue
        key, label = _key(record, into), record.get("label") or ""
        there, where = seen.get(key, (None, ""))
        if there is None:
            seen[key] = (label, f"row {number} of this table")
            kept.append((number, record))
        elif there == label:
            known += 1
        else:
            reason = f"is there under label {there} ({where}); correct one of the two"
            problems.add(number, "label", label, "contradiction", reason)
    return kept, known


def _there(target: Target, into: Into) -> Iterator[tuple[tuple[str, str], str, int]]:
    if not target.path.exists():
        return
    required, optional = COLUMNS_OF[into]
    rows, _ = read_table(target.path, target.columns, required, optional)
    rows = rows.with_columns(*cleaned(*required))
    for row in rows.filter(pl.col(_text_of(into)).is_not_null()).iter_rows(named=True):
        yield _key(row, into), row.get("label") or "", row[ROW]


def _key(row: Mapping[str, str | None], into: Into) -> tuple[str, str]:
    """What a row is known by; out of scope it is the text alone.

    The file there may lack a column language, and its reader keeps each text once in any case.
    """
    language = None if into == "out_of_scope" else row.get("language")
    return normalised(row[_text_of(into)] or ""), (language or "").lower()


def _text_of(into: Into) -> str:
    return "query" if into == "knowledge_base" else "text"


def _told(problems: RejectList) -> str:
    table = problems.table()
    lines = [
        f"row {row}, column {column}: {reason}" if column else f"row {row}: {reason}"
        for row, column, reason in table.select("row", "column", "reason").head(_SHOWN).iter_rows()
    ]
    more = f"; and {table.height - _SHOWN:,} more" if table.height > _SHOWN else ""
    return f"{problems.file}: nothing was taken. {'; '.join(lines)}{more}."
