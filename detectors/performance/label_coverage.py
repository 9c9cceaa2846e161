"""Do labels come as usual? The share of labelled rows against earlier windows of the same age, how late labels are, and when there will be enough.

The share varies from window to window more than rows by themselves would (labels come in files, by week-days): the earlier windows tell
how much, as the between-window part rho of a beta-binomial, and rows count as n / (1 + (n - 1) rho) independent ones. A drop needs evidence and ten points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from detectors.drift.resemblance import Floats
from detectors.finding import Finding, Severity, State
from detectors.performance.layout import PerformanceLayout, delay_edges_seconds
from detectors.performance.profile import PerformanceProfile
from detectors.policy import Policy

SUBJECT, CHECK = "labels", "coverage"
LEVEL = 1e-3
WARNING_P = 1e-2  # a drop by ten points is shown, never notified, from this p-value on
EFFECT = 0.1
HISTORY = 168  # earlier windows that are looked at, the latest
MIN_HISTORY = 5
DELAY_ROWS = 30  # labels below which delays are taken from earlier windows as well
ENOUGH = 0.95
_QUANTILES = {"delay_p50_seconds": 0.5, "delay_p90_seconds": 0.9, "delay_p99_seconds": 0.99}
_DOUBT = 0.05  # one-sided, of the spread of shares
_DEFAULT = Policy()

Detail = dict[str, float | int | str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """Predictions of a window and how many were labelled when it was as old as the window that is judged."""

    rows: int
    labelled: float


def covered_at(
    layout: PerformanceLayout, profile: PerformanceProfile, *, age_seconds: float, window_seconds: float
) -> Covered:
    """How many labels an earlier window had when its end was `age_seconds` ago, told by its delays; its predictions are taken to be spread evenly."""
    delays = _delays_of(layout, profile)
    ages = np.asarray(age_seconds + window_seconds * (np.arange(32) + 0.5) / 32.0, dtype=np.float64)
    return Covered(rows=profile.rows, labelled=float(_labelled_by(delays, ages).mean()))


def coverage(
    layout: PerformanceLayout,
    profile: PerformanceProfile,
    history: Sequence[Covered],
    mature: PerformanceProfile | None = None,
    policy: Policy = _DEFAULT,
) -> Finding:
    """`coverage` of subject `labels`: the share of rows with a label. Only a drop counts; never critical.

    `history`: earlier windows at this window's age, oldest first (`covered_at`); the last 168 count. `mature`: merged windows that are old
    enough to have all of their labels, for `final_share` and `enough_seconds`, the age at which 95 % of predictions are labelled (None: never,
    or unknown), and for the delays where this window has fewer than 30 labels. Delays are of the labels that have come, so a young
    window's are too short. insufficient_data below `quality_min_rows` rows or without five earlier windows.
    """
    detail: Detail = {**_delays(layout, profile, mature), "labelled": profile.labelled_rows}
    rows, labelled = profile.rows, min(profile.labelled_rows, profile.rows)
    if rows <= 0:
        return _unjudged(State.NO_DATA, 0, None, detail | {"reason": "no predictions"})
    usual = [window for window in history[-HISTORY:] if window.rows >= policy.quality_min_rows]
    if rows < policy.quality_min_rows or len(usual) < MIN_HISTORY:
        few = rows < policy.quality_min_rows
        reason = (
            f"{rows} rows, {policy.quality_min_rows} are needed"
            if few
            else f"{len(usual)} earlier windows to compare with, {MIN_HISTORY} are needed"
        )
        return _unjudged(State.INSUFFICIENT_DATA, rows, labelled / rows, detail | {"reason": reason})
    return _judge(rows, labelled, usual, policy, detail)


def delay_quantile(delays: Floats, share: float) -> float | None:
    """Seconds in which `share` of the labels came; within a bin on a logarithmic line. 0 for labels without delay; None without labels."""
    total = float(delays.sum())
    if total <= 0.0:
        return None
    reached = np.cumsum(delays)
    place = int(np.searchsorted(reached, share * total, side="left"))
    place = min(place, len(delays) - 1)
    if place == 0:
        return 0.0
    below = float(reached[place - 1])
    part = min(max((share * total - below) / max(float(delays[place]), 1.0), 0.0), 1.0)
    low, high = _bounds(place)
    return float(low * (high / low) ** part)


def seconds_until(delays: Floats, final_share: float, wanted_share: float) -> float | None:
    """Age of a prediction at which `wanted_share` of all have a label, where `final_share` ever get one with these delays. None: never, or unknown."""
    if final_share <= 0.0 or wanted_share > final_share:
        return None
    return delay_quantile(delays, wanted_share / final_share)


def _judge(rows: int, labelled: int, usual: Sequence[Covered], policy: Policy, detail: Detail) -> Finding:
    n = np.array([window.rows for window in usual], dtype=np.float64)
    x = np.minimum(np.array([window.labelled for window in usual]), n)
    share, rho = _usual(n, x)
    independent = rows / (1.0 + (rows - 1.0) * rho)
    before = float((n / (1.0 + (n - 1.0) * rho)).sum())
    # The usual share is known from `before` independent rows only, and half a row more of either kind.
    expected, certain = (share * before + 0.5) / (before + 1.0), independent / (1.0 + independent / before)
    found = labelled / rows
    # P(X <= x) of a binomial, continued to broken numbers
    p = float(special.betaincc(found * certain + 1.0, max((1.0 - found) * certain, 1e-9), expected))
    level = LEVEL * policy.level_scale
    evidence, effect = p <= level, share - found >= EFFECT
    state = (
        State.DRIFT if evidence and effect else State.WARNING if evidence or (effect and p <= WARNING_P) else State.OK
    )
    if state is State.WARNING:
        detail["reason"] = (
            "it is no chance, but less than ten points"
            if evidence
            else "with so few rows or such changeable shares it may be chance"
        )
    return Finding(
        subject=SUBJECT,
        check=CHECK,
        state=state,
        severity=Severity.WARNING if state is State.DRIFT else None,
        value=found,
        interval=_wilson(found, independent),
        baseline=share,
        threshold=max(share - EFFECT, 0.0),
        unit="share",
        p_value=p,
        rows=rows,
        detail=detail | {"windows": len(usual), "rho": rho},
    )


def _usual(n: Floats, x: Floats) -> tuple[float, float]:
    """Mean share over windows, and the upper 95 % bound of how alike the rows of one window are (rho, 0: independent)."""
    shares = x / n
    share, k = float(shares.mean()), len(n)
    variance = float(shares.var(ddof=1)) * (k - 1) / float(special.chdtri(k - 1, 1.0 - _DOUBT))
    alone = share * (1.0 - share)
    if alone <= 0.0:
        return share, 0.0
    # Var = alone * (rho + (1 - rho) / n) for a window of n rows
    inverse = float((1.0 / n).mean())
    return share, float(np.clip((variance / alone - inverse) / max(1.0 - inverse, 1e-9), 0.0, 1.0))


def _delays(layout: PerformanceLayout, profile: PerformanceProfile, mature: PerformanceProfile | None) -> Detail:
    known = _delays_of(layout, profile)
    detail: Detail = {"final_share": None, "enough_seconds": None}
    if mature is not None and mature.rows > 0:
        later = _delays_of(layout, mature)
        final = min(max(mature.labelled_rows / mature.rows, 0.0), 1.0)
        detail = {"final_share": final, "enough_seconds": seconds_until(later, final, ENOUGH)}
        known = known if known.sum() >= DELAY_ROWS else known + later
    return {name: delay_quantile(known, share) for name, share in _QUANTILES.items()} | detail


def _delays_of(layout: PerformanceLayout, profile: PerformanceProfile) -> Floats:
    return np.maximum(layout.view(profile.vector, "delay"), 0).astype(np.float64)


def _labelled_by(delays: Floats, ages: Floats) -> Floats:
    """Labels that had certainly come at each of `ages` (seconds): those of the bins that end there or before. Within a bin nobody knows
    when they came, and labels that are always two hours late must not be missed after ninety minutes."""
    edges = np.asarray(delay_edges_seconds)
    reached = np.concatenate([[0.0], np.cumsum(delays)])
    certain = reached[np.searchsorted(edges, ages, side="right")]
    return np.where(ages <= 0.0, float(delays[0]), certain)


def _bounds(place: int) -> tuple[float, float]:
    edges = delay_edges_seconds
    low = float(edges[place - 1])
    return low, float(edges[place]) if place < len(edges) else low


def _wilson(share: float, rows: float) -> tuple[float, float]:
    z2 = 3.841458820694124  # of a two-sided 95 % interval
    middle = (share + z2 / (2.0 * rows)) / (1.0 + z2 / rows)
    width = np.sqrt(z2) / (1.0 + z2 / rows) * np.sqrt(share * (1.0 - share) / rows + z2 / (4.0 * rows * rows))
    return max(float(middle - width), 0.0), min(float(middle + width), 1.0)


def _unjudged(state: State, rows: int, share: float | None, detail: Detail) -> Finding:
    return Finding(subject=SUBJECT, check=CHECK, state=state, value=share, unit="share", rows=rows, detail=detail)
