"""`python -m benchmarks.late_labels [--pairs N] [--store sqlite|postgres]`: predictions and their late labels through a real broker, joined and counted.

3,000,000 pairs by default, with delays to 60 simulated days, copies, corrections, outcomes first, two versions, tombstones. The first part is read by two workers
that die at random moments and at named points, the rest by one that is left alone beside one that closes: what it takes is measured, by its own
CPU time and the database's. At the end every window is held against a recount. Everything is on this machine and ends by itself.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monitor.failpoints import KILLED
from tests.parts import recount
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
    split,
)
from tests.parts.postgres import Server
from tests.parts.program import Room, Worker

PARTITIONS = 6  # of each topic
AHEAD = 400_000  # so many records may wait on the broker: both topics are read at one place of the stream
TURN_RECORDS = 20_000
DISTURBED = 0.1  # of the records
POINTS = ("after_join", "before_commit", "after_commit", "before_close_commit", "after_close_commit")
PENDING = 200_000  # predictions without outcomes, for the size of a row that waits
PATIENCE_SECONDS = 3_600  # for each part; a machine may be busy with other things
MEMORY_KEY = "VmHWM"
TABLES = {"sqlite": ("outcome_log", "outcome_run"), "postgres": ("outcome_join",)}


@dataclass(slots=True)
class Meter:
    """CPU seconds of the process that reads, of the one that closes and of a database server, since `begin`."""

    reading: int
    closing: int
    server: Server | None
    _begun: tuple[float, ...] = ()
    _stored: int = 0

    def begin(self, stored: int) -> None:
        self._begun, self._stored = self._now(), stored

    def figures(self, stored: int) -> dict[str, float]:
        events = stored - self._stored
        names = ("wall", "service_cpu", "closing_cpu", "database_cpu")
        taken = {name: now - begun for name, now, begun in zip(names, self._now(), self._begun, strict=True)}
        rates = {
            f"per_{name}_second": events / taken[name]
            for name in ("wall", "service_cpu", "database_cpu")
            if taken[name]
        }
        return {"events": events} | taken | rates

    def _now(self) -> tuple[float, ...]:
        database = _cpu_seconds(self.server.pid, family=True) if self.server is not None else 0.0
        return time.monotonic(), _cpu_seconds(self.reading), _cpu_seconds(self.closing), database


@dataclass(slots=True)
class Feed:
    """Kafka's own console producers, one a topic, kept `AHEAD` of what is stored."""

    broker: Broker
    topics: dict[str, str]  # by side
    lines: Iterator[Line]
    sent: int = 0
    done: bool = False
    _processes: dict[str, Any] = field(default_factory=dict)

    def begin(self) -> None:
        self._processes = {side: self.broker.java_producer(topic) for side, topic in self.topics.items()}

    def turn(self, stored: int, until: float = float("inf")) -> bool:
        """Send some more where there is room; whether anything was sent."""
        if self.done or self.sent >= min(stored + AHEAD, until):
            return False
        some = list(itertools.islice(self.lines, TURN_RECORDS))
        for side, pairs in split(some).items():
            self._processes[side].stdin.write(b"".join(key.encode() + b"\t" + value + b"\n" for key, value in pairs))
            self._processes[side].stdin.flush()
        self.sent += len(some)
        if not some:
            self.done = True
            for process in self._processes.values():
                process.stdin.close()
        return bool(some)

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()


def main() -> None:
    options = _options()
    late = Late(pairs=options.pairs, days=options.days, seed=options.seed, numeric=20, categorical=10)
    expected: dict[Window, Counts] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="driftline-late-")))
        broker = Broker(folder / "broker")
        stack.callback(broker.close)
        for kind in options.store or TABLES:
            server = Server(fsync="on", shared_buffers="1GB", max_wal_size="8GB") if kind == "postgres" else None
            if server is not None:
                stack.callback(server.close)
            count = None if expected else Recount()
            ran = _run(folder / kind, broker, late, kind, server=server, count=count, seed=options.seed)
            expected = expected or (count.windows() if count else {})
            ran["wrong_windows"] = len(_differences(ran.pop("room"), expected))
            ran["windows"] = len(expected)
            ran["bytes_per_pending_row"] = _pending_bytes(folder / f"{kind}-pending", kind, server, late)
            _tell(kind, ran, as_json=options.json)
            if ran["wrong_windows"]:
                sys.exit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.late_labels", description=__doc__)
    parser.add_argument("--pairs", type=int, default=3_000_000)
    parser.add_argument("--days", type=int, default=60, help="simulated; the longest delay too")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", action="append", choices=[*TABLES], help="may be repeated; both by default")
    parser.add_argument("--json", action="store_true", help="one object a line")
    return parser.parse_args()


def _run(
    folder: Path, broker: Broker, late: Late, kind: str, *, server: Server | None, count: Recount | None, seed: int
) -> dict[str, Any]:
    """Read everything, disturbed and then alone."""
    topics = {side: f"{side}-{kind}" for side in (PREDICTIONS, OUTCOMES)}
    for topic in topics.values():
        broker.create_topic(topic, PARTITIONS)
    folder.mkdir(parents=True)
    source = {
        "bootstrap_servers": [broker.address],
        "group_id": kind,
        "topics": dict.fromkeys(topics.values(), "canonical"),
    }
    source |= {"tombstone": {"model": MODEL}, "session_timeout": "2s"}
    room = Room(folder, {MODEL: late.model(folder)}, {"kafka": source}, server.create_database() if server else "")
    room.run("db", "upgrade")
    feed = Feed(broker, topics, count.hear(late.lines()) if count else late.lines())
    feed.begin()
    try:
        kills = _disturbed(room, feed, int(len(late.records) * DISTURBED), random.Random(seed))
        figures = _alone(room, feed, server)
        begun = time.monotonic()
        room.catch_up(PATIENCE_SECONDS)
    finally:
        room.close()
        feed.close()
    return {"records": feed.sent, "stored": room.stored(), "kills": dict(kills), **figures,
            "closing_at_the_end": time.monotonic() - begun,
            "join_mib": _join_bytes(room.store, kind) / 2**20, "room": room}  # fmt: skip


