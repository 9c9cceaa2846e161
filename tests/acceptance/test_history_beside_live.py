"""Files of the past beside a stream that goes on: what the files hold is judged, then the stream closes at its own pace."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.ingest import Ingest, Pace
from monitor.sources.opening import open_source
from monitor.store import WindowRow
from parts.world import CONFIG, HOUR, T0, World, hour_of_events

SOURCES = """
sources:
  live: {{memory: {{}}}}
  history: {{file: {{paths: [%s]}}}}
"""


def world_with(folder: Path, pattern: str = "*.jsonl*", **pace: object) -> tuple[World, Ingest]:
    """A stream, and a reader of the files in the folder."""
    world = World(folder, CONFIG + SOURCES % f"'{pattern}'")
    source = open_source("history", world.config.sources["history"], world.config, follow=pace.get("live") is not False)
    reader = Ingest(
        source,
        world.store,
        world.runtime.new_intake,
        owner="h",
        writer="h",
        pace=Pace(now_ms=world.clock, **{"checkpoint_ms": 1_000, **pace}),  # type: ignore[arg-type]
        telemetry=world.runtime.telemetry,
    )
    return world, reader


def write(path: Path, hours: range, seed: int = 0) -> None:
    lines = b"".join(value + b"\n" for hour in hours for value in hour_of_events(hour, seed=seed))
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)


def read_file(world: World, reader: Ingest) -> None:
    """To the end, closing as it goes; then note that the end was seen."""
    while reader.step(0.0) or not reader.owned or not all(map(reader.source.caught_up, reader.owned)):
        world.closer.step()
    reader.step(0.0)
    reader.checkpoint()
    world.closer.step()


def closed(world: World) -> list[int]:
    return [(row.start_ms - T0) // HOUR for row in world.windows("data") if row.rows]


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[tuple[World, Ingest]]:
    """Three hours of a model in a file, from long before the stream."""
    write(tmp_path / "events.jsonl.gz", range(3))
    world, reader = world_with(tmp_path)
    yield world, reader
    reader.close()
    world.close()


def test_a_file_read_to_its_end_does_not_stall_the_stream(beside: tuple[World, Ingest]) -> None:
    world, reader = beside
    world.clock.ms = T0 + 500 * HOUR
    read_file(world, reader)
    world.live([500, 501])
    assert closed(world) == [0, 1, 2, 500, 501]
    assert [row.status for row in world.windows("data") if row.rows] == ["final"] * 5


def test_a_file_that_is_not_read_yet_holds_the_stream(beside: tuple[World, Ingest]) -> None:
    """Nothing is final before what the file holds is in."""
    world, reader = beside
    reader._sync_topics(0)  # a service opens all its sources before it closes anything
    world.live([500, 501])
    read_none = closed(world)
    read_file(world, reader)
    world.turn(502.5)
    assert read_none == []
    assert closed(world) == [0, 1, 2, 500, 501]
    assert [row.revision for row in world.windows("data") if row.rows] == [1] * 5
    assert world.store.panes()[0].late_rows == 0


def test_until_the_stream_carries_the_model_the_file_keeps_its_time(beside: tuple[World, Ingest]) -> None:
    """What the stream tells of other models closes nothing of this one."""
    world, reader = beside
    world.clock.ms = T0 + 500 * HOUR
    read_file(world, reader)
    world.send(hour_of_events(500, model="other"))
    world.turn(501)
    world.turn(501.2)
    assert closed(world) == [0, 1]
    assert {row.state for row in world.windows("volume")} == {"ok"}, "no silence is made up"


def test_a_file_that_is_followed_is_a_stream(tmp_path: Path) -> None:
    """A plain file may grow, so what comes in it must find its windows open."""
    write(tmp_path / "events.jsonl", range(3))
    world, reader = world_with(tmp_path)
    world.clock.ms = T0 + 500 * HOUR
    read_file(world, reader)
    world.live([500, 501])
    assert closed(world) == [0, 1]
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b"\n".join(hour_of_events(502)) + b"\n")
    world.clock.ms = T0 + 503 * HOUR
    read_file(world, reader)
    world.clock.ms += HOUR // 5
    read_file(world, reader)
    world.turn()
    assert closed(world) == [0, 1, 2, 500, 501, 502]
    reader.close()
    world.close()


def test_files_alone_close_as_ever(tmp_path: Path) -> None:
    """Two files, the first of which ends earlier: bounded or not, the same windows with the same revisions in the same order."""
    found = []
    for ending in ("jsonl", "jsonl.gz"):
        folder = tmp_path / ending.replace(".", "-")
        folder.mkdir()
        write(folder / f"a.{ending}", range(3))
        write(folder / f"b.{ending}", range(1, 6), seed=9)
        world, reader = world_with(folder, live=False, checkpoint_events=100)
        read_file(world, reader)
        before_the_end = closed(world)
        world.closer.finish_input()
        rows = [row for row in world.decided if isinstance(row, WindowRow)]
        found.append(
            (before_the_end, [(row.start_ms, row.monitor, row.revision, row.status, row.digest) for row in rows])
        )
        reader.close()
        world.close()
    assert found[0] == found[1]
    assert found[0][0] == [0, 1], "the file that ended holds back the other one until the end of input"
    assert {row[2] for row in found[0][1]} == {1}
