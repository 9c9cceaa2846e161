"""Is a model worse than in its reference? One finding for each metric of a window, from outcomes (`realised`) or without them (`estimated`).

Two keys, as everywhere: evidence that it is worse at all, so sharp that a healthy model almost never has it, and an effect surely beyond
what is tolerated. Both are corrected for the number of metrics. Only a change for the worse counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from detectors.drift.resemblance import benjamini_hochberg
from detectors.finding import Finding, Severity, State
from detectors.metrics.measured import Detail, Measured
from detectors.metrics.registry import BETTER, METRICS, UNITS, metrics
from detectors.performance.evidence import Comparison, Evidence, comparison, default_tolerance, evidence, visible
from detectors.performance.layout import PerformanceLayout
from detectors.performance.profile import PerformanceProfile

# Of any false discovery in a window of a model that is as good as in its reference. Metrics of one window move together and the effect is
# asked for too, so that fewer than 1 such window in 100,000 alarms (tests/unit/detectors/test_performance.py).
LEVEL = 2e-5
# Of any false discovery in a window of a model that is worse by just what is tolerated.
TOLERATED_LEVEL = 1e-3
WARNING_P = 1e-3  # one key alone is shown, never notified, from this uncorrected p-value on
MIN_OWN_ROWS = 30  # in the denominator of a ratio, or of each of two classes for a metric of both
MIN_CLASS_ROWS = 10  # of every class of the reference, for a mean over three or more

HEADLINES = frozenset({"accuracy", "balanced_accuracy", "log_loss", "roc_auc", "f1", "mae", "rmse"})
_CLASS_DETAILS = 10  # more classes are not told one by one


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformancePolicy:
    """`min_labelled` rows with a label are needed. `tolerances`: metric -> how much worse than the reference is nobody's concern, in the
    metric's own unit (default: `performance_evidence.default_tolerance`). `level_scale`, in (0, 1], multiplies every error rate: the
    false-alarm budget may lower them, never raise them. ValueError for other values and unknown metrics.
    """

    min_labelled: int = 100
    tolerances: Mapping[str, float] = field(default_factory=dict)
    level_scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.level_scale <= 1.0:
            raise ValueError(f"level_scale must be in (0, 1], not {self.level_scale}")
        if self.min_labelled < 1:
            raise ValueError("min_labelled must be at least 1")
        unknown = [name for name in self.tolerances if name not in BETTER]
        if unknown:
            raise ValueError(f"no metric is called {unknown[0]}")
        if any(not tolerance >= 0.0 for tolerance in self.tolerances.values()):
            raise ValueError("a tolerance is 0 or more")


def judge_performance(
    layout: PerformanceLayout, baseline: PerformanceProfile, profile: PerformanceProfile, policy: PerformancePolicy
) -> list[Finding]:
    """One finding (check `realised`) for each metric of the task, in the order of METRICS; none for a window without rows.

    `baseline` and `profile`: of the reference and of the window, both in `layout`. A drift is critical in the headline metrics.
    `rows` are the window's predictions, `detail.labelled` those with a label. Assumes independent rows.
    """
    if profile.rows <= 0 and profile.labelled_rows <= 0:
        return []
    labelled = profile.labelled_rows
    shared: Detail = {
        "source": "realised",
        "labelled": labelled,
        "coverage": labelled / profile.rows if profile.rows > 0 else None,
    }
    found = metrics(layout, profile)
    short = None
    if labelled < policy.min_labelled:
        short = f"{labelled} labelled rows, {policy.min_labelled} are needed"
    reasons = {name: short or reason for name, reason in _too_few(layout, baseline, profile).items()}
    frame = _Frame(check="realised", rows=profile.rows, shared=shared, reasons=reasons, counted=True, policy=policy)
    return _judge(layout, baseline, found, frame)


def judge_estimated(
    layout: PerformanceLayout,
    baseline: PerformanceProfile,
    estimates: Mapping[str, Measured],
    profile: PerformanceProfile,
    policy: PerformancePolicy,
) -> list[Finding]:
    """As `judge_performance` of metrics estimated without labels (check `estimated`), for those in `estimates`.

    An estimate whose `detail.validity` is not "ok" is insufficient_data, with that as the reason. Never critical: only labels prove a loss.
    """
    if profile.rows <= 0:
        return []
    shared: Detail = {"source": "estimated", "labelled": profile.labelled_rows}
    reasons: dict[str, str | None] = {}
    for name, estimate in estimates.items():
        validity = estimate.detail.get("validity", "ok")
        few = f"{profile.rows} rows, {policy.min_labelled} are needed" if profile.rows < policy.min_labelled else None
        reasons[name] = few or (None if validity == "ok" else str(validity))
    frame = _Frame(check="estimated", rows=profile.rows, shared=shared, reasons=reasons, counted=False, policy=policy)
    return _judge(layout, baseline, estimates, frame)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """What all findings of a window share. `reasons`: metric -> why it cannot be judged, None where it can."""

    check: str
    rows: int
    shared: Detail
    reasons: Mapping[str, str | None]
    counted: bool
    policy: PerformancePolicy


def _judge(
    layout: PerformanceLayout, baseline: PerformanceProfile, found: Mapping[str, Measured], frame: _Frame
) -> list[Finding]:
    policy = frame.policy
    known = _baseline(layout, baseline)
    pairs: dict[str, Comparison] = {}
    for name in METRICS[layout.task] if baseline.labelled_rows >= policy.min_labelled else ():
        if name in found and frame.reasons.get(name) is None:
            tolerance = policy.tolerances.get(name)
            pair = comparison(
                name, found[name], known[name], default_tolerance(name, known) if tolerance is None else tolerance
            )
            if pair is not None:
                pairs[name] = pair
    tested = _corrected(pairs, frame)
    judged = [
        _finding(found[name], pairs[name], tested[name], frame)
        if name in tested
        else _unjudged(name, found[name], known[name], baseline.labelled_rows, frame)
        for name in METRICS[layout.task]
        if name in found
    ]
    return _without_vain_calibration(judged)


def _without_vain_calibration(findings: list[Finding]) -> list[Finding]:
    """A model that is right more often than it says is ill calibrated, and nobody's trouble: `ece` alone tells no one while Brier is no worse."""
    brier = next((found for found in findings if found.subject == "brier"), None)
    if brier is None or brier.value is None or brier.baseline is None or brier.value > brier.baseline:
        return findings
    reason = "the probabilities are no worse on the whole, by the Brier score"
    return [
        replace(found, state=State.WARNING, severity=None, detail={**found.detail, "reason": reason})
        if found.subject == "ece" and found.state is State.DRIFT
        else found
        for found in findings
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tested:
    """`q`: the p-values of `own` corrected for the `tests` metrics of the window."""

    own: Evidence
    q: float
    q_tolerated: float
    tests: int


def _corrected(pairs: Mapping[str, Comparison], frame: _Frame) -> dict[str, _Tested]:
    found = {name: evidence(pair, counted=frame.counted) for name, pair in pairs.items()}
    q = benjamini_hochberg(np.array([own.p for own in found.values()]))
    q_tolerated = benjamini_hochberg(np.array([own.p_tolerated for own in found.values()]))
    return {
        name: _Tested(own=own, q=one, q_tolerated=other, tests=len(found))
        for (name, own), one, other in zip(found.items(), q.tolist(), q_tolerated.tolist(), strict=True)
    }


def _finding(measured: Measured, pair: Comparison, tested: _Tested, frame: _Frame) -> Finding:
    own, name, scale = tested.own, pair.name, frame.policy.level_scale
    level, tolerated_level = LEVEL * scale, TOLERATED_LEVEL * scale
    sure, effect = tested.q <= level, own.wholly and tested.q_tolerated <= tolerated_level
    detail = _detail(measured, frame)
    detail |= {"tolerance": pair.tolerance, "p_tolerated": own.p_tolerated}
    state, severity = State.OK, None
    if sure and effect:
        state, severity = State.DRIFT, Severity.WARNING
        if frame.counted and name in HEADLINES:
            severity = Severity.CRITICAL
    elif own.apart and own.p <= WARNING_P * scale and (sure or own.beyond):
        state = State.WARNING
        detail["reason"] = "it is not surely beyond what is tolerated" if sure else "it may still be chance"
    return Finding(
        subject=name,
        check=frame.check,
        state=state,
        severity=severity,
        value=pair.value,
        interval=(pair.low, pair.high),
        baseline=pair.baseline,
        threshold=own.threshold,
        unit=UNITS[name],
        p_value=own.p,
        q_value=tested.q,
        rows=frame.rows,
        smallest_visible=visible(pair, own, level / tested.tests, tolerated_level / tested.tests),
        detail=detail,
    )


def _unjudged(name: str, measured: Measured, known: Measured, reference_rows: int, frame: _Frame) -> Finding:
    state, reason = State.INSUFFICIENT_DATA, frame.reasons.get(name)
    if reference_rows < frame.policy.min_labelled:
        state = State.NOT_CONFIGURED
        reason = f"the reference has {reference_rows} labelled rows, {frame.policy.min_labelled} are needed"
    elif known.value is None or known.low is None:
        state, reason = State.NOT_CONFIGURED, "the reference does not give it"
    elif reason is None:
        reason = "this window does not give it"
    return Finding(
        subject=name,
        check=frame.check,
        state=state,
        value=measured.value,
        interval=None if measured.low is None or measured.high is None else (measured.low, measured.high),
        baseline=known.value,
        unit=UNITS[name],
        rows=frame.rows,
        detail=_detail(measured, frame) | {"reason": reason},
    )


def _detail(measured: Measured, frame: _Frame) -> Detail:
    own = dict(measured.detail)
    by_class = [name for name in own if name.startswith("class.")]
    if len(by_class) > _CLASS_DETAILS:
        own = {name: value for name, value in own.items() if not name.startswith("class.")}
    return {**frame.shared, "own_rows": measured.rows, **own}


@lru_cache(maxsize=256)  # references in use and their segments; a few kB each
def _baseline(layout: PerformanceLayout, baseline: PerformanceProfile) -> Mapping[str, Measured]:
    return metrics(layout, baseline)


def _too_few(
    layout: PerformanceLayout, baseline: PerformanceProfile, profile: PerformanceProfile
) -> dict[str, str | None]:
    """Why a metric has too few rows of its own kind in this window, by metric; None where it has enough."""
    reasons: dict[str, str | None] = dict.fromkeys(METRICS[layout.task])
    if layout.task == "regression":
        return reasons
    table = layout.view(profile.vector, "labelled")
    if layout.task == "binary":
        table = table.sum(axis=0)
        truth, decided = table.sum(axis=0).tolist(), table[:2].sum(axis=1).tolist()
        names = layout.classes
        both = ((truth[0], f"rows of {names[0]}"), (truth[1], f"rows of {names[1]}"))
        for name in ("balanced_accuracy", "mcc", "kappa", "roc_auc", "pr_auc", "ece"):
            reasons[name] = _shortage(both, MIN_OWN_ROWS)
        reasons["recall"] = _shortage(both[1:], MIN_OWN_ROWS)
        reasons["specificity"] = _shortage(both[:1], MIN_OWN_ROWS)
        reasons["precision"] = _shortage([(decided[1], f"decisions for {names[1]}")], MIN_OWN_ROWS)
        union = int(table[:2].sum() - table[0, 0])
        reasons["f1"] = _shortage([(union, f"rows that are or were decided {names[1]}")], MIN_OWN_ROWS)
        return reasons
    reference = layout.view(baseline.vector, "labelled")
    for axis, metrics_of, what in (
        (0, ("balanced_accuracy", "recall", "f1", "roc_auc"), "rows of"),
        (1, ("precision",), "decisions for"),
    ):
        usual, here = (part[: len(layout.classes)].sum(axis=axis) for part in (reference, table))
        counts = [
            (count, f"{what} {name}")
            for name, count, before in zip(layout.classes, here.tolist(), usual.tolist(), strict=True)
            if before > 0
        ]
        for name in metrics_of:
            reasons[name] = _shortage(counts, MIN_CLASS_ROWS)
    return reasons


def _shortage(counts: Iterable[tuple[int, str]], needed: int) -> str | None:
    rows, what = min(counts, default=(needed, ""))
    return f"{rows} {what}, {needed} are needed" if rows < needed else None
