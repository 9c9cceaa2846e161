"""An event log inside the process: topics with partitions, consumer groups, a limit. What the demo writes to, and Kafka's shape without Kafka."""

from __future__ import annotations

import threading
import time
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from monitor.errors import DriftlineError, UserError
from monitor.ports import Assigned, Halted, PartitionId, RecordChunk, Revoked, SourceEvent, Truncated


class FullError(DriftlineError):
    """The log holds as many records as it may, and no group has come further."""


class MemoryLog:
    """Thread-safe. Holds at most `limit_records`; records that every group has committed past are dropped to make room.

    A group counts from its first commit on (`MemorySource.courtesy_commit`); without any nothing is dropped.
    """

    def __init__(self, topics: Mapping[str, int], limit_records: int = 1_000_000) -> None:
        self._changed = threading.Condition()
        self._partitions = {
            PartitionId(topic, i): _Partition() for topic, count in topics.items() for i in range(count)
        }
        self._topics = dict(topics)
        self._groups: dict[str, _Group] = {}
        self._limit, self._held, self._next = limit_records, 0, 0

    def append(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        timestamp_ms: int = -1,
        timeout_seconds: float = 0.0,
    ) -> tuple[PartitionId, int]:
        """Write one record; where it went. The partition is the given one, else the key's, else the next in turn.

        Raises FullError when there is no room within `timeout_seconds`, UserError for a topic that does not exist.
        """
        if topic not in self._topics:
            raise UserError(f"the embedded log has no topic {topic}")
        with self._changed:
            if not self._changed.wait_for(self._make_room, timeout_seconds):
                raise FullError(f"the embedded log holds its {self._limit:,} records and nobody has read on")
            where = PartitionId(topic, self._choose(topic, key, partition))
            offset = self._partitions[where].append(value, key, timestamp_ms)
            self._held += 1
            self._changed.notify_all()
        return where, offset

    def partitions(self) -> Mapping[str, int]:
        """Topic -> number of partitions."""
        return dict(self._topics)

    def _choose(self, topic: str, key: bytes | None, partition: int | None) -> int:
        if partition is not None:
            return partition
        if key is not None:
            return zlib.crc32(key) % self._topics[topic]
        self._next += 1
        return self._next % self._topics[topic]

    def _make_room(self) -> bool:
        if self._held < self._limit:
            return True
        done = [group.committed for group in self._groups.values() if group.committed]
        for where, partition in self._partitions.items():
            if done:
                self._held -= partition.drop_before(min(committed.get(where, 0) for committed in done))
        return self._held < self._limit


@dataclass(slots=True)
class _Partition:
    start: int = 0
    values: list[bytes | None] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    timestamps_ms: list[int] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.start + len(self.values)

    def append(self, value: bytes | None, key: bytes | None, timestamp_ms: int) -> int:
        self.values.append(value)
        self.keys.append(key)
        self.timestamps_ms.append(timestamp_ms)
        return self.end - 1

    def drop_before(self, offset: int) -> int:
        count = max(0, min(offset, self.end) - self.start)
        for column in (self.values, self.keys, self.timestamps_ms):
            del column[:count]
        self.start += count
        return count


@dataclass(slots=True)
class _Group:
    members: list[MemorySource] = field(default_factory=list)
    committed: dict[PartitionId, int] = field(default_factory=dict)


