"""The Prometheus collector: renders, at scrape time, the store's newest results and what this process has counted.

A custom collector on a registry of its own, so a model or version that is gone vanishes at once and a scrape is one snapshot.
No timestamps on samples, no segments, no bins: those are in the store. Names: DESIGN 4.4, prefix `driftline_`.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from detectors.finding import Finding
from monitor import series
from monitor.results import decode_findings
from monitor.store import AlertRow, ReferenceRow, WindowRow
from monitor.telemetry import CATALOGUE, Histogram, Kind, Telemetry
from monitor.telemetry import Metric as Declared

PREFIX = "driftline_"
OWN_SERIES = (
    3  # collector_errors_total, collector_duration_seconds, exported_series; and one per model for what was left out
)
log = structlog.get_logger()


class Results(Protocol):
    """What a scrape asks of the store."""

    def newest_windows(self) -> Sequence[WindowRow]: ...

    def alerts(self, history: bool = False) -> Iterable[AlertRow]: ...

    def references(self, model: str | None = None) -> Sequence[ReferenceRow]: ...

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
    version: str
    revision: str
    models: Mapping[str, ModelFacts]
    receivers: Sequence[str] = ()


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
        self._decoded: dict[tuple[str, int], Sequence[Finding]] = {}  # of the windows of the last scrape, no others
        self._errors = 0

    def describe(self) -> Iterable[Metric]:
        return ()  # registering must not scrape

    def collect(self) -> Iterator[Metric]:
        started = time.perf_counter()
        families = [_build_info(self._facts), *_counted(self._telemetry)]
        suppressed: Mapping[str, int] = {}
        try:
            stored, suppressed = self._stored(spent=sum(len(family.samples) for family in families))
            families += stored
        except Exception:
            # A scrape must go on telling what the process does, above all while the database is away.
            self._errors += 1
            log.exception("results cannot be exported")
        families += self._own(suppressed)
        shown = sum(len(family.samples) for family in families)
        families.append(_gauge("exported_series", "Series of this scrape.", (), [((), shown + 2)]))
        families.append(
            _gauge("collector_duration_seconds", "Time this scrape took.", (), [((), time.perf_counter() - started)])
        )
        yield from families

    def _own(self, suppressed: Mapping[str, int]) -> list[Metric]:
        by_model = [((model,), suppressed.get(model, 0)) for model in self._facts.models]
        return [
            _gauge("exported_series_suppressed", "Series left out for the series budget.", ("model",), by_model),
            _counter("collector_errors_total", "Scrapes that could not read the results.", (), {(): self._errors}),
        ]

    def _stored(self, spent: int) -> tuple[list[Metric], Mapping[str, int]]:
        kept_ms = {name: facts.window_max_ms for name, facts in self._facts.models.items()}
        windows = series.in_service(self._results.newest_windows(), kept_ms)
        judged = [(window, self._findings(window)) for window in windows]
        self._decoded = {(window.id, window.revision): findings for window, findings in judged}
        candidates = series.subjects(judged)
        families = [
            *_models(self._facts, windows, self._results.references()),
            *_windows(self._facts, windows),
            _feature_states(self._facts, candidates),
            _active_alerts(self._facts, self._results.alerts()),
            _gauge(
                "notification_queue_items",
                "Notifications waiting to be sent.",
                ("channel",),
                [((name,), self._results.outbox_pending(name)) for name in self._facts.receivers],
            ),
        ]
        spent += sum(len(family.samples) for family in families)
        shown, suppressed = series.within_budget(candidates, spent=spent + len(self._facts.models) + OWN_SERIES)
        return [*families, *_features(shown)], suppressed

    def _findings(self, window: WindowRow) -> Sequence[Finding]:
        known = self._decoded.get((window.id, window.revision))
        return decode_findings(window.findings) if known is None else known


def _build_info(facts: Facts) -> Metric:
    return _gauge("build_info", "Facts of this build.", ("version", "revision"), [((facts.version, facts.revision), 1)])


def _models(facts: Facts, windows: Sequence[WindowRow], references: Sequence[ReferenceRow]) -> Iterator[Metric]:
    """Every configured model is told of, also one that has had no event: that is what an alert on silence joins with."""
    newest: dict[str, ReferenceRow] = {}
    for row in sorted(references, key=lambda row: row.recorded_at_ms):
        newest[row.model] = row
    rows: list[tuple[tuple[str, ...], float]] = []
    for name, model in facts.models.items():
        baselines = {window.version: window.reference for window in windows if window.model == name and window.version}
        unseen = {"": newest[name].hash if name in newest else ""}
        for version, baseline in sorted((baselines or unseen).items()):
            rows.append(((name, version, model.task, model.owner, (baseline or "")[:12]), 1))
    labels = ("model", "model_version", "task", "owner", "baseline")
    yield _gauge("model_info", "Facts of a model, for joins and routing.", labels, rows)
    created = [((name,), row.recorded_at_ms / 1000) for name, row in newest.items() if name in facts.models]
    yield _gauge("baseline_created_timestamp_seconds", "When the newest reference was built.", ("model",), created)


def _windows(facts: Facts, windows: Sequence[WindowRow]) -> Iterator[Metric]:
    def of(window: WindowRow) -> tuple[str, ...]:
        return (window.model, window.version, window.monitor)

    labels = ("model", "model_version", "kind")
    ends = [(of(window), window.end_ms / 1000) for window in windows]
    yield _gauge("window_end_timestamp_seconds", "Event-time end of the newest window.", labels, ends)
    rows = [(of(window), window.rows) for window in windows]
    yield _gauge("window_rows", "Predictions in the newest window.", labels, rows)
    kinds = sorted({(window.model, window.monitor) for window in windows})
    lengths = [(kind, facts.models[kind[0]].window_ms / 1000) for kind in kinds]
    yield _gauge("window_length_seconds", "Configured length of a window.", ("model", "kind"), lengths)


def _feature_states(facts: Facts, subjects: Iterable[series.Subject]) -> Metric:
    """By model, the worst of its versions in use for each feature."""
    worst: dict[tuple[str, str], series.Subject] = {}
    for subject in subjects:
        key = (subject.model, subject.feature)
        if not subject.whole_model and (key not in worst or _worse(subject, worst[key])):
            worst[key] = subject
    counts = Counter((subject.model, subject.state) for subject in worst.values())
    pairs = itertools.product(facts.models, series.FEATURE_STATES)
    rows = [(pair, counts[pair]) for pair in pairs]
    return _gauge("drift_features", "Features by state in the newest windows.", ("model", "state"), rows)


def _worse(one: series.Subject, other: series.Subject) -> bool:
    return (-1 if one.severity is None else one.severity) > (-1 if other.severity is None else other.severity)


def _active_alerts(facts: Facts, alerts: Iterable[AlertRow]) -> Metric:
    counts = Counter((alert.model, str(alert.severity)) for alert in alerts if alert.status == "firing")
    rows = [(pair, counts[pair]) for pair in itertools.product(facts.models, ("warning", "critical"))]
    return _gauge("alerts_active", "Alerts that fire now.", ("model", "severity"), rows)


def _features(shown: Iterable[series.Subject]) -> Iterator[Metric]:
    families = {name: _gauge(name, text, labels, ()) for name, (text, labels) in series.FEATURE_FAMILIES.items()}
    for subject in shown:
        for name, labels, value in subject.samples:
            families[name].add_metric(labels, value)
    return iter(families.values())


def _counted(telemetry: Telemetry) -> Iterator[Metric]:
    for declared in CATALOGUE:
        match declared.kind:
            case Kind.COUNTER:
                yield _counter(declared.name, declared.help, declared.labels, telemetry.values(declared))
            case Kind.GAUGE:
                yield _gauge(declared.name, declared.help, declared.labels, telemetry.values(declared).items())
            case Kind.HISTOGRAM:
                yield _histogram(declared, telemetry.histograms(declared))


Rows = Iterable[tuple[tuple[str, ...], float]]


def _gauge(name: str, text: str, labels: Sequence[str], rows: Rows) -> GaugeMetricFamily:
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _counter(name: str, text: str, labels: Sequence[str], rows: Mapping[tuple[str, ...], float]) -> CounterMetricFamily:
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for values, number in rows.items():
        family.add_metric(values, number)
    return family


def _histogram(declared: Declared, rows: Mapping[tuple[str, ...], Histogram]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(PREFIX + declared.name, declared.help, labels=declared.labels)
    bounds = [*map(str, declared.buckets), "+Inf"]
    for values, histogram in rows.items():
        cumulative = itertools.accumulate(histogram.counts)
        family.add_metric(values, list(zip(bounds, cumulative, strict=True)), histogram.sum)
    return family
