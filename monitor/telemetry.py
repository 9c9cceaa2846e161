"""What this process has done since it started: every counter of ours, declared once, with its help and labels.

The rooms of the service count here (`telemetry.add(EVENTS, "churn", "prediction", "accepted", by=64)`); only
monitor/metrics.py reads it. Verdicts are not here: those come from the store, whoever made them.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for the annotation only: the hot path's imports are not needed to count
    from monitor.intake import Harvest

# A label set beyond this many is counted under OTHER: names that come with the traffic must not grow our memory.
LABEL_SETS_MAX = 2_000
OTHER = "other"

SECONDS_SHORT = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0)


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """`name` is without the prefix; a counter's ends in `_total`. `buckets` are upper bounds, for histograms only."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


# --- intake
EVENTS = Metric(
    "events_total", Kind.COUNTER, "Events read, by what became of them (accepted, late).", ("model", "kind", "result")
)
UNCONFIGURED = Metric("unconfigured_events_total", Kind.COUNTER, "Events of models that are not configured.")
NULL_VALUES = Metric("null_value_records_total", Kind.COUNTER, "Records without a value, which are ignored.")
GAPS = Metric("offset_gap_records_total", Kind.COUNTER, "Offsets that are missing without explanation.", ("topic",))
DEAD_LETTERS = Metric("dead_letter_events_total", Kind.COUNTER, "Records that went to quarantine.", ("reason",))
LAG = Metric(
    "consumer_lag_records", Kind.GAUGE, "Records between the last one read and the end.", ("topic", "partition")
)
ASSIGNED = Metric("consumer_assigned_partitions", Kind.GAUGE, "Partitions this process owns.", ("topic",))
REBALANCES = Metric("consumer_rebalances_total", Kind.COUNTER, "Assignments and revocations seen.")
BATCH = Metric(
    "batch_duration_seconds", Kind.HISTOGRAM, "Time spent on one batch, by stage.", ("stage",), SECONDS_SHORT
)
CHECKPOINT = Metric("checkpoint_timestamp_seconds", Kind.GAUGE, "When this process last made its progress durable.")
STORE_ERRORS = Metric("store_errors_total", Kind.COUNTER, "Failed store operations, retried or not.", ("operation",))

# --- closing
WATERMARK = Metric(
    "watermark_timestamp_seconds",
    Kind.GAUGE,
    "Event time up to which the model's stream is complete, lateness allowed for.",
    ("model",),
)
WINDOWS = Metric(
    "windows_total",
    Kind.COUNTER,
    "Windows closed (evaluated, insufficient_data, error).",
    ("model", "kind", "result"),
)
DETECTOR = Metric(
    "detector_duration_seconds",
    Kind.HISTOGRAM,
    "Time to judge one window, by monitor.",
    ("detector",),
    SECONDS_SHORT,
)

# --- telling
NOTIFICATIONS = Metric(
    "notifications_total",
    Kind.COUNTER,
    "Notifications, by outcome (sent, failed, suppressed, dropped).",
    ("channel", "result"),
)
NOTIFICATION = Metric(
    "notification_duration_seconds", Kind.HISTOGRAM, "Time to deliver one notification.", ("channel",), SECONDS_SHORT
)
TRIGGERS = Metric(
    "retrain_triggers_total",
    Kind.COUNTER,
    "Retraining requests, by outcome (accepted, failed, skipped_cooldown, dry_run).",
    ("model", "target", "result"),
)

CATALOGUE = (
    EVENTS,
    UNCONFIGURED,
    NULL_VALUES,
    GAPS,
    DEAD_LETTERS,
    LAG,
    ASSIGNED,
    REBALANCES,
    BATCH,
    CHECKPOINT,
    STORE_ERRORS,
    WATERMARK,
    WINDOWS,
    DETECTOR,
    NOTIFICATIONS,
    NOTIFICATION,
    TRIGGERS,
)

Labels = tuple[str, ...]


@dataclass(slots=True)
class Histogram:
    """`counts[i]` observations lie in (buckets[i-1], buckets[i]]; the last entry is beyond every bound."""

    counts: list[int]
    sum: float = 0.0


