"""Healthy models on virtual time through the whole service but its clock: events, store, closing, alerts, telling. What is paged is false.

Each model: six numbers (normal, heavy-tailed, with ties), two categories, a score that is calibrated, and labels that come hours later,
however the outcome is. `spoiled` moves one feature of every model from an hour on, so that a delay can be measured by the same means.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from monitor.config.load import load_config
from monitor.ingest import Ingest, Pace
from monitor.runtime import Runtime
from monitor.sources.memory import MemoryLog, MemorySource
from monitor.store import AlertRow, Store
from monitor.telling.teller import Teller

HOUR_MS = 3_600_000
T0 = 1_767_571_200_000  # 2026-01-05T00:00Z
QUARTER_HOURS = 2_190
REFERENCE_ROWS = 20_000
TOPIC = "events"
LABEL_HOURS = 6.0  # mean delay of a label
_ENCODE = msgspec.json.Encoder().encode

Columns = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """`rows`: predictions an hour of each model. `pages`: promised false pages a quarter of each. `labels` False: only data is watched.

    Every `close_hours` what can be closed is."""

    models: int = 1
    hours: int = QUARTER_HOURS
    rows: int = 200
    pages: float = 1.0
    window: str = "1h"
    labels: bool = True
    close_hours: int = 1
    seed: int = 1
    spoiled_from: int | None = None
    spoiled_sd: float = 0.0

    @property
    def spoiled_ms(self) -> int | None:
        return None if self.spoiled_from is None else T0 + self.spoiled_from * HOUR_MS

    @property
    def names(self) -> list[str]:
        return [f"model-{number:02d}" for number in range(self.models)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came of it. `windows` by monitor, `judged` those of them that came to a verdict; `pages`: (incident, model) that people were told of."""

    windows: dict[str, int]
    judged: dict[str, int]
    fired: list[AlertRow]
    pages: set[tuple[str, str]]


class Clock:
    def __init__(self) -> None:
        self.ms = T0

    def __call__(self) -> int:
        return self.ms


def play(folder: Path, fleet: Fleet, prepare: Callable[[Store], object] = lambda store: None) -> Told:
    """The whole of it, an hour at a time; the store is SQLite in `folder`, `prepare` may put something in first."""
    config = load_config(write(folder, fleet))
    store, clock = Store.open(config.store, durable=False), Clock()
    try:
        runtime = Runtime.build(config, store, clock)
        prepare(store)
        log = MemoryLog({TOPIC: 1})
        source = MemorySource(log, group="healthy", topics=[TOPIC], name="live")
        pace = Pace(now_ms=clock, live=False)
        ingest = Ingest(
            source, store, runtime.new_intake, owner="one", writer="one", pace=pace, telemetry=runtime.telemetry
        )
        closer, teller = runtime.closer(side_effects=True), Teller(store, config)
        written = 0
        for hour, batch in enumerate(hours(fleet), 1):
            for value in batch:
                log.append(TOPIC, value, timestamp_ms=T0 + 2 * QUARTER_HOURS * HOUR_MS)
            written += len(batch)
            clock.ms += HOUR_MS
            while sum(owned.next_offset for owned in ingest.owned.values()) < written:
                ingest.step(0.0)
            ingest.checkpoint()
            if hour % fleet.close_hours == 0:
                closer.step()
            teller.turn(clock.ms)
        closer.step()
        closer.finish_input()
        teller.turn(clock.ms, flush=True)
        ingest.close()
        return told(store)
    finally:
        store.close()


def told(store: Store) -> Told:
    windows: dict[str, int] = {}
    judged: dict[str, int] = {}
    for row in store.windows():
        windows[row.monitor] = windows.get(row.monitor, 0) + row.run
        judged[row.monitor] = judged.get(row.monitor, 0) + (row.state in ("ok", "warning", "drift"))
    fired = [row for row in store.alerts(history=True) if row.status == "firing"]
    pages = {(page.incident, page.model) for page in store.pages()}
    return Told(windows=windows, judged=judged, fired=fired, pages=pages)


