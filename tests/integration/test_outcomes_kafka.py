"""Predictions and their late labels on two topics, read by workers that die: windows of performance are those of a recount and of `replay`.

DRIFTLINE_PAIRS (30,000) is how many, DRIFTLINE_SEED (1) makes another case of the same kind. `python -m benchmarks.late_labels` is the large one.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kafka import KafkaProducer

from monitor.failpoints import KILLED
from tests.parts.broker import Broker
from tests.parts.late_labels import (
    MODEL,
    OUTCOMES,
    PREDICTIONS,
    Counts,
    Late,
    Line,
    Recount,
    Window,
    agree,
    found,
    without_retracted,
)
from tests.parts.performance_answers import confusions
from tests.parts.program import Room, Worker

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200)]

PAIRS = int(os.environ.get("DRIFTLINE_PAIRS", "30000"))
SEED = int(os.environ.get("DRIFTLINE_SEED", "1"))
SECONDS = (
    8.0  # in which two thirds of the records that are left are sent, so that some are left when the last worker dies
)
PATIENCE_SECONDS = 300.0  # a machine may be busy with other things


@dataclass(frozen=True)
class World:
    late: Late
    lines: list[Line]
    folder: Path
    recount: Mapping[Window, Counts]
    plain: Mapping[Window, str]  # the digests that `replay` gives

    def room(self, broker: Broker, where: str, store: str) -> Room:
        topics = {side: f"{side}-{where}" for side in (PREDICTIONS, OUTCOMES)}
        for topic in topics.values():
            broker.create_topic(topic, 4)
        source = {"bootstrap_servers": [broker.address], "group_id": f"late-{where}", "session_timeout": "2s"}
        source |= {"topics": dict.fromkeys(topics.values(), "canonical"), "tombstone": {"model": MODEL}}
        return Room(self.folder / where, {MODEL: self.late.model(self.folder)}, {"kafka": source}, store)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder, late, counted = tmp_path_factory.mktemp("late"), Late(pairs=PAIRS, seed=SEED), Recount()
    lines = list(counted.hear(late.lines()))
    events = folder / "events.jsonl"
    events.write_bytes(b"".join(value + b"\n" for value in without_retracted(lines)))
    room = Room(folder / "plain", {MODEL: late.model(folder)})
    plain = digests(room.run("replay", str(events), "--json", seconds=600).stdout)
    return World(late, lines, folder, counted.windows(), plain)


def digests(text: str) -> dict[Window, str]:
    newest = found(map(json.loads, text.splitlines()))
    return {window: answer.digest for window, answer in newest.items()}


class Producer:
    """Sends the lines, each side to its topic, the slower the fewer are left."""

    def __init__(self, broker: Broker, where: str, lines: list[Line]) -> None:
        self._producer = KafkaProducer(bootstrap_servers=broker.address, linger_ms=20, compression_type="lz4")
        self._where, self._lines, self._turned, self.sent = where, lines, time.monotonic(), 0

    def turn(self) -> None:
        now = time.monotonic()
        share = 1 - math.exp((self._turned - now) / SECONDS)
        self._turned = now
        self._send(self.sent + math.ceil(share * (len(self._lines) - self.sent)))

    def finish(self) -> None:
        self._send(len(self._lines))
        self._producer.flush()

    def close(self) -> None:
        self._producer.close()

    def _send(self, until_line: int) -> None:
        for side, key, value in self._lines[self.sent : until_line]:
            self._producer.send(f"{side}-{self._where}", value, key.encode())
        self.sent = until_line


@dataclass
class Killer:
    """Keeps its workers running. They die at the named points, one after the other, and in between at random moments."""

    room: Room
    rng: random.Random
    points: list[str]
    randomly: int
    kills: Counter[str] = field(default_factory=Counter)
    workers: list[tuple[Worker, str]] = field(default_factory=list)
    _next: float = 0.0

    def begin(self, count: int) -> None:
        self.workers = [self._worker() for _ in range(count)]
        self._draw()

    def turn(self) -> None:
        for place, (worker, point) in enumerate(self.workers):
            if not worker.running:
                assert worker.process.returncode == KILLED, worker.text[-3000:]
                self.kills[point] += 1
            elif not point and self.randomly and time.monotonic() > self._next:
                worker.kill()
                self.randomly -= 1
                self.kills["random moment"] += 1
                self._draw()
            else:
                continue
            self.workers[place] = self._worker()

    @property
    def done(self) -> bool:
        return not self.randomly and all(not point for _, point in self.workers)

    def _worker(self) -> tuple[Worker, str]:
        point = self.points.pop(0) if self.points else ""
        return self.room.start("run", failpoint=f"{point}:1" if point else ""), point

    def _draw(self) -> None:
        self._next = time.monotonic() + self.rng.uniform(1.5, 5.0)


CASES = {
    "sqlite": (2, ["after_join", "before_commit", "after_close_commit"]),
    "postgres": (3, ["after_join", "after_commit", "before_close_commit"]),
}


@pytest.mark.parametrize("where", CASES)
def test_windows_of_performance_are_exact_whoever_dies(
    world: World, broker: Broker, where: str, request: pytest.FixtureRequest
):
    store = request.getfixturevalue("postgres_url") if where == "postgres" else ""
    room, (count, points) = world.room(broker, where, store), CASES[where]
    producer = Producer(broker, where, world.lines)
    killer = Killer(room, random.Random(SEED), list(points), randomly=2)
    try:
        killer.begin(count)
        end = time.monotonic() + PATIENCE_SECONDS
        while not killer.done:
            assert time.monotonic() < end, (killer.kills, producer.sent)
            producer.turn()
            killer.turn()
            time.sleep(0.05)
        meanwhile = producer.sent
        producer.finish()
        for worker, _ in killer.workers:
            assert worker.stop() in (0, -signal.SIGTERM)  # the latter from one that has only just begun
        room.catch_up()
    finally:
        room.close()
        producer.close()
    assert killer.kills == Counter({**dict.fromkeys(points, 1), "random moment": 2})
    assert room.stored() == len(world.lines)
    answers = room.run("windows", MODEL, "--monitor", "performance", "--json").stdout
    told = found(map(json.loads, answers.splitlines()))
    assert told.keys() == world.recount.keys()
    assert {
        window: (told[window], counts) for window, counts in world.recount.items() if not agree(told[window], counts)
    } == {}
    assert confusions(room.store) == {window: counts.confusion for window, counts in world.recount.items()}
    assert digests(answers) == world.plain
    print(
        f"\n{where}: {dict(killer.kills)}, {meanwhile:,} of the records meanwhile; {len(world.lines):,} records, {len(told)} of {len(told)} windows equal"
    )


def test_the_stream_holds_all_that_is_claimed_of_it(world: World):
    """Else the test above could pass for want of trouble."""
    sides = [(side, key) for side, key, _ in world.lines]
    first = {pair: place for place, pair in reversed(list(enumerate(sides)))}
    both = {key for side, key in first if side == PREDICTIONS} & {key for side, key in first if side == OUTCOMES}
    early = sum(first[OUTCOMES, key] < first[PREDICTIONS, key] for key in both)
    copies = sum(number - 1 for number in Counter(line for line in world.lines if line[2] is not None).values())
    named = sum(b'"version"' in value for side, _, value in world.lines if side == OUTCOMES and value is not None)
    tombstones = sum(value is None for *_, value in world.lines)
    assert early >= 0.049 * len(both)
    assert copies >= 0.025 * len(world.lines)
    assert named >= 0.02 * PAIRS
    assert tombstones > 0
    assert len(world.recount) > 100
    labelled = sum(counts.labelled for counts in world.recount.values())
    assert 0.9 < labelled / sum(counts.rows for counts in world.recount.values()) < 1
