"""Performance profiles by pane: what checkpoints add to them, and what closing reads.

A profile is bytes here; the caller says how two of a kind are added. `pane` profiles lie in the pane of the prediction, `arrival` ones in
that of the outcome. Unlike the panes of data a final pane may change: labels come late and are corrected. It is open again then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.clocks import Clock
from monitor.ports import PartitionId
from monitor.store.engine import Database, chunks, upsert
from monitor.store.records import Kind, Merge, PerformanceDelta, PerformanceKey
from monitor.store.tables import FINAL, OPEN, PRUNED, detector_state, outcome_clock, performance_pane, performance_state

_KEYS_A_STATEMENT = 250  # seven columns each: below SQLite's limit of expression depth and both limits of parameters
_PANES_A_BATCH = 50

_p, _s, _d = performance_pane.c, performance_state.c, detector_state.c
_PANE_KEY = (_p.model, _p.kind, _p.start_ms)
_KEY = (_s.model, _s.kind, _s.start_ms, _s.version, _s.reference, _s.segment)  # in the order of PerformanceKey
_DETECTOR = (_d.model, _d.version, _d.segment, _d.detector)

# Put together once: that costs several times what a database needs to answer them.
_MODEL: sa.BindParameter[str] = sa.bindparam("p_model")
_KIND: sa.BindParameter[str] = sa.bindparam("p_kind")
_FROM: sa.BindParameter[int] = sa.bindparam("p_from")
_BEFORE: sa.BindParameter[int] = sa.bindparam("p_before")
_own_panes = (_p.model == _MODEL) & (_p.kind == _KIND) & (_p.start_ms < _BEFORE)
_starts = sa.select(_p.start_ms).order_by(_p.start_ms)
_DIRTY = _starts.where(_own_panes, _p.dirty).with_for_update()
_CLEAN = _starts.where(_own_panes, ~_p.dirty, _p.status == OPEN).with_for_update(skip_locked=True)
_STARTS = _starts.where(_own_panes, _p.start_ms >= _FROM, _p.status != PRUNED)
_PROFILES = (
    sa.select(*_KEY, _s.writer, _s.rows, _s.profile)
    .where(_s.model == _MODEL, _s.kind == _KIND, _s.start_ms.in_(sa.bindparam("p_starts", expanding=True)))
    .order_by(*_KEY, _s.writer)
)
_NEWEST_DETECTOR = (
    sa.select(_d.start_ms, _d.body)
    .where(*(column == sa.bindparam(f"p_{column.name}") for column in _DETECTOR), _d.start_ms < _BEFORE)
    .order_by(_d.start_ms.desc())
    .limit(1)
)


def add_performance(
    connection: Connection,
    writer: str,
    deltas: Mapping[PerformanceKey, PerformanceDelta],
    merges: Mapping[Kind, Merge],
    now_ms: int,
) -> int:
    """Mark the panes dirty, which locks them, and overwrite the writer's own rows with their new totals.

    Returns the rows that came for panes which are forgotten; they are not stored.
    """
    if not deltas:
        return 0
    kept = _mark_panes(connection, sorted({key[:3] for key in deltas}), now_ms)
    late = sum(abs(delta.rows) for key, delta in deltas.items() if key[:3] not in kept)
    wanted = sorted(key for key in deltas if key[:3] in kept)
    stored = _own_rows(connection, writer, wanted)
    rows = []
    for key in wanted:
        rows_new, profile = deltas[key]
        if key in stored:
            rows_old, old = stored[key]
            rows_new, profile = rows_old + rows_new, merges[key.kind](old, profile)
        rows.append(key._asdict() | {"writer": writer, "rows": rows_new, "profile": profile})
    if rows:
        insert = upsert(connection, performance_state)
        statement = insert.on_conflict_do_update(
            index_elements=[*_KEY, _s.writer],
            set_={"rows": insert.excluded.rows, "profile": insert.excluded.profile},
        )
        connection.execute(statement, rows)
    return late


def raise_outcome_clocks(connection: Connection, group: str, clocks: Mapping[tuple[PartitionId, str], Clock]) -> None:
    rows = [
        {"source_group": group, "topic": partition.topic, "partition": partition.partition, "model": model}
        | {"newest_ms": clock.newest_ms, "read_ms": clock.read_ms}
        for (partition, model), clock in sorted(clocks.items())
    ]
    if not rows:
        return
    insert = upsert(connection, outcome_clock)
    statement = insert.on_conflict_do_update(
        index_elements=list(outcome_clock.primary_key),
        set_={"newest_ms": insert.excluded.newest_ms, "read_ms": insert.excluded.read_ms},
        where=insert.excluded.newest_ms > outcome_clock.c.newest_ms,  # an equal one keeps the time it was first read
    )
    connection.execute(statement, rows)


def outcome_clocks(db: Database, group: str | None = None) -> dict[tuple[str, PartitionId, str], Clock]:
    statement = sa.select(outcome_clock)
    if group is not None:
        statement = statement.where(outcome_clock.c.source_group == group)
    with db.read() as connection:
        return {
            (row.source_group, PartitionId(row.topic, row.partition), row.model): Clock(row.newest_ms, row.read_ms)
            for row in connection.execute(statement)
        }


def dirty_performance_models(db: Database) -> dict[str, dict[Kind, int]]:
    first = sa.func.min(_p.start_ms).label("first")
    statement = sa.select(_p.model, _p.kind, first).where(_p.dirty).group_by(_p.model, _p.kind)
    found: dict[str, dict[Kind, int]] = {}
    with db.read() as connection:
        for model, kind, start_ms in connection.execute(statement):
            found.setdefault(model, {})[kind] = start_ms
    return found


def prune_performance(db: Database, before_ms: int, long_before_ms: int, batch: int) -> dict[str, int]:
    """Forget final panes not written to since `before_ms`. They stay known as pruned until `long_before_ms` has passed that time too, so
    that no correction makes a pane anew that holds nothing but the correction."""
    old = (_p.status == FINAL) & ~_p.dirty & (_p.written_at_ms < before_ms)
    some = sa.select(*_PANE_KEY).where(old).limit(batch).with_for_update(skip_locked=True)
    deleted = {"performance_pane": 0, "performance_state": 0, "detector_state": 0}
    while True:
        with db.write() as connection:
            keys = connection.execute(some).all()
            for model, kind, start_ms in keys:
                this = (_s.model == model) & (_s.kind == kind) & (_s.start_ms == start_ms)
                deleted["performance_state"] += connection.execute(sa.delete(performance_state).where(this)).rowcount
                pane = (_p.model == model) & (_p.kind == kind) & (_p.start_ms == start_ms)
                connection.execute(sa.update(performance_pane).where(pane).values(status=PRUNED))
                if kind == "arrival":
                    deleted["detector_state"] += _prune_detector(connection, model, start_ms)
        if len(keys) < batch:
            break
    gone = sa.delete(performance_pane).where(_p.status == PRUNED, _p.written_at_ms < long_before_ms)
    with db.write() as connection:
        deleted["performance_pane"] = connection.execute(gone).rowcount
    return deleted


class PerformanceClosing:
    """The side of a closing transaction that is about performance."""

    model: str
    _connection: Connection

    def __init__(self) -> None:
        self._locked_performance: set[tuple[Kind, int]] = set()

    def dirty_performance(self, kind: Kind, before_ms: int) -> list[int]:
        """Starts of changed panes, locked: a checkpoint that touches one waits until this transaction ends and makes it dirty again."""
        starts = list(self._connection.scalars(_DIRTY, self._panes_given(kind, before_ms)))
        self._locked_performance.update((kind, start) for start in starts)
        return starts

    def performance_starts(self, kind: Kind, from_ms: int, before_ms: int) -> list[int]:
        """Starts of the panes there are, changed or not."""
        return list(self._connection.scalars(_STARTS, self._panes_given(kind, before_ms) | {"p_from": from_ms}))

    def performance(self, kind: Kind, starts: Iterable[int]) -> dict[PerformanceKey, list[bytes]]:
        """The profiles of these panes, one for each writer, to be added up."""
        found: dict[PerformanceKey, list[bytes]] = {}
        for row in self._profile_rows(kind, starts):
            found.setdefault(_performance_key(row), []).append(row.profile)
        return found

    def mark_performance_clean(self, kind: Kind, starts: Sequence[int]) -> None:
        """Only for panes that `dirty_performance` returned in this transaction: others may have changed since."""
        if not self._locked_performance.issuperset((kind, start) for start in starts):
            raise ValueError("mark_performance_clean: a pane that this transaction does not hold")
        self._update_panes(kind, starts, dirty=False)

    def finalize_performance(self, kind: Kind, before_ms: int, merge: Merge) -> int:
        """Make clean open panes with start < before_ms final, with one row for each profile; returns how many.

        Dirty ones, and those a checkpoint is writing to, are left for the next time. What changes later is open and dirty again.
        """
        starts = list(self._connection.scalars(_CLEAN, self._panes_given(kind, before_ms)))
        for some in chunks(starts, _PANES_A_BATCH):
            self._to_one_row(kind, some, merge)
            self._update_panes(kind, some, status=FINAL)
        return len(starts)

    def detector_state(self, version: str, segment: str, detector: str, before_ms: int) -> tuple[int, str] | None:
        """The newest state of a detector after an arrival pane with start < before_ms: (start of the pane, body)."""
        this = {"p_model": self.model, "p_version": version, "p_segment": segment, "p_detector": detector}
        row = self._connection.execute(_NEWEST_DETECTOR, this | {"p_before": before_ms}).one_or_none()
        return None if row is None else (row.start_ms, row.body)

    def put_detector_state(self, version: str, segment: str, detector: str, start_ms: int, body: str) -> None:
        """Takes the place of the state after the same pane."""
        insert = upsert(self._connection, detector_state)
        statement = insert.on_conflict_do_update(
            index_elements=list(detector_state.primary_key), set_={"body": insert.excluded.body}
        )
        values = {"model": self.model, "version": version, "segment": segment, "detector": detector}
        self._connection.execute(statement, values | {"start_ms": start_ms, "body": body})

    def _panes_given(self, kind: Kind, before_ms: int) -> dict[str, Any]:
        return {"p_model": self.model, "p_kind": kind, "p_before": before_ms}

    def _update_panes(self, kind: Kind, starts: Sequence[int], **values: object) -> None:
        for some in chunks(sorted(starts)):
            these = (_p.model == self.model) & (_p.kind == kind) & _p.start_ms.in_(some)
            self._connection.execute(sa.update(performance_pane).where(these).values(values))

    def _profile_rows(self, kind: Kind, starts: Iterable[int]) -> list[sa.Row[Any]]:
        rows: list[sa.Row[Any]] = []
        for some in chunks(sorted(set(starts))):
            given = {"p_model": self.model, "p_kind": kind, "p_starts": some}
            rows += self._connection.execute(_PROFILES, given)
        return rows

    def _to_one_row(self, kind: Kind, starts: Sequence[int], merge: Merge) -> None:
        rows = []
        for key, group in groupby(self._profile_rows(kind, starts), key=_performance_key):
            parts = list(group)
            profile = parts[0].profile
            for part in parts[1:]:
                profile = merge(profile, part.profile)
            total = sum(part.rows for part in parts)
            rows.append(key._asdict() | {"writer": "", "rows": total, "profile": profile})
        these = (_s.model == self.model) & (_s.kind == kind) & _s.start_ms.in_(starts)
        self._connection.execute(sa.delete(performance_state).where(these))
        if rows:
            self._connection.execute(sa.insert(performance_state), rows)


def _mark_panes(connection: Connection, panes: Sequence[tuple[Any, ...]], now_ms: int) -> set[tuple[Any, ...]]:
    """Returns those that are not forgotten."""
    insert = upsert(connection, performance_pane)
    statement = insert.on_conflict_do_update(
        index_elements=list(_PANE_KEY),
        set_={
            "status": sa.case((_p.status == PRUNED, PRUNED), else_=OPEN),
            "dirty": _p.status != PRUNED,
            "written_at_ms": insert.excluded.written_at_ms,
        },
    ).returning(*_PANE_KEY, _p.status)
    names = ("model", "kind", "start_ms")
    new = {"status": OPEN, "dirty": True, "written_at_ms": now_ms}
    marked = connection.execute(statement, [dict(zip(names, pane, strict=True)) | new for pane in panes])
    return {tuple(row[:3]) for row in marked if row.status != PRUNED}


def _own_rows(
    connection: Connection, writer: str, keys: Sequence[PerformanceKey]
) -> dict[PerformanceKey, tuple[int, bytes]]:
    stored: dict[PerformanceKey, tuple[int, bytes]] = {}
    for some in chunks(keys, _KEYS_A_STATEMENT):
        statement = sa.select(*_KEY, _s.rows, _s.profile).where(sa.tuple_(*_KEY).in_(some), _s.writer == writer)
        for row in connection.execute(statement):
            stored[_performance_key(row)] = row.rows, row.profile
    return stored


def _performance_key(row: Any) -> PerformanceKey:
    return PerformanceKey(row.model, row.kind, row.start_ms, row.version, row.reference, row.segment)


def _prune_detector(connection: Connection, model: str, start_ms: int) -> int:
    """Forget the states up to this pane, but not the newest one of a detector: it goes on from there."""
    newer = detector_state.alias()
    key = [getattr(newer.c, column.name) == column for column in _DETECTOR]
    has_newer = sa.exists().where(*key, newer.c.start_ms > _d.start_ms)
    old = (_d.model == model) & (_d.start_ms <= start_ms) & has_newer
    return connection.execute(sa.delete(detector_state).where(old)).rowcount
