"""Alert rows: closers put transitions, telling takes them, people read them. Of each alert the newest transition is marked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from alerts.lifecycle import Acknowledgement
from monitor.store.acknowledgements import newest_acknowledgements
from monitor.store.engine import Database, chunks, columns_of, records, upsert, values_of
from monitor.store.records import AlertRow, ToldRow
from monitor.store.tables import IS_FIRING, alert, alert_state, alert_told

_t = alert.c
_ROWS = sa.select(*columns_of(alert, AlertRow)).order_by(_t.seq)
_STATES = sa.select(alert_state.c.fingerprint, alert_state.c.body)


class AlertClosing:
    """The side of a closing transaction that is about alerts."""

    model: str
    _connection: Connection

    def __init__(self) -> None:
        self._untold: list[AlertRow] = []

    def alert_states(self) -> dict[str, str]:
        found = self._connection.execute(_STATES.where(alert_state.c.model == self.model))
        return {row.fingerprint: row.body for row in found}

    def put_alert_state(self, fingerprint: str, model: str, body: str | None) -> None:
        """None forgets the state."""
        if body is None:
            self._connection.execute(sa.delete(alert_state).where(alert_state.c.fingerprint == fingerprint))
            return
        insert = upsert(self._connection, alert_state)
        statement = insert.on_conflict_do_update(
            index_elements=[alert_state.c.fingerprint],
            set_={"model": insert.excluded.model, "body": insert.excluded.body},
        )
        self._connection.execute(statement, {"fingerprint": fingerprint, "model": model, "body": body})

    def put_alert(self, row: AlertRow) -> None:
        """The newest transition of its alert from now on. Rows wait until they are read or the transaction ends."""
        self._untold.append(row)

    def alert_rows(self, fingerprint: str | None = None) -> list[AlertRow]:
        """The model's transitions in the order they were put."""
        self.flush_alerts()
        statement = _ROWS.where(_t.model == self.model)
        if fingerprint is not None:
            statement = statement.where(_t.fingerprint == fingerprint)
        return records(self._connection, statement, AlertRow)

    def acknowledgements(self, ids: Collection[str]) -> dict[str, Acknowledgement]:
        """The newest one of each of these alerts that has any."""
        return newest_acknowledgements(self._connection, ids)

    def put_told(self, rows: Sequence[ToldRow]) -> None:
        """The newest record of an alert and a receiver takes the place of the one before."""
        put_told(self._connection, rows)

    def told_to(self, receiver: str, alerts: Sequence[str]) -> dict[str, ToldRow]:
        """The newest record of each of these alerts at this receiver."""
        t = alert_told.c
        found = (
            record
            for some in chunks(list(alerts))
            for record in records(
                self._connection,
                sa.select(*columns_of(alert_told, ToldRow)).where(t.receiver == receiver, t.alert.in_(some)),
                ToldRow,
            )
        )
        return {record.alert: record for record in found}

    def flush_alerts(self) -> None:
        """Write the transitions that wait, in the order they were put."""
        rows, self._untold = self._untold, []
        if not rows:
            return
        newest = {row.id: place for place, row in enumerate(rows)}
        before = [
            seq
            for some in chunks(sorted(newest))
            for seq in self._connection.scalars(sa.select(_t.seq).where(_t.id.in_(some), _t.newest))
        ]
        mark(self._connection, before, newest=False)
        values = [values_of(row, "seq", newest=newest[row.id] == place) for place, row in enumerate(rows)]
        self._connection.execute(sa.insert(alert), values)


def mark(connection: Connection, seqs: Iterable[int], **values: bool) -> None:
    """Change flags of these rows. Everyone locks them in order of their seq: a closer that puts what follows them and a teller that has
    told them would else wait for each other.
    """
    for some in chunks(sorted(seqs)):
        these = _t.seq.in_(some)
        connection.execute(sa.select(_t.seq).where(these).order_by(_t.seq).with_for_update())
        connection.execute(sa.update(alert).where(these).values(values))


def put_told(connection: Connection, rows: Sequence[ToldRow]) -> None:
    newest = {(row.alert, row.receiver): row for row in rows}
    if not newest:
        return
    insert = upsert(connection, alert_told)
    statement = insert.on_conflict_do_update(
        index_elements=list(alert_told.primary_key),
        set_={name: insert.excluded[name] for name in ("outcome", "detail", "at_ms")},
    )
    connection.execute(statement, [values_of(row) for _, row in sorted(newest.items())])


def pending(connection: Connection, limit: int) -> list[AlertRow]:
    return records(connection, _ROWS.where(_t.pending).limit(limit), AlertRow)


def rows_of(connection: Connection, seqs: Iterable[int]) -> list[AlertRow]:
    wanted = sorted(set(seqs))
    return [row for some in chunks(wanted) for row in records(connection, _ROWS.where(_t.seq.in_(some)), AlertRow)]


def firing(connection: Connection) -> list[AlertRow]:
    return records(connection, _ROWS.where(IS_FIRING), AlertRow)


def newest_of(connection: Connection, ids: Iterable[str]) -> list[AlertRow]:
    wanted = sorted(set(ids))
    return [
        row for some in chunks(wanted) for row in records(connection, _ROWS.where(_t.id.in_(some), _t.newest), AlertRow)
    ]


def alerts(db: Database, history: bool = False) -> list[AlertRow]:
    with db.read() as connection:
        return records(connection, _ROWS if history else _ROWS.where(_t.newest), AlertRow)


def firing_alerts(db: Database) -> list[AlertRow]:
    with db.read() as connection:
        return firing(connection)


def alert_history(db: Database, alert_id: str) -> list[AlertRow]:
    with db.read() as connection:
        return records(connection, _ROWS.where(_t.id == alert_id), AlertRow)


def told(db: Database, alert_id: str) -> list[ToldRow]:
    t = alert_told.c
    statement = sa.select(*columns_of(alert_told, ToldRow)).where(t.alert == alert_id).order_by(t.receiver)
    with db.read() as connection:
        return records(connection, statement, ToldRow)


def told_to(db: Database, receiver: str) -> set[str]:
    t = alert_told.c
    with db.read() as connection:
        return set(connection.scalars(sa.select(t.alert).where(t.receiver == receiver, t.outcome == "told")))


def told_by(db: Database, receiver: str) -> list[tuple[ToldRow, AlertRow]]:
    t = alert_told.c
    wanted = sa.select(*columns_of(alert_told, ToldRow)).where(t.receiver == receiver).order_by(t.at_ms, t.alert)
    with db.read() as connection:
        said = records(connection, wanted, ToldRow)
        of = {row.id: row for row in newest_of(connection, [row.alert for row in said])}
    return [(row, of[row.alert]) for row in said if row.alert in of]
