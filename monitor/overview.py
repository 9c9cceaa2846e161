"""What a scrape shows of every configured model, also of one without an event: from the store's rows and this process's counters. Pure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from alerts.retraining import Reason as Gate
from alerts.retraining import RetrainingStatus
from detectors.finding import Monitor
from monitor import metric_families as f
from monitor import series
from monitor.budget import ModelSeries
from monitor.series import Sample
from monitor.store import AlertRow, ReferenceRow, RetrainingRow, WindowRow
from monitor.telemetry import (
    CATALOGUE,
    EVENTS,
    NOTIFICATIONS,
    OUTCOME_DELAY,
    TRIGGERS,
    UNTOLD,
    WATERMARK,
    Kind,
    Labels,
    Metric,
    Telemetry,
)

_ENDED = {RetrainingStatus.SUCCEEDED: "succeeded"} | dict.fromkeys(
    (RetrainingStatus.FAILED, RetrainingStatus.REJECTED, RetrainingStatus.TIMED_OUT, RetrainingStatus.CANCELLED),
    "failed",
)
_RETRAINING = ("open", "succeeded", "failed")
_CORE = (EVENTS, WATERMARK)
_SILENT_GATES = ("accepted", Gate.CAUSE_IS_DATA_FAULT, Gate.DATA_FAULT_ACTIVE, Gate.REQUEST_ACTIVE, Gate.COOLDOWN)
_SILENT_OUTCOMES = ("silenced", "out_of_hours", "inhibited", "stale", "held", "collapsed")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What the configuration says of a model. `window_max_ms` is how long a pooled window may get, and with it how long
    a version without a new window still counts as in use."""

    task: str
    owner: str
    window_ms: int
    window_max_ms: int
    target: str | None = None  # of its retraining


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """`receivers` and `targets` (of retraining) are channels as the outbox names them. `now_ms` is the time the service goes by.
    `config` names what is configured: processes that were given the same have the same. `series_max` is the budget of a scrape."""

    version: str
    revision: str
    models: Mapping[str, ModelFacts]
    receivers: Sequence[str] = ()
    targets: Sequence[str] = ()
    now_ms: Callable[[], int] | None = None
    config: str = ""
    read_at_ms: int = 0
    series_max: int = 10_000

    @property
    def channels(self) -> list[str]:
        return [*self.receivers, *self.targets]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What one scrape has read: the newest windows of versions in use, features by model and state, and so on."""

    windows: Sequence[WindowRow]
    features: Mapping[tuple[str, str], int]
    references: Sequence[ReferenceRow]
    firing: Sequence[AlertRow]
    alerts: Sequence[AlertRow]
    retraining: Sequence[RetrainingRow]


def process(facts: Facts) -> Iterator[Sample]:
    """What this process is."""
    yield f.BUILD_INFO, (facts.version, facts.revision), 1
    yield f.CONFIG_INFO, (facts.config,), 1
    yield f.CONFIG_READ, (), facts.read_at_ms / 1000
    if facts.now_ms is not None:
        yield f.CLOCK, (), facts.now_ms() / 1000


def counted(telemetry: Telemetry, facts: Facts, found: Mapping[str, ModelSeries]) -> list[Sample]:
    """What this process has counted: of a configured model it goes to what is `found` of it, the rest is returned."""
    others: list[Sample] = []
    counters: dict[str, list[Sample]] = {}
    for metric in CATALOGUE:
        by_model = metric.labels.index("model") if "model" in metric.labels else None
        histogram = metric.kind is Kind.HISTOGRAM
        rows = telemetry.histograms(metric) if histogram else _silent(metric, facts) | telemetry.values(metric)
        for labels, value in rows.items():
            model = None if by_model is None else found.get(labels[by_model])
            if model is None:
                others.append((metric, labels, value))
            elif metric in _CORE:
                model.core.append((metric, labels, value))
            elif metric is OUTCOME_DELAY:
                model.units.append([(metric, labels, value)])
            else:
                counters.setdefault(model.model, []).append((metric, labels, value))
    for name, samples in counters.items():
        found[name].units.insert(0, samples)
    return others


def stored(facts: Facts, results: Stored, found: Mapping[str, ModelSeries]) -> None:
    """What the store says of every model."""
    for metric, labels, value in _model(facts, results):
        if labels[0] in found:
            found[labels[0]].core.append((metric, labels, value))
    awaited = {row.model for row in results.firing} | {row.model for row in results.retraining}
    for name in awaited & found.keys():
        found[name].awaited = True
    rest: dict[str, list[Sample]] = {}
    for sample in itertools.chain(_baselines(results.references), _alerts(results.alerts), _retraining(facts, results)):
        rest.setdefault(sample[1][0], []).append(sample)
    for name, samples in rest.items():
        if name in found:
            found[name].units.insert(0, samples)
    _versions(facts, results, found)


def _model(facts: Facts, results: Stored) -> Iterator[Sample]:
    firing = Counter((alert.model, str(alert.severity)) for alert in results.firing)
    for name, model in facts.models.items():
        yield f.WINDOW_LENGTH, (name,), model.window_ms / 1000
        for state in series.FEATURE_STATES:
            yield f.DRIFT_FEATURES, (name, state), results.features.get((name, state), 0)
        for severity in ("warning", "critical"):
            yield f.ALERTS_ACTIVE, (name, severity), firing[name, severity]


def _versions(facts: Facts, results: Stored, found: Mapping[str, ModelSeries]) -> None:
    """Of the version with the newest window what boards start from; of older ones, and the rows, as far as there is room."""
    windows: dict[str, dict[str, dict[str, WindowRow]]] = {}
    for window in results.windows:
        kinds = windows.setdefault(window.model, {}).setdefault(window.version, {})
        kind = series.KINDS.get(window.monitor, window.monitor)
        if (
            kind not in kinds or window.end_ms > kinds[kind].end_ms
        ):  # of the monitors of one kind the window that ends last
            kinds[kind] = window
    newest = _newest(results.references)
    for name, model in found.items():
        versions = windows.get(name, {})
        baselines = {version: _reference(kinds) for version, kinds in versions.items() if version}
        unseen = {"": newest[name].hash if name in newest else ""}
        infos = baselines or unseen
        place = list(model.units)
        model.units.clear()
        ordered = sorted({*versions, *infos}, key=lambda version: _age(versions.get(version, {}), version))
        first = {"", *ordered[: 1 + ("" in ordered[:1])]}
        for version in ordered:
            kinds = versions.get(version, {})
            samples: list[Sample] = []
            if version in infos:
                one = facts.models[name]
                labels = (name, version, one.task, one.owner, (infos[version] or "")[:12])
                samples.append((f.MODEL_INFO, labels, 1))
            samples += [(f.WINDOW_END, (name, version, kind), row.end_ms / 1000) for kind, row in kinds.items()]
            if version in first:
                model.core += samples
                samples = []
            samples += [(f.WINDOW_ROWS, (name, version, kind), row.rows) for kind, row in kinds.items()]
            model.units += [samples] if samples else []
        model.units += place


def _reference(kinds: Mapping[str, WindowRow]) -> str:
    return (kinds.get("drift") or next(iter(kinds.values()))).reference


def _age(kinds: Mapping[str, WindowRow], version: str) -> tuple[int, str]:
    return -max((row.end_ms for row in kinds.values()), default=0), version


def _newest(references: Sequence[ReferenceRow]) -> dict[str, ReferenceRow]:
    return {row.model: row for row in sorted(references, key=lambda row: row.recorded_at_ms)}


def _baselines(references: Sequence[ReferenceRow]) -> Iterator[Sample]:
    for name, row in _newest(references).items():
        yield f.BASELINE_CREATED, (name,), row.recorded_at_ms / 1000


def _alerts(alerts: Sequence[AlertRow]) -> Iterator[Sample]:
    episodes = Counter((alert.model, alert.monitor, str(alert.severity)) for alert in alerts)
    yield from ((f.ALERT_EPISODES, labels, count) for labels, count in sorted(episodes.items()))
    concept = [alert for alert in alerts if alert.monitor == Monitor.CONCEPT and alert.segment is None]
    alarms = Counter((alert.model, alert.check) for alert in concept)
    yield from ((f.CONCEPT_DETECTIONS, labels, count) for labels, count in sorted(alarms.items()))
    last: dict[Labels, float] = {}
    for alert in concept:
        key = (alert.model, alert.check)
        last[key] = max(last.get(key, 0.0), alert.starts_at_ms / 1000)
    yield from ((f.CONCEPT_LAST, labels, seconds) for labels, seconds in last.items())


def _retraining(facts: Facts, results: Stored) -> Iterator[Sample]:
    counts = Counter((row.model, _ENDED.get(RetrainingStatus(row.status), "open")) for row in results.retraining)
    for labels in itertools.product(facts.models, _RETRAINING):
        yield f.RETRAINING, labels, counts[labels]
    last: dict[Labels, float] = {}
    for row in results.retraining:
        last[row.model,] = max(last.get((row.model,), 0.0), row.at_ms / 1000)
    yield from ((f.RETRAIN_LAST, labels, seconds) for labels, seconds in last.items())


def _silent(metric: Metric, facts: Facts) -> dict[Labels, float]:
    """Counters that are known to exist show 0 before they count: a first batch is no rise where no 0 stood before it."""
    known: Iterable[Labels] = ()
    if metric is NOTIFICATIONS:
        known = itertools.product(facts.channels, ("sent", "failed"))
    elif metric is UNTOLD:
        known = itertools.product(facts.receivers, _SILENT_OUTCOMES)
    elif metric is TRIGGERS:
        asking = [(name, model.target) for name, model in facts.models.items() if model.target is not None]
        known = [(name, target, result) for name, target in asking for result in _SILENT_GATES]
    elif metric is EVENTS:
        known = itertools.product(facts.models, ("prediction", "outcome"), ("accepted", "late"))
    return dict.fromkeys(known, 0.0)
