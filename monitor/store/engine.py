"""The database behind the store: how it is reached, what a transaction is, and what its errors mean to us.

SQLite: WAL, every writing transaction begins IMMEDIATE, so writers queue for up to ten seconds instead of failing half-way.
PostgreSQL: READ COMMITTED with time-outs, so that a frozen worker loses its row locks before Kafka hands its partitions on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, Engine, make_url

from monitor.errors import DriftlineError, TransientError, UserError

if TYPE_CHECKING:
    import psycopg  # an extra

BUSY_TIMEOUT_MS = 10_000
LOCK_TIMEOUT_MS = 5_000
STATEMENT_TIMEOUT_MS = 10_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 15_000
MIGRATION_LOCK_TIMEOUT_MS = 60_000
KEYS_A_STATEMENT = 500  # composite keys in one IN list: well below the parameter limits of both databases

# libpq: a silent network is found out after about 20 s, also while a COMMIT waits for its answer.
_LIBPQ = {
    "application_name": "driftline",
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "tcp_user_timeout": "20000",
}


class BusyError(TransientError):
    """Another transaction holds what ours needs."""


class Record(Protocol):
    """A dataclass whose fields are columns."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


R = TypeVar("R", bound=Record)
K = TypeVar("K")


class Database:
    """An engine with two kinds of transaction. Connections are pooled and given to one thread at a time; several threads may call.

    `durable=False` is for temporary SQLite stores: a power loss may then ruin the file.
    """

    def __init__(self, url: str, *, durable: bool = True, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> None:
        parsed = _parse(url)
        self.name = parsed.render_as_string(hide_password=True)
        self._engine = _engine(parsed, durable=durable, busy_timeout_ms=busy_timeout_ms)
        self._writer = self._engine.execution_options(driftline_write=True)
        self.is_sqlite = self._engine.dialect.name == "sqlite"

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits at the end of the block, unless the block raises. Raises TransientError, BusyError, UserError."""
        with self._translated(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that must not write: SQLite would let it fail where another has written since it began."""
        with self._translated(), self._engine.begin() as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exc.TimeoutError as error:
            raise TransientError(f"store {self.name}: no free connection: {error}") from error
        except exc.DBAPIError as error:
            translated = _translate(self.name, error)
            if translated is None:
                raise
            raise translated from error


@contextmanager
def driver_cursor(connection: Connection) -> Iterator[Any]:
    """The driver's own cursor inside the connection's transaction, for what goes through SQLAlchemy too slowly or not at all.
    Errors come as SQLAlchemy's, so that they are translated like all others."""
    driver = connection.connection.driver_connection
    if driver is None:
        raise TransientError("the connection to the store is lost")
    cursor = driver.cursor()
    errors = connection.dialect.loaded_dbapi.Error
    try:
        yield cursor
    except errors as error:
        raise exc.DBAPIError.instance(None, None, error, errors, dialect=connection.dialect) from error
    finally:
        cursor.close()


def upsert(connection: Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT with ON CONFLICT clauses in the connection's dialect: the one place where the two differ."""
    return dialect_insert(connection.dialect.name, table)


def dialect_insert(dialect: str, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def greatest(left: sa.ColumnElement[Any], right: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The larger of the two, the other one where one is NULL (SQLite's max() would be NULL)."""
    return sa.case((left.is_(None), right), (right.is_(None), left), (left > right, left), else_=right)


def columns_of(table: sa.Table, record: type[R]) -> list[sa.Column[Any]]:
    """The columns that fill the record, in its order."""
    return [table.c[name] for name in record.__dataclass_fields__]


def values_of(record: Record, *without: str, **more: object) -> dict[str, Any]:
    """The record as parameters for an INSERT: its fields but those in `without`, and `more`."""
    values = {name: getattr(record, name) for name in record.__dataclass_fields__ if name not in without}
    return values | more


def records(
    connection: Connection, statement: sa.Select[Any], record: type[R], parameters: Mapping[str, Any] | None = None
) -> list[R]:
    """The rows of a SELECT of `columns_of(table, record)`."""
    names = list(record.__dataclass_fields__)
    return [record(**dict(zip(names, row, strict=True))) for row in connection.execute(statement, parameters)]


def chunks(keys: Sequence[K], size: int = KEYS_A_STATEMENT) -> Iterator[Sequence[K]]:
    for first in range(0, len(keys), size):
        yield keys[first : first + size]


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        raise UserError("store: not a database URL (sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME)") from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise UserError(
            f"store: {parsed.drivername} is not supported (sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME)"
        )
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise UserError(
            "store: SQLite needs a file (sqlite:///FILE): a database in memory is lost to the other threads"
        )
    return parsed


def _engine(url: URL, *, durable: bool, busy_timeout_ms: int) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, poolclass=sa.QueuePool, connect_args={"timeout": busy_timeout_ms / 1000})
        _set_up_sqlite(engine, durable=durable)
        return engine
    libpq = {name: value for name, value in _LIBPQ.items() if name not in url.query}
    try:
        engine = sa.create_engine(url, isolation_level="READ COMMITTED", connect_args=libpq)
    except ModuleNotFoundError:
        raise UserError("store: PostgreSQL needs its driver (pip install 'driftline[postgres]')") from None
    _set_up_postgresql(engine)
    return engine


def _set_up_sqlite(engine: Engine, *, durable: bool) -> None:
    synchronous = "FULL" if durable else "OFF"

    @event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself; `begin` below does
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("driftline_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _set_up_postgresql(engine: Engine) -> None:
    # SET instead of libpq's `options`, which connection poolers refuse.
    settings = (
        f"SET lock_timeout = {LOCK_TIMEOUT_MS}; SET statement_timeout = {STATEMENT_TIMEOUT_MS};"
        f" SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_TIMEOUT_MS}"
    )

    @event.listens_for(engine, "connect")
    def connect(connection: psycopg.Connection, _: object) -> None:
        connection.execute(settings)
        connection.commit()


_SQLITE_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_SQLITE_TRANSIENT = {
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
}
_SQLITE_USER = {
    sqlite3.SQLITE_READONLY: "is read-only (give the service write permission on the file and its folder)",
    sqlite3.SQLITE_CORRUPT: "is damaged (restore it from a backup)",
    sqlite3.SQLITE_NOTADB: "is not an SQLite database (name another file)",
    sqlite3.SQLITE_PERM: "may not be opened (check its permissions)",
}

_POSTGRESQL_BUSY = {"55P03", "40P01", "40001"}  # lock time-out, deadlock, serialization
# Connection, resources, operator (also the statement time-out), system; the transaction's idle time-out; a standby after a failover.
_POSTGRESQL_TRANSIENT = ("08", "53", "57", "58", "25P03", "25006")
_POSTGRESQL_USER = ("28", "3D", "42501")  # refused log-in, unknown database, missing privilege


def _translate(name: str, error: exc.DBAPIError) -> DriftlineError | None:
    """What the driver's error means, in one line; None for a bug of ours."""
    cause = error.orig
    line = (str(cause).strip().splitlines() or ["no message"])[0]
    if isinstance(cause, sqlite3.Error):
        return _translate_sqlite(name, getattr(cause, "sqlite_errorcode", 0) & 0xFF, line)
    code: str | None = getattr(cause, "sqlstate", None)
    if code is None:
        lost = error.connection_invalidated or isinstance(error, exc.OperationalError | exc.InterfaceError)
        return TransientError(f"store {name}: out of reach: {line}") if lost else None
    if code in _POSTGRESQL_BUSY:
        return BusyError(f"store {name}: busy: {line}")
    if code.startswith(_POSTGRESQL_TRANSIENT):
        return TransientError(f"store {name}: {line}")
    if code.startswith(_POSTGRESQL_USER):
        return UserError(f"store {name}: {line}")
    return None


def _translate_sqlite(name: str, code: int, line: str) -> DriftlineError | None:
    if code in _SQLITE_BUSY:
        return BusyError(f"store {name}: busy: {line}")
    if code in _SQLITE_TRANSIENT:
        return TransientError(f"store {name}: {line}")
    if code in _SQLITE_USER:
        return UserError(f"store {name}: {_SQLITE_USER[code]}")
    return None
