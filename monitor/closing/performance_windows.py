"""The findings of one window of performance: what labels say, what would be expected without them, whether they stand for all, and why it fell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from detectors.attribution.attribute import attribute
from detectors.attribution.words import attribution_detail
from detectors.estimate.estimate import Estimator, estimate
from detectors.finding import Finding, State
from detectors.limits import Limit, judge_limits
from detectors.metrics.registry import metrics
from detectors.performance.judge import PerformancePolicy, judge_estimated, judge_performance
from detectors.performance.label_coverage import coverage
from detectors.performance.layout import PerformanceLayout
from detectors.performance.profile import PerformanceProfile
from detectors.performance.reference import PerformanceReference
from detectors.performance.selective import selective_labels
from detectors.performance.unknown_labels import unknown_labels
from detectors.policy import Policy
from monitor.closing.ledger import Ledger
from monitor.false_alarms import Budget

_NOT_FOR_ALL = "the labels that came so far do not stand for all rows; decided when the window is final"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a model's performance is judged. `sample`: share of its ids that are joined."""

    policy: PerformancePolicy
    estimate: bool = True
    limits: tuple[Limit, ...] = ()
    sample: float = 1.0
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a window is judged: how old it is, by the labels' own time, and whether it waits for no more of them."""

    age_seconds: float
    window_seconds: float
    final: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judge:
    """Judges windows of one version under one reference. `ledger`: what settled windows taught; `estimator` None: nothing is estimated.

    `versions`: how many have predictions in the window's time, which share the budget of false alarms.
    """

    known: PerformanceReference
    estimator: Estimator | None
    ledger: Ledger
    rules: Rules
    versions: int = 1

    def findings(self, profile: PerformanceProfile, segment: str, moment: Moment) -> list[Finding]:
        """Of all rows (`segment` "") or of one segment, whose baseline is its own."""
        baseline = self.known.segments.get(segment) if segment else self.known.profile
        if baseline is None:
            return [Finding(subject="reference", check="reference", state=State.NOT_CONFIGURED, rows=profile.rows)]
        realised = judge_performance(self.known.layout, baseline, profile, self._policy(segment))
        if self.rules.sample < 1.0:
            realised = [_with(found, sample=self.rules.sample) for found in realised]
        if segment:
            return self._explained(baseline, profile, realised)
        representative = selective_labels(self.known.layout, profile, Policy(level_scale=self._level_scale))
        if representative.state in (State.DRIFT, State.WARNING) and not moment.final:
            realised = [_held_back(found) for found in realised]
            representative = _held_back(representative)  # labels of the window's first hours come first
        strange = unknown_labels(self.known.layout, profile)
        findings = self._explained(baseline, profile, realised)
        findings += ([] if strange is None else [strange]) + _money(self.known.layout, profile)
        findings += self._estimated(profile)
        findings += [self._coverage(profile, moment), representative]
        return findings + judge_limits(self.rules.limits, findings)

    def _policy(self, segment: str) -> PerformancePolicy:
        """All rows have half of the error rate of false alarms, the segments share the other half."""
        segments = len(self.known.segments)
        share = 1.0 if not segments else 0.5 / segments if segment else 0.5
        return replace(self.rules.policy, level_scale=self._level_scale * share)

    @property
    def _level_scale(self) -> float:
        return self.rules.policy.level_scale * self.rules.budget.level_scale(self.versions)

    def _explained(
        self, baseline: PerformanceProfile, profile: PerformanceProfile, realised: Sequence[Finding]
    ) -> list[Finding]:
        """Every loss says why."""
        if not any(found.state is State.DRIFT for found in realised):
            return list(realised)
        why = attribution_detail(self.known.layout, attribute(self.known.layout, baseline, profile))
        return [_with(found, **why) if found.state is State.DRIFT else found for found in realised]

    def _estimated(self, profile: PerformanceProfile) -> list[Finding]:
        """With how far such estimates were off so far; not judged where labels contradict them."""
        if not self.rules.estimate or self.estimator is None:
            return []
        layout, ledger = self.known.layout, self.ledger
        policy = replace(self.rules.policy, level_scale=self._level_scale)
        estimates = estimate(self.estimator, layout, profile)
        findings = [
            _with(found, past_error=ledger.past_error(found.subject))
            for found in judge_estimated(layout, self.known.profile, estimates, profile, policy)
        ]
        if ledger.contradicted_ms is None:
            return findings
        why: dict[str, float | int | str | None] = {
            "validity": "contradicted by labels",
            "contradicted_since_ms": ledger.contradicted_ms,
        }
        return [replace(_with(found, **why), state=State.INSUFFICIENT_DATA, severity=None) for found in findings]

    def _coverage(self, profile: PerformanceProfile, moment: Moment) -> Finding:
        layout = self.known.layout
        usual = self.ledger.covered(layout, age_seconds=moment.age_seconds, window_seconds=moment.window_seconds)
        return coverage(layout, profile, usual, self.ledger.mature(layout), Policy(level_scale=self._level_scale))


def _money(layout: PerformanceLayout, profile: PerformanceProfile) -> list[Finding]:
    """Sum and mean of what outcomes are worth, where they say so. There is nothing to hold it against but a limit."""
    measured = {name: found for name, found in metrics(layout, profile).items() if name in ("value_sum", "value_mean")}
    return [
        Finding(
            subject=name, check="value", state=State.OK, value=found.value, unit="value", rows=found.rows,
            interval=None if found.low is None or found.high is None else (found.low, found.high),
            detail={"source": "realised", "labelled": found.rows},
        )
        for name, found in measured.items()
    ]  # fmt: skip


def _held_back(found: Finding) -> Finding:
    """A loss among labels that came first may be theirs alone: shown, and decided when the window is final."""
    if found.state is not State.DRIFT:
        return found
    return replace(_with(found, reason=_NOT_FOR_ALL), state=State.WARNING, severity=None)


def _with(found: Finding, **more: float | str | None) -> Finding:
    return replace(found, detail={**found.detail, **more})
