"""What people do: silences, acknowledgements, and a line for every act, written together with what it changed."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from alerts import desk as desks
from alerts.lifecycle import Acknowledgement, Severity, Verdict, in_hand
from alerts.record import Page
from alerts.silence import Silence, decode_silence, encode_silence
from monitor.store.acknowledgements import add_acknowledgement
from monitor.store.desk import groups_of, put_groups
from monitor.store.engine import Database, columns_of, records, upsert, values_of
from monitor.store.records import ActRow
from monitor.store.tables import TELLING, acknowledgement, act, alert, page, silence
from monitor.store.turns import take


def add_act(connection: Connection, row: ActRow) -> None:
    connection.execute(sa.insert(act), values_of(row, "seq"))


def put_act(db: Database, row: ActRow) -> None:
    with db.write() as connection:
        add_act(connection, row)


def acts(db: Database, limit: int | None) -> list[ActRow]:
    statement = sa.select(*columns_of(act, ActRow)).order_by(act.c.seq.desc()).limit(limit)
    with db.read() as connection:
        return records(connection, statement, ActRow)[::-1]


def put_silence(db: Database, given: Silence, done: ActRow) -> None:
    with db.write() as connection:
        insert = upsert(connection, silence)
        statement = insert.on_conflict_do_update(
            index_elements=[silence.c.id],
            set_={"body": insert.excluded.body, "ends_ms": insert.excluded.ends_ms},
        )
        values = {"id": given.id, "body": encode_silence(given), "ends_ms": given.ends_ms}
        connection.execute(statement, values)
        add_act(connection, done)


def silences(db: Database) -> list[Silence]:
    with db.read() as connection:
        return read_silences(connection)


def read_silences(connection: Connection, *, after_ms: int | None = None) -> list[Silence]:
    """Those that end after `after_ms`, in order of their ends."""
    statement = sa.select(silence.c.body).order_by(silence.c.ends_ms, silence.c.id)
    if after_ms is not None:
        statement = statement.where(silence.c.ends_ms > after_ms)
    return [decode_silence(body) for body in connection.scalars(statement)]


def acknowledge(db: Database, given: Acknowledgement, done: ActRow) -> None:
    with db.write() as connection:
        take(connection, TELLING, wait=True)  # who tells reads the groups and writes them anew
        add_acknowledgement(connection, given)
        severity = connection.scalar(sa.select(alert.c.severity).where(alert.c.id == given.alert, alert.c.newest))
        taken = severity is None or in_hand(given, Severity(severity))
        after, keys = desks.acknowledge(desks.Desk(groups=groups_of(connection, given.alert)), given.alert, taken=taken)
        put_groups(connection, after.groups, keys)
        add_act(connection, done)


def pages(db: Database) -> list[Page]:
    a = acknowledgement.c
    same_alert = (alert.c.id == a.alert) & alert.c.newest
    said = (
        sa.select(alert.c.incident, a.verdict)
        .select_from(sa.join(acknowledgement, alert, same_alert))
        .where(a.verdict.is_not(None))
        .order_by(a.seq)
    )
    with db.read() as connection:
        verdicts = {incident: Verdict(verdict) for incident, verdict in connection.execute(said)}
        sent = connection.execute(sa.select(page).order_by(page.c.at_ms, page.c.incident, page.c.model)).all()
    return [
        Page(incident=row.incident, model=row.model, at_ms=row.at_ms, verdict=verdicts.get(row.incident))
        for row in sent
    ]
