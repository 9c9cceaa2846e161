"""Watermarks: how far event time has certainly come, per model, from what has been read of each partition.

A partition's clock runs with its own stream. Only while the partition is read to its end does it go on at the speed of the wall clock,
from the stream's own time; a backlog, a paused or an unowned partition holds. DESIGN: watermark of (partition, model) =
newest prediction time there - lateness + max(0, c - a).

A bounded partition (a table, a compressed file) that was read to its end has nothing more to say: it holds no model that a stream
carries. Where files are all there is they hold as streams do, so a replay closes what the files tell, in the files' own time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Clock(NamedTuple):
    """The newest prediction time seen and the time at which that record was read."""

    newest_ms: int
    read_ms: int

    def later(self, other: Clock | None) -> Clock:
        """The clock with the newer prediction; of equals the one read first, so that any order of batches gives one result."""
        if other is None or self.newest_ms > other.newest_ms:
            return self
        if other.newest_ms > self.newest_ms:
            return other
        return self if self.read_ms <= other.read_ms else other


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionClock:
    """What the watermark needs of one partition: its newest prediction of any model, and the time up to whose end offset it was read.

    `bounded`: it never grows, so once it was read to its end it is finished.
    """

    any_model: Clock | None
    caught_up_ms: int | None
    bounded: bool = False

    @property
    def finished(self) -> bool:
        return self.bounded and self.caught_up_ms is not None


def model_watermark(partitions: Iterable[tuple[PartitionClock, Clock | None]], lateness_ms: int) -> int | None:
    """The minimum over the partitions of (partition clock, this model's clock there); None while one holds back everything.

    A partition that was read to its end and has held no prediction at all (only outcomes, or nothing) is left out; one that has
    held none but is not known to be read to its end may still hold old ones, so there is no watermark yet.
    A finished one is left out as soon as a partition that goes on has held a prediction of this very model; others say nothing of it.
    """
    all_of_them = list(partitions)
    streamed = any(own is not None and not partition.bounded for partition, own in all_of_them)
    watermark: int | None = None
    for partition, own in all_of_them:
        if streamed and partition.finished:
            continue
        clock = own or partition.any_model
        if clock is None:
            if partition.caught_up_ms is None:
                return None
            continue
        quiet_ms = max(0, (partition.caught_up_ms or 0) - clock.read_ms)
        reached_ms = clock.newest_ms - lateness_ms + quiet_ms
        watermark = reached_ms if watermark is None else min(watermark, reached_ms)
    return watermark
