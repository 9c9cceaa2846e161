"""What the command line, the HTTP interface and the metrics show. Nothing here writes or waits for a writer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import sqlalchemy as sa

from monitor.store.engine import Database, columns_of, records
from monitor.store.records import (
    GapRow,
    ModelState,
    PaneSummary,
    QuarantineRow,
    UnconfiguredRow,
    WindowRow,
)
from monitor.store.tables import (
    FINAL,
    IS_OPEN,
    gap,
    model_state,
    pane,
    quarantine,
    track,
    unconfigured,
    windows,
)

R = TypeVar("R", QuarantineRow, GapRow)

_PAGE = 500  # windows read in one transaction

_w = windows.c
_STANDING = _w.newest & ~_w.withdrawn


def read_windows(
    db: Database,
    model: str | None = None,
    monitor: str | None = None,
    *,
    since_ms: int | None = None,
    revisions: bool = False,
    limit: int | None = None,
) -> Iterator[WindowRow]:
    conditions: list[sa.ColumnElement[bool]] = [] if revisions else [_STANDING]
    conditions += [] if model is None else [_w.model == model]
    conditions += [] if monitor is None else [_w.monitor == monitor]
    conditions += [] if since_ms is None else [_w.start_ms >= since_ms]
    after = 0 if limit is None else _before_last(db, conditions, limit)
    while True:
        statement = sa.select(*columns_of(windows, WindowRow)).where(*conditions, _w.decided > after)
        with db.read() as connection:
            page = records(connection, statement.order_by(_w.decided).limit(_PAGE), WindowRow)
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].decided


def window(db: Database, window_id: str) -> WindowRow | None:
    statement = sa.select(*columns_of(windows, WindowRow)).where(_w.id == window_id, _w.newest)
    with db.read() as connection:
        return next(iter(records(connection, statement, WindowRow)), None)


def newest_windows(db: Database) -> list[WindowRow]:
    key = (_w.model == track.c.model) & (_w.version == track.c.version) & (_w.monitor == track.c.monitor)
    whole = _w.segment.is_(None)
    newest = sa.select(_w.decided).where(key, _STANDING, whole).order_by(_w.end_ms.desc(), _w.decided.desc()).limit(1)
    decided = sa.select(newest.correlate(track).scalar_subquery()).select_from(track)
    statement = sa.select(*columns_of(windows, WindowRow)).where(_w.decided.in_(decided))
    with db.read() as connection:
        return records(connection, statement.order_by(_w.model, _w.version, _w.monitor), WindowRow)


def windows_after(db: Database, decided: int, monitor: str, limit: int) -> tuple[list[WindowRow], int]:
    of_monitor = (_w.decided > decided, _w.monitor == monitor, _w.newest, _w.segment.is_(None))
    statement = sa.select(*columns_of(windows, WindowRow)).where(*of_monitor).order_by(_w.decided).limit(limit)
    with db.read() as connection:
        last = connection.execute(sa.select(sa.func.max(_w.decided))).scalar() or 0
        rows = records(connection, statement, WindowRow)
    return rows, rows[-1].decided if len(rows) == limit else last


def judged_again(db: Database, model: str, version: str, monitor: str, limit: int) -> list[WindowRow]:
    key = (_w.model == model, _w.version == version, _w.monitor == monitor, _w.segment.is_(None))
    statement = sa.select(*columns_of(windows, WindowRow)).where(*key, _STANDING, _w.revision > 1)
    with db.read() as connection:
        return records(connection, statement.order_by(_w.end_ms.desc(), _w.decided.desc()).limit(limit), WindowRow)


def dirty_models(db: Database) -> dict[str, int]:
    first = sa.func.min(pane.c.start_ms).label("first")
    statement = sa.select(pane.c.model, first).where(IS_OPEN, pane.c.dirty).group_by(pane.c.model)
    with db.read() as connection:
        return {row.model: row.first for row in connection.execute(statement)}


def model_states(db: Database) -> dict[str, ModelState]:
    t = model_state.c
    with db.read() as connection:
        found = connection.execute(sa.select(t.model, t.frontier_ms, t.first_pane_ms))
        return {model: ModelState(frontier_ms=frontier, first_pane_ms=first) for model, frontier, first in found}


def quarantined(db: Database, limit: int | None = None) -> list[QuarantineRow]:
    return _last(db, quarantine, QuarantineRow, limit)


def quarantine_counts(db: Database) -> dict[tuple[str, str], int]:
    t = quarantine.c
    statement = sa.select(t.topic, t.reason, sa.func.count()).group_by(t.topic, t.reason).order_by(t.topic, t.reason)
    with db.read() as connection:
        return {(topic, reason): count for topic, reason, count in connection.execute(statement)}


def gaps(db: Database, limit: int | None = None) -> list[GapRow]:
    return _last(db, gap, GapRow, limit)


def unconfigured_models(db: Database) -> list[UnconfiguredRow]:
    t = unconfigured.c
    statement = sa.select(t.source_group, t.model, t.records).where(t.records > 0)
    with db.read() as connection:
        rows = connection.execute(statement.order_by(t.source_group, t.records.desc(), t.model)).all()
    return [UnconfiguredRow(group=group, model=model, records=count) for group, model, count in rows]


def panes(db: Database) -> list[PaneSummary]:
    t = pane.c
    count = sa.func.count
    statement = sa.select(
        t.model,
        count().filter(IS_OPEN).label("open"),
        count().filter(t.dirty).label("dirty"),
        count().filter(t.status == FINAL).label("final"),
        sa.cast(sa.func.sum(t.late_rows), sa.BigInteger).label("late_rows"),
    )
    with db.read() as connection:
        rows = connection.execute(statement.group_by(t.model).order_by(t.model)).all()
    return [PaneSummary(**row._asdict()) for row in rows]


def _before_last(db: Database, conditions: list[sa.ColumnElement[bool]], limit: int) -> int:
    """The place in the order decided after which `limit` windows follow."""
    statement = sa.select(_w.decided).where(*conditions).order_by(_w.decided.desc()).offset(limit).limit(1)
    with db.read() as connection:
        return connection.scalar(statement) or 0


def _last(db: Database, table: sa.Table, record: type[R], limit: int | None) -> list[R]:
    statement = sa.select(*columns_of(table, record)).order_by(table.c.seq.desc()).limit(limit)
    with db.read() as connection:
        return records(connection, statement, record)[::-1]
