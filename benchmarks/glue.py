"""What a user would write instead: kafka-python, json, a data frame and scipy for each window. It judges columns and stores nothing."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from kafka import KafkaConsumer, TopicPartition
from scipy import stats

from benchmarks.events import CATEGORICAL, NUMERIC, events, reference_table
from benchmarks.measure import Figure, Spent, timed
from benchmarks.pipeline import PARTITIONS, fill, run
from benchmarks.world import configure, start
from monitor.sources.kafka import KafkaSettings, KafkaSource

if TYPE_CHECKING:
    from parts.broker import Broker


def by_hand(folder: Path, broker: Broker, *, quick: bool) -> list[Figure]:
    """The glue and Driftline on one topic with one model and hourly windows of 1,000 rows, both with all windows judged."""
    count = 75_000 if quick else 160_000
    fill(broker, "by-hand", events(count, step_ms=3_600))
    settings = KafkaSettings(bootstrap_servers=(broker.address,), group_id="ours", topics=("by-hand",))
    runtime = start(configure(folder, 1))
    source = KafkaSource(settings, "live")
    ours = run(runtime, source, count)
    source.close()
    runtime.store.close()
    reference = reference_table().to_pandas()
    consumer = KafkaConsumer(
        bootstrap_servers=broker.address, auto_offset_reset="earliest", value_deserializer=json.loads, max_poll_records=5_000
    )  # fmt: skip
    try:
        consumer.assign([TopicPartition("by-hand", number) for number in range(PARTITIONS)])
        spent, windows = _consume(consumer, reference, count)
    finally:
        consumer.close()
    cpu_us = spent.cpu / count * 1e6
    our_us, our_rate = (
        (ours.read.cpu + ours.closed.cpu) / ours.events * 1e6,
        ours.events / (ours.read.wall + ours.closed.wall),
    )
    return [
        Figure(
            name="glue.ours", what=f"Driftline on a topic with one model and {windows} hourly windows of 1,000 rows, all judged and stored",
            cpu_us=our_us, per_second=our_rate, more={"events": ours.events},
        ),
        Figure(
            name="glue", what="the same by hand: kafka-python, json, a data frame and scipy's tests of drift for each hour",
            cpu_us=cpu_us, per_second=count / spent.wall, ratio=cpu_us / our_us, against="glue.ours", more={"events": count},
        ),
    ]  # fmt: skip


def _consume(consumer: KafkaConsumer, reference: pd.DataFrame, count: int) -> tuple[Spent, int]:
    hours: dict[str, list[dict[str, object]]] = {}
    with timed() as spent:
        for message in itertools.islice(consumer, count):
            event = message.value
            hours.setdefault(event["ts"][:13], []).append({**event["features"], "score": event["prediction"]["score"]})
        for rows in hours.values():
            _judge(pd.DataFrame(rows), reference)
    return spent, len(hours)


def _judge(window: pd.DataFrame, reference: pd.DataFrame) -> dict[str, float]:
    p_values = {}
    for name in [*NUMERIC, "score"]:
        p_values[name] = stats.ks_2samp(reference[name].dropna(), window[name].dropna()).pvalue
    for name in CATEGORICAL:
        counts = pd.DataFrame({"old": reference[name].value_counts(), "new": window[name].value_counts()}).fillna(0)
        p_values[name] = stats.chi2_contingency(counts.T)[1]
    return p_values
