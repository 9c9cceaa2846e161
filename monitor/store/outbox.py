"""Sending what the closers put out: leases in order, at least once. What became of a retraining request's message is told in its row."""

from __future__ import annotations

import sqlalchemy as sa

from alerts.retraining import RetrainingStatus
from monitor.store.engine import Database, columns_of, records
from monitor.store.records import OutboxRow
from monitor.store.retraining import move
from monitor.store.tables import outbox

_t = outbox.c
_IS_PENDING = _t.status == "pending"


def lease_outbox(db: Database, now_ms: int, owner: str, lease_ms: int, limit: int) -> list[OutboxRow]:
    with db.write() as connection:
        heads = sa.select(sa.func.min(_t.seq)).where(_IS_PENDING).group_by(_t.receiver, _t.ordering_key)
        # On PostgreSQL a row that another sender had in the meantime is looked at again: it must itself meet the conditions.
        ready = _IS_PENDING & (_t.next_attempt_at_ms <= now_ms) & (_t.leased_until_ms <= now_ms) & _t.seq.in_(heads)
        statement = sa.select(_t.seq).where(ready).order_by(_t.next_attempt_at_ms, _t.seq).limit(limit)
        leased = list(connection.scalars(statement.with_for_update(skip_locked=True)))
        if not leased:
            return []
        these = _t.seq.in_(leased)
        connection.execute(sa.update(outbox).where(these).values(lease_owner=owner, leased_until_ms=now_ms + lease_ms))
        return records(connection, sa.select(*columns_of(outbox, OutboxRow)).where(these).order_by(_t.seq), OutboxRow)


def finish_outbox(
    db: Database,
    message_id: str,
    owner: str,
    *,
    sent: bool,
    error: str | None,
    next_attempt_at_ms: int | None,
    now_ms: int,
) -> str | None:
    with db.write() as connection:
        mine = (_t.id == message_id) & (_t.lease_owner == owner) & _IS_PENDING
        wanted = sa.select(_t.seq, _t.kind, _t.expires_at_ms).where(mine)
        row = connection.execute(wanted.with_for_update()).one_or_none()
        if row is None:
            return None
        values = {
            "status": "sent",
            "last_error": error,
            "attempts": _t.attempts + 1,
            "lease_owner": None,
            "leased_until_ms": 0,
        }
        if not sent:
            values |= _unsent(row.expires_at_ms, next_attempt_at_ms, now_ms)
        connection.execute(sa.update(outbox).where(_t.seq == row.seq).values(values))
        if row.kind == "retraining" and error is not None:
            over = RetrainingStatus.FAILED if values["status"] != "pending" else RetrainingStatus.REQUESTED
            move(connection, message_id, over, error, now_ms, only_from=RetrainingStatus.REQUESTED)
        return str(values["status"])


def _unsent(expires_at_ms: int, next_attempt_at_ms: int | None, now_ms: int) -> dict[str, str | int]:
    if next_attempt_at_ms is not None and next_attempt_at_ms < expires_at_ms:
        return {"status": "pending", "next_attempt_at_ms": next_attempt_at_ms}
    return {"status": "expired" if next_attempt_at_ms is not None or expires_at_ms <= now_ms else "failed"}


def outbox_pending(db: Database, receiver: str | None = None) -> int:
    statement = sa.select(sa.func.count()).select_from(outbox).where(_IS_PENDING)
    if receiver is not None:
        statement = statement.where(_t.receiver == receiver)
    with db.read() as connection:
        return connection.execute(statement).scalar_one()
