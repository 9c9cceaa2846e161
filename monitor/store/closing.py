"""Closing: everything that is decided about a model's windows, in one transaction that excludes other closers of the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from detectors.profile import Profile, decode, encode, merge
from monitor.failpoints import reach
from monitor.store import closing_statements as sql
from monitor.store.engine import BusyError, Database, chunks, records, upsert, values_of
from monitor.store.messages import put_message
from monitor.store.performance import PerformanceClosing
from monitor.store.records import (
    ANY,
    AnyVersion,
    ModelState,
    OutboxRow,
    PaneKey,
    PaneRows,
    WindowRow,
)
from monitor.store.retraining import RetrainingClosing
from monitor.store.tables import model_state
from monitor.store.transitions import AlertClosing

_PANES_A_BATCH = 50  # profiles held in memory while panes are made final


@contextmanager
def closing(db: Database, model: str) -> Iterator[ClosingTransaction | None]:
    """None when another worker is closing this model. On SQLite all writers take turns, and None means that the turn did not come in time."""
    with ExitStack() as stack:
        transaction = None
        try:
            _ensure(db, model)
            connection = stack.enter_context(db.write())
            transaction = _locked(connection, model)
        except BusyError:
            stack.close()
        yield transaction
        if transaction is not None:
            transaction.flush()
            transaction.flush_alerts()
            reach("before_close_commit")
    if transaction is not None:
        reach("after_close_commit")


class ClosingTransaction(PerformanceClosing, AlertClosing, RetrainingClosing):
    """Committed when the block of `closing` ends, undone when it raises. Not to be kept, nor used from another thread.

    On PostgreSQL the block must not compute for more than some seconds: checkpoints of the model wait for its panes.
    """

    def __init__(self, connection: Connection, model: str, state: ModelState) -> None:
        PerformanceClosing.__init__(self)
        AlertClosing.__init__(self)
        self.model = model
        self.state = state
        self._connection = connection
        self._locked: set[int] = set()
        self._waiting: dict[str, WindowRow] = {}

    def set_frontier(self, frontier_ms: int) -> None:
        self._connection.execute(sql.SET_FRONTIER, {"p_model": self.model, "p_frontier": frontier_ms})

    def dirty_panes(self, before_start_ms: int) -> list[int]:
        """Starts of changed panes, locked: a checkpoint that touches one waits until this transaction ends and makes it dirty again."""
        starts = list(self._connection.scalars(sql.DIRTY, {"p_model": self.model, "p_before": before_start_ms}))
        self._locked.update(starts)
        return starts

    def pane_rows(self, from_ms: int, before_ms: int, *, version: str | AnyVersion = ANY) -> list[PaneRows]:
        """Rows by pane, version and reference, for from_ms <= start < before_ms, sorted by start and version."""
        given = self._given(version=version, from_ms=from_ms, before_ms=before_ms)
        found = self._connection.execute(sql.pane_rows(frozenset(given)), given)
        return [PaneRows(start_ms=start, version=v, reference=r, rows=rows) for start, v, r, rows in found]

    def neighbours(
        self, first_ms: int, last_ms: int, *, version: str | AnyVersion = ANY
    ) -> tuple[int | None, int | None]:
        """Start of the last pane with rows before `first_ms` and of the first one after `last_ms`, of one version or of any."""
        given = self._given(version=version)
        statement = sql.neighbours(frozenset(given))
        before, after = self._connection.execute(statement, given | {"p_first": first_ms, "p_last": last_ms}).one()
        return before, after

    def window(self, window_id: str) -> WindowRow | None:
        """The newest revision of one window, withdrawn or not."""
        self.flush()
        return next(iter(records(self._connection, sql.WINDOW, WindowRow, {"p_id": window_id})), None)

    def profiles(self, start_ms: Sequence[int]) -> dict[PaneKey, Profile]:
        """The merged profiles of the panes that start then, all in memory at once."""
        merged: dict[PaneKey, Profile] = {}
        for row in self._state_rows(start_ms):
            key, profile = _pane_key(row), decode(row.profile, None)
            merged[key] = merge(merged[key], profile) if key in merged else profile
        return merged

    def mark_clean(self, starts: Sequence[int]) -> None:
        """Only for panes that `dirty_panes` returned in this transaction: others may have changed since."""
        if not self._locked.issuperset(starts):
            raise ValueError("mark_clean: a pane that this transaction does not hold")
        for some in chunks(sorted(starts)):
            self._connection.execute(sql.MARK_CLEAN, self._these(some))

    def finalize(self, before_start_ms: int) -> int:
        """Make clean panes with start < before_start_ms final, one state row for each (version, reference); returns how many.

        Dirty ones, and those a checkpoint is writing to, are left for the next time. Panes that appear below it later are final at birth.
        """
        starts = list(self._connection.scalars(sql.CLEAN, {"p_model": self.model, "p_before": before_start_ms}))
        for some in chunks(starts, _PANES_A_BATCH):
            self._merge_state(some)
            self._connection.execute(sql.MAKE_FINAL, self._these(some))
        self._connection.execute(sql.SET_FINAL, {"p_model": self.model, "p_before": before_start_ms})
        return len(starts)

    def windows(
        self,
        *,
        monitor: str | None = None,
        version: str | AnyVersion = ANY,
        from_ms: int | None = None,
        before_ms: int | None = None,
        withdrawn: bool = False,
    ) -> list[WindowRow]:
        """The newest revision of each window with from_ms <= start < before_ms, sorted by start, then in the order decided.

        Withdrawn ones only when asked for (a window that comes back needs the revision after theirs).
        """
        self.flush()
        given = self._given(monitor=monitor, version=version, from_ms=from_ms, before_ms=before_ms)
        statement = sql.standing_windows(frozenset(given), withdrawn=withdrawn)
        return records(self._connection, statement, WindowRow, given)

    def put_window(self, row: WindowRow) -> None:
        """A new revision takes the place of older ones. Where (id, revision) is there already, what may change without a new decision
        is overwritten (status, end and run, marks, withdrawn, recorded_at); state, findings and digest stay.
        Windows wait until they are read or the transaction ends, and are then written together."""
        if row.id in self._waiting:
            self.flush()
        self._waiting[row.id] = row

    def flush(self) -> None:
        """Write the windows that wait, in the order they were put."""
        rows, self._waiting = list(self._waiting.values()), {}
        if not rows:
            return
        self._add_tracks(rows)
        again = [{"p_id": row.id, "p_revision": row.revision} for row in rows if row.revision > 1]
        if again:
            self._connection.execute(sql.SUPERSEDE, again)
        newest: dict[str, int] = {}
        for some in chunks(rows):
            found = self._connection.execute(sql.NEWEST_OF, {"p_ids": [row.id for row in some]})
            newest.update((window_id, revision) for window_id, revision in found)
        values = [values_of(row, "decided", newest=newest.get(row.id, 0) <= row.revision) for row in rows]
        self._connection.execute(sql.put_window(self._connection.dialect.name), values)

    def put_outbox(self, row: OutboxRow) -> None:
        """A message whose id is there already is not put again."""
        put_message(self._connection, row)

    def _given(
        self,
        *,
        monitor: str | None = None,
        version: str | AnyVersion = ANY,
        from_ms: int | None = None,
        before_ms: int | None = None,
    ) -> dict[str, Any]:
        """The conditions that are asked for, as parameters of the statements."""
        wanted = {"p_model": self.model, "p_monitor": monitor, "p_from": from_ms, "p_before": before_ms}
        given: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
        return given if isinstance(version, AnyVersion) else given | {"p_version": version}

    def _state_rows(self, starts: Sequence[int]) -> Iterator[sa.Row[Any]]:
        for some in chunks(sorted(set(starts))):
            yield from self._connection.execute(sql.STATES, self._these(some)).all()

    def _these(self, starts: Sequence[int]) -> dict[str, Any]:
        return {"p_model": self.model, "p_starts": list(starts)}

    def _merge_state(self, starts: Sequence[int]) -> None:
        rows = []
        for key, group in groupby(self._state_rows(starts), key=_pane_key):
            parts = list(group)
            total = decode(parts[0].profile, None)
            for part in parts[1:]:
                total = merge(total, decode(part.profile, None))
            data = parts[0].profile if len(parts) == 1 else encode(total)
            rows.append(key._asdict() | {"writer": "", "rows": total.rows, "profile": data})
        self._connection.execute(sql.DROP_STATES, self._these(starts))
        if rows:
            self._connection.execute(sql.ADD_STATES, rows)

    def _add_tracks(self, rows: Sequence[WindowRow]) -> None:
        tracks = sorted({(row.model, row.version, row.monitor) for row in rows})
        keys = [{"model": model, "version": version, "monitor": monitor} for model, version, monitor in tracks]
        self._connection.execute(sql.add_track(self._connection.dialect.name), keys)


def _ensure(db: Database, model: str) -> None:
    # In a transaction of its own: an insert inside the closing would make other closers wait for it instead of going on.
    with db.read() as connection:
        if connection.scalar(sql.KNOWN, {"p_model": model}) is not None:
            return
    with db.write() as connection:
        connection.execute(upsert(connection, model_state).on_conflict_do_nothing(), {"model": model})


def _locked(connection: Connection, model: str) -> ClosingTransaction | None:
    t = model_state.c
    row = connection.execute(sql.LOCK, {"p_model": model}).one_or_none()
    if row is None:
        return None
    # Kept, because panes are pruned one day. A pane that was final at birth never held anything.
    first_open = connection.scalar(sql.FIRST_OPEN, {"p_model": model})
    first = min((start for start in (row.first_pane_ms, first_open) if start is not None), default=None)
    if first != row.first_pane_ms:
        connection.execute(sa.update(model_state).where(t.model == model).values(first_pane_ms=first))
    return ClosingTransaction(connection, model, ModelState(frontier_ms=row.frontier_ms, first_pane_ms=first))


def _pane_key(row: sa.Row[Any]) -> PaneKey:
    return PaneKey(row.model, row.version, row.reference, row.start_ms)