@dataclass(slots=True)
class _Series:
    values: dict[Labels, float] = field(default_factory=dict)
    histograms: dict[Labels, Histogram] = field(default_factory=dict)


class Telemetry:
    """Counters, gauges and histograms of one process. Safe to use from any thread; a call costs about a microsecond,
    so count per block, not per event. A metric that is not in CATALOGUE, or a wrong number of labels, is a bug and raises.
    """

    def __init__(self, catalogue: Sequence[Metric] = CATALOGUE) -> None:
        self._lock = threading.Lock()
        self._series = {metric: _Series() for metric in catalogue}

    def add(self, metric: Metric, *labels: str, by: float = 1) -> None:
        """Count `by` more; `by=0` makes a series that is known to exist show 0."""
        with self._lock:
            values = self._series[metric].values
            key = _key(metric, Kind.COUNTER, labels, values)
            values[key] = values.get(key, 0) + by

    def set(self, metric: Metric, *labels: str, value: float) -> None:
        """Show `value` from now on."""
        with self._lock:
            values = self._series[metric].values
            values[_key(metric, Kind.GAUGE, labels, values)] = value

    def forget(self, metric: Metric, *labels: str) -> None:
        """Stop showing a gauge, as of a partition that others own by now. Unknown labels are fine."""
        with self._lock:
            self._series[metric].values.pop(labels, None)

    def observe(self, metric: Metric, *labels: str, seconds: float) -> None:
        with self._lock:
            histograms = self._series[metric].histograms
            key = _key(metric, Kind.HISTOGRAM, labels, histograms)
            histogram = histograms.get(key)
            if histogram is None:
                histogram = histograms[key] = Histogram([0] * (len(metric.buckets) + 1))
            histogram.counts[bisect_left(metric.buckets, seconds)] += 1
            histogram.sum += seconds

    # -- what the consumer loop reports ---------------------------------------------------------------------------------

    def rebalanced(self) -> None:
        self.add(REBALANCES)

    def store_failed(self, operation: str = "checkpoint") -> None:
        self.add(STORE_ERRORS, operation)

    def checkpointed(self, at_ms: int, harvest: Harvest, late_rows: Mapping[str, int]) -> None:
        """All of `harvest` is stored since `at_ms`, but for the rows that came too late for their window, by model."""
        for model, rows in harvest.predictions.items():
            late = late_rows.get(model, 0)
            self.add(EVENTS, model, "prediction", "accepted", by=rows - late)
            self.add(EVENTS, model, "prediction", "late", by=late)
        for model, rows in harvest.outcomes.items():
            self.add(EVENTS, model, "outcome", "accepted", by=rows)
        for reason, records in Counter(str(bad.reason) for bad in harvest.quarantine).items():
            self.add(DEAD_LETTERS, reason, by=records)
        self.add(UNCONFIGURED, by=sum(harvest.unconfigured.values()))
        self.add(NULL_VALUES, by=harvest.null_values)
        self.set(CHECKPOINT, value=at_ms / 1000)

    # -- what the collector reads ---------------------------------------------------------------------------------------

    def values(self, metric: Metric) -> dict[Labels, float]:
        """A copy of a counter's or gauge's series; {(): 0} for a counter without labels that has not counted yet."""
        with self._lock:
            values = dict(self._series[metric].values)
        return values or ({(): 0} if metric.kind is Kind.COUNTER and not metric.labels else {})

    def histograms(self, metric: Metric) -> dict[Labels, Histogram]:
        """A copy of a histogram's series."""
        with self._lock:
            found = self._series[metric].histograms
            return {labels: Histogram(list(histogram.counts), histogram.sum) for labels, histogram in found.items()}


def _key(metric: Metric, kind: Kind, labels: Labels, known: Mapping[Labels, object]) -> Labels:
    if metric.kind is not kind or len(labels) != len(metric.labels):
        raise ValueError(f"{metric.name} is a {metric.kind} with labels {metric.labels}, not a {kind} with {labels}")
    if labels in known or len(known) < LABEL_SETS_MAX:
        return labels
    return (OTHER,) * len(labels)
