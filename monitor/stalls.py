"""Which partitions stand still though records wait in them, while others are read: a fetch or a claim that is stuck. Pure; times in ms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from monitor.ports import PartitionId

STALLED_AFTER_MS = 600_000
GAP_MS = STALLED_AFTER_MS // 2  # between two looks: what happened in a longer one (an outage) is nobody's stall


@dataclass(slots=True)
class _Seen:
    """`since_ms`: when it last moved or had nothing waiting; `moved_ms`: when it last moved."""

    offset: int
    since_ms: int
    moved_ms: int | None = None
    told: bool = False


class Stalls:
    """One worker's partitions, looked at every now and then."""

    def __init__(self) -> None:
        self._seen: dict[PartitionId, _Seen] = {}
        self._looked_ms: int | None = None

    def look(self, now_ms: int, standing: Mapping[PartitionId, tuple[int, bool]]) -> list[PartitionId]:
        """The partitions that have come to stand still: waiting records, and no progress for ten minutes in which another one made some.

        `standing`: of every partition that is ours, its next offset and whether records wait behind it. Each is named once, until it
        moves again. A worker whose partitions all stand still names none: then it is the broker or the store, which others tell of.
        """
        if self._looked_ms is not None and now_ms - self._looked_ms > GAP_MS:
            self._seen = {}
        self._looked_ms = now_ms
        self._seen = {
            partition: self._now(self._seen.get(partition), now_ms, offset, waiting)
            for partition, (offset, waiting) in standing.items()
        }
        stalled = []
        for partition, seen in sorted(self._seen.items()):
            if not seen.told and now_ms - seen.since_ms >= STALLED_AFTER_MS and self._others_moved(seen):
                seen.told = True
                stalled.append(partition)
        return stalled

    @staticmethod
    def _now(seen: _Seen | None, now_ms: int, offset: int, waiting: bool) -> _Seen:
        if seen is None:
            return _Seen(offset, now_ms)
        if offset != seen.offset:
            return _Seen(offset, now_ms, now_ms)
        if not waiting:
            seen.since_ms, seen.told = now_ms, False
        return seen

    def _others_moved(self, seen: _Seen) -> bool:
        return any(other.moved_ms is not None and other.moved_ms > seen.since_ms for other in self._seen.values())
