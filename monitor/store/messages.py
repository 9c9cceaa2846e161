"""Putting a message into the outbox."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from monitor.store.engine import upsert, values_of
from monitor.store.records import OutboxRow
from monitor.store.tables import outbox


def put_message(connection: Connection, row: OutboxRow) -> bool:
    """False where its id is there already: it is not put again."""
    # Not by rowcount, which psycopg does not tell of such an insert.
    statement = upsert(connection, outbox).on_conflict_do_nothing(index_elements=[outbox.c.id]).returning(outbox.c.id)
    return connection.scalar(statement, values_of(row, lease_owner=None, leased_until_ms=0)) is not None
