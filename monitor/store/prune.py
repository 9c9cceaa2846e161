"""Forgetting what is older than its retention, in small transactions that make nobody wait.

Age is the time since a row was recorded, not event time: a backfill of old events must not vanish while it is being read.
"""

from __future__ import annotations

import sqlalchemy as sa

from monitor.store.engine import Database
from monitor.store.performance import prune_performance
from monitor.store.tables import (
    FINAL,
    IS_FIRING,
    acknowledgement,
    act,
    alert,
    alert_told,
    gap,
    outbox,
    page,
    pane,
    post,
    quarantine,
    retraining,
    retraining_step,
    silence,
    state,
    track,
    windows,
)


def prune(db: Database, now_ms: int, *, windows_ms: int, quarantine_ms: int, batch: int) -> dict[str, int]:
    old_windows, old_quarantine = now_ms - windows_ms, now_ms - quarantine_ms
    is_done = outbox.c.status != "pending"
    old = {
        windows: windows.c.recorded_at_ms < old_windows,
        alert: (alert.c.recorded_at_ms < old_windows) & ~IS_FIRING & ~alert.c.pending,
        alert_told: ~sa.exists().where(alert.c.id == alert_told.c.alert),
        acknowledgement: ~sa.exists().where(alert.c.id == acknowledgement.c.alert),
        page: page.c.at_ms < old_windows,
        post: post.c.at_ms < old_windows,
        silence: silence.c.ends_ms < old_windows,
        act: act.c.at_ms < old_windows,
        retraining: retraining.c.recorded_at_ms < old_windows,
        retraining_step: ~sa.exists().where(retraining.c.id == retraining_step.c.request),
        outbox: is_done & (outbox.c.created_at_ms < old_quarantine),
        quarantine: quarantine.c.recorded_at_ms < old_quarantine,
        gap: gap.c.recorded_at_ms < old_quarantine,
    }
    deleted = {table.name: _delete(db, table, condition, batch) for table, condition in old.items()}
    deleted |= _delete_panes(db, old_windows, batch)
    deleted |= prune_performance(db, old_windows, old_windows - windows_ms, batch)
    deleted["track"] = _delete(db, track, ~sa.exists().where(_is_on_track()), batch)
    return deleted


def _delete(db: Database, table: sa.Table, condition: sa.ColumnElement[bool], batch: int) -> int:
    key = sa.tuple_(*table.primary_key)
    some = sa.select(*table.primary_key).where(condition).limit(batch)
    total = 0
    while True:
        with db.write() as connection:
            count = connection.execute(sa.delete(table).where(key.in_(some))).rowcount
        total += count
        if count < batch:
            return total


def _delete_panes(db: Database, before_ms: int, batch: int) -> dict[str, int]:
    t = pane.c
    some = sa.select(t.model, t.start_ms).where(t.status == FINAL, t.written_at_ms < before_ms).limit(batch)
    deleted = {"pane": 0, "state": 0}
    while True:
        with db.write() as connection:
            keys = connection.execute(some).all()
            for table in (state, pane):
                for model, start_ms in keys:
                    these = (table.c.model == model) & (table.c.start_ms == start_ms)
                    deleted[table.name] += connection.execute(sa.delete(table).where(these)).rowcount
        if len(keys) < batch:
            return deleted


def _is_on_track() -> sa.ColumnElement[bool]:
    t = windows.c
    return (t.model == track.c.model) & (t.version == track.c.version) & (t.monitor == track.c.monitor)
