"""Which schema a database has, and how it gets the one this program needs."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.errors import TransientError, UserError
from monitor.store.engine import MIGRATION_LOCK_TIMEOUT_MS, BusyError, Database
from monitor.store.migrations import HEAD, REVISIONS

_ADVISORY_LOCK = 0x64726966746C696E  # "driftlin": one migration at a time in a PostgreSQL database


def prepare(db: Database, *, create: bool) -> None:
    """Make sure the database can be written and has this program's schema. Raises UserError in one line, BusyError when others hold it.

    An empty one gets the schema if `create`; an older one is migrated where that disturbs nobody (SQLite).
    """
    try:
        with db.write() as connection:
            version = _version(connection)
            if version is not None:
                _try_to_write(db, connection)
        if version is None and not create:
            raise UserError(f"store {db.name}: is empty (start `driftline run` once, or check the path)")
        if version is None or (version in REVISIONS[:-1] and db.is_sqlite):
            upgrade(db)
        elif version in REVISIONS[:-1]:
            raise UserError(
                f"store {db.name}: has the older schema {version} (stop the workers, then `driftline db upgrade`)"
            )
        elif version != HEAD:
            raise UserError(_too_new(db, version))
    except BusyError:
        raise
    except TransientError as error:
        raise UserError(str(error)) from error


def upgrade(db: Database) -> None:
    """Bring the schema to the newest revision; nothing to do is fine. Waits for another migration under way."""
    from alembic import command  # costs 0.2 s to import, and most starts migrate nothing
    from alembic.config import Config

    with db.write() as connection:
        if not db.is_sqlite:
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {MIGRATION_LOCK_TIMEOUT_MS}")
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        version = _version(connection)
        if version is not None and version not in REVISIONS:
            raise UserError(_too_new(db, version))
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        command.upgrade(config, "head")


def _try_to_write(db: Database, connection: Connection) -> None:
    if db.is_sqlite:  # which begins on a read-only file without a word, also IMMEDIATE
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")
    elif connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "on":
        raise UserError(f"store {db.name}: is read-only (a standby? name the primary server)")


def _version(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return version


def _too_new(db: Database, version: str) -> str:
    return f"store {db.name}: has the schema {version}, which is newer than this program knows (install the newer driftline)"
