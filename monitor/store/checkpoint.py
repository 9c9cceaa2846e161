"""The checkpoint: state, quarantine and offsets of the records just read, in one transaction or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from detectors.profile import Profile, decode, encode, merge
from monitor.errors import TransientError
from monitor.failpoints import reach
from monitor.joining.columns import Submission
from monitor.joining.outcomes import Contributions
from monitor.ports import PartitionId
from monitor.store.engine import Database, chunks, greatest, upsert, values_of
from monitor.store.outcomes import Join
from monitor.store.performance import add_performance, raise_outcome_clocks
from monitor.store.records import (
    Checkpoint,
    CheckpointResult,
    PaneKey,
    PartitionsFencedError,
    Progress,
    StaleReferences,
)
from monitor.store.references import generation
from monitor.store.sources import is_one_of
from monitor.store.tables import (
    FINAL,
    OPEN,
    gap,
    model_clock,
    model_state,
    pane,
    quarantine,
    source_partition,
    state,
    unconfigured,
)

UNCONFIGURED_NAMES_MAX = 100  # a group; a producer that makes up names must not fill the store

_STATE_KEY = [state.c.model, state.c.version, state.c.reference, state.c.start_ms]  # in the order of PaneKey


def checkpoint(db: Database, join: Join, c: Checkpoint) -> CheckpointResult:
    """Raises PartitionsFencedError, StaleReferences, TransientError; nothing is stored then, with one exception: a TransientError
    may hide a commit that did land. To repeat the same checkpoint is right: it finds its own offsets and stores nothing twice."""
    result = None
    submitted = join.prepare(c.join)
    try:
        with db.write() as connection:
            is_new = _advance(connection, c)
            result = _store(connection, c, join, submitted) if is_new else CheckpointResult(late_rows={}, new_panes=0)
            reach("before_commit")
        reach("after_commit")
    except TransientError:
        if result is None or not _landed(db, c):
            raise
    return result


def _store(connection: Connection, c: Checkpoint, join: Join, submitted: Submission | None) -> CheckpointResult:
    if generation(connection, share=True) != c.reference_generation:
        raise StaleReferences("references were added since this worker read them")
    result, open_panes = _mark_panes(connection, c)
    _add_state(connection, c, open_panes)
    settled = None if submitted is None else join.settle(connection, submitted)
    reach("after_join")
    if settled is not None:
        late = _add_performance(connection, c, settled.contributions)
        result = replace(result, join=settled.counts._replace(late=late))
    _raise_clocks(connection, c)
    raise_outcome_clocks(connection, c.group, c.outcome_clocks)
    if c.quarantine:
        rows = [values_of(row, recorded_at_ms=c.now_ms) for row in c.quarantine]
        connection.execute(sa.insert(quarantine), rows)
    if c.gaps:
        connection.execute(sa.insert(gap), [values_of(row, recorded_at_ms=c.now_ms) for row in c.gaps])
    if c.unconfigured:
        _count_unconfigured(connection, c)
    return result


def _add_performance(connection: Connection, c: Checkpoint, changed: Contributions) -> int:
    """Add what the join changed to the performance of its panes; returns the rows that came too late for theirs."""
    if c.fold is None or not (changed.predicted or changed.labelled):
        return 0
    return add_performance(connection, c.writer, c.fold(changed), c.merges, c.now_ms)


def _advance(connection: Connection, c: Checkpoint) -> bool:
    """Compare and set the offset of every partition. False when this very checkpoint had been stored before."""
    standing = _standing(connection, c, lock=True)
    if _is_stored(standing, c):
        return False
    fenced = [p.partition for p in c.partitions if standing.get(p.partition) != (c.owner, p.epoch, p.from_offset)]
    if fenced:
        raise PartitionsFencedError(sorted(fenced))
    if c.partitions:
        connection.execute(_ADVANCE, [_advance_parameters(c, progress) for progress in c.partitions])
    return True


Standing = dict[PartitionId, tuple[str | None, int, int | None]]


def _standing(connection: Connection, c: Checkpoint, *, lock: bool) -> Standing:
    """Owner, epoch and next offset of the checkpoint's partitions."""
    t = source_partition.c
    keys = [progress.partition for progress in c.partitions]
    statement = (
        sa.select(t.topic, t.partition, t.owner, t.epoch, t.next_offset)
        .where(t.source_group == c.group, is_one_of(keys))
        .order_by(t.topic, t.partition)
    )
    rows = connection.execute(statement.with_for_update() if lock else statement)
    return {PartitionId(row.topic, row.partition): (row.owner, row.epoch, row.next_offset) for row in rows}


