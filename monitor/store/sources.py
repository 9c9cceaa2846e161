"""Who reads which partition, and how far it has been read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from monitor.ports import PartitionId
from monitor.store.engine import Database, upsert
from monitor.store.records import Claim, Clock, PartitionsFencedError, PartitionState
from monitor.store.tables import model_clock, source_partition

_c = source_partition.c
_KEY = [_c.source_group, _c.topic, _c.partition]


def sync_topics(db: Database, group: str, topics: Mapping[str, int], now_ms: int) -> None:
    partitions = [PartitionId(topic, number) for topic, count in sorted(topics.items()) for number in range(count)]
    known = {state.partition for state in partition_states(db, group)}
    rows = [_new_row(group, partition, now_ms) for partition in partitions if partition not in known]
    if rows:
        with db.write() as connection:
            connection.execute(upsert(connection, source_partition).on_conflict_do_nothing(), rows)


def claim(
    db: Database, group: str, partitions: Iterable[PartitionId], owner: str, now_ms: int
) -> dict[PartitionId, Claim]:
    """On PostgreSQL the update waits for a checkpoint of the former owner and then sees the offset it stored."""
    rows = [_new_row(group, partition, now_ms) | {"owner": owner, "epoch": 1} for partition in sorted(partitions)]
    if not rows:
        return {}
    with db.write() as connection:
        insert = upsert(connection, source_partition)
        statement = insert.on_conflict_do_update(
            index_elements=_KEY,
            set_={
                "owner": insert.excluded.owner,
                "epoch": _c.epoch + 1,
                "halted": sa.null(),
                "renewed_at_ms": insert.excluded.renewed_at_ms,
            },
        ).returning(_c.topic, _c.partition, _c.epoch, _c.next_offset)
        claimed = connection.execute(statement, rows).all()
    return {PartitionId(row.topic, row.partition): Claim(row.epoch, row.next_offset) for row in claimed}


def set_start(db: Database, group: str, partition: PartitionId, epoch: int, next_offset: int) -> None:
    _update_claimed(db, group, partition, epoch, next_offset=next_offset)


def halt(db: Database, group: str, partition: PartitionId, epoch: int, reason: str) -> None:
    _update_claimed(db, group, partition, epoch, halted=reason)


def claimable(
    db: Database,
    group: str,
    topics: Iterable[str],
    owner: str,
    *,
    now_ms: int,
    lease_ms: int,
    is_alive: Callable[[str], bool],
) -> list[PartitionId]:
    wanted = set(topics)
    statement = (
        sa.select(_c.topic, _c.partition, _c.owner, _c.renewed_at_ms).where(_c.source_group == group).order_by(*_KEY)
    )
    with db.read() as connection:
        rows = connection.execute(statement).all()
    return [
        PartitionId(row.topic, row.partition)
        for row in rows
        if row.topic in wanted
        and row.owner != owner
        and (row.owner is None or row.renewed_at_ms + lease_ms <= now_ms or not is_alive(row.owner))
    ]


def renew(db: Database, group: str, owner: str, now_ms: int) -> None:
    _update_owned(db, group, owner, {"renewed_at_ms": now_ms})


def release(db: Database, group: str, owner: str) -> None:
    _update_owned(db, group, owner, {"owner": None})


def partition_states(db: Database, group: str | None = None) -> list[PartitionState]:
    statement = sa.select(source_partition).order_by(*_KEY)
    if group is not None:
        statement = statement.where(_c.source_group == group)
    with db.read() as connection:
        return [_partition_state(row) for row in connection.execute(statement)]


def model_clocks(db: Database, group: str | None = None) -> dict[tuple[str, PartitionId, str], Clock]:
    statement = sa.select(model_clock)
    if group is not None:
        statement = statement.where(model_clock.c.source_group == group)
    with db.read() as connection:
        return {
            (row.source_group, PartitionId(row.topic, row.partition), row.model): Clock(row.newest_ms, row.read_ms)
            for row in connection.execute(statement)
        }


def is_one_of(partitions: Sequence[PartitionId]) -> sa.ColumnElement[bool]:
    """A condition on `source_partition`."""
    return sa.tuple_(_c.topic, _c.partition).in_(partitions)


def _update_claimed(db: Database, group: str, partition: PartitionId, epoch: int, **values: object) -> None:
    # No two claims of a partition have the same epoch: it stands for the owner too.
    mine = (_c.source_group == group) & is_one_of([partition]) & (_c.epoch == epoch) & _c.owner.is_not(None)
    with db.write() as connection:
        if connection.execute(sa.update(source_partition).where(mine).values(values)).rowcount != 1:
            raise PartitionsFencedError([partition])


def _update_owned(db: Database, group: str, owner: str, values: Mapping[str, object]) -> None:
    # Locked in key order first, as a checkpoint does: an UPDATE alone takes them in any order and could deadlock with one.
    mine = (_c.source_group == group) & (_c.owner == owner)
    with db.write() as connection:
        connection.execute(sa.select(_c.topic).where(mine).order_by(*_KEY).with_for_update()).all()
        connection.execute(sa.update(source_partition).where(mine).values(values))


def _new_row(group: str, partition: PartitionId, now_ms: int) -> dict[str, Any]:
    return {
        "source_group": group,
        "topic": partition.topic,
        "partition": partition.partition,
        "owner": None,
        "epoch": 0,
        "outcomes_seen": False,
        "renewed_at_ms": now_ms,
    }


def _partition_state(row: sa.Row[Any]) -> PartitionState:
    return PartitionState(
        group=row.source_group,
        partition=PartitionId(row.topic, row.partition),
        next_offset=row.next_offset,
        epoch=row.epoch,
        owner=row.owner,
        newest_ms=row.newest_ms,
        newest_read_ms=row.newest_read_ms,
        caught_up_ms=row.caught_up_ms,
        outcomes_seen=row.outcomes_seen,
        halted=row.halted,
    )
