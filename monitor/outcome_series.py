"""From the newest windows of performance and concept drift to the series of one scrape. Pure.

Labels come late, so two windows stand for a model version: the newest one (what is estimated, and how labels come) and the newest one
that labels have judged (what is realised). `monitor/labelled.py` finds the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from detectors.finding import Finding, Monitor, State
from detectors.limits import CHECK as LIMIT
from detectors.performance.label_coverage import CHECK as COVERAGE
from monitor import metric_families as f
from monitor.series import JUDGED, Judged, Subject

LABELS = "__labels__"  # stands where a metric's name does, for how labels come
REALISED, ESTIMATED = "realised", "estimated"
# Shown first when there are too many: the figure people ask for
HEADLINES = frozenset({"accuracy", "mae"})
_PERCENTILES = (("50", "delay_p50_seconds"), ("90", "delay_p90_seconds"), ("99", "delay_p99_seconds"))

Track = tuple[str, str]  # model, version


def realised(findings: Iterable[Finding]) -> bool:
    """Whether labels have judged this window."""
    return any(found.check == REALISED and found.state in JUDGED and found.value is not None for found in findings)


def performance(newest: Sequence[Judged], labelled: Mapping[Track, Judged]) -> list[Subject]:
    """A subject for each metric that is known, and one for the labels. Other monitors' windows are passed over."""
    found: list[Subject] = []
    for window, findings in newest:
        if window.monitor != Monitor.PERFORMANCE:
            continue
        track = window.model, window.version
        judged = labelled.get(track)
        if judged is None and realised(findings):
            judged = window, findings
        found += _metrics(track, findings, () if judged is None else judged[1])
        ends = [(ESTIMATED, window.end_ms)] if any(map(_is_estimate, findings)) else []
        ends += [] if judged is None else [(REALISED, judged[0].end_ms)]
        found.append(_labels(track, ends, findings, () if judged is None else judged[1]))
    return [subject for subject in found if subject.samples]


def concept(newest: Sequence[Judged]) -> list[Subject]:
    """A subject for each detector, and one for the loss that they watch."""
    found: list[Subject] = []
    for window, findings in newest:
        if window.monitor != Monitor.CONCEPT:
            continue
        track = window.model, window.version
        loss = Subject(*track, "__loss__", decision=None, first=True)
        for finding in findings:
            if finding.state not in JUDGED:
                continue
            detector = Subject(*track, finding.check, decision=f.CONCEPT_SEVERITY, first=True)
            detector.judge(finding)
            found.append(detector)
            loss.severity = max(loss.severity or 0, detector.severity or 0)
            if not loss.values:
                numbers = (
                    (f.CONCEPT_LOSS, finding.value),
                    (f.CONCEPT_BASELINE, finding.baseline),
                    (f.CONCEPT_THRESHOLD, finding.threshold),
                )
                loss.add(*((family, track, number) for family, number in numbers if number is not None))
        found.append(loss)
    return [subject for subject in found if subject.samples]


def _is_estimate(finding: Finding) -> bool:
    return finding.check == ESTIMATED and finding.state in JUDGED and finding.value is not None


def _metrics(track: Track, newest: Sequence[Finding], judged: Sequence[Finding]) -> list[Subject]:
    by_name: dict[str, Subject] = {}

    def subject(name: str) -> Subject:
        return by_name.setdefault(name, Subject(*track, name, decision=f.PERFORMANCE_SEVERITY, first=name in HEADLINES))

    known = [found for found in judged if found.check == REALISED and found.state in JUDGED]
    known += [found for found in newest if _is_estimate(found)]
    for finding in known:
        if finding.value is not None:
            _add(subject(finding.subject), finding)
    for finding in judged or newest:
        if finding.check == LIMIT and finding.state in JUDGED:
            limited = subject(finding.subject)
            limited.judge(finding)
            if finding.threshold is not None:
                limited.add((f.PERFORMANCE_THRESHOLD, limited.labels, finding.threshold))
    return list(by_name.values())


def _add(subject: Subject, finding: Finding) -> None:
    """One figure of a metric, realised or estimated."""
    assert finding.value is not None
    subject.judge(finding)
    labels = (*subject.labels, finding.check)
    subject.add((f.PERFORMANCE_VALUE, labels, finding.value))
    if finding.interval is not None:
        for bound, end in zip(("lower", "upper"), finding.interval, strict=True):
            subject.add((f.PERFORMANCE_BOUND, (*labels, bound), end))
    if finding.baseline is not None:
        subject.add((f.PERFORMANCE_BASELINE, subject.labels, finding.baseline))
    if finding.threshold is not None and finding.check == REALISED:
        subject.add((f.PERFORMANCE_THRESHOLD, subject.labels, finding.threshold))
    if finding.baseline is not None and finding.threshold is not None and finding.threshold != finding.baseline:
        excess = abs(finding.value - finding.baseline) / abs(finding.threshold - finding.baseline)
        subject.excess = max(subject.excess, excess)


def _labels(
    track: Track, ends: Sequence[tuple[str, int]], newest: Sequence[Finding], judged: Sequence[Finding]
) -> Subject:
    subject = Subject(*track, LABELS, decision=f.PERFORMANCE_SEVERITY, first=True)
    subject.add(*((f.PERFORMANCE_WINDOW_END, (*track, kind), end_ms / 1000) for kind, end_ms in ends))
    for finding in (*newest, *judged):
        if finding.subject == "labels" and finding.state in JUDGED:
            subject.judge(finding)
    covered = next((found for found in judged if found.check == COVERAGE), None)
    if covered is not None and covered.value is not None:
        subject.add((f.LABEL_COVERAGE, track, covered.value))
    now = next((found for found in newest if found.check == COVERAGE and found.state is not State.NO_DATA), covered)
    if now is not None and isinstance(share := now.detail.get("final_share"), int | float):
        subject.add((f.LABEL_FINAL, track, share))
    for percentile, name in _PERCENTILES if now is not None else ():
        if now is not None and isinstance(delay := now.detail.get(name), int | float):
            subject.add((f.LABEL_DELAY, (*track, percentile), delay))
    rows = next((found.detail.get("labelled") for found in judged if found.check in (COVERAGE, REALISED)), None)
    if isinstance(rows, int | float):
        subject.add((f.LABELLED_ROWS, track, rows))
    return subject