def _disturbed(room: Room, feed: Feed, records: int, rng: random.Random) -> Counter[str]:
    """Two workers until so many records are stored and every kind of death was met."""
    kills: Counter[str] = Counter()
    points = list(POINTS)
    workers: list[tuple[Worker, str]] = [(room.start("run"), ""), (room.start("run"), "")]
    end, next_kill, stored = time.monotonic() + PATIENCE_SECONDS, time.monotonic() + 8, 0
    while stored < records or points or any(point for _, point in workers):
        if time.monotonic() > end:
            raise RuntimeError(f"not within {PATIENCE_SECONDS} s: {stored:,} of {records:,} records, {kills}")
        busy, stored = feed.turn(stored), room.stored()
        for place, (worker, point) in enumerate(workers):
            if not worker.running:
                if worker.process.returncode != KILLED:
                    raise RuntimeError(worker.text[-3000:])
                kills[point] += 1
            elif not point and time.monotonic() > next_kill:
                worker.kill()
                next_kill = time.monotonic() + rng.uniform(8, 25)
                kills["random moment"] += 1
            else:
                continue
            new = points.pop(0) if points and rng.random() < 0.7 else ""
            workers[place] = (room.start("run", failpoint=f"{new}:1" if new else ""), new)
        if not busy:
            time.sleep(0.2)
    for worker, _ in workers:
        worker.stop()
    return kills


def _alone(room: Room, feed: Feed, server: Server | None) -> dict[str, Any]:
    """One worker that reads the rest and one that closes, measured from the first stored records on."""
    worker, closer, begun = room.start("run", "--role", "ingest"), room.start("run", "--role", "close"), room.stored()
    meter = Meter(worker.process.pid, closer.process.pid, server)
    end, stored, measuring = time.monotonic() + PATIENCE_SECONDS, begun, False
    while not feed.done or stored < feed.sent:
        if time.monotonic() > end or not worker.running:
            raise RuntimeError(f"{stored:,} of {feed.sent:,} records are stored: {worker.text[-3000:]}")
        busy, stored = feed.turn(stored), room.stored()
        if not measuring and stored >= begun + 2 * TURN_RECORDS:
            meter.begin(stored)
            measuring = True
        if feed.done and stored + 60_000 > feed.sent:
            break  # the last records wait for a checkpoint by time
        if not busy:
            time.sleep(0.2)
    figures: dict[str, Any] = meter.figures(room.stored())
    figures["peak_mib"] = _peak_mib(worker.process.pid)
    worker.stop()
    closer.stop()
    return figures


def _differences(room: Room, expected: dict[Window, Counts]) -> list[Window]:
    """Windows whose rows, labelled rows or metrics are not those of the recount."""
    told = found(map(json.loads, room.run("windows", MODEL, "--monitor", "performance", "--json").stdout.splitlines()))
    wrong = [window for window in told.keys() & expected.keys() if not agree(told[window], expected[window])]
    return [*wrong, *(told.keys() ^ expected.keys())]


def _pending_bytes(folder: Path, kind: str, server: Server | None, late: Late) -> float:
    """What the join's tables take for each prediction that waits for its outcome."""
    folder.mkdir(parents=True)
    room = Room(folder, {MODEL: late.model(folder)}, None, server.create_database() if server else "")
    values = (
        value
        for side, _, value in Late(pairs=PENDING, numeric=20, categorical=10, copies=0, twice_scored=0).lines()
        if side == PREDICTIONS and value
    )
    (folder / "predictions.jsonl").write_bytes(b"".join(value + b"\n" for value in values))
    room.run("db", "upgrade")
    room.run("replay", "predictions.jsonl", "--store", room.store, seconds=PATIENCE_SECONDS)
    return _join_bytes(room.store, kind) / PENDING


def _join_bytes(store: str, kind: str) -> int:
    names = ",".join(f"'{name}'" for name in TABLES[kind])
    if kind == "postgres":
        return int(
            recount.query(
                store, f"select sum(pg_total_relation_size(relid)) from pg_stat_user_tables where relname in ({names})"
            )[0][0]
        )
    return int(
        recount.query(store, f"select sum(pgsize) from dbstat where name in ({names}) and aggregate = true")[0][0]
    )


def _cpu_seconds(pid: int, *, family: bool = False) -> float:
    """User and system time of a process; with `family` of its children too, those that have ended as well."""
    ticks = sum(_stat(pid)[11 : 15 if family else 13])
    for child in _children(pid) if family else ():
        ticks += sum(_stat(child)[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[int]:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended
        return [0] * 50
    return [int(text) if text.lstrip("-").isdigit() else 0 for text in fields]


def _children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _peak_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(MEMORY_KEY))


def _tell(kind: str, ran: dict[str, Any], *, as_json: bool) -> None:
    rounded = {key: round(value, 1) if isinstance(value, float) else value for key, value in ran.items()}
    print(json.dumps({"store": kind} | rounded) if as_json else "\n  ".join([kind, *_lines(rounded)]), flush=True)


def _lines(ran: dict[str, Any]) -> Iterable[str]:
    for key, value in ran.items():
        yield f"{key.replace('_', ' '):<24}{value:,}" if isinstance(value, int | float) else f"{key:<24}{value}"


if __name__ == "__main__":
    main()
