"""The rows of a SQL query, as a file of JSON lines: one row a line, in the query's order.

Run read-only, row by row, on whatever SQLAlchemy has a dialect for. JSON lines because their bytes
are the same in every version of every library, so that the same rows are the same file.
"""

import datetime
import json
import math
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pydantic import SecretStr

from monoglot.addresses import Limits, told
from monoglot.errors import ConfigError, DataError, SourceError
from monoglot.knowledge.formats import float_as_text

if TYPE_CHECKING:
    from sqlalchemy import CursorResult, Engine

# So that a query that writes is refused by the database itself.
_READ_ONLY = {
    "sqlite": "PRAGMA query_only = ON",
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
}
_WAITS = frozenset(("psycopg", "psycopg2", "pymysql", "mysqldb", "mysqlconnector"))
_ROWS_AT_ONCE = 5_000
_PLAIN = (int, float, Decimal, uuid.UUID, datetime.date, datetime.time)


def run_query(
    query: str,
    address: SecretStr,
    columns: Iterable[str],
    target: Path,
    limits: Limits,
    *,
    shown: str,
) -> None:
    """Run a query and write its rows.

    Args:
        query: as the user wrote it; sent as it is.
        address: SQLAlchemy URL of the database.
        columns: the query's columns that are wanted; the others are left out.
        target: the file to write.
        limits: of waiting for a connection, and of the file's size.
        shown: what errors call the query; names the environment variable of the address.

    Raises:
        ConfigError: SQLAlchemy, the driver or the database's file is missing, or the URL is wrong.
        DataError: the database refuses the query, or a value is no text.
        SourceError: the database cannot be reached, or broke off.
    """
    url = address.get_secret_value()
    engine = _engine(url, shown, limits)
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    try:
        connection = engine.connect()
    except Exception as error:  # each driver has its own kinds; some are no SQLAlchemyError
        reason = told(getattr(error, "orig", None) or error, url)
        raise SourceError(
            f"{shown}: the database cannot be reached ({reason}). Check that it runs, and the "
            "host, user and password in the variable."
        ) from None
    try:
        with connection:
            if (first := _READ_ONLY.get(engine.dialect.name)) is not None:
                connection.exec_driver_sql(first)
                connection.commit()
            # Without parameters, in whose presence drivers take % and : for placeholders.
            options = {"stream_results": True, "no_parameters": True, "yield_per": _ROWS_AT_ONCE}
            result = connection.exec_driver_sql(query, execution_options=options)
            with target.open("w", encoding="ascii") as stream:
                _write(result, list(columns), stream, limits.bytes, shown)
    except DBAPIError as error:
        reason = told(error.orig or error, url)
        if error.connection_invalidated:
            raise SourceError(f"{shown}: the connection broke off ({reason}). Run again.") from None
        raise DataError(
            f"{shown}: the database refuses it: {reason}. Correct the query; it is run read-only."
        ) from None
    except SQLAlchemyError as error:
        raise DataError(f"{shown}: {told(error, url)}. Correct the query.") from None
    finally:
        engine.dispose()


def _engine(url: str, shown: str, limits: Limits) -> "Engine":
    try:
        import sqlalchemy
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    except ModuleNotFoundError:
        raise ConfigError(
            f"{shown}: SQLAlchemy is not installed: `pip install 'monoglot[sql]'`."
        ) from None
    try:
        parsed = sqlalchemy.make_url(url)
        _refuse_missing_file(parsed, shown)
        waits = parsed.get_driver_name() in _WAITS and "connect_timeout" not in parsed.query
        engine = sqlalchemy.create_engine(
            parsed,
            poolclass=sqlalchemy.NullPool,
            connect_args={"connect_timeout": math.ceil(limits.seconds)} if waits else {},
        )
    except NoSuchModuleError as error:
        raise ConfigError(
            f"{shown}: SQLAlchemy knows no such database: {told(error, url)}"
        ) from None
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{shown}: the database's driver {error.name} is not installed. `pip install "
            "'monoglot[sql]'` brings that of postgresql+psycopg://; install others by their name."
        ) from None
    except (ArgumentError, ValueError):  # whose text may quote the URL
        raise ConfigError(
            f"{shown}: the variable holds no SQLAlchemy URL, such as "
            "postgresql+psycopg://user:password@host/database. Correct it; a password with "
            "special characters must be percent-encoded."
        ) from None
    if engine.dialect.is_async:
        raise ConfigError(
            f"{shown}: {engine.dialect.name}+{engine.dialect.driver} is an asynchronous driver. "
            "Name another, such as postgresql+psycopg://."
        )
    return engine


def _refuse_missing_file(url: Any, shown: str) -> None:
    """SQLite would make an empty database where there is none."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return
    if not url.database.startswith("file:") and not Path(url.database).is_file():
        raise ConfigError(f"{shown}: {url.database}: no such database file. Correct the variable.")


def _write(
    result: "CursorResult[Any]", wanted: Sequence[str], stream: TextIO, most: int, shown: str
) -> None:
    if not result.returns_rows:
        raise DataError(f"{shown}: gives no rows. Write a SELECT.")
    names = list(result.keys())
    twice = sorted(name for name, n in Counter(names).items() if n > 1 and name in wanted)
    if twice:
        raise DataError(f"{shown}: column {', '.join(twice)} is there twice. Rename one by AS.")
    places = {name: names.index(name) for name in wanted if name in names}
    size = 0
    for number, row in enumerate(result, 1):
        record = {name: _as_text(row[at], shown, number, name) for name, at in places.items()}
        if number == 1:  # whoever looks for a column that is missing sees those that are there
            record = dict.fromkeys(names) | record
        line = json.dumps(record) + "\n"
        size += len(line)
        if size > most:
            raise DataError(
                f"{shown}: has more than {most / 1e6:,.0f} MB by row {number:,}. Select fewer rows "
                "or columns, or raise MONOGLOT_SOURCE_MAX_MB."
            )
        stream.write(line)


def _as_text(value: Any, shown: str, number: int, column: str) -> str | None:
    """A value as the same column of a CSV file would have it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return float_as_text(value)
    if isinstance(value, _PLAIN):
        return str(value)
    raise DataError(
        f"{shown}: row {number:,}, column {column}: is no text but {type(value).__name__}. "
        f"Have the query make it text, such as CAST({column} AS TEXT)."
    )
