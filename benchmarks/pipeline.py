"""The whole way of an event, from a source to stored counts and verdicts, with 1 and with 500 interleaved models."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.events import events
from benchmarks.measure import Figure, Spent, timed
from benchmarks.world import configure, start
from monitor.commands import GC_THRESHOLDS
from monitor.ingest import Ingest, Pace
from monitor.ports import Source
from monitor.runtime import Runtime
from monitor.sources.memory import MemoryLog, MemorySource

if TYPE_CHECKING:
    from parts.broker import Broker

TOPIC, PARTITIONS = "predictions", 12
CODEC = "lz4"
STRETCH_MS = 3_000_000  # of event time: within one hour, so that no window closes while the reading is measured


MODELS = (1, 500)


def from_memory(folder: Path, *, quick: bool) -> list[Figure]:
    """From the embedded log."""
    count = 100_000 if quick else 400_000
    logs = {models: _log(events(count, models=models, step_ms=STRETCH_MS // count)) for models in MODELS}

    def source(models: int, turn: int) -> Source:
        return MemorySource(logs[models], f"bench-{turn}", [TOPIC], "live")

    return _interleaved("memory", folder, source, count, turns=1 if quick else 3)


def from_kafka(folder: Path, broker: Broker, *, quick: bool) -> list[Figure]:
    """From a real broker through kafka-python, 12 partitions."""
    from monitor.sources.kafka import KafkaSettings, KafkaSource

    count = 100_000 if quick else 400_000
    for models in MODELS:
        fill(broker, f"predictions-{models}", events(count, models=models, step_ms=STRETCH_MS // count))

    def source(models: int, turn: int) -> Source:
        topics = (f"predictions-{models}",)
        return KafkaSource(
            KafkaSettings(bootstrap_servers=(broker.address,), group_id=f"bench-{models}-{turn}", topics=topics), "live"
        )

    return _interleaved("kafka", folder, source, count, turns=1 if quick else 3)


def _log(values: list[bytes]) -> MemoryLog:
    log = MemoryLog({TOPIC: PARTITIONS}, limit_records=len(values))
    for place, value in enumerate(values):
        log.append(TOPIC, value, partition=place % PARTITIONS)
    return log


def _interleaved(
    name: str, folder: Path, source: Callable[[int, int], Source], count: int, *, turns: int
) -> list[Figure]:
    """Each figure of the turn in which it was the median by CPU."""
    runs: dict[str, list[Figure]] = {}
    for turn in range(turns):
        for models in MODELS:
            for figure in _figures(name, folder / f"{models}-{turn}", models, source(models, turn), count):
                runs.setdefault(figure.name, []).append(figure)
    return [sorted(figures, key=lambda figure: figure.cpu_us or 0.0)[len(figures) // 2] for figures in runs.values()]


def fill(broker: Broker, topic: str, values: list[bytes]) -> None:
    """A topic of these values; Kafka's own producer keeps the order within each of the 12 partitions."""
    broker.create_topic(topic, PARTITIONS)
    broker.produce(topic, [(str(place % 997), value) for place, value in enumerate(values)], CODEC)


def _figures(name: str, folder: Path, models: int, source: Source, count: int) -> list[Figure]:
    folder.mkdir(parents=True)
    runtime = start(configure(folder, models))
    try:
        ran = run(runtime, source, count)
        windows = sum(1 for _ in runtime.store.windows())
    finally:
        source.close()
        runtime.store.close()
    figure = Figure(
        name=f"{name}.{models}",
        what=f"{_WHERE[name]}: decoded, folded and stored with checkpoints, {models} model{'s' if models > 1 else ''}",
        cpu_us=ran.read.cpu / ran.events * 1e6, per_second=ran.events / ran.read.wall, more={"events": ran.events},
    )  # fmt: skip
    closing = Figure(
        name=f"{name}.{models}.close",
        what=f"closing what was read: {windows:,} windows of {models} model{'s' if models > 1 else ''} with all verdicts",
        unit="window", cpu_us=ran.closed.cpu / windows * 1e6, per_second=windows / ran.closed.wall, more={"windows": windows},
    )  # fmt: skip
    return [figure, closing]


_WHERE = {"memory": "from the embedded log", "kafka": "from a real broker, kafka-python"}


@dataclass(frozen=True, slots=True)
class Run:
    """What reading `events` events took, and closing what was left to close after them."""

    events: int
    read: Spent
    closed: Spent


def run(runtime: Runtime, source: Source, count: int) -> Run:
    """Read everything, closing meanwhile as the service does once a second; then close the rest. The collector is set as the service sets it."""
    thresholds = gc.get_threshold()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        return _run(runtime, source, count)
    finally:
        gc.set_threshold(*thresholds)


def _run(runtime: Runtime, source: Source, count: int) -> Run:
    pace = Pace(now_ms=runtime.now_ms, live=False)
    ingest = Ingest(
        source, runtime.store, runtime.new_intake, owner="bench:1:a", writer="a", pace=pace, telemetry=runtime.telemetry
    )
    closer = runtime.closer(side_effects=False)
    taken = _settle(ingest, source)
    turn = _every_second(closer.step)
    with timed() as read:
        left = count - taken
        while taken < count:
            taken += ingest.step(0.05)
            turn()
        ingest.checkpoint()
    with timed() as closed:
        closer.finish_input()
    return Run(left, read, closed)


def _settle(ingest: Ingest, source: Source) -> int:
    """What a start takes once is not measured: sharing out the partitions, a checkpoint after the first records of each, making decoders."""
    until = time.monotonic() + 60
    taken = 0
    while len(ingest.owned) < PARTITIONS or any(owned.fresh for owned in ingest.owned.values()):
        if time.monotonic() > until:
            sys.exit("the group did not get its partitions within a minute")
        taken += ingest.step(0.0 if isinstance(source, MemorySource) else 0.02)
    return taken


def _every_second(act: Callable[[], object]) -> Callable[[], None]:
    last = time.monotonic()

    def turn() -> None:
        nonlocal last
        if time.monotonic() - last >= 1.0:
            last = time.monotonic()
            act()

    return turn
