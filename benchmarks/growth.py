"""What the store writes and keeps: 500 models with 100 features, hourly windows, 12 partitions, one worker with the default checkpoints."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import numpy as np

from benchmarks.events import START_MS
from benchmarks.measure import Figure, timed
from benchmarks.world import configure, start
from detectors.columns import CategoryColumn, NumericColumn
from detectors.profile import Profile, fold
from detectors.reference.build import Reference
from monitor.clocks import Clock
from monitor.ingest import CHECKPOINT_MS, patience
from monitor.ports import PartitionId
from monitor.runtime import Runtime
from monitor.store import Checkpoint, PaneKey, Progress

HOUR_MS, DAY_HOURS = 3_600_000, 24
NUMERIC = [f"n{i:02d}" for i in range(70)]
CATEGORICAL = [f"c{i:02d}" for i in range(30)]
ROWS_AN_HOUR = 1_000  # of each model
PARTITIONS = [PartitionId("predictions", number) for number in range(12)]
CADENCE_MS = int(CHECKPOINT_MS * patience(500))
KINDS = 40  # different deltas, so that no two models and no two checkpoints are alike


def growth(folder: Path, *, quick: bool) -> list[Figure]:
    """A stretch of a simulated day, its figures times the rest of it."""
    models, hours = (10, 1) if quick else (500, 1)
    runtime = start(configure(folder, models, numeric=NUMERIC, categorical=CATEGORICAL))
    database = sqlite3.connect(folder / "driftline.db")
    try:
        before = _file_bytes(folder, database)
        with timed() as spent:
            written = _simulate(runtime, database, models, hours)
            runtime.closer(side_effects=False).finish_input()
        state, findings = _stored(database)
        size = _file_bytes(folder, database) - before
    finally:
        database.close()
        runtime.store.close()
    times = DAY_HOURS / hours * 500 / models
    more = {
        "measured_models": models, "measured_hours": hours, "cpu_seconds_a_day": round(spent.cpu * times),
        "state_rows_mb_written": round(written * times / 1e6), "state_mb_kept": round(state * times / 1e6),
        "findings_mb_kept": round(findings * times / 1e6), "file_mb": round(size * times / 1e6),
    }  # fmt: skip
    what = f"500 models x 100 features, {ROWS_AN_HOUR:,} rows an hour each, a checkpoint every {CADENCE_MS // 1000} s: MB a day"
    return [Figure(name="growth", what=what, unit="day", more=more)]


def _simulate(runtime: Runtime, database: sqlite3.Connection, models: int, hours: int) -> int:
    """Bytes of state rows written."""
    store, book, now_ms = runtime.store, runtime.book(), int(time.time() * 1000)
    adopted = book.in_force("m0", "1", START_MS)
    assert adopted is not None
    steps = HOUR_MS // CADENCE_MS
    deltas = _deltas(adopted.reference, ROWS_AN_HOUR // steps)
    store.sync_topics("live", {"predictions": len(PARTITIONS)}, now_ms)
    claims = store.claim("live", PARTITIONS, "bench:1:a", now_ms)
    for partition, claim in claims.items():
        store.set_start("live", partition, claim.epoch, 0)
    written = 0
    for step in range(hours * steps):
        time_ms = START_MS + step * CADENCE_MS
        pane_ms = time_ms // HOUR_MS * HOUR_MS
        store.checkpoint(
            Checkpoint(
                group="live", owner="bench:1:a", writer="a", now_ms=now_ms, reference_generation=book.generation,
                partitions=[
                    Progress(partition=p, epoch=claims[p].epoch, from_offset=step, to_offset=step + 1, newest_ms=time_ms, newest_read_ms=now_ms)
                    for p in PARTITIONS
                ],
                clocks={(p, f"m{i}"): Clock(time_ms, now_ms) for p in PARTITIONS for i in range(models)},
                deltas={
                    PaneKey(f"m{i}", "1", adopted.reference.hash, pane_ms): deltas[(step * 7 + i) % KINDS] for i in range(models)
                },
                unconfigured={},
            )
        )  # fmt: skip
        written += database.execute("SELECT sum(length(profile)) FROM state WHERE start_ms = ?", (pane_ms,)).fetchone()[
            0
        ]
    return written


def _deltas(reference: Reference, rows: int) -> list[Profile]:
    rng = np.random.default_rng(7)
    made = []
    for _ in range(KINDS):
        columns = [
            NumericColumn(rng.random(rows) if subject.role == "score" else rng.normal(100, 15, rows))
            if subject.name not in CATEGORICAL
            else CategoryColumn(rng.choice(["alpha", "beta", "gamma", "delta", "epsilon"], rows).tolist())
            for subject in reference.layout.subjects
        ]
        made.append(fold(reference.layout, columns))
    return made


def _file_bytes(folder: Path, database: sqlite3.Connection) -> int:
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return (folder / "driftline.db").stat().st_size


def _stored(database: sqlite3.Connection) -> tuple[int, int]:
    state = database.execute("SELECT sum(length(profile)) FROM state").fetchone()[0]
    findings = database.execute("SELECT sum(length(findings)) FROM windows").fetchone()[0]
    return state, findings
