"""The world of `parts.world` with a binary model whose outcomes come late: scored rows, their events, and what closing made of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alerts.envelope import rfc3339
from monitor.adoption import file_sha256, settings_json
from monitor.commands import objects
from monitor.config.load import load_config
from monitor.ingest import Ingest, Pace
from monitor.sources.memory import MemorySource
from monitor.store import ReferenceRow, Store, WindowRow
from monitor.telemetry import JOINED
from parts.world import HOUR, T0, TOPIC, World

NO, YES = "stay", "leave"
BINARY = """
store: {store}
models:
  churn:
    task: binary
    positive_label: leave
    reference: {{path: reference.parquet}}
    window: {{size: 1h, min_rows: 100, max: 12h}}
    lateness: 60s
    maturity: 1d
"""
MINUTE = HOUR // 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One scored customer and what became of them."""

    id: str
    ts_ms: int
    x: float
    region: str
    score: float
    truth: str
    version: str | None = "1"

    @property
    def decision(self) -> str:
        return YES if self.score >= 0.5 else NO

    @property
    def right(self) -> bool:
        return self.decision == self.truth

    def prediction(self, **changes: object) -> bytes:
        record = {
            "type": "prediction", "model": "churn", "id": self.id, "ts": rfc3339(self.ts_ms),
            "features": {"x": self.x, "region": self.region}, "prediction": {"label": self.decision, "score": self.score},
        }  # fmt: skip
        return encoded(record | ({} if self.version is None else {"version": self.version}) | changes)

    def outcome(self, delay_ms: int = 30 * MINUTE, **changes: object) -> bytes:
        """`delay_ms` after the prediction; names no version unless told to."""
        return outcome(self.id, self.ts_ms + delay_ms, **{"label": self.truth} | changes)

    def other(self) -> Scored:
        """The same with the other truth."""
        return replace(self, truth=NO if self.truth == YES else YES)


