"""What this process has done since it started: every counter of ours, declared once, with its help and labels.

The rooms of the service count here (`telemetry.add(EVENTS, "churn", "prediction", "accepted", by=64)`); only
monitor/metrics.py reads it. Verdicts are not here: those come from the store, whoever made them.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from monitor.decoding.events import Reason

if TYPE_CHECKING:  # for the annotation only: the hot path's imports are not needed to count
    from monitor.intake import Harvest
    from monitor.joining.outcomes import JoinCounts
    from monitor.store import ExpiredRows, JoinSize

# A label set beyond this many is counted under OTHER: names that come with the traffic must not grow our memory.
LABEL_SETS_MAX = 2_000
MODEL_LABEL_SETS_MAX = 50_000  # of a metric by model: models are configured, and hundreds of them are usual
OTHER = "other"
TOLD = "told"  # the outcome of an alert that a receiver has heard of

SECONDS_SHORT = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0)
_MINUTE, _HOUR, _DAY = 60.0, 3_600.0, 86_400.0
SECONDS_LONG = (
    _MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 4 * _HOUR, 12 * _HOUR, _DAY, 2 * _DAY, 4 * _DAY, 7 * _DAY, 14 * _DAY, 30 * _DAY, 60 * _DAY, 90 * _DAY,
)  # fmt: skip


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """Each is declared once, and equal to itself alone. `name` is without the prefix; a counter's ends in `_total`. `buckets` are upper bounds, for histograms only.

    `known` are the values of a counter's one label that are shown as 0 before anything was counted.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    known: tuple[str, ...] = ()


# --- intake
EVENTS = Metric(
    "events_total", Kind.COUNTER, "Events read, by what became of them (accepted, late).", ("model", "kind", "result")
)
UNCONFIGURED = Metric("unconfigured_events_total", Kind.COUNTER, "Events of models that are not configured.")
FOLDED = Metric(
    "other_version_events_total",
    Kind.COUNTER,
    "Events of more versions of a model than are told apart: they are judged together, as version `__other__`.",
    ("model",),
)
NULL_VALUES = Metric("null_value_records_total", Kind.COUNTER, "Records without a value, which are ignored.")
GAPS = Metric("offset_gap_records_total", Kind.COUNTER, "Offsets that are missing without explanation.", ("topic",))
DEAD_LETTERS = Metric(
    "dead_letter_events_total",
    Kind.COUNTER,
    "Records that went to quarantine.",
    ("reason",),
    known=tuple(map(str, Reason)),
)
LAG = Metric(
    "consumer_lag_records", Kind.GAUGE, "Records between the last one read and the end.", ("topic", "partition")
)
ASSIGNED = Metric("consumer_assigned_partitions", Kind.GAUGE, "Partitions this process owns.", ("topic",))
REBALANCES = Metric("consumer_rebalances_total", Kind.COUNTER, "Assignments and revocations seen.")
STALLS = Metric(
    "consumer_stalls_total",
    Kind.COUNTER,
    "Times a partition with waiting records made no progress for ten minutes while others did.",
    ("topic",),
)
BATCH = Metric(
    "batch_duration_seconds",
    Kind.HISTOGRAM,
    "Time spent on one batch, by stage: fold (what was read becomes counts), checkpoint, close, tell.",
    ("stage",),
    SECONDS_SHORT,
)
CHECKPOINT = Metric("checkpoint_timestamp_seconds", Kind.GAUGE, "When this process last made its progress durable.")
STORE_ERRORS = Metric(
    "store_errors_total",
    Kind.COUNTER,
    "Failed store operations, retried or not.",
    ("operation",),
    known=("checkpoint", "close", "prune", "send"),
)

# --- the join of predictions and outcomes
JOINED = Metric(
    "join_events_total",
    Kind.COUNTER,
    "What joining outcomes to predictions made of them: copies, conflicts, pairs, corrections, repeats, retracted, orphans, late.",
    ("result",),
    known=("copies", "conflicts", "pairs", "corrections", "repeats", "retracted", "orphans", "late"),
)
JOIN_EXPIRED = Metric(
    "join_expired_total",
    Kind.COUNTER,
    "Rows of the join forgotten at the end of their retention: matched, unlabelled, orphans.",
    ("result",),
    known=("matched", "unlabelled", "orphans"),
)
JOIN_ROWS = Metric("join_rows", Kind.GAUGE, "Predictions and outcomes that are kept to be joined.")
JOIN_BYTES = Metric("join_bytes", Kind.GAUGE, "Space they take in the store, indexes included.")
OUTCOME_DELAY = Metric(
    "outcome_delay_seconds",
    Kind.HISTOGRAM,
    "Time from a prediction to its outcome, of the pairs that were made.",
    ("model",),
    SECONDS_LONG,
)

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
    "Attempts to deliver a message, by outcome (sent, failed).",
    ("channel", "result"),
)
NOTIFICATION = Metric(
    "notification_duration_seconds", Kind.HISTOGRAM, "Time to deliver one notification.", ("channel",), SECONDS_SHORT
)
UNTOLD = Metric(
    "alerts_untold_total",
    Kind.COUNTER,
    "Alerts that a receiver was not told of, by what became of them: silenced, out_of_hours, inhibited, stale, held, collapsed and so on.",
    ("receiver", "outcome"),
)
TRIGGERS = Metric(
    "retrain_triggers_total",
    Kind.COUNTER,
    "What alerts asked for: requests to retrain that were made (accepted), and those that a gate refused, by its name.",
    ("model", "target", "result"),
)

