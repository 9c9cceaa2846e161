"""From the newest windows to the series of one scrape: which number a finding becomes, and which are shown when there are too many. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from detectors.finding import Finding, Monitor, Severity, State
from monitor.store import WindowRow

PROCESS_SERIES_MAX = 10_000  # 90 ms and 0.8 MB a scrape
MODEL_SERIES_MAX = 2_000

JUDGED = frozenset({State.OK, State.WARNING, State.DRIFT})
RANK = {None: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}
FEATURE_STATES = ("ok", "warning", "critical", "insufficient_data")

SUBJECT = ("model", "model_version", "feature")
# family -> (help, labels); what is shown per feature and therefore falls under the series budget
FEATURE_FAMILIES = {
    "drift_score": (
        "Distance of the newest window from the reference, in standard deviations.",
        (*SUBJECT, "detector"),
    ),
    "drift_threshold": ("Distance from which on it counts as drift.", (*SUBJECT, "detector")),
    "drift_severity": (
        "Decision of the newest windows: 0 none, 1 warning, 2 critical; the worst of all checks.",
        SUBJECT,
    ),
    "feature_missing_ratio": ("Share of null or NaN values in the newest window.", SUBJECT),
    "feature_absent_ratio": ("Share of events without the feature in the newest window.", SUBJECT),
    "feature_invalid_ratio": ("Share of values of a wrong type in the newest window.", SUBJECT),
    "feature_out_of_range_ratio": ("Share of values outside the reference's range in the newest window.", SUBJECT),
    "feature_unseen_category_ratio": ("Share of categories the reference does not know.", SUBJECT),
}
_RATIOS = {
    "missing": "feature_missing_ratio",
    "absent": "feature_absent_ratio",
    "invalid": "feature_invalid_ratio",
    "out_of_range": "feature_out_of_range_ratio",
    "unseen": "feature_unseen_category_ratio",
}
_WHOLE_MODEL = frozenset({Monitor.PREDICTION, Monitor.VOLUME})


@dataclass(slots=True)
class Subject:
    """One feature (or `__score__` and the like) of one model version in its newest windows.

    `severity` is None while nothing about it could be judged. `excess` is the largest effect in units of its threshold.
    `values` are (family, further label values, number).
    """

    model: str
    version: str
    feature: str
    severity: int | None = None
    excess: float = 0.0
    values: list[tuple[str, tuple[str, ...], float]] = field(default_factory=list)

    @property
    def whole_model(self) -> bool:
        return self.feature.startswith("__")

    @property
    def state(self) -> str:
        """One of FEATURE_STATES."""
        return "insufficient_data" if self.severity is None else FEATURE_STATES[self.severity]

    @property
    def samples(self) -> list[tuple[str, tuple[str, ...], float]]:
        """(family, label values, number) of every series of this subject."""
        labels = (self.model, self.version, self.feature)
        shown = [(family, (*labels, *more), value) for family, more, value in self.values]
        return shown if self.severity is None else [*shown, ("drift_severity", labels, float(self.severity))]


def subjects(judged: Iterable[tuple[WindowRow, Sequence[Finding]]]) -> list[Subject]:
    """One Subject for each feature that the windows speak of. What had too few rows has no number, so its series goes stale."""
    found: dict[tuple[str, str, str], Subject] = {}
    for window, findings in judged:
        for finding in findings:
            if finding.state is State.NOT_CONFIGURED:
                continue
            feature = f"__{finding.subject}__" if window.monitor in _WHOLE_MODEL else finding.subject
            key = (window.model, window.version, feature)
            _add(found.setdefault(key, Subject(*key)), finding)
    return list(found.values())


def within_budget(
    candidates: Iterable[Subject],
    *,
    spent: int,
    process_max: int = PROCESS_SERIES_MAX,
    model_max: int = MODEL_SERIES_MAX,
) -> tuple[list[Subject], dict[str, int]]:
    """The subjects to show, most severe first, and by model the number of series left out. `spent` series are shown anyway."""
    shown: list[Subject] = []
    suppressed: dict[str, int] = {}
    by_model: dict[str, int] = {}
    for subject in sorted(candidates, key=_urgency):
        size = len(subject.samples)
        used = by_model.get(subject.model, 0)
        if used + size > model_max or spent + size > process_max:
            suppressed[subject.model] = suppressed.get(subject.model, 0) + size
            continue
        by_model[subject.model] = used + size
        spent += size
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


def _add(subject: Subject, finding: Finding) -> None:
    if finding.state not in JUDGED:
        return
    severity = RANK[finding.severity] if finding.state is State.DRIFT else 0
    subject.severity = max(subject.severity or 0, severity)
    if finding.value is None:
        return
    if finding.threshold:
        subject.excess = max(subject.excess, abs(finding.value) / finding.threshold)
    if finding.check == "distribution":
        subject.values.append(("drift_score", (finding.check,), finding.value))
        if finding.threshold is not None:
            subject.values.append(("drift_threshold", (finding.check,), finding.threshold))
    elif finding.check in _RATIOS:
        subject.values.append((_RATIOS[finding.check], (), finding.value))


def _urgency(subject: Subject) -> tuple[float, ...] | tuple[object, ...]:
    return (-(subject.severity or 0), -subject.excess, subject.model, subject.version, subject.feature)
