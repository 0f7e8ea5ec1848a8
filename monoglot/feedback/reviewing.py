"""`monoglot review`: the real queries that need a person, as a table to fill in.

Listed is what was not answered, or not confidently, most often; what files of the config know
already is left out. Spreadsheets are what people fill such tables in with, so that a text which
one would take for a formula gets an apostrophe before it.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from monoglot.config import Config
from monoglot.errors import ConfigError, StoreError
from monoglot.feedback.query_log import LoggedQuery, log_folder, read_log
from monoglot.identity import normalised
from monoglot.knowledge.queries import load_out_of_scope, load_queries
from monoglot.serving.releases import Releases
from monoglot.store import Store

SUGGESTED = 3
# What people fill in comes first; a text that only looks like a formula comes back as it was.
COLUMNS = (
    "label", "english", "text", "language", "times", "last_asked", "confidence",
    *(f"suggestion_{n}" for n in range(1, SUGGESTED + 1)), "nearest_row",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "'")


@dataclass(frozen=True)
class Question:
    """A query that users asked, in all its spellings that differ by case or punctuation alone.

    Attributes:
        text: its most frequent spelling.
        language: what services said it is; empty: they did not.
        times: how often it was asked.
        last: how it was answered the last time.
        nearest: the row of the knowledge base that came first, where it is still there.
    """

    text: str
    language: str
    times: int
    last: LoggedQuery
    nearest: str

    def cells(self) -> list[str]:
        """Its line in the table, under `COLUMNS`."""
        answers = self.last.answers[:SUGGESTED]
        labels = [answer.label for answer in answers] + [""] * (SUGGESTED - len(answers))
        confidence = f"{answers[0].confidence:.3f}" if answers else ""
        counted = [str(self.times), self.last.time, confidence]
        return ["", "", self.text, self.language, *counted, *labels, self.nearest]


@dataclass(frozen=True)
class Review:
    """What there is to look at.

    Attributes:
        questions: the most frequent first.
        asked: how many queries were logged in the time looked at.
        confident: how many of them were answered confidently.
        known: how many of the others stand in a file of the config already.
        left_out: distinct questions beyond those asked for.
        unreadable: lines of the log that cannot be read.
        lost: queries that services could not log.
    """

    questions: list[Question]
    asked: int
    confident: int
    known: int
    left_out: int
    unreadable: int
    lost: int


def to_review(config: Config, store: Store, *, top: int, days: float | None = None) -> Review:
    """Look through the query log; writes nothing.

    Args:
        config: names the files whose queries need no review.
        store: holds the log, unless the config says otherwise.
        top: how many questions at most.
        days: how far to look back; None: as far as the log goes.

    Raises:
        ConfigError: there is no log; says how to have one.
        DataError: a file of the config cannot be used.
    """
    folder = log_folder(config, store)
    noted = read_log(folder)
    if not (noted.queries or noted.unreadable or noted.lost):
        raise ConfigError(
            f"{folder}: no queries are logged here. A service logs them by "
            "`Retriever(store, log=monoglot.QueryLog(store))`; where it writes elsewhere, name "
            "the folder as `review: {log: ...}`."
        )
    since = "" if days is None else _ago(days)
    asked = [query for query in noted.queries if query.time >= since]
    unsure = [query for query in asked if not query.confident]
    known, rows = _known(config), _rows(store)
    fresh = [query for query in unsure if normalised(query.text) not in known]
    questions = _questions(fresh, rows)
    return Review(
        questions=questions[:top],
        asked=len(asked),
        confident=len(asked) - len(unsure),
        known=len(unsure) - len(fresh),
        left_out=max(0, len(questions) - top),
        unreadable=noted.unreadable,
        lost=noted.lost,
    )


def write_review(review: Review, path: Path) -> None:
    """Write the table: .csv with commas, .tsv with tabs; both as spreadsheets read UTF-8.

    Raises:
        ConfigError: the file is there already, is of another kind, or cannot be written.
    """
    kind = path.suffix.lower()
    if kind not in (".csv", ".tsv"):
        raise ConfigError(f"{path}: give a file that ends in .csv or .tsv.")
    lines: Iterable[Sequence[str]] = [COLUMNS, *(it.cells() for it in review.questions)]
    try:
        with path.open("x", encoding="utf-8-sig", newline="") as stream:
            if kind == ".csv":
                csv.writer(stream).writerows(map(_guarded, lines))
            else:
                for line in lines:  # without quoting, which our reader of .tsv does not know
                    stream.write("\t".join(" ".join(it.split()) for it in _guarded(line)) + "\n")
    except FileExistsError:
        raise ConfigError(
            f"{path}: is there already, perhaps with someone's work in it. Give another name."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}).") from error


def unguarded(text: str) -> str:
    """A cell as it was before `write_review`, whether a spreadsheet kept the apostrophe or not."""
    return text[1:] if text[:1] == "'" and text[1:].startswith(_FORMULA) else text


def _guarded(cells: Sequence[str]) -> list[str]:
    return [f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells]


def _questions(queries: Sequence[LoggedQuery], rows: dict[str, str]) -> list[Question]:
    spellings: dict[tuple[str, str], list[LoggedQuery]] = {}
    for query in queries:
        key = (normalised(query.text), (query.language or "").lower())
        spellings.setdefault(key, []).append(query)
    made = []
    for asked in spellings.values():
        text = Counter(query.text for query in asked).most_common(1)[0][0]
        last = max(asked, key=lambda query: query.time)
        nearest = rows.get(last.answers[0].row_id, "") if last.answers else ""
        made.append(Question(text, last.language or "", len(asked), last, nearest))
    return sorted(made, key=lambda it: (-it.times, it.text, it.language))


def _known(config: Config) -> set[str]:
    """The queries that a person has judged already."""
    files = [file for file in (config.training, config.evaluation) if file.path is not None]
    tables = [load_queries(file).rows for file in files]
    if config.abstention.out_of_scope.path is not None:
        tables.append(load_out_of_scope(config.abstention.out_of_scope).rows)
    return {normalised(text) for table in tables for text in table["text"]}


def _rows(store: Store) -> dict[str, str]:
    """The rows in production, id to text; none where they are gone."""
    current = Releases(store).current()
    try:
        table = pl.DataFrame() if current is None else store.table(current.knowledge_base)
    except StoreError:
        return {}
    return dict(table.select("row_id", "query").iter_rows()) if table.height else {}


def _ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")