CATALOGUE = (
    EVENTS,
    UNCONFIGURED,
    FOLDED,
    NULL_VALUES,
    GAPS,
    DEAD_LETTERS,
    LAG,
    ASSIGNED,
    REBALANCES,
    STALLS,
    BATCH,
    CHECKPOINT,
    STORE_ERRORS,
    JOINED,
    JOIN_EXPIRED,
    JOIN_ROWS,
    JOIN_BYTES,
    OUTCOME_DELAY,
    WATERMARK,
    WINDOWS,
    DETECTOR,
    NOTIFICATIONS,
    NOTIFICATION,
    UNTOLD,
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
        self.observe_all(metric, *labels, seconds=(seconds,))

    def observe_all(self, metric: Metric, *labels: str, seconds: Iterable[float]) -> None:
        with self._lock:
            histogram = self._histogram(metric, labels)
            for one in seconds:
                histogram.counts[bisect_left(metric.buckets, one)] += 1
                histogram.sum += one

    def _histogram(self, metric: Metric, labels: Labels) -> Histogram:
        histograms = self._series[metric].histograms
        key = _key(metric, Kind.HISTOGRAM, labels, histograms)
        return histograms.setdefault(key, Histogram([0] * (len(metric.buckets) + 1)))

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
        for model, events in harvest.folded.items():
            self.add(FOLDED, model, by=events)
        self.add(NULL_VALUES, by=harvest.null_values)
        self.set(CHECKPOINT, value=at_ms / 1000)

    # -- what the join reports ------------------------------------------------------------------------------------------

    def joined(self, counts: JoinCounts) -> None:
        """Of one stored checkpoint."""
        for result, events in counts._asdict().items():
            self.add(JOINED, result, by=events)

    def outcome_delays(self, model: str, seconds: NDArray[np.float64]) -> None:
        """Of the pairs that one stored checkpoint made. An outcome from before its prediction counts as one without delay."""
        delays = np.maximum(seconds, 0.0)
        counts = np.bincount(np.searchsorted(OUTCOME_DELAY.buckets, delays), minlength=len(OUTCOME_DELAY.buckets) + 1)
        with self._lock:
            histogram = self._histogram(OUTCOME_DELAY, (model,))
            histogram.counts = [before + more for before, more in zip(histogram.counts, counts.tolist(), strict=True)]
            histogram.sum += float(delays.sum())

    def join_expired(self, rows: ExpiredRows) -> None:
        for result, forgotten in rows._asdict().items():
            self.add(JOIN_EXPIRED, result, by=forgotten)

    def join_holds(self, size: JoinSize) -> None:
        self.set(JOIN_ROWS, value=size.rows)
        self.set(JOIN_BYTES, value=size.bytes)

    # -- what telling and the gates of retraining report ------------------------------------------------------------------

    def told(self, receiver: str, outcome: str) -> None:
        """What became of one alert at one receiver, once that is stored: an outcome of `alerts.desk`. Only those not told are counted."""
        if outcome != TOLD:
            self.add(UNTOLD, receiver, outcome)

    def retraining_refused(self, model: str, target: str, gate: str) -> None:
        """A gate of `alerts.retraining` said no to a request, and that is stored."""
        self.add(TRIGGERS, model, target, gate)

    # -- what the collector reads ---------------------------------------------------------------------------------------

    def values(self, metric: Metric) -> dict[Labels, float]:
        """A copy of a counter's or gauge's series; a counter whose series are known beforehand shows 0 until it has counted."""
        silent: dict[Labels, float] = {(result,): 0 for result in metric.known}
        if metric.kind is Kind.COUNTER and not metric.labels:
            silent[()] = 0
        with self._lock:
            return silent | self._series[metric].values

    def histograms(self, metric: Metric) -> dict[Labels, Histogram]:
        """A copy of a histogram's series."""
        with self._lock:
            found = self._series[metric].histograms
            return {labels: Histogram(list(histogram.counts), histogram.sum) for labels, histogram in found.items()}


def _key(metric: Metric, kind: Kind, labels: Labels, known: Mapping[Labels, object]) -> Labels:
    if metric.kind is not kind or len(labels) != len(metric.labels):
        raise ValueError(f"{metric.name} is a {metric.kind} with labels {metric.labels}, not a {kind} with {labels}")
    most = MODEL_LABEL_SETS_MAX if "model" in metric.labels else LABEL_SETS_MAX
    if labels in known or len(known) < most:
        return labels
    return (OTHER,) * len(labels)
