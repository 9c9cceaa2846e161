"""The Prometheus collector: renders, at scrape time, the store's newest results and what this process has counted.

A custom collector on a registry of its own, so a model or version that is gone vanishes at once and a scrape is one snapshot.
No timestamps on samples, no segments, no bins: those are in the store. Names: DESIGN 4.4, prefix `driftline_`.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from detectors.finding import Monitor
from monitor import metric_families as f
from monitor import overview, series
from monitor.budget import NAMED_MAX, Budget, ModelSeries, choose
from monitor.errors import DriftlineError
from monitor.labelled import NewestLabelled, PerformanceResults
from monitor.overview import Facts, ModelFacts, Stored
from monitor.series import Sample
from monitor.store import AlertRow, ReferenceRow, RetrainingRow, WindowRow
from monitor.telemetry import Histogram, Kind, Telemetry
from monitor.telemetry import Metric as Declared
from monitor.verdicts import VerdictBook

__all__ = ["PREFIX", "Facts", "Metrics", "ModelFacts", "Results"]

PREFIX = "driftline_"
OWN_SERIES = NAMED_MAX + 5 + 10  # what the exposition says of itself, and what the client library says of the process
ALERTS_KEPT_SECONDS = 30.0
log = structlog.get_logger()


class Results(PerformanceResults, Protocol):
    """What a scrape asks of the store."""

    def newest_windows(self) -> Sequence[WindowRow]: ...

    def alerts(self, history: bool = False) -> Iterable[AlertRow]: ...

    def firing_alerts(self) -> Sequence[AlertRow]: ...

    def reference_generation(self) -> int: ...

    def references(self, model: str | None = None) -> Sequence[ReferenceRow]: ...

    def retraining(self) -> Sequence[RetrainingRow]: ...

    def outbox_pending(self, receiver: str | None = None) -> int: ...


class Metrics:
    """The exposition of one process. `render` may be called from any thread; scrapes take turns."""

    def __init__(self, results: Results, telemetry: Telemetry, facts: Facts) -> None:
        self._exposition = _Exposition(results, telemetry, facts)
        self._registry = CollectorRegistry()
        self._registry.register(self._exposition)
        ProcessCollector(registry=self._registry)
        self._lock = threading.Lock()

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The body and its content type, OpenMetrics where the `Accept` header asks for it. Never fails for the store's sake:
        while it cannot be read, its families are missing and `driftline_collector_errors_total` counts."""
        encode, content_type = choose_encoder(accept)
        with self._lock:
            return encode(self._registry), content_type

    def warm(self) -> None:
        """Read what a first scrape would have to: for a thread of its own, when the process starts. A store out of reach is a scrape's to tell."""
        try:
            while True:
                with self._lock:
                    if self._exposition.read_ahead():
                        return
        except DriftlineError as error:
            log.debug("results are not read ahead", error=str(error))


