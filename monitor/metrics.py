"""The Prometheus collector: renders, at scrape time, the store's newest results and what this process has counted.

A custom collector on a registry of its own, so a model or version that is gone vanishes at once and a scrape is one snapshot.
No timestamps on samples, no segments, no bins: those are in the store. Names: DESIGN 4.4, prefix `driftline_`.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from alerts.retraining import RetrainingStatus
from detectors.finding import Monitor
from monitor import metric_families as f
from monitor import series
from monitor.labelled import NewestLabelled, PerformanceResults
from monitor.store import AlertRow, ReferenceRow, RetrainingRow, WindowRow
from monitor.telemetry import CATALOGUE, EVENTS, NOTIFICATIONS, Histogram, Kind, Labels, Telemetry
from monitor.telemetry import Metric as Declared
from monitor.verdicts import VerdictBook

PREFIX = "driftline_"
OWN_SERIES = (
    3  # collector_errors_total, collector_duration_seconds, exported_series; and one a model for what was left out
)
_ENDED = {RetrainingStatus.SUCCEEDED: "succeeded"} | dict.fromkeys(
    (RetrainingStatus.FAILED, RetrainingStatus.REJECTED, RetrainingStatus.TIMED_OUT, RetrainingStatus.CANCELLED),
    "failed",
)
_RETRAINING = ("open", "succeeded", "failed")
log = structlog.get_logger()


class Results(PerformanceResults, Protocol):
    """What a scrape asks of the store."""

    def newest_windows(self) -> Sequence[WindowRow]: ...

    def alerts(self, history: bool = False) -> Iterable[AlertRow]: ...

    def references(self, model: str | None = None) -> Sequence[ReferenceRow]: ...

    def retraining(self) -> Sequence[RetrainingRow]: ...

    def outbox_pending(self, receiver: str | None = None) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What the configuration says of a model. `window_max_ms` is how long a pooled window may get, and with it how long
    a version without a new window still counts as in use."""

    task: str
    owner: str
    window_ms: int
    window_max_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """`receivers` are channels as the outbox names them. `now_ms` is the time the service goes by."""

    version: str
    revision: str
    models: Mapping[str, ModelFacts]
    receivers: Sequence[str] = ()
    now_ms: Callable[[], int] | None = None


