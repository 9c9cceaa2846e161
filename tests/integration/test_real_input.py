"""Census rows through a real broker: every count recounted from the Parquet, and one verdict whatever way the rows came.

DRIFTLINE_ROWS (40,000) is how many; all 208,892 are there with the whole data set.
"""

from __future__ import annotations

import gzip
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.parts import recount
from tests.parts.broker import Broker
from tests.parts.census import MODEL, Census, census
from tests.parts.postgres import Server
from tests.parts.program import Key, Room, judged, kafka, until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200)]

ROWS = int(os.environ.get("DRIFTLINE_ROWS", "40000"))
TOPIC = "census"


@dataclass(frozen=True)
class World:
    """The rows in every form, on the broker too; `live` has read them there with two consumers while they were produced."""

    census: Census
    folder: Path
    events: Path
    table: Path
    live: Room
    plain: dict[Key, Any]  # what `replay` of the events says

    def room(self, name: str, source: dict[str, Any] | None = None, store: str = "") -> Room:
        return Room(self.folder / name, {MODEL: self.census.model()}, source, store)


@pytest.fixture(scope="module")
def world(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> World:
    rows, folder = census(ROWS), tmp_path_factory.mktemp("census")
    events = rows.write_lines(folder / "events.jsonl")
    table = rows.write_table(folder / "rows.parquet")
    broker.create_topic(TOPIC, 6)
    live = Room(folder / "two", {MODEL: rows.model()}, kafka(broker, TOPIC, group="two"))
    live.run("db", "upgrade")
    workers = [live.start("run"), live.start("run")]
    try:
        until(lambda: len({state.owner for state in live.partitions()} - {None}) == 2, 60, "both own partitions")
        broker.produce(TOPIC, rows.lines(), codec="zstd")
        until(lambda: live.stored() > 0, 60, "something is stored")
        time.sleep(2)
        assert [worker.stop() for worker in workers] == [0, 0]
    finally:
        live.close()
    live.catch_up(300)
    plain = judged(live.run("replay", str(events), "--json", seconds=300).stdout)
    print(f"\n{rows.rows:,} rows ({'the whole set' if rows.whole else 'the sample'}), {len(plain)} windows")
    return World(rows, folder, events, table, live, plain)


@pytest.fixture(scope="module")
def postgres_room(world: World, broker: Broker, postgres: Server) -> Room:
    """Two consumers again, both to the end of what is there, on PostgreSQL."""
    room = world.room("postgres", kafka(broker, TOPIC, group="postgres"), postgres.create_database())
    room.run("db", "upgrade")
    both = [room.start("run", "--until-caught-up") for _ in range(2)]
    for worker in both:
        ended = worker.end(300)
        assert ended.status == 0, ended.stderr[-3000:]
    return room


def test_two_consumers_shared_the_topic(world: World):
    assert world.live.stored() == world.census.rows
    writers = recount.query(world.live.store, "select distinct writer from state where writer <> ''")
    assert len(writers) >= 2


@pytest.mark.parametrize("where", ["sqlite", "postgres"])
def test_every_count_equals_a_recount_of_the_rows(world: World, where: str, request: pytest.FixtureRequest):
    room = world.live if where == "sqlite" else request.getfixturevalue("postgres_room")
    rows = world.census
    starts = [rows.time_ms(row // rows.rows_a_day * rows.rows_a_day) for row in range(rows.rows)]
    columns = {("feature", name): rows.table[name].tolist() for name in rows.features}
    columns |= {("score", "score"): rows.table["predicted_probability"].tolist()}
    columns |= {("label", "label"): rows.table["prediction"].tolist()}
    cells, pane_rows = recount.stored_cells(room.store)
    wanted = recount.expected_cells(room.store, columns, starts)
    assert {role_name[:2] for role_name in cells} == set(columns)  # nothing was left out
    assert pane_rows == {start: starts.count(start) for start in set(starts)}
    assert len(wanted) > 1000
    assert {
        cell: (cells.get(cell, 0), wanted.get(cell, 0))
        for cell in cells.keys() | wanted.keys()
        if cells.get(cell, 0) != wanted.get(cell, 0)
    } == {}
    print(f"\n{where}: {len(wanted):,} cells of {len(pane_rows)} panes and {len(columns)} subjects equal")


def two_consumers(world: World, broker: Broker, request: pytest.FixtureRequest) -> Room:
    return world.live


def two_consumers_on_postgres(world: World, broker: Broker, request: pytest.FixtureRequest) -> Room:
    found: Room = request.getfixturevalue("postgres_room")
    return found


def one_consumer(world: World, broker: Broker, request: pytest.FixtureRequest) -> Room:
    room = world.room("one", kafka(broker, TOPIC, group="one"))
    room.catch_up(300)
    return room


def table_source(world: World, broker: Broker, request: pytest.FixtureRequest) -> Room:
    columns = {"score": "predicted_probability"}
    room = world.room(
        "table", {"file": {"paths": [str(world.table)], "format": "table", "model": MODEL, "columns": columns}}
    )
    room.catch_up(300)
    return room


@pytest.mark.parametrize("way", [two_consumers, two_consumers_on_postgres, one_consumer, table_source])
def test_every_way_leads_to_the_same_verdicts(
    world: World,
    broker: Broker,
    way: Callable[[World, Broker, pytest.FixtureRequest], Room],
    request: pytest.FixtureRequest,
):
    room = way(world, broker, request)
    found = room.results()
    assert len(found) == len(world.plain) > 0
    assert found == world.plain
    assert room.alerts() == world.live.alerts()


def gzipped(world: World) -> list[str]:
    packed = world.folder / "events.jsonl.gz"
    with world.events.open("rb") as plain, gzip.open(packed, "wb", compresslevel=1) as out:
        shutil.copyfileobj(plain, out)
    return [str(packed)]


def as_table(world: World) -> list[str]:
    return [str(world.table), "--model", MODEL]


@pytest.mark.parametrize("form", [gzipped, as_table])
def test_replay_of_every_form_is_the_same(world: World, form: Callable[[World], list[str]]):
    ended = world.live.run("replay", *form(world), "--json", seconds=300)
    assert judged(ended.stdout) == world.plain


def test_the_real_shift_is_seen(world: World):
    """What is compared above is not a row of empty windows: 2018 differs from 2015, and one row more is another digest."""
    assert {window["rows"] for key, window in world.plain.items() if key[2] == "data"} >= {world.census.rows_a_day}
    fewer = world.folder / "fewer.jsonl"
    fewer.write_bytes(b"".join(world.events.read_bytes().splitlines(keepends=True)[1:]))
    other = judged(world.live.run("replay", str(fewer), "--json", seconds=300).stdout)
    changed = {key[3] for key in world.plain if other[key]["digest"] != world.plain[key]["digest"]}
    assert changed == {"2026-01-01T00:00:00Z"}