def write(folder: Path, fleet: Fleet) -> Path:
    """The configuration and the references, each model's drawn anew."""
    models: dict[str, object] = {}
    for number, name in enumerate(fleet.names):
        rng = np.random.default_rng([fleet.seed, number, 0])
        table = columns(rng, REFERENCE_ROWS)
        if not fleet.labels:
            del table["label"]
        times = T0 - (REFERENCE_ROWS - np.arange(REFERENCE_ROWS)) * HOUR_MS // fleet.rows
        pq.write_table(pa.table({"timestamp": times.astype("datetime64[ms]"), **table}), folder / f"{name}.parquet")
        models[name] = {
            "task": "binary", "positive_label": "yes", "reference": {"path": f"{name}.parquet"}, "window": {"size": fleet.window, "max": "1d"},
            "maturity": "3d", "segments": ["region"], "monitors": {"performance": fleet.labels},
        }  # fmt: skip
    path = folder / "driftline.yaml"
    config = {
        "receivers": {"oncall": {"slack": {"url": {"env": "NOBODY_SENDS"}}}},
        "routes": [{"receiver": "oncall"}],
        "store": f"sqlite:///{folder}/healthy.db",
        "models": models,
        "false_alarms": {"pages_per_quarter": fleet.pages},
    }
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def columns(rng: np.random.Generator, n: int) -> Columns:
    z = rng.standard_normal((6, n))
    score = 1.0 / (1.0 + np.exp(-3.0 * z[0]))
    return {
        "x0": z[0].round(4), "x1": z[1].round(4), "x2": np.exp(z[2]).round(4), "x3": np.exp(z[3]).round(4), "x4": np.round(2 * z[4]),
        "x5": np.where(z[5] < 0.5, 0.0, z[5]).round(4), "region": rng.choice(["north", "south"], n),
        "plan": rng.choice(list("abcdefgh"), n), "score": score.round(5), "label": np.where(rng.random(n) < score, "yes", "no"),
        "prediction": np.where(score >= 0.5, "yes", "no"),
    }  # fmt: skip


def hours(fleet: Fleet) -> Iterator[list[bytes]]:
    """Hour by hour the events of all models in the order of their times: predictions, and the labels that are known by then."""
    rng = np.random.default_rng([fleet.seed, 1])
    waiting: list[tuple[int, bytes]] = []
    for hour in range(fleet.hours):
        now: list[tuple[int, bytes]] = []
        for name in fleet.names:
            table = columns(rng, fleet.rows)
            if fleet.spoiled_from is not None and hour >= fleet.spoiled_from:
                table["x1"] = table["x1"] + fleet.spoiled_sd
            predictions, labels = _events(rng, fleet, name, hour, table)
            now += predictions
            waiting += labels if fleet.labels else []
        end_ms = T0 + (hour + 1) * HOUR_MS
        now += [item for item in waiting if item[0] < end_ms]
        waiting = [item for item in waiting if item[0] >= end_ms]
        yield [value for _, value in sorted(now)]


def _events(
    rng: np.random.Generator, fleet: Fleet, name: str, hour: int, table: Columns
) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
    names = [column for column in table if column not in ("score", "prediction", "label")]
    times = (T0 + hour * HOUR_MS + (np.arange(fleet.rows) + 1) * HOUR_MS // fleet.rows - 1).tolist()
    later = (np.array(times) + rng.exponential(LABEL_HOURS * HOUR_MS, fleet.rows)).astype(np.int64).tolist()
    scores, labels, decisions = table["score"].tolist(), table["label"].tolist(), table["prediction"].tolist()
    rows = zip(*(table[column].tolist() for column in names), strict=True)
    predictions, outcomes = [], []
    for i, values in enumerate(rows):
        identity = f"{hour}-{i}"
        prediction = {"score": scores[i], "label": decisions[i]}
        event = {
            "type": "prediction", "model": name, "version": "1", "id": identity, "ts": times[i],
            "features": dict(zip(names, values, strict=True)), "prediction": prediction,
        }  # fmt: skip
        predictions.append((times[i], _ENCODE(event)))
        outcome = {"type": "outcome", "model": name, "id": identity, "ts": later[i], "label": labels[i]}
        outcomes.append((later[i], _ENCODE(outcome)))
    return predictions, outcomes
