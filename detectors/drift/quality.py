"""Are values missing, absent, invalid, out of range or unseen more often than in the reference? One finding per subject and check.

Two keys, as everywhere: an exact binomial tail against the most that the reference rate may be, plus a tolerance (evidence), and a
share clearly above the reference's (effect). Only a rise counts. The error rate is far below that of the distribution tests,
because faults are plain when they are there, and a healthy model has hundreds of these findings in every window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from detectors.assembly import FindingColumns, Findings
from detectors.drift.plan import Plan, plan_of
from detectors.drift.resemblance import Floats, benjamini_hochberg
from detectors.finding import Finding, Severity, State
from detectors.policy import Policy
from detectors.profile import Profile
from detectors.reference.types import Reference

# Of a false discovery among all checks of a window *if every share stood at its tolerated bound*. At their reference shares it is below
# 2e-5 a window for the worst share and number of rows, and far below for others (tests/unit/detectors/test_quality.py computes it).
LEVEL = 4e-4
WARNING_P = 1e-3  # an effect is shown, never notified, from this uncorrected p-value on
CRITICAL_SHARE = 0.2  # more rows than this hit beyond the reference's share: critical
TOLERATED = (0.0025, 0.1)  # the reference share may rise by .25 points and a tenth of itself without a test minding
EFFECT = (0.005, 0.2)  # a rise by half a point and a fifth of itself is worth a person's time
_REFERENCE_DOUBT = 0.999  # one-sided confidence of the upper bound of the reference's share
_TWO_SIDED_95 = 1.959963984540054
_POWER_80 = 0.8416212335729143


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Bounds:
    """Of a reference, arrays by (subject, check) in one dimension: share found, share tested against, share that is an effect."""

    subjects: tuple[str, ...]
    checks: tuple[str, ...]
    baseline: Floats
    tolerated: Floats
    threshold: Floats
    phi: Floats
    baselines: tuple[float, ...]
    thresholds: tuple[float, ...]


def judge_quality(reference: Reference, profile: Profile, policy: Policy) -> Sequence[Finding]:
    """`missing` (null or nan), `absent`, `invalid`, and `out_of_range` or `unseen`, for every subject of the layout, constant ones too.

    Shares are of all rows. Nothing for a profile without rows; below `quality_min_rows` all are insufficient_data.
    """
    if profile.rows == 0:
        return []
    plan = plan_of(reference)
    bounds = _bounds(plan)
    if profile.rows < policy.quality_min_rows:
        return _too_few(bounds, profile.rows, policy.quality_min_rows)
    hits = plan.shares_of(profile.counts).reshape(-1)
    return _findings(bounds, _judge(bounds, hits, profile.rows, policy), profile.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    share: Floats
    low: Floats
    high: Floats
    p: Floats
    q: Floats
    visible: Floats
    evidence: NDArray[np.bool_]
    effect: NDArray[np.bool_]


def _judge(bounds: _Bounds, hits: Floats, n: int, policy: Policy) -> _Judged:
    share = hits / n
    rows = n / bounds.phi  # so many independent rows would tell as much
    p = np.ones(len(hits))
    some = hits > 0
    x = hits[some] / bounds.phi[some]
    # P(X >= x) of a binomial, continued to broken numbers.
    p[some] = special.betainc(np.minimum(x, rows[some]), np.maximum(rows[some] - x, 0.0) + 1.0, bounds.tolerated[some])
    q = benjamini_hochberg(p)
    level = LEVEL * policy.level_scale
    low, high = _wilson(share, rows)
    return _Judged(
        share=share,
        low=low,
        high=high,
        p=p,
        q=q,
        visible=_smallest_visible(bounds, rows, level / len(hits)),
        evidence=q <= level,
        effect=share >= bounds.threshold,
    )


def _findings(bounds: _Bounds, judged: _Judged, n: int) -> Findings:
    states: list[State] = [State.OK] * len(judged.share)
    severities: list[Severity | None] = [None] * len(judged.share)
    for i in np.flatnonzero(judged.evidence | (judged.effect & (judged.p <= WARNING_P))).tolist():
        states[i] = State.DRIFT if judged.evidence[i] and judged.effect[i] else State.WARNING
        if states[i] is State.DRIFT:
            critical = judged.share[i] - bounds.baseline[i] > CRITICAL_SHARE
            severities[i] = Severity.CRITICAL if critical else Severity.WARNING
    count = len(states)
    return Findings(
        FindingColumns(
            subject=bounds.subjects,
            check=bounds.checks,
            state=states,
            severity=severities,
            value=judged.share.tolist(),
            interval=list(zip(judged.low.tolist(), judged.high.tolist(), strict=True)),
            baseline=bounds.baselines,
            threshold=bounds.thresholds,
            unit=["share"] * count,
            p_value=judged.p.tolist(),
            q_value=judged.q.tolist(),
            rows=[n] * count,
            smallest_visible=judged.visible.tolist(),
            detail=[{} for _ in states],
        )
    )


def _too_few(bounds: _Bounds, n: int, needed: int) -> list[Finding]:
    detail: dict[str, float | int | str | None] = {"reason": f"{n} rows, {needed} are needed", "needed": needed}
    return [
        Finding(subject=subject, check=check, state=State.INSUFFICIENT_DATA, unit="share", rows=n, detail=detail)
        for subject, check in zip(bounds.subjects, bounds.checks, strict=True)
    ]


@lru_cache(maxsize=1024)  # as many as there are plans; about 40 bytes a check
def _bounds(plan: Plan) -> _Bounds:
    hits, m, phi = plan.share_counts.reshape(-1), float(plan.rows), plan.share_phi.reshape(-1)
    share, rows = hits / m, m / phi
    threshold = effect_share(share)
    return _Bounds(
        subjects=tuple(name for name in plan.names for _ in range(4)),
        checks=_checks(plan),
        baseline=share,
        tolerated=tolerated_share(share, rows),
        threshold=threshold,
        phi=phi,
        baselines=tuple(share.tolist()),
        thresholds=tuple(threshold.tolist()),
    )


def tolerated_share(share: Floats, rows: Floats) -> Floats:
    """What a share may truly be without being a fault, where `share` was found in `rows` independent rows of a reference."""
    upper = special.betaincinv(share * rows + 1.0, np.maximum(rows - share * rows, 1e-9), _REFERENCE_DOUBT)
    tolerance = np.minimum(TOLERATED[0] + TOLERATED[1] * share, (1.0 - share) / 4.0)
    return np.asarray(np.minimum(np.maximum(upper, share) + tolerance, 1.0), dtype=np.float64)


def effect_share(share: Floats) -> Floats:
    """The share in a window from which a rise above the reference's `share` is worth a person's time."""
    return np.asarray(share + np.minimum(EFFECT[0] + EFFECT[1] * share, (1.0 - share) / 2.0), dtype=np.float64)


def _checks(plan: Plan) -> tuple[str, ...]:
    return tuple(
        check
        for numeric in plan.numeric.tolist()
        for check in ("missing", "absent", "invalid", "out_of_range" if numeric else "unseen")
    )


def _wilson(share: Floats, rows: Floats) -> tuple[Floats, Floats]:
    z2 = _TWO_SIDED_95**2
    middle = (share + z2 / (2.0 * rows)) / (1.0 + z2 / rows)
    width = _TWO_SIDED_95 / (1.0 + z2 / rows) * np.sqrt(share * (1.0 - share) / rows + z2 / (4.0 * rows * rows))
    return np.where(share > 0.0, np.maximum(middle - width, 0.0), 0.0), np.minimum(middle + width, 1.0)


def _smallest_visible(bounds: _Bounds, rows: Floats, level: float) -> Floats:
    """The share found in 80 % of windows at an uncorrected `level`: the arcsine of a share's root has nearly constant variance."""
    z = float(special.ndtri(1.0 - level)) + _POWER_80
    angle = np.arcsin(np.sqrt(bounds.tolerated)) + z / (2.0 * np.sqrt(rows))
    found = np.sin(np.minimum(angle, np.pi / 2.0)) ** 2
    return np.asarray(np.maximum(found, bounds.threshold), dtype=np.float64)
