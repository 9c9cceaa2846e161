"""A harvest as rows of the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from monitor.clocks import Clock
from monitor.intake import Harvest
from monitor.ports import PartitionId
from monitor.store import Progress, QuarantineRow


def with_clocks(partitions: Sequence[Progress], harvest: Harvest) -> list[Progress]:
    """Each partition's progress with its newest prediction of any model, and whether it held outcomes."""
    newest: dict[PartitionId, Clock] = {}
    for (partition, _), clock in harvest.clocks.items():
        newest[partition] = clock.later(newest.get(partition))
    return [
        _with_clock(progress, newest.get(progress.partition), progress.partition in harvest.outcome_partitions)
        for progress in partitions
    ]


def quarantine_rows(source: str, harvest: Harvest) -> list[QuarantineRow]:
    return [
        QuarantineRow(
            source=source,
            topic=bad.partition.topic,
            partition=bad.partition.partition,
            offset=bad.offset,
            reason=str(bad.reason),
            detail=bad.detail,
        )
        for bad in harvest.quarantine
    ]


def _with_clock(progress: Progress, newest: Clock | None, outcomes: bool) -> Progress:
    if newest is None:
        return replace(progress, outcomes_seen=outcomes)
    return replace(progress, newest_ms=newest.newest_ms, newest_read_ms=newest.read_ms, outcomes_seen=outcomes)
