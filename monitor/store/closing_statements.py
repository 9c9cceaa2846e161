"""The statements of a closing transaction, put together once: that costs several times what a database needs to answer them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import sqlalchemy as sa

from monitor.store.engine import columns_of, dialect_insert, greatest
from monitor.store.records import WindowRow
from monitor.store.tables import FINAL, IS_OPEN, model_state, pane, state, track, windows

_MODEL: sa.BindParameter[str] = sa.bindparam("p_model")
_BEFORE: sa.BindParameter[int] = sa.bindparam("p_before")
_STARTS: sa.BindParameter[list[int]] = sa.bindparam("p_starts", expanding=True)
_w, _p, _m, _s = windows.c, pane.c, model_state.c, state.c
_own_panes = (_p.model == _MODEL) & IS_OPEN & (_p.start_ms < _BEFORE)
_own_state = _m.model == _MODEL

DIRTY = sa.select(_p.start_ms).where(_own_panes, _p.dirty).order_by(_p.start_ms).with_for_update()
CLEAN = sa.select(_p.start_ms).where(_own_panes, ~_p.dirty).order_by(_p.start_ms).with_for_update(skip_locked=True)
_these_panes = (_p.model == _MODEL) & _p.start_ms.in_(_STARTS)
MARK_CLEAN = sa.update(pane).where(_these_panes).values(dirty=False)
MAKE_FINAL = sa.update(pane).where(_these_panes).values(status=FINAL)
FIRST_OPEN = sa.select(sa.func.min(_p.start_ms)).where(_p.model == _MODEL, IS_OPEN)

_these_states = (_s.model == _MODEL) & _s.start_ms.in_(_STARTS)
STATES = sa.select(state).where(_these_states).order_by(_s.start_ms, _s.version, _s.reference, _s.writer)
DROP_STATES = sa.delete(state).where(_these_states)
ADD_STATES = sa.insert(state)

KNOWN = sa.select(_m.model).where(_own_state)
LOCK = sa.select(_m.frontier_ms, _m.first_pane_ms).where(_own_state).with_for_update(skip_locked=True)
SET_FRONTIER = sa.update(model_state).where(_own_state).values(frontier_ms=sa.bindparam("p_frontier"))
SET_FINAL = (
    sa.update(model_state)
    .where(_own_state)
    .values(final_before_ms=greatest(_m.final_before_ms, sa.bindparam("p_before", type_=sa.BigInteger)))
)

_this_window = _w.id == sa.bindparam("p_id")
WINDOW = sa.select(*columns_of(windows, WindowRow)).where(_this_window, _w.newest)
SUPERSEDE = (
    sa.update(windows).where(_this_window, _w.newest, _w.revision < sa.bindparam("p_revision")).values(newest=False)
)
NEWEST_OF = (
    sa.select(_w.id, sa.func.max(_w.revision)).where(_w.id.in_(sa.bindparam("p_ids", expanding=True))).group_by(_w.id)
)
CHANGEABLE = ("status", "end_ms", "run", "marks", "withdrawn", "recorded_at_ms")  # without a new decision


@cache
def pane_rows(given: frozenset[str]) -> sa.Select[Any]:
    """Rows by pane, version and reference, under the conditions whose parameters are given."""
    key = (_s.start_ms, _s.version, _s.reference)
    rows = sa.cast(sa.func.sum(_s.rows), sa.BigInteger)
    return sa.select(*key, rows).where(*_conditions(state, given)).group_by(*key).order_by(*key)


@cache
def neighbours(given: frozenset[str]) -> sa.Select[Any]:
    """The last start before `p_first` and the first one after `p_last`."""
    own = _conditions(state, given)
    before = sa.select(sa.func.max(_s.start_ms)).where(*own, _s.start_ms < sa.bindparam("p_first"))
    after = sa.select(sa.func.min(_s.start_ms)).where(*own, _s.start_ms > sa.bindparam("p_last"))
    return sa.select(before.scalar_subquery(), after.scalar_subquery())


@cache
def standing_windows(given: frozenset[str], *, withdrawn: bool) -> sa.Select[Any]:
    """The newest revisions, withdrawn ones only when asked for."""
    conditions = [*_conditions(windows, given), _w.newest, *([] if withdrawn else [~_w.withdrawn])]
    return sa.select(*columns_of(windows, WindowRow)).where(*conditions).order_by(_w.start_ms, _w.decided)


@cache
def put_window(dialect: str) -> sa.Insert:
    insert = dialect_insert(dialect, windows)
    return insert.on_conflict_do_update(
        index_elements=[_w.id, _w.revision], set_={name: insert.excluded[name] for name in CHANGEABLE}
    )


@cache
def add_track(dialect: str) -> sa.Insert:
    return dialect_insert(dialect, track).on_conflict_do_nothing()


def _conditions(table: sa.Table, given: frozenset[str]) -> list[sa.ColumnElement[bool]]:
    t = table.c
    known: dict[str, Callable[[], sa.ColumnElement[bool]]] = {
        "p_model": lambda: t.model == _MODEL,
        "p_version": lambda: t.version == sa.bindparam("p_version"),
        "p_monitor": lambda: t.monitor == sa.bindparam("p_monitor"),
        "p_from": lambda: t.start_ms >= sa.bindparam("p_from"),
        "p_before": lambda: t.start_ms < _BEFORE,
    }
    return [known[name]() for name in sorted(given)]
