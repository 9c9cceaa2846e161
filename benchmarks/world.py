"""A configured service in a temporary folder, for the benchmarks that need a whole one."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.events import CATEGORICAL, NUMERIC, reference_table
from detectors.reference.build import Reference
from monitor.adoption import build
from monitor.config import Config, load_config
from monitor.decoding.codec import EventSchema
from monitor.references import ReferenceBook
from monitor.runtime import Runtime
from monitor.store import Store


def configure(
    folder: Path, models: int, *, numeric: Sequence[str] = NUMERIC, categorical: Sequence[str] = CATEGORICAL
) -> Config:
    """`models` models with hourly windows on one reference table in time order."""
    pq.write_table(reference_table(numeric=numeric, categorical=categorical), folder / "reference.parquet")
    reference = {"path": "reference.parquet", "order": "time"}
    model = {"task": "binary", "positive_label": 1, "window": "1h", "reference": reference}
    path = folder / "driftline.yaml"
    wanted = {"store": f"sqlite:///{folder}/driftline.db", "models": {f"m{i}": model for i in range(models)}}
    path.write_text(json.dumps(wanted))
    return load_config(path)


def start(config: Config) -> Runtime:
    """The service's own parts on its store, which is fsynced as in production."""
    return Runtime.build(config, Store.open(config.store), lambda: time.time_ns() // 1_000_000)


def one_model(folder: Path) -> tuple[Reference, EventSchema]:
    """The reference of the benchmark's events, and what to decode of them."""
    config = configure(folder, 1)
    model = config.models["m0"]
    runtime = start(config)
    try:
        book: ReferenceBook = runtime.book()
        return build(model)[1], book.schema(model)
    finally:
        runtime.store.close()