class _Exposition(Collector):
    def __init__(self, results: Results, telemetry: Telemetry, facts: Facts) -> None:
        self._results, self._telemetry, self._facts = results, telemetry, facts
        self._kept = _Kept(results)
        self._labelled = NewestLabelled(results)
        self._verdicts = VerdictBook()
        self._errors = 0
        self._told = False

    def describe(self) -> Iterable[Metric]:
        return ()  # registering must not scrape

    def read_ahead(self) -> bool:
        """Read the verdicts; False when there is more to read."""
        self._windows()
        return self._labelled.complete

    def collect(self) -> Iterator[Metric]:
        started = time.perf_counter()
        facts = self._facts
        models = {name: ModelSeries(name) for name in facts.models}
        process = [*overview.process(facts), *overview.counted(self._telemetry, facts, models)]
        try:
            process += self._stored(models)
        except Exception:
            # A scrape must go on telling what the process does, above all while the database is away.
            self._errors += 1
            log.exception("results cannot be exported")
        budget = Budget(facts.series_max - OWN_SERIES)
        shown = choose(budget, process, models.values())
        self._tell(budget)
        shown += [(f.SUPPRESSED, (name,), left_out) for name, left_out in budget.told().items()]
        shown += [(f.LIMIT, (), facts.series_max), (f.COLLECTOR_ERRORS, (), self._errors)]
        families = _families(shown)
        count = sum(len(family.samples) for family in families.values()) + 2
        last: list[Sample] = [(f.EXPORTED, (), count), (f.COLLECTOR_SECONDS, (), time.perf_counter() - started)]
        yield from (families | {one[0]: _families([one])[one[0]] for one in last}).values()

    def _stored(self, models: Mapping[str, ModelSeries]) -> list[Sample]:
        windows = self._windows()
        firing = self._results.firing_alerts()
        results = Stored(
            windows=windows,
            features=self._verdicts.features(),
            references=self._kept.references(),
            firing=firing,
            alerts=self._kept.alerts(firing),
            retraining=self._results.retraining(),
        )
        queues: list[Sample] = [(f.QUEUE, (name,), self._results.outbox_pending(name)) for name in self._facts.channels]
        overview.stored(self._facts, results, models)
        for name, verdicts in self._verdicts.of_models().items():
            models[name].verdicts = verdicts
        return queues

    def _windows(self) -> Sequence[WindowRow]:
        kept_ms = {name: model.window_max_ms for name, model in self._facts.models.items()}
        windows = series.in_service(self._results.newest_windows(), kept_ms)
        self._labelled.update(window for window in windows if window.monitor == Monitor.PERFORMANCE)
        self._verdicts.update(windows, self._labelled.windows)
        return windows

    def _tell(self, budget: Budget) -> None:
        """The log hears once that series are left out, and by how many models; how many is a metric."""
        series_left_out = budget.left_out.total()
        if series_left_out and not self._told:
            models = [name for name, count in budget.left_out.most_common(6) if name and count]
            log.warning(
                "series are left out of the metrics", series=series_left_out, limit=self._facts.series_max, most_of=models[:5]
            )  # fmt: skip
        self._told = bool(series_left_out)


class _Kept:
    """What changes seldom and is large to read."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._references: tuple[int, Sequence[ReferenceRow]] | None = None
        self._alerts: tuple[object, float, Sequence[AlertRow]] | None = None

    def references(self) -> Sequence[ReferenceRow]:
        generation = self._results.reference_generation()
        if self._references is None or self._references[0] != generation:
            rows = self._results.references()
            self._references = generation, [replace(row, payload=b"") for row in rows]
        return self._references[1]

    def alerts(self, firing: Sequence[AlertRow]) -> Sequence[AlertRow]:
        """All of them, as far back as they are kept: read anew when others fire, else after half a minute."""
        mark = [(alert.id, alert.at_ms) for alert in firing]
        now = time.monotonic()
        if self._alerts is None or self._alerts[0] != mark or now - self._alerts[1] > ALERTS_KEPT_SECONDS:
            self._alerts = mark, now, list(self._results.alerts())
        return self._alerts[2]


_Family = GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily
_DECLARED = [metric for group in f.CONTRACT.values() for metric in group]


def _families(samples: Iterable[Sample]) -> dict[Declared, _Family]:
    """Every family of the contract, in its order."""
    families = {declared: _family(declared) for declared in _DECLARED}
    for declared, labels, value in samples:
        family = families[declared]
        if isinstance(family, HistogramMetricFamily) and isinstance(value, Histogram):
            bounds = [*map(str, declared.buckets), "+Inf"]
            family.add_metric(labels, list(zip(bounds, itertools.accumulate(value.counts), strict=True)), value.sum)
        elif not isinstance(family, HistogramMetricFamily) and not isinstance(value, Histogram):
            family.add_metric(labels, value)
    return families


def _family(declared: Declared) -> _Family:
    kinds: Mapping[Kind, type[_Family]] = {
        Kind.COUNTER: CounterMetricFamily, Kind.GAUGE: GaugeMetricFamily, Kind.HISTOGRAM: HistogramMetricFamily
    }  # fmt: skip
    return kinds[declared.kind](PREFIX + declared.name, declared.help, labels=declared.labels)
