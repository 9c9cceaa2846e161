"""A partition that stands still is named once; one that has nothing to read, or that stands still with all the others, is not."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from monitor.ports import PartitionId
from monitor.stalls import STALLED_AFTER_MS, Stalls
from monitor.telemetry import STALLS
from parts.world import T0, World, hour_of_events

A, B = PartitionId("t", 0), PartitionId("t", 1)
MINUTE = 60_000


def story(
    stalls: Stalls, minutes: range, a: object, b: object, *, waiting: bool = True
) -> list[tuple[int, PartitionId]]:
    """(minute, partition) of what was named; `a` and `b` say where the partitions stand at a minute."""
    found = []
    for minute in minutes:
        standing = {A: (a(minute), waiting), B: (b(minute), True)}  # type: ignore[operator]
        found += [(minute, partition) for partition in stalls.look(minute * MINUTE, standing)]
    return found


def test_a_partition_that_stands_still_for_ten_minutes_is_named_once() -> None:
    assert story(Stalls(), range(60), lambda minute: 5, lambda minute: minute) == [(10, A)]


def test_one_that_moves_again_may_be_named_again() -> None:
    assert story(Stalls(), range(60), lambda minute: minute // 25, lambda minute: minute) == [(10, A), (35, A)]


def test_a_partition_without_records_stands_still_rightly() -> None:
    assert story(Stalls(), range(60), lambda minute: 5, lambda minute: minute, waiting=False) == []


def test_the_time_runs_from_when_records_wait() -> None:
    stalls = Stalls()
    assert story(stalls, range(30), lambda minute: 5, lambda minute: minute, waiting=False) == []
    assert story(stalls, range(30, 60), lambda minute: 5, lambda minute: minute) == [(39, A)]


def test_where_all_stand_still_none_is_named() -> None:
    assert story(Stalls(), range(60), lambda minute: 5, lambda minute: 7) == []


def test_an_outage_is_nobodys_stall() -> None:
    stalls = Stalls()
    assert story(stalls, range(9), lambda minute: 5, lambda minute: minute) == []
    assert story(stalls, range(40, 50), lambda minute: 5, lambda minute: minute) == []
    assert story(stalls, range(50, 60), lambda minute: 5, lambda minute: minute) == [(50, A)]


def test_a_partition_that_was_away_begins_anew() -> None:
    stalls = Stalls()
    for minute in range(9):
        stalls.look(minute * MINUTE, {A: (5, True), B: (minute, True)})
    stalls.look(9 * MINUTE, {B: (9, True)})
    assert story(stalls, range(10, 20), lambda minute: 5, lambda minute: minute) == []


def test_the_loop_logs_and_counts_it(tmp_path: Path) -> None:
    world = World(tmp_path, partitions=2)
    world.read()
    stuck = world.partition(1)
    world.ingest.source.pause(stuck)
    world.send(hour_of_events(0, 10), partition=1)
    with capture_logs() as logs:
        for minute in range(25):
            world.clock.ms = T0 + minute * MINUTE
            world.send(hour_of_events(0, 1, seed=minute), partition=0)
            world.ingest.step(0.0)
            world.ingest.checkpoint()
    told = [line for line in logs if line["event"] == "partition stalled"]
    assert [(line["log_level"], line["topic"], line["partition"], line["offset"]) for line in told] == [
        ("error", stuck.topic, 1, 0)
    ]
    assert world.runtime.telemetry.values(STALLS) == {(stuck.topic,): 1}
    assert STALLED_AFTER_MS == 10 * MINUTE
    world.close()