def encoded(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()


def outcome(id_: str, ts_ms: int, **fields: object) -> bytes:
    """`fields`: label, value, version."""
    return encoded({"type": "outcome", "model": "churn", "id": id_, "ts": rfc3339(ts_ms)} | fields)


def draw(rng: np.random.Generator, rows: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, calibrated scores, and truths (1 leaves). The wider the spread, the easier they are to tell."""
    x = rng.normal(0.0, spread, rows)
    score = 1.0 / (1.0 + np.exp(-2.5 * x))
    return x, score, (rng.random(rows) < score).astype(int)


def write_binary_reference(path: Path, *, rows: int = 3_000, seed: int = 1) -> Path:
    rng = np.random.default_rng(seed)
    x, score, truth = draw(rng, rows)
    names = np.array([NO, YES])
    table = {
        "timestamp": (T0 - rows * MINUTE + np.arange(rows) * MINUTE).astype("datetime64[ms]"),
        "x": x, "region": rng.choice(["EU", "US"], rows), "score": score,
        "prediction": names[(score >= 0.5).astype(int)], "label": names[truth],
    }  # fmt: skip
    pq.write_table(pa.table(table), path)
    return path


def hour_of_rows(
    hour: int,
    rows: int = 300,
    *,
    wrong: float | dict[str, float] = 0.0,
    spread: float = 1.0,
    version: str | None = "1",
    seed: int = 0,
) -> list[Scored]:
    """Evenly spread over the hour, the last in its last minute. `wrong`: the share of turned truths, or one for each region."""
    rng = np.random.default_rng([seed, hour, rows])
    x, score, truth = draw(rng, rows, spread)
    regions = rng.choice(["EU", "US"], rows)
    share = np.array([wrong[region] for region in regions]) if isinstance(wrong, dict) else np.full(rows, wrong)
    truth = np.where(rng.random(rows) < share, 1 - truth, truth)
    times = T0 + hour * HOUR + (np.arange(rows) + 1) * HOUR // rows - 1
    return [
        Scored(
            id=f"{seed}-{hour}-{i}",
            ts_ms=int(times[i]),
            x=round(float(x[i]), 6),
            region=str(regions[i]),
            score=float(score[i]),
            truth=(NO, YES)[truth[i]],
            version=version,
        )
        for i in range(rows)
    ]


def predictions(rows: Iterable[Scored]) -> list[bytes]:
    return [row.prediction() for row in rows]


def outcomes(rows: Iterable[Scored], delay_ms: int = 30 * MINUTE) -> list[bytes]:
    return [row.outcome(delay_ms) for row in rows]


_built: dict[tuple[str, ...], ReferenceRow] = {}


@dataclass
class OutcomeWorld(World):
    """`tombstones`: null values take back predictions of this model."""

    config_text: str = BINARY
    tombstones: bool = False

    def __post_init__(self) -> None:
        if not (self.folder / "reference.parquet").exists():
            write_binary_reference(self.folder / "reference.parquet")
        self._reuse_reference()
        super().__post_init__()
        for row in self.store.references():
            _built.setdefault(self._ingredients(), row)

    def _ingredients(self) -> tuple[str, ...]:
        model = load_config(self.folder / "driftline.yaml").models["churn"]
        return settings_json(model), str(model.decision_threshold), file_sha256(self.folder / "reference.parquet")

    def _reuse_reference(self) -> None:
        """Learning to estimate takes most of a second: what another world has built of the same table is taken over."""
        url = self.store_url or f"sqlite:///{self.folder}/world.db"
        (self.folder / "driftline.yaml").write_text(self.config_text.format(store=url))
        row = _built.get(self._ingredients())
        if row is not None:
            with closing(Store.open(url, durable=False)) as store:
                if not store.references():
                    store.add_reference(row, window_ms=HOUR)

    def worker(self, name: str = "one", *, store: Store | None = None, group: str = "g", live: bool = True) -> Ingest:
        source = MemorySource(self.log, group=group, topics=[TOPIC], name="live", keys=self.tombstones)
        new_intake = self.runtime.new_intake

        def with_tombstones() -> Any:
            intake = new_intake()
            intake._tombstones = "churn" if self.tombstones else None
            return intake

        pace = Pace(now_ms=self.clock, checkpoint_ms=1_000, live=live)
        return Ingest(
            source, store or self.store, with_tombstones, owner=name, writer=name, pace=pace, telemetry=self.runtime.telemetry
        )  # fmt: skip

    def retract(self, ids: Sequence[str]) -> None:
        for id_ in ids:
            self.log.append(TOPIC, None, key=id_.encode(), partition=0, timestamp_ms=T0 + 10_000 * HOUR)

    def labelled_hours(self, hours: Iterable[int], **kind: Any) -> list[Scored]:
        """Hours of traffic whose labels come half an hour after each prediction, read at its end and closed when all are there."""
        sent: list[Scored] = []
        for hour in hours:
            rows = hour_of_rows(hour, **kind)
            self.send([*predictions(rows), *outcomes(rows)])
            self.turn(hour + 1)
            self.turn(hour + 1 + 0.2)
            sent += rows
        return sent

    def performance(self, hour: int, *, version: str = "1", segment: str | None = None) -> WindowRow:
        return self.one("performance", hour, version=version, segment=segment)

    def one(self, monitor: str, hour: int, *, version: str = "1", segment: str | None = None) -> WindowRow:
        start_ms = T0 + hour * HOUR
        found = [row for row in self.windows(monitor, version) if (row.start_ms, row.segment) == (start_ms, segment)]
        assert len(found) == 1, (monitor, hour, version, segment, found)
        return found[0]

    def metric(self, hour: int, name: str = "accuracy", check: str = "realised", **which: Any) -> dict[str, Any]:
        return finding_in(self.performance(hour, **which), name, check)

    def told(self, monitor: str = "performance", subject: str = "accuracy", check: str = "realised") -> list[tuple]:
        """(status, corrected, reason, starts, at, ends) in hours, of each transition of all rows."""
        hours = lambda ms: None if ms is None else (ms - T0) / HOUR
        return [
            (row.status, row.corrected, row.reason, hours(row.starts_at_ms), hours(row.at_ms), hours(row.ends_at_ms))
            for row in self.alerts()
            if (row.monitor, row.subject, row.check, row.segment) == (monitor, subject, check, None)
        ]

    def joined(self, result: str) -> int:
        """How often the join came to that so far."""
        return int(self.runtime.telemetry._series[JOINED].values.get((result,), 0))


def finding_in(row: WindowRow, subject: str, check: str = "realised") -> dict[str, Any]:
    (window,) = objects(row)
    found = [f for f in window["findings"] if (f["subject"], f["check"]) == (subject, check)]
    assert len(found) == 1, (subject, check, [(f["subject"], f["check"], f["state"]) for f in window["findings"]])
    return found[0]
