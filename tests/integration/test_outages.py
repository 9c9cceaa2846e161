"""The broker, then the database is away for a while, while events are produced: the workers go on by themselves, and nothing shows in the results.

DRIFTLINE_OUTAGE_SECONDS (15) is how long.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.parts.broker import Broker
from tests.parts.census import MODEL, Census, census
from tests.parts.postgres import Server
from tests.parts.program import Key, Room, judged, kafka, until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

OUTAGE_SECONDS = float(os.environ.get("DRIFTLINE_OUTAGE_SECONDS", "15"))
SETTLE_SECONDS = 8.0  # for the two to read the rest
LEAD_SECONDS = 4.0  # of events before each outage
BACK_SECONDS = (
    60.0  # a part being back, everything must have been read and stored by then (a checkpoint is due every 30 s)
)


@pytest.fixture(scope="module")
def rows() -> Census:
    return census(20_000, rows_a_day=1_000)


@pytest.fixture(scope="module")
def plain(rows: Census, tmp_path_factory: pytest.TempPathFactory) -> dict[Key, Any]:
    folder = tmp_path_factory.mktemp("plain")
    rows.write_lines(folder / "events.jsonl")
    return judged(Room(folder, {MODEL: rows.model()}).run("replay", "events.jsonl", "--json").stdout)


class Producing(threading.Thread):
    """Kafka's own console producer, fed evenly for as long as the outages and what follows them may take, and with the rest by `finish`."""

    def __init__(self, broker: Broker, topic: str, rows: Census) -> None:
        super().__init__(name="producing", daemon=True)
        self._lines, self._process = rows.lines(), broker.java_producer(topic)
        self._hurry = threading.Event()

    def run(self) -> None:
        assert self._process.stdin is not None
        begun, seconds = time.monotonic(), 2 * (LEAD_SECONDS + OUTAGE_SECONDS + BACK_SECONDS)
        for place, (key, line) in enumerate(self._lines):
            due = begun + seconds * place / len(self._lines)
            if (wait := due - time.monotonic()) > 0.02:
                self._process.stdin.flush()
                self._hurry.wait(wait)
            self._process.stdin.write(key.encode() + b"\t" + line + b"\n")

    def finish(self) -> None:
        self._hurry.set()
        self.join(60)
        assert not self.is_alive()
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(120) == 0

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def away(part: Broker | Server) -> Iterator[None]:
    """Ended at once, as by a power cut, and started again on its data when the block ends."""
    part.kill() if isinstance(part, Broker) else part.stop()
    try:
        yield
    finally:
        part.start()


def test_broker_and_database_are_away_one_after_the_other(
    broker: Broker, postgres: Server, rows: Census, plain: dict[Key, Any], tmp_path: Path
):
    broker.create_topic("away", 6)
    room = Room(tmp_path, {MODEL: rows.model()}, kafka(broker, "away", session="6s"), postgres.create_database())
    room.run("db", "upgrade")
    workers = [room.start("run"), room.start("run")]
    producing = Producing(broker, "away", rows)
    try:
        until(lambda: len({state.owner for state in room.partitions()} - {None}) == 2, 60, "both own partitions")
        producing.start()
        took = []
        for part in (broker, postgres):
            time.sleep(LEAD_SECONDS)
            assert room.stored() > 0
            with away(part):
                time.sleep(OUTAGE_SECONDS)
                assert all(worker.running for worker in workers)
            there = broker.records("away")
            gone_on = lambda there=there: room.stored() > there
            took.append(until(gone_on, BACK_SECONDS, "something is stored that was produced after it was back"))
        producing.finish()
        assert broker.records("away") == rows.rows
        time.sleep(SETTLE_SECONDS)
        closed = len(room.results())
        assert [worker.stop() for worker in workers] == [0, 0]  # each stores what it holds
        assert room.stored() == rows.rows
        room.catch_up()
        assert room.results() == plain
    finally:
        room.close()
        producing.close()
    assert closed > 0
    for worker in workers:
        assert worker.events("in reach again")
        assert [line for line in worker.text.splitlines() if not line.startswith("{")] == []  # no traceback, only log
        assert "Traceback" not in worker.text
    print(
        f"\n{rows.rows:,} events, each part away for {OUTAGE_SECONDS:.0f} s, {len(plain)} windows identical, {closed} of them judged before the end"
    )
    print("newer events stored {:.1f} s after the broker was back, {:.1f} s after the database".format(*took))
