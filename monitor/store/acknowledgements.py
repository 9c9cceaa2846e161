"""Acknowledgements as they are stored: one row each, the newest one of an alert holds."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from alerts.lifecycle import Acknowledgement, Severity, Verdict
from monitor.store.engine import Database, chunks
from monitor.store.tables import acknowledgement

_t = acknowledgement.c
_ROWS = sa.select(_t.alert, _t.who, _t.at_ms, _t.severity, _t.verdict, _t.comment).order_by(_t.seq)


def add_acknowledgement(connection: Connection, given: Acknowledgement) -> None:
    values = {"alert": given.alert, "who": given.who, "at_ms": given.at_ms, "severity": str(given.severity)}
    values |= {"verdict": None if given.verdict is None else str(given.verdict), "comment": given.comment}
    connection.execute(sa.insert(acknowledgement), values)


def newest_acknowledgements(connection: Connection, ids: Collection[str]) -> dict[str, Acknowledgement]:
    found: dict[str, Acknowledgement] = {}
    for some in chunks(sorted(set(ids))):
        newest = sa.select(sa.func.max(_t.seq)).where(_t.alert.in_(some)).group_by(_t.alert)
        found |= {row.alert: _acknowledgement(row) for row in connection.execute(_ROWS.where(_t.seq.in_(newest)))}
    return found


def acknowledgements(db: Database, alert_id: str) -> list[Acknowledgement]:
    with db.read() as connection:
        return [_acknowledgement(row) for row in connection.execute(_ROWS.where(_t.alert == alert_id))]


def _acknowledgement(row: Any) -> Acknowledgement:
    verdict = None if row.verdict is None else Verdict(row.verdict)
    return Acknowledgement(
        alert=row.alert,
        who=row.who,
        at_ms=row.at_ms,
        severity=Severity(row.severity),
        verdict=verdict,
        comment=row.comment,
    )
