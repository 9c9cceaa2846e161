"""The watermark of every model, from what all workers have stored of their partitions. The rule is monitor/clocks.py."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from monitor.clocks import Clock, PartitionClock, model_watermark
from monitor.ports import PartitionId
from monitor.store import PartitionState, Store

Bounded = Callable[[str, PartitionId], bool]


def stored_watermarks(
    store: Store, lateness_ms: Mapping[str, int], groups: Collection[str], bounded: Bounded
) -> dict[str, int | None]:
    """Model -> watermark, None while one partition holds back everything. The partitions of `groups` count, or all where it is empty.

    `bounded(source, partition)`: whether that partition never grows.
    """
    partitions = [state for state in store.partition_states() if not groups or state.group in groups]
    of_any_model = [(state, _clock(state, bounded(state.group, state.partition))) for state in partitions]
    own = store.model_clocks()
    return {
        model: model_watermark(
            ((clock, own.get((state.group, state.partition, model))) for state, clock in of_any_model), lateness
        )
        for model, lateness in lateness_ms.items()
    }


def outcome_watermarks(
    store: Store, lateness_ms: Mapping[str, int], groups: Collection[str], bounded: Bounded
) -> dict[str, int | None]:
    """Model -> how far its outcomes have certainly come, by their own times; made as the watermark of predictions is."""
    own = store.outcome_clocks()
    newest: dict[tuple[str, PartitionId], Clock] = {}
    for (group, partition, _), clock in own.items():
        newest[group, partition] = clock.later(newest.get((group, partition)))
    partitions = [state for state in store.partition_states() if not groups or state.group in groups]
    clocks = [
        (
            state,
            PartitionClock(
                any_model=newest.get((state.group, state.partition)),
                caught_up_ms=state.caught_up_ms,
                bounded=bounded(state.group, state.partition),
            ),
        )
        for state in partitions
    ]
    return {
        model: model_watermark(
            ((clock, own.get((state.group, state.partition, model))) for state, clock in clocks), lateness
        )
        for model, lateness in lateness_ms.items()
    }


def _clock(state: PartitionState, bounded: bool) -> PartitionClock:
    newest = Clock(state.newest_ms, state.newest_read_ms or 0) if state.newest_ms is not None else None
    return PartitionClock(any_model=newest, caught_up_ms=state.caught_up_ms, bounded=bounded)
