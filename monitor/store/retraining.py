"""Retraining requests: one row each, a step for every status it had, and the kill switch. What may follow what is in `alerts.retraining`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from alerts.retraining import LEGAL, RetrainingStatus, advance
from monitor.store.acts import add_act
from monitor.store.engine import Database, columns_of, records, upsert, values_of
from monitor.store.messages import put_message
from monitor.store.records import ActRow, OutboxRow, PauseRow, RetrainingRow, RetrainingStep
from monitor.store.tables import (
    RETRAINING,
    outbox,
    performance_state,
    retraining,
    retraining_pause,
    retraining_step,
)
from monitor.store.turns import take

log = structlog.get_logger()

_t = retraining.c
_ROWS = sa.select(*columns_of(retraining, RetrainingRow)).order_by(_t.recorded_at_ms, _t.id)


class RetrainingClosing:
    """The side of a closing transaction that is about retraining."""

    model: str
    _connection: Connection

    def lock_retraining(self) -> None:
        """Until the transaction ends no other closer decides about requests: what is counted afterwards holds. Raises BusyError."""
        take(self._connection, RETRAINING, wait=True)

    def put_retraining(self, row: RetrainingRow) -> bool:
        """With its first step. False where the id is there already: that row stays as it is."""
        statement = upsert(self._connection, retraining).on_conflict_do_nothing(index_elements=[_t.id])
        # Not by rowcount, which psycopg does not tell of such an insert.
        if self._connection.scalar(statement.returning(_t.id), values_of(row)) is None:
            return False
        _add_step(self._connection, row.id, row.status, row.reason, row.recorded_at_ms)
        return True

    def retraining_rows(self, model: str) -> list[RetrainingRow]:
        return records(self._connection, _ROWS.where(_t.model == model), RetrainingRow)

    def fleet_retraining(self, since_ms: int) -> list[RetrainingRow]:
        """The requests of all models whose `at_ms` is `since_ms` or later."""
        return records(self._connection, _ROWS.where(_t.at_ms >= since_ms), RetrainingRow)

    def retraining_pauses(self) -> dict[str, PauseRow]:
        """By model; "" is all of them."""
        return _pauses(self._connection)

    def new_labels(self, since_ms: int) -> int:
        """Labels of the model in arrival panes that start at `since_ms` or later."""
        s = performance_state.c
        own = (s.model == self.model) & (s.kind == "arrival") & (s.segment == "") & (s.start_ms >= since_ms)
        return int(self._connection.scalar(sa.select(sa.func.sum(s.rows)).where(own)) or 0)


def retrainings(db: Database) -> list[RetrainingRow]:
    with db.read() as connection:
        return records(connection, _ROWS, RetrainingRow)


def retraining_steps(db: Database, request_id: str) -> list[RetrainingStep]:
    t = retraining_step.c
    statement = sa.select(*columns_of(retraining_step, RetrainingStep)).where(t.request == request_id).order_by(t.seq)
    with db.read() as connection:
        return records(connection, statement, RetrainingStep)


def set_retraining_status(
    db: Database, request_id: str, status: str, told: str, *, now_ms: int, detail: Mapping[str, Any] | None
) -> bool:
    with db.write() as connection:
        return move(connection, request_id, RetrainingStatus(status), told, now_ms, detail=detail)


def move(
    connection: Connection,
    request_id: str,
    status: RetrainingStatus,
    told: str,
    now_ms: int,
    *,
    detail: Mapping[str, Any] | None = None,
    only_from: RetrainingStatus | None = None,
) -> bool:
    """Put a request into another status, or tell more of the one it has. Its reason is why it was asked for, and stays; `told` is what
    its delivery came to. False, with a line in the log, where there is no such request or the change is none that `advance` allows; `only_from`:
    quietly nothing where it has another status (a copy that was refused says nothing of a request that had arrived before)."""
    row = connection.execute(sa.select(_t.status, _t.detail).where(_t.id == request_id).with_for_update()).one_or_none()
    if row is None:
        log.warning("retraining status not changed", request=request_id, error="there is no such request")
        return False
    current = RetrainingStatus(row.status)
    if only_from is not None and current is not only_from:
        return False
    try:
        new = advance(current, status)
    except ValueError as error:
        log.warning("retraining status not changed", request=request_id, error=str(error), told=told)
        return False
    known = json.dumps({**json.loads(row.detail), **(detail or {}), "delivery": told})
    values = {"status": str(new), "recorded_at_ms": now_ms, "detail": known}
    connection.execute(sa.update(retraining).where(_t.id == request_id).values(values))
    if new is not current:
        _add_step(connection, request_id, new, told, now_ms)
    return True


def approve_retraining(db: Database, message: OutboxRow) -> bool:
    # First the message, then the request: in the order in which all lock them. Who cancels in between is seen by one of the two.
    with db.write() as connection:
        if not put_message(connection, message):
            return False
        status = connection.scalar(sa.select(_t.status).where(_t.id == message.id).with_for_update())
        if status != RetrainingStatus.REQUESTED:
            connection.execute(sa.delete(outbox).where(outbox.c.id == message.id))
            return False
        return True


def cancel_retraining(db: Database, request_id: str, told: str, now_ms: int, done: ActRow) -> bool:
    message = (outbox.c.id == request_id) & (outbox.c.status == "pending")
    with db.write() as connection:
        connection.execute(sa.select(outbox.c.seq).where(message).with_for_update())
        status = connection.scalar(sa.select(_t.status).where(_t.id == request_id).with_for_update())
        if status is None or not LEGAL[RetrainingStatus(status)]:
            return False
        move(connection, request_id, RetrainingStatus.CANCELLED, told, now_ms)
        ended = {"status": "cancelled", "last_error": told, "lease_owner": None, "leased_until_ms": 0}
        connection.execute(sa.update(outbox).where(message).values(ended))
        add_act(connection, done)
        return True


def pause_retraining(db: Database, row: PauseRow, done: ActRow) -> None:
    with db.write() as connection:
        insert = upsert(connection, retraining_pause)
        changed = {name: insert.excluded[name] for name in ("who", "at_ms", "why")}
        statement = insert.on_conflict_do_update(index_elements=[retraining_pause.c.model], set_=changed)
        connection.execute(statement, values_of(row))
        add_act(connection, done)


def resume_retraining(db: Database, model: str, done: ActRow) -> bool:
    with db.write() as connection:
        gone = connection.execute(sa.delete(retraining_pause).where(retraining_pause.c.model == model)).rowcount
        if gone:
            add_act(connection, done)
        return gone == 1


def retraining_pauses(db: Database) -> dict[str, PauseRow]:
    with db.read() as connection:
        return _pauses(connection)


def _pauses(connection: Connection) -> dict[str, PauseRow]:
    statement = sa.select(*columns_of(retraining_pause, PauseRow)).order_by(retraining_pause.c.model)
    return {row.model: row for row in records(connection, statement, PauseRow)}


def _add_step(connection: Connection, request_id: str, status: str, told: str, at_ms: int) -> None:
    values = {"request": request_id, "status": str(status), "told": told, "at_ms": at_ms}
    connection.execute(sa.insert(retraining_step), values)