class MemorySource:
    """One member of a group on a MemoryLog. See monitor.ports.Source; several members share the partitions, one thread each.

    `start` is "earliest", "latest" or a time in ms UTC.
    """

    leased = False

    def __init__(
        self,
        log: MemoryLog,
        group: str,
        topics: Sequence[str],
        name: str,
        *,
        start: str | int = "earliest",
        keys: bool = False,
    ) -> None:
        for topic in topics:
            if topic not in log.partitions():
                raise UserError(f"source {name}: the embedded log has no topic {topic}")
        self.name = name
        self._log, self._topics, self._start, self._keys = log, tuple(topics), start, keys
        self._events: deque[SourceEvent] = deque()
        self._positions: dict[PartitionId, int | None] = {}  # what is ours; None before the first seek
        self._flowing: dict[PartitionId, None] = {}  # resumed, the one to be read next first
        self._group = log._groups.setdefault(group, _Group())
        with log._changed:
            self._group.members.append(self)
            _rebalance(log, self._group)

    def poll(self, max_records: int, timeout_seconds: float) -> list[RecordChunk]:
        """See the port."""
        until = time.monotonic() + timeout_seconds
        with self._log._changed:
            while True:
                chunks = self._take(max_records)
                left = until - time.monotonic()
                if chunks or left <= 0 or self._events:
                    return chunks
                self._log._changed.wait(left)

    def events(self) -> list[SourceEvent]:
        """See the port."""
        with self._log._changed:
            drained = list(self._events)
            self._events.clear()
        return drained

    def partitions(self) -> Mapping[str, int]:
        """See the port."""
        return {topic: self._log.partitions()[topic] for topic in self._topics}

    def seek(self, partition: PartitionId, offset: int) -> None:
        """See the port. Nothing happens for a partition that is no longer ours."""
        with self._log._changed:
            if partition in self._positions:
                self._positions[partition] = offset

    def resume(self, partition: PartitionId) -> None:
        """See the port."""
        with self._log._changed:
            if self._positions.get(partition) is not None:
                self._flowing[partition] = None

    def pause(self, partition: PartitionId) -> None:
        """See the port."""
        with self._log._changed:
            self._flowing.pop(partition, None)

    def start_offset(self, partition: PartitionId) -> int:
        """See the port."""
        with self._log._changed:
            data = self._log._partitions[partition]
            if self._start == "latest":
                return data.end
            if isinstance(self._start, int):
                wanted = self._start
                return next((data.start + i for i, at in enumerate(data.timestamps_ms) if at >= wanted), data.end)
            return data.start

    def end_offsets(self, partitions: Sequence[PartitionId]) -> dict[PartitionId, int]:
        """See the port."""
        with self._log._changed:
            return {partition: self._log._partitions[partition].end for partition in partitions}

    def caught_up(self, partition: PartitionId) -> bool:
        """See the port."""
        with self._log._changed:
            return partition in self._flowing and self._positions.get(partition) == self._log._partitions[partition].end

    def position(self, partition: PartitionId) -> int | None:
        """The next offset to be handed out; None when it is not ours or was never sought."""
        with self._log._changed:
            return self._positions.get(partition)

    def explained_hole(self, _partition: PartitionId, _from_offset: int, _to_offset: int) -> bool:
        """Always False: this log has no holes."""
        return False

    def courtesy_commit(self, offsets: Mapping[PartitionId, int]) -> None:
        """See the port. What every group has committed makes room in a full log."""
        with self._log._changed:
            self._group.committed.update(offsets)
            self._log._changed.notify_all()

    def close(self) -> None:
        """See the port."""
        with self._log._changed:
            if self in self._group.members:
                self._group.members.remove(self)
                self._positions.clear()
                self._flowing.clear()
                _rebalance(self._log, self._group)

    def _take(self, max_records: int) -> list[RecordChunk]:
        chunks: list[RecordChunk] = []
        for partition in list(self._flowing):
            data, position = self._log._partitions[partition], self._positions[partition]
            if position is None or max_records <= 0:
                continue
            if position < data.start:
                self._events.append(Truncated(partition, position, data.start))
                self._positions[partition] = position = data.start
            if position > data.end:
                del self._flowing[partition]
                self._events.append(
                    Halted(partition, position, f"offset {position} lies beyond the end of the log, {data.end}")
                )
                continue
            stop = min(data.end, position + max_records)
            if stop > position:
                chunks.append(self._chunk(partition, data, position, stop))
                self._positions[partition] = stop
                max_records -= stop - position
                del self._flowing[partition]  # the others first, next time
                self._flowing[partition] = None
        return chunks

    def _chunk(self, partition: PartitionId, data: _Partition, position: int, stop: int) -> RecordChunk:
        wanted = slice(position - data.start, stop - data.start)
        return RecordChunk(
            partition=partition,
            offsets=range(position, stop),
            values=data.values[wanted],
            timestamps_ms=data.timestamps_ms[wanted],
            keys=data.keys[wanted] if self._keys else None,
        )

    def _reassign(self, partitions: frozenset[PartitionId]) -> None:
        if self._positions:
            self._events.append(Revoked(frozenset(self._positions)))
        self._positions = dict.fromkeys(partitions)
        self._flowing.clear()
        if partitions:
            self._events.append(Assigned(partitions))


def _rebalance(log: MemoryLog, group: _Group) -> None:
    """Everybody gives up everything and is dealt the partitions in turn, as in Kafka's eager protocol."""
    members = group.members
    for i, member in enumerate(members):
        wanted = {topic for other in members for topic in other._topics}
        dealt = [partition for partition in sorted(log._partitions) if partition.topic in wanted]
        member._reassign(frozenset(p for j, p in enumerate(dealt) if j % len(members) == i))
    log._changed.notify_all()
