"""Census records as a model's production traffic: the whole data set where it is at hand, else the sample in tests/data.

The whole set (68,785 + 208,892 rows) is looked for in the folder DRIFTLINE_DATA, by default ../shared/data beside the checkout.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

REPOSITORY = Path(__file__).resolve().parents[2]
T0 = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DAY_MS = 86_400_000
MODEL, VERSION = "employment", "1"
NO_FEATURES = ("id", "year", "employed", "prediction", "predicted_probability")


@dataclass(frozen=True)
class Census:
    """Production rows `0..rows` in time order, `rows_a_day` of them on each simulated day from T0 on, evenly spread over it."""

    reference: Path
    production: Path
    whole: bool
    rows: int
    rows_a_day: int = 5_000

    @cached_property
    def table(self) -> pd.DataFrame:
        """The rows as they are in the file."""
        return pq.read_table(self.production).slice(0, self.rows).to_pandas()

    @property
    def features(self) -> list[str]:
        return [name for name in self.table.columns if name not in NO_FEATURES]

    def time_ms(self, row: int) -> int:
        day, place = divmod(row, self.rows_a_day)
        return int(T0.timestamp() * 1000) + day * DAY_MS + place * DAY_MS // self.rows_a_day

    def lines(self) -> list[tuple[str, bytes]]:
        """Every row as (key, canonical event)."""
        names = self.features
        columns = [self.table[name].tolist() for name in ("id", "prediction", "predicted_probability", *names)]
        return [
            (str(id_), self._event(row, id_, label, score, dict(zip(names, values, strict=True))))
            for row, (id_, label, score, *values) in enumerate(zip(*columns, strict=True))
        ]

    def _event(self, row: int, id_: int, label: int, score: float, features: dict[str, Any]) -> bytes:
        event: dict[str, Any] = {
            "type": "prediction",
            "model": MODEL,
            "version": VERSION,
            "id": str(id_),
            "ts": stamp(self.time_ms(row)),
        }
        event |= {"features": features, "prediction": {"label": label, "score": score}}
        return json.dumps(event, separators=(",", ":")).encode()

    def write_lines(self, path: Path) -> Path:
        path.write_bytes(b"".join(line + b"\n" for _, line in self.lines()))
        return path

    def write_table(self, path: Path) -> Path:
        """The same rows as a flat table: the file's columns, and `timestamp` and `version`."""
        table = pq.read_table(self.production).slice(0, self.rows)
        times = pa.array([self.time_ms(row) for row in range(len(table))], pa.timestamp("ms", tz="UTC"))
        table = table.append_column("timestamp", times)
        pq.write_table(table.append_column("version", pa.array([VERSION] * len(table))), path)
        return path

    def model(self) -> dict[str, Any]:
        """Its configuration."""
        columns = {"score": "predicted_probability", "label": "employed"}
        reference = {"path": str(self.reference), "order": "time", "columns": columns, "ignore": ["year"]}
        return {"task": "binary", "positive_label": 1, "window": "1d", "reference": reference}


def census(rows: int, rows_a_day: int = 5_000) -> Census:
    """The first `rows` rows of the whole set, or as many as the sample has (20,000)."""
    home = Path(os.environ.get("DRIFTLINE_DATA", REPOSITORY.parent / "shared" / "data")) / "employment_ma"
    if (home / "production.parquet").exists():
        return Census(home / "reference.parquet", home / "production.parquet", True, rows, rows_a_day)
    sample = REPOSITORY / "tests" / "data"
    files = (sample / "employment_ma_reference.parquet", sample / "employment_ma_production.parquet")
    return Census(*files, False, min(rows, 20_000), rows_a_day)


def stamp(time_ms: int) -> str:
    return (dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