def _is_stored(standing: Standing, c: Checkpoint) -> bool:
    # Under one claim only its owner moves an offset, from where it stood last: if all are at our ends, we put them there.
    moved = any(progress.to_offset > progress.from_offset for progress in c.partitions)
    return moved and all(standing.get(p.partition) == (c.owner, p.epoch, p.to_offset) for p in c.partitions)


def _landed(db: Database, c: Checkpoint) -> bool:
    """Whether a commit whose answer was lost took effect. Raises TransientError while that cannot be known."""
    with db.read() as connection:
        return _is_stored(_standing(connection, c, lock=False), c)


def _newer(stored: sa.ColumnElement[Any], given: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    return given.is_not(None) & (stored.is_(None) | (given > stored))


def _advance_statement() -> sa.Update:
    t = source_partition.c
    newest, caught_up = sa.bindparam("p_newest", type_=sa.BigInteger), sa.bindparam("p_caught_up", type_=sa.BigInteger)
    read = sa.bindparam("p_newest_read", type_=sa.BigInteger)
    newer = _newer(t.newest_ms, newest)
    return (
        sa.update(source_partition)
        .where(t.source_group == sa.bindparam("p_group"), t.topic == sa.bindparam("p_topic"))
        .where(t.partition == sa.bindparam("p_partition"))
        .values(
            next_offset=sa.bindparam("p_to"),
            newest_ms=sa.case((newer, newest), else_=t.newest_ms),
            newest_read_ms=sa.case((newer, read), else_=t.newest_read_ms),
            caught_up_ms=greatest(t.caught_up_ms, caught_up),
            outcomes_seen=t.outcomes_seen | sa.bindparam("p_outcomes", type_=sa.Boolean),
            renewed_at_ms=sa.bindparam("p_now"),
        )
    )


_ADVANCE = _advance_statement()


def _advance_parameters(c: Checkpoint, progress: Progress) -> dict[str, Any]:
    return {
        "p_group": c.group,
        "p_topic": progress.partition.topic,
        "p_partition": progress.partition.partition,
        "p_to": progress.to_offset,
        "p_newest": progress.newest_ms,
        "p_newest_read": progress.newest_read_ms,
        "p_caught_up": progress.caught_up_ms,
        "p_outcomes": progress.outcomes_seen,
        "p_now": c.now_ms,
    }


def _mark_panes(connection: Connection, c: Checkpoint) -> tuple[CheckpointResult, set[tuple[str, int]]]:
    """Mark the touched panes dirty, which locks them; returns those that are open with the result. Final ones count their late rows."""
    starts = sorted({(key.model, key.start_ms) for key in c.deltas})
    if not starts:
        return CheckpointResult(late_rows={}, new_panes=0), set()
    final_before = _final_before(connection, {model for model, _ in starts})
    insert = upsert(connection, pane)
    statement = insert.on_conflict_do_update(
        index_elements=[pane.c.model, pane.c.start_ms],
        set_={
            "dirty": pane.c.status == OPEN,
            "checkpoints": pane.c.checkpoints + 1,
            "written_at_ms": insert.excluded.written_at_ms,
        },
    ).returning(pane.c.model, pane.c.start_ms, pane.c.status, pane.c.checkpoints)
    rows = [_pane_row(model, start, start < final_before.get(model, start), c.now_ms) for model, start in starts]
    marked = connection.execute(statement, rows).all()
    late = _count_late_rows(connection, c, {(row.model, row.start_ms) for row in marked if row.status == FINAL})
    new = sum(row.checkpoints == 1 for row in marked)
    return CheckpointResult(late_rows=late, new_panes=new), {(r.model, r.start_ms) for r in marked if r.status == OPEN}


def _pane_row(model: str, start_ms: int, final: bool, now_ms: int) -> dict[str, Any]:
    row = {"model": model, "start_ms": start_ms, "status": FINAL if final else OPEN, "dirty": not final}
    return row | {"late_rows": 0, "checkpoints": 1, "written_at_ms": now_ms}


def _final_before(connection: Connection, models: set[str]) -> dict[str, int]:
    t = model_state.c
    statement = sa.select(t.model, t.final_before_ms).where(t.model.in_(sorted(models)), t.final_before_ms.is_not(None))
    return {row.model: row.final_before_ms for row in connection.execute(statement)}


def _count_late_rows(connection: Connection, c: Checkpoint, final: set[tuple[str, int]]) -> dict[str, int]:
    late: dict[tuple[str, int], int] = {}
    for key, profile in c.deltas.items():
        if (key.model, key.start_ms) in final:
            late[key.model, key.start_ms] = late.get((key.model, key.start_ms), 0) + profile.rows
    by_model: dict[str, int] = {}
    for (model, start), rows in sorted(late.items()):
        by_model[model] = by_model.get(model, 0) + rows
        this = (pane.c.model == model) & (pane.c.start_ms == start)
        connection.execute(sa.update(pane).where(this).values(late_rows=pane.c.late_rows + rows))
    return by_model


def _add_state(connection: Connection, c: Checkpoint, open_panes: set[tuple[str, int]]) -> None:
    """Overwrite our own rows of the open panes with their new totals."""
    deltas = {key: delta for key, delta in sorted(c.deltas.items()) if (key.model, key.start_ms) in open_panes}
    stored = _own_profiles(connection, c.writer, deltas)
    rows = []
    for key, delta in deltas.items():
        total = merge(decode(stored[key], None), delta) if key in stored else delta
        rows.append(key._asdict() | {"writer": c.writer, "rows": total.rows, "profile": encode(total)})
    if rows:
        insert = upsert(connection, state)
        statement = insert.on_conflict_do_update(
            index_elements=[*_STATE_KEY, state.c.writer],
            set_={"rows": insert.excluded.rows, "profile": insert.excluded.profile},
        )
        connection.execute(statement, rows)


def _own_profiles(connection: Connection, writer: str, keys: Mapping[PaneKey, Profile]) -> dict[PaneKey, bytes]:
    stored = {}
    for some in chunks(list(keys)):
        statement = sa.select(*_STATE_KEY, state.c.profile).where(
            sa.tuple_(*_STATE_KEY).in_(some), state.c.writer == writer
        )
        stored.update({PaneKey(*row[:4]): row.profile for row in connection.execute(statement)})
    return stored


def _raise_clocks(connection: Connection, c: Checkpoint) -> None:
    rows = [
        {"source_group": c.group, "topic": partition.topic, "partition": partition.partition, "model": model}
        | {"newest_ms": clock.newest_ms, "read_ms": clock.read_ms}
        for (partition, model), clock in sorted(c.clocks.items())
    ]
    if not rows:
        return
    insert = upsert(connection, model_clock)
    statement = insert.on_conflict_do_update(
        index_elements=list(model_clock.primary_key),
        set_={"newest_ms": insert.excluded.newest_ms, "read_ms": insert.excluded.read_ms},
        where=insert.excluded.newest_ms > model_clock.c.newest_ms,  # an equal one keeps the time it was first read
    )
    connection.execute(statement, rows)


def _count_unconfigured(connection: Connection, c: Checkpoint) -> None:
    insert = upsert(connection, unconfigured)
    statement = insert.on_conflict_do_update(
        index_elements=[unconfigured.c.source_group, unconfigured.c.model],
        set_={"records": unconfigured.c.records + insert.excluded.records},
    )
    # The row of the rest comes first: its lock makes the group's workers count names one after the other.
    connection.execute(statement, {"source_group": c.group, "model": "", "records": 0})
    names = sa.select(unconfigured.c.model).where(unconfigured.c.source_group == c.group, unconfigured.c.model != "")
    kept = set(connection.scalars(names))
    counts: dict[str, int] = {}
    for model, records in sorted(c.unconfigured.items()):
        name = model if model in kept or len(kept) < UNCONFIGURED_NAMES_MAX else ""
        counts[name] = counts.get(name, 0) + records
        kept |= {name} - {""}
    rows = [{"source_group": c.group, "model": name, "records": records} for name, records in sorted(counts.items())]
    connection.execute(statement, rows)
