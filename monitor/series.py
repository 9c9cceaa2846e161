"""From the newest windows to the series of one scrape: which number a finding becomes, and which are shown when there are too many. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from detectors.drift.pool import CHECK as POOL
from detectors.finding import Finding, Monitor, Severity, State
from detectors.limits import CHECK as LIMIT
from detectors.limits import parse_limit
from monitor import metric_families as f
from monitor.store import WindowRow
from monitor.telemetry import Metric

PROCESS_SERIES_MAX = 10_000  # of one scrape, all families; 90 ms and 0.8 MB
MODEL_SERIES_MAX = 2_000  # of one model's features, metrics and detectors
DETAIL_SERIES_A_MODEL = 40  # so many of them on average are shown however many models there are

JUDGED = frozenset({State.OK, State.WARNING, State.DRIFT})
RANK = {None: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}
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

_place = attrgetter("urgency")

Sample = tuple[Metric, tuple[str, ...], float]
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
    values: list[Sample] = field(default_factory=list)

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
    def samples(self) -> list[Sample]:
        """Every series of this subject."""
        if self.severity is None or self.decision is None:
            return self.values
        return [*self.values, (self.decision, self.labels, float(self.severity))]

    def judge(self, finding: Finding) -> None:
        """Take in the decision on a finding in a judged state."""
        severity = RANK[finding.severity] if finding.state is State.DRIFT else 0
        self.severity = max(self.severity or 0, severity)


def subjects(judged: Iterable[Judged]) -> list[Subject]:
    """One Subject for each feature that the windows speak of. What had too few rows has no number, so its series goes stale.
    Windows of performance and concept drift are not about features (monitor/outcome_series.py)."""
    found: dict[tuple[str, str, str], Subject] = {}
    for window, findings in judged:
        whole = window.monitor in _WHOLE_MODEL
        if not whole and window.monitor not in _OF_FEATURES:
            continue
        for finding in findings:
            if finding.state is State.NOT_CONFIGURED or finding.check == POOL:
                continue
            name = _subject(finding)
            key = (window.model, window.version, f"__{name}__" if whole else name)
            _add(found.setdefault(key, Subject(*key, first=whole)), finding)
    return list(found.values())


class Ranked(NamedTuple):
    """A subject with its place among others (least first) and how many series it has."""

    urgency: tuple[object, ...]
    size: int
    subject: Subject


def ranked(candidates: Iterable[Subject]) -> list[Ranked]:
    """The subjects of one model version. Most severe first; what is about the whole model before the rest; then what is nearest to its
    threshold. Quiet ones take turns with those of other models: the first of each, the second of each, and so on."""
    found: list[Ranked] = []
    for subject in sorted(candidates, key=_urgency):
        turn = 0 if subject.severity or subject.first else len(found)
        urgency = (-(subject.severity or 0), not subject.first, turn, *_urgency(subject)[2:])
        found.append(Ranked(urgency, len(subject.samples), subject))
    return found


def within_budget(
    candidates: Iterable[Ranked],
    *,
    spent: int,
    models: int = 0,
    process_max: int = PROCESS_SERIES_MAX,
    model_max: int = MODEL_SERIES_MAX,
) -> tuple[list[Subject], dict[str, int]]:
    """The subjects to show, most severe first, and by model the number of series left out.

    `spent` series are shown anyway; the rest of `process_max` is for subjects, and with many `models` at least 40 for each of them.
    """
    left = max(process_max - spent, DETAIL_SERIES_A_MODEL * models)
    shown: list[Subject] = []
    suppressed: dict[str, int] = {}
    by_model: dict[str, int] = {}
    for _, size, subject in sorted(candidates, key=_place):
        used = by_model.get(subject.model, 0)
        if used + size > model_max or size > left:
            suppressed[subject.model] = suppressed.get(subject.model, 0) + size
            continue
        by_model[subject.model] = used + size
        left -= size
        shown.append(subject)
    return shown, suppressed


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


def _subject(finding: Finding) -> str:
    """A limit is about the feature that its name begins with."""
    return parse_limit(finding.subject).subject if finding.check == LIMIT else finding.subject


def _add(subject: Subject, finding: Finding) -> None:
    if finding.state not in JUDGED:
        return
    subject.judge(finding)
    if finding.value is None:
        return
    if finding.threshold:
        subject.excess = max(subject.excess, abs(finding.value) / finding.threshold)
    if finding.check == "distribution":
        labels = (*subject.labels, finding.check)
        subject.values.append((f.DRIFT_SCORE, labels, finding.value))
        if finding.threshold is not None:
            subject.values.append((f.DRIFT_THRESHOLD, labels, finding.threshold))
    elif finding.check in _RATIOS:
        subject.values.append((_RATIOS[finding.check], subject.labels, finding.value))


def _urgency(subject: Subject) -> tuple[object, ...]:
    return -(subject.severity or 0), not subject.first, -subject.excess, subject.model, subject.version, subject.name
