"""Workers die by kill -9 while events are produced, at random moments and at the named points: every result is that of an undisturbed run.

DRIFTLINE_KILLS (20) is how many on SQLite, half of it on PostgreSQL; DRIFTLINE_SEED (1) makes another case of the same kind.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from monitor.failpoints import KILLED, POINTS
from tests.parts.broker import Broker
from tests.parts.census import MODEL, Census, census
from tests.parts.program import Key, Room, Worker, judged, kafka, until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(7200)]

KILLS = int(os.environ.get("DRIFTLINE_KILLS", "20"))
SEED = int(os.environ.get("DRIFTLINE_SEED", "1"))
SESSION = "2s"
TURN_SECONDS = 0.05
SECONDS_A_KILL = 3  # about; the events are spread over so many


@dataclass(frozen=True)
class World:
    census: Census
    lines: list[tuple[str, bytes]]
    folder: Path
    plain: dict[Key, Any]

    def room(self, broker: Broker, topic: str, store: str = "") -> Room:
        broker.create_topic(topic, 6)
        room = Room(self.folder / topic, {MODEL: self.census.model()}, kafka(broker, topic, session=SESSION), store)
        room.run("db", "upgrade")
        return room


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    rows, folder = census(20_000, rows_a_day=1_000), tmp_path_factory.mktemp("kill9")
    events = rows.write_lines(folder / "events.jsonl")
    plain = Room(folder / "plain", {MODEL: rows.model()}).run("replay", str(events), "--json")
    return World(rows, rows.lines(), folder, judged(plain.stdout))


class Producer:
    """Kafka's own console producer, fed at an even pace until `finish` gives it all that is left."""

    def __init__(self, broker: Broker, topic: str, lines: list[tuple[str, bytes]], seconds: float) -> None:
        self._process: subprocess.Popen[bytes] = broker.java_producer(topic)
        self._lines, self._rate = lines, len(lines) / seconds
        self.sent, self._begun = 0, time.monotonic()

    def turn(self) -> None:
        self._send(min(int((time.monotonic() - self._begun) * self._rate), len(self._lines)))

    def finish(self) -> None:
        self._send(len(self._lines))
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(60) == 0

    def _send(self, until_line: int) -> None:
        assert self._process.stdin is not None
        some = self._lines[self.sent : until_line]
        self._process.stdin.write(b"".join(key.encode() + b"\t" + line + b"\n" for key, line in some))
        self._process.stdin.flush()
        self.sent = max(self.sent, until_line)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@dataclass
class Killer:
    """Two workers. Each new one may be told to die at a named point; besides, one of them dies every few seconds, wherever it is."""

    room: Room
    rng: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    workers: list[Worker] = field(default_factory=list)
    _next: float = 0.0

    def begin(self) -> None:
        self.workers = [self.room.start("run"), self.room.start("run")]
        self._draw()

    def turn(self) -> None:
        for place, worker in enumerate(self.workers):
            if not worker.running:
                assert worker.process.returncode == KILLED, worker.text[-3000:]
                self.kills[self._points.pop(worker)] += 1
                self._replace(place)
        if time.monotonic() > self._next:
            place = self.rng.randrange(2)
            self._points.pop(self.workers[place], None)
            self.workers[place].kill()
            self.kills["random moment"] += 1
            self._replace(place)
            self._draw()

    def _draw(self) -> None:
        self._next = time.monotonic() + self.rng.uniform(0.3, 5.0)

    def _replace(self, place: int) -> None:
        point = ""
        if self.rng.random() < 0.8:
            point = min(
                POINTS, key=lambda name: (self.kills[name] + list(self._points.values()).count(name), self.rng.random())
            )
        self.workers[place] = self.room.start("run", failpoint=f"{point}:{self.rng.choice((1, 1, 2))}" if point else "")
        if point:
            self._points[self.workers[place]] = point

    @property
    def enough(self) -> bool:
        return all(self.kills[point] for point in POINTS) and self.kills["random moment"] > 0

    def __post_init__(self) -> None:
        self._points: dict[Worker, str] = {}


def disturbed(room: Room, producer: Producer, kills: int, seed: int) -> Killer:
    """Until there were so many kills, of every kind, and everything is produced."""
    killer = Killer(room, random.Random(seed))
    killer.begin()
    end = time.monotonic() + 60 + 15 * kills
    while killer.kills.total() < kills or not killer.enough:
        assert time.monotonic() < end, killer.kills
        producer.turn()
        killer.turn()
        time.sleep(TURN_SECONDS)
    return killer


def left_as_undisturbed(room: Room, world: World) -> int:
    """The input is finished, and every window is what `replay` makes of the same events. Returns how many were closed before that."""
    closed = len(room.results())
    room.catch_up()
    assert room.stored() == len(world.lines)
    found = room.results()
    assert {key for key in world.plain if found.get(key) != world.plain[key]} == set()
    assert found.keys() == world.plain.keys()
    return closed


@pytest.mark.parametrize(("where", "kills"), [("sqlite", KILLS), ("postgres", KILLS // 2)])
def test_kills_change_nothing(world: World, broker: Broker, where: str, kills: int, request: pytest.FixtureRequest):
    store = request.getfixturevalue("postgres_url") if where == "postgres" else ""
    topic = f"kills-{where}"
    room = world.room(broker, topic, store)
    producer, begun = Producer(broker, topic, world.lines, 20 + SECONDS_A_KILL * kills), time.monotonic()
    try:
        killer = disturbed(room, producer, kills, SEED)
        sent, seconds = producer.sent, time.monotonic() - begun
        producer.finish()
        until(lambda: any(worker.running for worker in killer.workers), 1, "a worker lives")
        for worker in killer.workers:
            if worker.running:
                worker.stop()
        closed = left_as_undisturbed(room, world)
    finally:
        room.close()
        producer.close()
    windows = len(world.plain)
    print(
        f"\n{where}: {killer.kills.total()} kills {dict(killer.kills)} in {seconds:.0f} s, {sent:,} of {len(world.lines):,} events meanwhile"
    )
    print(f"{windows} of {windows} windows identical, {closed} of them judged before the end of input")
    assert closed > 0


def test_a_stopped_worker_that_wakes_beside_its_successor_is_fenced(world: World, broker: Broker):
    room = world.room(broker, "zombie")
    producer = Producer(broker, "zombie", world.lines, 60)
    try:
        sleeper = room.start("run")
        _produce(producer, until_stored=lambda: room.stored() > 0)
        _produce(producer, seconds=2)  # taken into memory only: what the sleeper will want to store
        sleeper.signal(signal.SIGSTOP)
        successor = room.start("run")
        _produce(
            producer,
            until_stored=lambda: all(_owner(state.owner) == successor.process.pid for state in room.partitions()),
        )
        _produce(producer, seconds=1)
        sleeper.signal(signal.SIGCONT)
        _produce(producer, until_stored=lambda: sleeper.events("fenced") != [])
        _produce(producer, seconds=2)
        assert sleeper.running
        assert successor.running
        producer.finish()
        assert [sleeper.stop(), successor.stop()] == [0, 0]
        left_as_undisturbed(room, world)
    finally:
        room.close()
        producer.close()


def _produce(producer: Producer, *, seconds: float = 60, until_stored: Any = None) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not (until_stored is not None and until_stored()):
        producer.turn()
        time.sleep(TURN_SECONDS)
    assert until_stored is None or until_stored()


def _owner(owner: str | None) -> int:
    return int(owner.split(":")[-2]) if owner else 0
