"""Has the distribution of a feature, a score or a predicted label moved? One finding `distribution` for each, from one pass over the window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.assembly import Detail, FindingColumns, findings
from detectors.bins import CategoryBins
from detectors.drift import resemblance
from detectors.drift.plan import Plan, cumulative, means, plan_of
from detectors.drift.resemblance import Comparison, Floats, Sample
from detectors.finding import Finding, Monitor, Severity, State
from detectors.policy import TOLERATED_PSI, Policy
from detectors.profile import Profile
from detectors.reference.types import Reference

CHECK = "distribution"
LEVEL, LEVEL_FEW_ROWS, FEW_ROWS = 0.05, 0.01, 500
# A family of one would otherwise be tested at 5 %, which is two false alarms a week of hourly windows. What 50 features are measured to
# bear, each subject of a smaller family bears as well: its level is at most this much for each of its members.
LEVEL_EACH, LEVEL_EACH_FEW_ROWS = 1e-3, 2e-4
COARSE, FINE, FINE_FROM = 10, 32, 2000  # groups, and the rows from which the finer grouping is used

_ORDER_UNKNOWN = (
    "the order of the reference's rows is unknown, so how much a healthy window moves is unknown: a warning at most"
)
_FEW_BLOCKS = "the reference has too few rows with a value to tell how much a healthy window moves: a warning at most"
_SMALL = "there is no doubt of it, but it is smaller than what is tolerated"
_UNSURE = "it would be large enough, but among this many subjects it may be chance"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    reference: Reference
    plan: Plan
    profile: Profile
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """Subjects that are tested on the same grouping; arrays by place in `judged`, which holds places in the layout."""

    judged: NDArray[np.int64]
    rows: Floats
    seen: Comparison
    phi: Floats
    nu: Floats
    known: NDArray[np.bool_]
    groups: NDArray[np.int64]
    tolerated: Floats
    p: Floats


@dataclass(frozen=True, slots=True)
class _Corrected:
    """q-values, and of how many tests."""

    q: Floats
    family: NDArray[np.int64]


def judge_distribution(reference: Reference, profile: Profile, policy: Policy, monitor: Monitor) -> list[Finding]:
    """`distribution` for all subjects of `monitor` (DATA or PREDICTION). Whoever wants both has them in half the time from the next function."""
    return judge_distributions(reference, profile, policy)[monitor]


def judge_distributions(reference: Reference, profile: Profile, policy: Policy) -> dict[Monitor, list[Finding]]:
    """The findings of DATA and of PREDICTION, each sorted by subject and a family of its own for the multiplicity correction.

    Nothing for a profile without rows. Subjects with fewer than `min_rows` rows with a value are insufficient_data; constant ones
    are left to quality; excluded features are not_configured. Only rows with a value count: the others are quality's concern.
    """
    if profile.rows == 0:
        return {Monitor.DATA: [], Monitor.PREDICTION: []}
    window = _Window(reference=reference, plan=plan_of(reference), profile=profile, policy=policy)
    totals = reference.grouped(COARSE).of(profile.counts).sum(axis=1)
    enough = totals[window.plan.judged] >= policy.min_rows
    found = _insufficient(window, window.plan.judged[~enough], totals)
    judged = window.plan.judged[enough]
    # With few rows in coarse groups, with many in fine ones; mostly all subjects of a window are in the same case.
    fine = totals[judged] >= FINE_FROM
    parts = [
        _measure(window, target, judged[chosen], totals.astype(np.float64))
        for target, chosen in ((COARSE, ~fine), (FINE, fine))
        if chosen.any()
    ]
    if parts:
        found += _judge(window, parts)
    features = set(reference.excluded) | {window.plan.names[i] for i in np.flatnonzero(window.plan.features)}
    found = sorted(found + _excluded(reference), key=lambda finding: finding.subject)
    return {
        Monitor.DATA: [finding for finding in found if finding.subject in features],
        Monitor.PREDICTION: [finding for finding in found if finding.subject not in features],
    }


def _judge(window: _Window, parts: Sequence[_Measured]) -> list[Finding]:
    p = np.concatenate([part.p for part in parts])
    feature = window.plan.features[np.concatenate([part.judged for part in parts])]
    q, family = np.empty_like(p), np.where(feature, feature.sum(), (~feature).sum())
    for members in (feature, ~feature):
        q[members] = resemblance.benjamini_hochberg(p[members])
    distances = _distances(window.reference, window.plan, window.profile)
    found, start = [], 0
    for part in parts:
        stop = start + len(part.p)
        details = _details(window.plan, part, distances)
        found += _findings(window, part, _Corrected(q[start:stop], family[start:stop]), details)
        start = stop
    return found


def _measure(window: _Window, target: int, judged: NDArray[np.int64], totals: Floats) -> _Measured:
    reference, sample = window.reference, window.plan.samples[target]
    groups, dispersion, rows = reference.grouped(target), reference.dispersion[target], totals[judged]
    counts = groups.of(window.profile.counts)[judged].astype(np.float64)
    now = Sample(resemblance.smoothed(counts, groups.used[judged]), rows)
    phi, nu = dispersion.phi[judged], np.maximum(dispersion.nu[judged], 1.0)
    seen = resemblance.compare(now, Sample(sample.shares[judged], sample.rows[judged]), phi, nu)
    tolerated = _tolerated(reference, window.policy)[judged]
    return _Measured(
        judged=judged,
        rows=rows,
        seen=seen,
        phi=phi,
        nu=nu,
        known=dispersion.known[judged] & reference.ordered,
        groups=groups.groups[judged],
        tolerated=tolerated,
        p=resemblance.tail(seen.psi, seen.noise, nu, tolerated),
    )


def _tolerated(reference: Reference, policy: Policy) -> Floats:
    tolerated = np.full(len(reference.layout.subjects), TOLERATED_PSI)
    if policy.tolerate_sd:
        for i, subject in enumerate(reference.layout.subjects):
            if subject.role == "feature" and subject.name in policy.tolerate_sd:
                tolerated[i] = policy.tolerate_sd[subject.name] ** 2
    return tolerated


def _findings(window: _Window, part: _Measured, corrected: _Corrected, details: Sequence[Detail]) -> list[Finding]:
    seen, q, threshold = part.seen, corrected.q, np.sqrt(part.tolerated)
    few = part.rows < FEW_ROWS
    level = np.minimum(
        np.where(few, LEVEL_FEW_ROWS, LEVEL), corrected.family * np.where(few, LEVEL_EACH_FEW_ROWS, LEVEL_EACH)
    )
    level = level * window.policy.level_scale
    evidence, effect = q <= level, seen.effect >= threshold
    states: list[State] = [State.OK] * len(q)
    severities: list[Severity | None] = [None] * len(q)
    # A large effect alone is common among 50 features of 200 rows; it is shown where a single test would reject without any doubt.
    for k in np.flatnonzero(evidence | (effect & (part.p <= level / 10.0))).tolist():
        details[k].update(_movement(window, int(part.judged[k])))
        if evidence[k] and effect[k] and part.known[k]:
            states[k], severities[k] = State.DRIFT, Severity.WARNING
        else:
            states[k] = State.WARNING
            details[k]["reason"] = _why_warning(window.reference, bool(evidence[k]), bool(effect[k]))
    visible = resemblance.smallest_visible(seen.noise, part.nu, part.tolerated, level / corrected.family)
    count = len(states)
    return findings(
        FindingColumns(
            subject=[window.plan.names[i] for i in part.judged.tolist()],
            check=[CHECK] * count,
            state=states,
            severity=severities,
            value=seen.effect.tolist(),
            interval=list(zip(seen.low.tolist(), seen.high.tolist(), strict=True)),
            baseline=[0.0] * count,
            threshold=threshold.tolist(),
            unit=["sd"] * count,
            p_value=part.p.tolist(),
            q_value=q.tolist(),
            rows=part.rows.astype(np.int64).tolist(),
            smallest_visible=visible.tolist(),
            detail=list(details),
        )
    )


def _why_warning(reference: Reference, evidence: bool, effect: bool) -> str:
    if evidence and effect:
        return _FEW_BLOCKS if reference.ordered else _ORDER_UNKNOWN
    return _SMALL if evidence else _UNSURE


def _movement(window: _Window, subject: int) -> Detail:
    """For categories: the one whose share moved most."""
    bins = window.reference.layout.subjects[subject].bins
    if not isinstance(bins, CategoryBins):
        return {}
    place = window.reference.layout.bins_of(subject)
    now, before = window.profile.counts[place], window.reference.profile.counts[place]
    share, share_before = now / now.sum(), before / before.sum()
    most = int(np.abs(share - share_before).argmax())
    name = bins.categories[most] if most < len(bins.categories) else "(other)"
    return {"category": name, "share": float(share[most]), "reference_share": float(share_before[most])}


def _insufficient(window: _Window, few: NDArray[np.int64], totals: NDArray[np.int64]) -> list[Finding]:
    needed = window.policy.min_rows
    return [
        Finding(
            subject=window.plan.names[i],
            check=CHECK,
            state=State.INSUFFICIENT_DATA,
            unit="sd",
            rows=int(totals[i]),
            detail={"reason": f"{int(totals[i])} rows with a value, {needed} are needed", "needed": needed},
        )
        for i in few.tolist()
    ]


def _excluded(reference: Reference) -> list[Finding]:
    return [
        Finding(subject=name, check=CHECK, state=State.NOT_CONFIGURED, unit="sd", detail={"reason": reason})
        for name, reason in reference.excluded.items()
    ]


def _details(plan: Plan, part: _Measured, distances: tuple[Floats, Floats, Floats]) -> list[Detail]:
    """What is shown beside the effect. PSI and JS are of the groups, KS and Wasserstein of the stored bins, which are finer."""
    ks, wasserstein, mean = (values[part.judged].tolist() for values in distances)
    before = plan.means[part.judged].tolist()
    phi = [factor if known else None for factor, known in zip(part.phi.tolist(), part.known.tolist(), strict=True)]
    details: list[Detail] = []
    for i, (psi, js, groups, number) in enumerate(
        zip(
            part.seen.psi.tolist(),
            part.seen.js.tolist(),
            part.groups.tolist(),
            plan.numeric[part.judged].tolist(),
            strict=True,
        )
    ):
        detail: Detail = {"psi": psi, "js": js, "ks": None, "wasserstein": None, "groups": groups, "phi": phi[i]}
        if number:
            detail["ks"], detail["wasserstein"] = ks[i], wasserstein[i]
            detail["mean"], detail["reference_mean"] = mean[i], before[i]
        details.append(detail)
    return details


def _distances(reference: Reference, plan: Plan, profile: Profile) -> tuple[Floats, Floats, Floats]:
    """Kolmogorov-Smirnov, Wasserstein-1 (units of x, values clipped to the reference's extremes) and the clipped mean, by subject."""
    layout = reference.layout
    counts = np.where(plan.bin_cells, profile.counts, 0)
    rows = np.maximum(np.add.reduceat(counts, plan.starts), 1).astype(np.float64)
    gap = cumulative(counts, plan.starts, layout.subject_of, rows) - plan.cdf
    right = np.abs(gap)
    left = np.concatenate([[0.0], right[:-1]])  # only read inside a subject: the width of its first cell is 0
    # Between two edges the gap is taken to be a straight line; where it crosses 0 the area is that of two triangles.
    crosses = np.concatenate([[False], gap[:-1] * gap[1:] < 0.0])
    middle = (left + right) / 2.0
    middle[crosses] -= left[crosses] * right[crosses] / (left[crosses] + right[crosses])
    ks = np.maximum.reduceat(right, plan.starts)
    wasserstein = np.add.reduceat(plan.width * middle, plan.starts)
    return ks, wasserstein, means(reference, profile.sums, rows)
