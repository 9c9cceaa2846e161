"""The edge where records come in: what a source hands out and what it is asked to do.

One contract suite (tests/contract/test_sources.py) runs on every source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class PartitionId(NamedTuple):
    """A partition of a topic; a file is a topic (its path as configured) with the one partition 0."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordChunk:
    """Consecutive records of one partition. `offsets` rise strictly but may have holes; `values[i]` is None for a null value.

    `timestamps_ms` are the broker's own (None where the source has none); `keys` only when the source was asked for them.
    """

    partition: PartitionId
    offsets: Sequence[int]
    values: Sequence[bytes | None]
    timestamps_ms: Sequence[int] | None = None
    keys: Sequence[bytes | None] | None = None


@dataclass(frozen=True, slots=True)
class Assigned:
    """These partitions are ours to claim. They are paused until `seek` and `resume`."""

    partitions: frozenset[PartitionId]


@dataclass(frozen=True, slots=True)
class Revoked:
    """These partitions are no longer ours; nothing was flushed for them. Also when they were lost."""

    partitions: frozenset[PartitionId]


@dataclass(frozen=True, slots=True)
class Halted:
    """A partition stops at `offset` because the batch there cannot be read; the others go on."""

    partition: PartitionId
    offset: int
    reason: str


@dataclass(frozen=True, slots=True)
class Truncated:
    """The wanted offset was no longer (or not yet) there: records between `wanted` and `available` are lost to us."""

    partition: PartitionId
    wanted: int
    available: int


SourceEvent = Assigned | Revoked | Halted | Truncated


class Source(Protocol):
    """Everything is called from one thread. `poll` returns within about its time-out and never raises for one partition's sake.

    Callers may not assume that an assigned partition delivers before it was sought and resumed, nor that `poll` returns records
    of a partition that `events` has revoked in the meantime: drain `events` after each `poll`, before using the chunks.
    """

    name: str

    def poll(self, max_records: int, timeout_seconds: float) -> list[RecordChunk]:
        """At most about `max_records` records. Raises TransientError when the broker is out of reach, UserError when it refuses us."""

    def events(self) -> list[SourceEvent]:
        """What happened since the last call, in order."""

    def partitions(self) -> Mapping[str, int]:
        """Topic -> number of partitions in the newest metadata, also of those that others own."""

    def seek(self, partition: PartitionId, offset: int) -> None: ...

    def resume(self, partition: PartitionId) -> None: ...

    def pause(self, partition: PartitionId) -> None: ...

    def start_offset(self, partition: PartitionId) -> int:
        """The offset at which the configured start policy begins a partition the store does not know."""

    def end_offsets(self, partitions: Sequence[PartitionId]) -> dict[PartitionId, int]:
        """One past the last record that can be read now (read_committed). May be asked for partitions that others own."""

    def caught_up(self, partition: PartitionId) -> bool:
        """True when everything up to the end offset known from the newest fetch has been handed out; False when unknown, halted or paused."""

    def courtesy_commit(self, offsets: Mapping[PartitionId, int]) -> None:
        """Tell lag tools how far the store has come. Best effort, never read back, never raises."""

    def close(self) -> None:
        """Leave the group, idempotent."""
