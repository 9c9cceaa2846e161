"""A small world on virtual time: one reference, an event log in the process, a worker that reads it and a closer. The engine is the real one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alerts.envelope import rfc3339
from monitor.closing.closer import Closer
from monitor.closing.scene import Decision
from monitor.closing.windows import expand
from monitor.config.load import load_config
from monitor.ingest import Ingest, Pace
from monitor.ports import PartitionId
from monitor.runtime import Runtime
from monitor.sources.memory import MemoryLog, MemorySource
from monitor.store import AlertRow, Store, WindowRow
from monitor.telling.teller import Teller

HOUR = 3_600_000
T0 = 1_767_571_200_000  # 2026-01-05T00:00Z
TOPIC = "events"
CONFIG = """
store: {store}
models:
  churn:
    task: unlabelled
    reference: {{path: reference.parquet}}
    window: {{size: 1h, min_rows: 100, max: 12h}}
    lateness: 60s
"""


def write_reference(path: Path, *, rows: int = 3_000, seed: int = 1, shift: float = 0.0) -> Path:
    """`x` is normal, `c` one of three categories; a row a minute, so that it is in time order."""
    rng = np.random.default_rng(seed)
    times = (T0 - rows * 60_000 + np.arange(rows) * 60_000).astype("datetime64[ms]")
    table = {
        "timestamp": times,
        "x": rng.normal(shift, 1.0, rows),
        "c": rng.choice(["a", "b", "c"], rows, p=[0.5, 0.3, 0.2]),
    }
    pq.write_table(pa.table(table), path)
    return path


def event(
    ts_ms: int, x: float | None, c: str | None, *, version: str | None = "1", model: str = "churn", name: str = ""
) -> bytes:
    record = {
        "type": "prediction", "model": model, "id": name or f"p{ts_ms}", "ts": rfc3339(ts_ms), "features": {"x": x, "c": c}, "prediction": {},
    }  # fmt: skip
    return json.dumps(record | ({} if version is None else {"version": version}), separators=(",", ":")).encode()


def hour_of_events(
    hour: int,
    rows: int = 120,
    *,
    shift: float = 0.0,
    nulls: int = 0,
    version: str | None = "1",
    seed: int = 0,
    model: str = "churn",
) -> list[bytes]:
    """Evenly spread over the hour, the last one in its last minute."""
    rng = np.random.default_rng([seed, hour, rows])
    xs, cs = rng.normal(shift, 1.0, rows), rng.choice(["a", "b", "c"], rows, p=[0.5, 0.3, 0.2])
    times = T0 + hour * HOUR + (np.arange(rows) + 1) * HOUR // rows - 1
    return [
        event(int(ts), None if i < nulls else float(x), str(c), version=version, model=model, name=f"{seed}-{hour}-{i}")
        for i, (ts, x, c) in enumerate(zip(times, xs, cs, strict=True))
    ]


class Clock:
    def __init__(self, ms: int = T0) -> None:
        self.ms = ms

    def __call__(self) -> int:
        return self.ms


@dataclass
class World:
    """`send` and `turn` at a virtual time; `decided` holds what the closer said, in order."""

    folder: Path
    config_text: str = CONFIG
    store_url: str | None = None
    partitions: int = 1
    side_effects: bool = True
    log_records: int = 1_000_000
    clock: Clock = field(default_factory=Clock)
    decided: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not (self.folder / "reference.parquet").exists():
            write_reference(self.folder / "reference.parquet")
        url = self.store_url or f"sqlite:///{self.folder}/world.db"
        (self.folder / "driftline.yaml").write_text(self.config_text.format(store=url))
        self.config = load_config(self.folder / "driftline.yaml")
        self.store = Store.open(self.config.store, durable=False)
        self.runtime = Runtime.build(self.config, self.store, self.clock)
        self.log = MemoryLog({TOPIC: self.partitions}, self.log_records)
        self.closer: Closer = self.runtime.closer(side_effects=self.side_effects, decided=self.decided.append)
        self.teller = Teller(self.store, self.config, self.runtime.telemetry)
        self.ingest = self.worker()

    def worker(self, name: str = "one", *, store: Store | None = None, group: str = "g", live: bool = True) -> Ingest:
        source = MemorySource(self.log, group=group, topics=[TOPIC], name="live")
        pace = Pace(now_ms=self.clock, checkpoint_ms=1_000, live=live)
        return Ingest(
            source,
            store or self.store,
            self.runtime.new_intake,
            owner=name,
            writer=name,
            pace=pace,
            telemetry=self.runtime.telemetry,
        )

    def send(self, events: Sequence[bytes], partition: int = 0) -> None:
        """With the broker's time far enough ahead that no time of these tests counts as future."""
        for value in events:
            self.log.append(TOPIC, value, partition=partition, timestamp_ms=T0 + 10_000 * HOUR)

    def read(self) -> None:
        """Everything there is, stored."""
        while (
            self.ingest.step(0.0)
            or not self.ingest.owned
            or not all(map(self.ingest.source.caught_up, self.ingest.owned))
        ):
            pass
        self.ingest.checkpoint()

    def turn(self, hour: float | None = None) -> None:
        """At `hour` after the beginning: read, store, close and tell what is due."""
        if hour is not None:
            self.clock.ms = T0 + int(hour * HOUR)
        self.read()
        self.closer.step()
        self.teller.turn(self.clock())

    def live(self, hours: Sequence[int], **kind: object) -> None:
        """Hours of traffic, each read at its end and closed two minutes later."""
        for hour in hours:
            self.send(hour_of_events(hour, **kind))  # type: ignore[arg-type]
            self.turn(hour + 1)
            self.turn(hour + 1 + 2 / 60)

    def tell(self) -> None:
        """Everything that waits to be told is put into the outbox."""
        while self.teller.turn(self.clock(), flush=True):
            pass

    def finish(self) -> None:
        self.read()
        self.closer.step()
        self.closer.finish_input()

    def windows(self, monitor: str | None = None, version: str | None = None) -> list[WindowRow]:
        """Standing windows one by one, by start."""
        rows = [single for row in self.store.windows("churn", monitor) for single in expand(row)]
        return sorted(
            (r for r in rows if version in (None, r.version)),
            key=lambda r: (r.start_ms, r.end_ms, r.version, r.monitor),
        )

    def window(self, monitor: str, hour: int, version: str = "1", hours: int = 1) -> WindowRow:
        start = T0 + hour * HOUR
        found = [r for r in self.windows(monitor, version) if (r.start_ms, r.end_ms) == (start, start + hours * HOUR)]
        assert len(found) == 1, (monitor, hour, version, found)
        return found[0]

    def alerts(self) -> list[AlertRow]:
        """Every transition."""
        return self.store.alerts(history=True)

    def digests(self) -> dict[tuple[str, str, int, int], str]:
        return {
            (r.monitor, r.version, (r.start_ms - T0) // HOUR, (r.end_ms - T0) // HOUR): r.digest for r in self.windows()
        }

    def partition(self, number: int = 0) -> PartitionId:
        return PartitionId(TOPIC, number)

    def close(self) -> None:
        self.store.close()