class Metrics:
    """The exposition of one process. `render` may be called from any thread; scrapes take turns."""

    def __init__(self, results: Results, telemetry: Telemetry, facts: Facts) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Exposition(results, telemetry, facts))
        ProcessCollector(registry=self._registry)
        self._lock = threading.Lock()

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The body and its content type, OpenMetrics where the `Accept` header asks for it. Never fails for the store's sake:
        while it cannot be read, its families are missing and `driftline_collector_errors_total` counts."""
        encode, content_type = choose_encoder(accept)
        with self._lock:
            return encode(self._registry), content_type


class _Exposition(Collector):
    def __init__(self, results: Results, telemetry: Telemetry, facts: Facts) -> None:
        self._results, self._telemetry, self._facts = results, telemetry, facts
        self._labelled = NewestLabelled(results)
        self._verdicts = VerdictBook()
        self._errors = 0

    def describe(self) -> Iterable[Metric]:
        return ()  # registering must not scrape

    def collect(self) -> Iterator[Metric]:
        started = time.perf_counter()
        families = [*_process(self._facts), *_counted(self._telemetry, self._facts)]
        suppressed: Mapping[str, int] = {}
        try:
            stored, suppressed = self._stored(spent=sum(len(family.samples) for family in families))
            families += stored
        except Exception:
            # A scrape must go on telling what the process does, above all while the database is away.
            self._errors += 1
            log.exception("results cannot be exported")
        families.append(_family(f.SUPPRESSED, [((name,), suppressed.get(name, 0)) for name in self._facts.models]))
        families.append(_family(f.COLLECTOR_ERRORS, [((), self._errors)]))
        shown = sum(len(family.samples) for family in families)
        families.append(_family(f.EXPORTED, [((), shown + 2)]))
        families.append(_family(f.COLLECTOR_SECONDS, [((), time.perf_counter() - started)]))
        yield from families

    def _stored(self, spent: int) -> tuple[list[Metric], Mapping[str, int]]:
        facts = self._facts
        kept_ms = {name: model.window_max_ms for name, model in facts.models.items()}
        windows = series.in_service(self._results.newest_windows(), kept_ms)
        self._labelled.update(window for window in windows if window.monitor == Monitor.PERFORMANCE)
        self._verdicts.update(windows, self._labelled.windows)
        states = self._verdicts.features()
        families = [
            *_models(facts, windows, self._results.references()),
            *_windows(facts, windows),
            _family(
                f.DRIFT_FEATURES,
                [(pair, states[pair]) for pair in itertools.product(facts.models, series.FEATURE_STATES)],
            ),
            *_alerts(facts, [alert for alert in self._results.alerts() if alert.model in facts.models]),
            *_retraining(facts, self._results.retraining()),
            _family(f.QUEUE, [((name,), self._results.outbox_pending(name)) for name in facts.receivers]),
        ]
        spent += sum(len(family.samples) for family in families) + len(facts.models) + OWN_SERIES
        shown, suppressed = series.within_budget(self._verdicts.subjects(), spent=spent, models=len(facts.models))
        return [*families, *_details(shown)], suppressed


def _process(facts: Facts) -> Iterator[Metric]:
    yield _family(f.BUILD_INFO, [((facts.version, facts.revision), 1)])
    if facts.now_ms is not None:
        yield _family(f.CLOCK, [((), facts.now_ms() / 1000)])


def _models(facts: Facts, windows: Sequence[WindowRow], references: Sequence[ReferenceRow]) -> Iterator[Metric]:
    """Every configured model is told of, also one that has had no event: that is what an alert on silence joins with."""
    newest: dict[str, ReferenceRow] = {}
    for row in sorted(references, key=lambda row: row.recorded_at_ms):
        newest[row.model] = row
    baselines: dict[str, dict[str, str]] = {}
    for window in windows:
        if window.version:
            baselines.setdefault(window.model, {})[window.version] = window.reference
    rows: list[tuple[Labels, float]] = []
    for name, model in facts.models.items():
        unseen = {"": newest[name].hash if name in newest else ""}
        for version, baseline in sorted(baselines.get(name, unseen).items()):
            rows.append(((name, version, model.task, model.owner, (baseline or "")[:12]), 1))
    yield _family(f.MODEL_INFO, rows)
    created = [((name,), row.recorded_at_ms / 1000) for name, row in newest.items() if name in facts.models]
    yield _family(f.BASELINE_CREATED, created)


def _windows(facts: Facts, windows: Sequence[WindowRow]) -> Iterator[Metric]:
    """Of the monitors of one kind the window that ends last."""
    newest: dict[Labels, WindowRow] = {}
    for window in windows:
        key = (window.model, window.version, series.KINDS.get(window.monitor, window.monitor))
        if key not in newest or window.end_ms > newest[key].end_ms:
            newest[key] = window
    yield _family(f.WINDOW_LENGTH, [((name,), model.window_ms / 1000) for name, model in facts.models.items()])
    yield _family(f.WINDOW_END, [(key, window.end_ms / 1000) for key, window in newest.items()])
    yield _family(f.WINDOW_ROWS, [(key, window.rows) for key, window in newest.items()])


def _alerts(facts: Facts, alerts: Sequence[AlertRow]) -> Iterator[Metric]:
    firing = Counter((alert.model, str(alert.severity)) for alert in alerts if alert.status == "firing")
    pairs = itertools.product(facts.models, ("warning", "critical"))
    yield _family(f.ALERTS_ACTIVE, [(pair, firing[pair]) for pair in pairs])
    episodes = Counter((alert.model, alert.monitor, str(alert.severity)) for alert in alerts)
    yield _family(f.ALERT_EPISODES, sorted(episodes.items()))
    concept = [alert for alert in alerts if alert.monitor == Monitor.CONCEPT and alert.segment is None]
    yield _family(f.CONCEPT_DETECTIONS, sorted(Counter((alert.model, alert.check) for alert in concept).items()))
    last: dict[Labels, float] = {}
    for alert in concept:
        key = (alert.model, alert.check)
        last[key] = max(last.get(key, 0.0), alert.starts_at_ms / 1000)
    yield _family(f.CONCEPT_LAST, last.items())


def _retraining(facts: Facts, requests: Sequence[RetrainingRow]) -> Iterator[Metric]:
    ours = [request for request in requests if request.model in facts.models]
    counts = Counter((request.model, _ENDED.get(RetrainingStatus(request.status), "open")) for request in ours)
    pairs = itertools.product(facts.models, _RETRAINING)
    yield _family(f.RETRAINING, [(pair, counts[pair]) for pair in pairs])
    last: dict[Labels, float] = {}
    for request in ours:
        last[request.model,] = max(last.get((request.model,), 0.0), request.at_ms / 1000)
    yield _family(f.RETRAIN_LAST, last.items())


def _details(shown: Iterable[series.Subject]) -> Iterator[Metric]:
    rows: dict[Declared, list[tuple[Labels, float]]] = {declared: [] for declared in f.DETAILS}
    for subject in shown:
        for declared, labels, value in subject.samples:
            rows[declared].append((labels, value))
    return (_family(declared, samples) for declared, samples in rows.items())


def _counted(telemetry: Telemetry, facts: Facts) -> Iterator[Metric]:
    for declared in CATALOGUE:
        if declared.kind is Kind.HISTOGRAM:
            yield _histogram(declared, telemetry.histograms(declared))
        else:
            rows = telemetry.values(declared)
            yield _family(declared, (_silent(declared, facts) | rows).items())


def _silent(declared: Declared, facts: Facts) -> dict[Labels, float]:
    """Counters that are known to exist show 0 before they count: a first batch is no rise where no 0 stood before it."""
    pairs: Iterable[Labels] = ()
    if declared is NOTIFICATIONS:
        pairs = itertools.product(facts.receivers, ("sent", "failed"))
    elif declared is EVENTS:
        pairs = itertools.product(facts.models, ("prediction", "outcome"), ("accepted", "late"))
    return dict.fromkeys(pairs, 0.0)


Rows = Iterable[tuple[Labels, float]]


def _family(declared: Declared, rows: Rows) -> GaugeMetricFamily | CounterMetricFamily:
    kind = CounterMetricFamily if declared.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(PREFIX + declared.name, declared.help, labels=declared.labels)
    for labels, value in rows:
        family.add_metric(labels, value)
    return family


def _histogram(declared: Declared, rows: Mapping[Labels, Histogram]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(PREFIX + declared.name, declared.help, labels=declared.labels)
    bounds = [*map(str, declared.buckets), "+Inf"]
    for labels, histogram in rows.items():
        cumulative = itertools.accumulate(histogram.counts)
        family.add_metric(labels, list(zip(bounds, cumulative, strict=True)), histogram.sum)
    return family
