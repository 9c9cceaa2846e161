"""From the newest windows to the series of one scrape: which number a finding becomes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from detectors.drift.pool import CHECK as POOL
from detectors.finding import Finding, Monitor, Severity, State
from detectors.limits import CHECK as LIMIT
from detectors.limits import parse_limit
from monitor import metric_families as f
from monitor.results import Brief
from monitor.store import WindowRow
from monitor.telemetry import Histogram, Metric

JUDGED: frozenset[str] = frozenset({State.OK, State.WARNING, State.DRIFT})
RANK: Mapping[str | None, int] = {None: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}
DISTRIBUTION = "distribution"
FEATURE_STATES = ("ok", "warning", "critical", "insufficient_data")

_RATIOS = {
    "missing": f.MISSING,
    "absent": f.ABSENT,
    "invalid": f.INVALID,
    "out_of_range": f.OUT_OF_RANGE,
    "unseen": f.UNSEEN,
}
_OF_FEATURES = frozenset({Monitor.DATA, Monitor.QUALITY})
_WHOLE_MODEL = frozenset({Monitor.PREDICTION, Monitor.VOLUME, Monitor.JOINT})
# A window's kind: monitors whose windows close together are one
KINDS: Mapping[str, str] = {
    Monitor.DATA: "drift",
    Monitor.PREDICTION: "drift",
    Monitor.QUALITY: "drift",
    Monitor.JOINT: "drift",
    Monitor.VOLUME: "volume",
    Monitor.PERFORMANCE: "performance",
    Monitor.CONCEPT: "concept",
}

Sample = tuple[Metric, tuple[str, ...], float | Histogram]
Judged = tuple[WindowRow, Sequence[Finding]]


@dataclass(slots=True)
class Subject:
    """What a model version is judged by and shown or suppressed as one: a feature (or `__score__` and the like), a metric, a detector.

    `severity` is None while nothing about it could be judged; it is shown as `decision`, if any. `excess` is the largest effect in
    units of its threshold. `first`: before others of the same severity when there are too many.
    """

    model: str
    version: str
    name: str
    decision: Metric | None = f.DRIFT_SEVERITY
    first: bool = False
    severity: int | None = None
    excess: float = 0.0
    score: float | None = None  # the distance of its distribution, and the threshold in force
    threshold: float | None = None
    values: Sequence[Sample] = ()  # every other number

    @property
    def labels(self) -> tuple[str, str, str]:
        return self.model, self.version, self.name

    @property
    def is_feature(self) -> bool:
        return self.decision is f.DRIFT_SEVERITY and not self.name.startswith("__")

    @property
    def state(self) -> str:
        """One of FEATURE_STATES."""
        return "insufficient_data" if self.severity is None else FEATURE_STATES[self.severity]

    @property
    def size(self) -> int:
        """How many series it has."""
        numbers = (self.score is not None) + (self.threshold is not None) + len(self.values)
        return numbers + (self.severity is not None and self.decision is not None)

    @property
    def urgency(self) -> tuple[object, ...]:
        """Least first: most severe, then what is about the whole model, then what is nearest to its threshold."""
        return -(self.severity or 0), not self.first, -self.excess, self.model, self.version, self.name

    @property
    def samples(self) -> list[Sample]:
        """Every series of this subject."""
        made = list(self.values)
        for family, number in ((f.DRIFT_SCORE, self.score), (f.DRIFT_THRESHOLD, self.threshold)):
            if number is not None:
                made.append((family, (*self.labels, DISTRIBUTION), number))
        if self.severity is not None and self.decision is not None:
            made.append((self.decision, self.labels, self.severity))
        return made

    def add(self, *samples: Sample) -> None:
        """In place of such as have the same labels."""
        given = {sample[:2] for sample in samples}
        self.values = [*(known for known in self.values if known[:2] not in given), *samples]

    def judge(self, finding: Finding) -> None:
        """Take in the decision on a finding in a judged state."""
        severity = RANK[finding.severity] if finding.state is State.DRIFT else 0
        self.severity = max(self.severity or 0, severity)


def subjects(judged: Iterable[tuple[WindowRow, Iterable[Brief]]]) -> list[Subject]:
    """One Subject for each feature that the windows speak of. What had too few rows has no number, so its series goes stale.
    Windows of performance and concept drift are not about features (monitor/outcome_series.py)."""
    found: dict[tuple[str, str], dict[str, Subject]] = {}
    for window, briefs in judged:
        whole = window.monitor in _WHOLE_MODEL
        if not whole and window.monitor not in _OF_FEATURES:
            continue
        track = found.setdefault((window.model, window.version), {})
        for brief in briefs:
            if brief.state == State.NOT_CONFIGURED or brief.check == POOL:
                continue
            name = _subject(brief)
            if whole:
                name = f"__{name}__"
            subject = track.get(name)
            if subject is None:
                subject = track[name] = Subject(window.model, window.version, name, first=whole)
            if brief.state in JUDGED:
                _add(subject, brief)
    return [subject for track in found.values() for subject in track.values()]


def in_service(windows: Iterable[WindowRow], version_kept_ms: Mapping[str, int]) -> list[WindowRow]:
    """The newest window of every version that is still in use: one that ends more than `version_kept_ms[model]` before
    the model's newest window of the same monitor belongs to a retired version. Windows of other models are left out.
    """
    newest: dict[tuple[str, str], int] = {}
    kept = [window for window in windows if window.model in version_kept_ms]
    for window in kept:
        key = (window.model, window.monitor)
        newest[key] = max(newest.get(key, window.end_ms), window.end_ms)
    return [
        window
        for window in kept
        if window.end_ms >= newest[window.model, window.monitor] - version_kept_ms[window.model]
    ]


def _subject(brief: Brief) -> str:
    """A limit is about the feature that its name begins with."""
    return parse_limit(brief.subject).subject if brief.check == LIMIT else brief.subject


def _add(subject: Subject, brief: Brief) -> None:
    _, check, state, severity, value, threshold = brief
    rank = RANK[severity] if state == State.DRIFT else 0
    if subject.severity is None or rank > subject.severity:
        subject.severity = rank
    if value is None:
        return
    if threshold:
        subject.excess = max(subject.excess, abs(value) / threshold)
    if check == DISTRIBUTION:
        subject.score, subject.threshold = value, threshold
    elif check in _RATIOS:
        subject.add((_RATIOS[check], subject.labels, value))
