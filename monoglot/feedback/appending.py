"""Files of the user's that rows are appended to: CSV, TSV and JSON lines, as they are laid out.

The columns keep their order and names, the lines their ends; a file is written anew and put in
place whole, so that nobody sees half of it, and whoever saved it meanwhile loses nothing.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from monoglot.config import Config, KnowledgeBaseConfig, QueriesFile
from monoglot.errors import DataError
from monoglot.files import write_atomically
from monoglot.knowledge.formats import separator_of
from monoglot.learning_config import OutOfScopeFile

Into = Literal["training", "evaluation", "knowledge_base", "out_of_scope"]
Row = Mapping[str, str | None]
# Our names of each file's columns: those that must be there, and those that may.
COLUMNS_OF: dict[Into, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "training": (("text", "language", "label"), ("english",)),
    "evaluation": (("text", "language", "label"), ("english",)),
    "knowledge_base": (("query", "label"), ("row_id", "label_path", "label_text", "answer")),
    "out_of_scope": (("text",), ("language",)),
}


@dataclass(frozen=True)
class Target:
    """Where rows go.

    Attributes:
        path: the file.
        columns: our column names to the file's, where they differ.
        is_named: whether the config names it; else it is a new file, to be named or copied.
    """

    path: Path
    columns: Mapping[str, str]
    is_named: bool

    @classmethod
    def of(cls, config: Config, into: Into, config_file: Path) -> "Target":
        """The config's file; where it names none that can be appended to, one beside the config."""
        sections: dict[Into, KnowledgeBaseConfig | QueriesFile | OutOfScopeFile] = {
            "training": config.training,
            "evaluation": config.evaluation,
            "knowledge_base": config.knowledge_base,
            "out_of_scope": config.abstention.out_of_scope,
        }
        section = sections[into]
        if section.path is not None and section.path.suffix.lower() != ".parquet":
            return cls(section.path, section.columns, is_named=True)
        return cls(config_file.resolve().with_name(f"reviewed-{into}.csv"), {}, is_named=False)


def appended(target: Target, into: Into, records: Sequence[Row]) -> tuple[Path, bytes, str]:
    """A file, what is in it, and the same with the rows at its end."""
    path = target.path.resolve()  # what a link names stays where it is
    before = path.read_bytes() if path.exists() else b""
    required, optional = COLUMNS_OF[into]
    ours = {target.columns.get(name, name): name for name in (*required, *optional)}
    text = before.decode("utf-8")  # as the reader has found it to be
    make = {".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl}[path.suffix.lower()]
    gap = "" if not text or text.endswith("\n") else "\n"
    return path, before, text + gap + make(text, ours, records)


def write_anew(path: Path, before: bytes, text: str) -> None:
    """Replace a file that is as it was when it was read, its rights kept.

    Raises:
        DataError: it has changed, or cannot be written; it is as it was.
    """
    try:
        if before:
            if path.read_bytes() != before:
                raise DataError(f"{path}: changed while it was read; nothing was taken. Try again.")
            mode = path.stat().st_mode
            write_atomically(path, text)
            path.chmod(mode)
        else:
            write_atomically(path, text)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror}). Check its rights."
        ) from error


def _csv(text: str, ours: Mapping[str, str], records: Sequence[Row]) -> str:
    plain = text.removeprefix("\ufeff")
    delimiter = separator_of(next((line for line in plain.splitlines() if line.strip()), ""))
    header = _header(csv.reader(io.StringIO(plain, newline=""), delimiter=delimiter), ours)
    made = io.StringIO(newline="")
    ending = "\r\n" if "\r\n" in text else "\n"
    writer = csv.writer(made, delimiter=delimiter, lineterminator=ending)
    if not text:
        writer.writerow(header)
    writer.writerows(
        [record.get(ours.get(name, "")) or "" for name in header] for record in records
    )
    return made.getvalue()


def _tsv(text: str, ours: Mapping[str, str], records: Sequence[Row]) -> str:
    first = text.removeprefix("\ufeff").splitlines()[:1]
    header = _header((line.split("\t") for line in first), ours)
    lines = [] if text else [header]
    lines += [[record.get(ours.get(name, "")) or "" for name in header] for record in records]
    for cell in (cell for line in lines for cell in line):
        if "\t" in cell or "\n" in cell:
            raise DataError(
                f"{cell[:80]!r} holds a tab or a line break, which a .tsv file cannot; nothing was "
                "taken. Write it in one line."
            )
    return "".join("\t".join(line) + "\n" for line in lines)


def _jsonl(_text: str, ours: Mapping[str, str], records: Sequence[Row]) -> str:
    lines = [
        {theirs: record[our] for theirs, our in ours.items() if record.get(our) is not None}
        for record in records
    ]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _header(lines: Iterator[list[str]], ours: Mapping[str, str]) -> list[str]:
    """The names of a file's columns; of a new file, ours."""
    named = next((line for line in lines if any(name.strip() for name in line)), None)
    return list(ours) if named is None else [name.strip() for name in named]
