"""Is a metric worse than in the reference, and by more than is tolerated? p-values of both, from two measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scipy.special import betainc, chndtr, ndtr, ndtri

from detectors.metrics.intervals import TWO_SIDED_95
from detectors.metrics.measured import Measured
from detectors.metrics.registry import BETTER, CUSTOM

# Nobody acts on less than a twentieth of the way to perfection, or half a point: an error rate of .10 may be .105, one of .02 .025.
SHARE_TOLERANCE = (0.05, 0.005)
LOSS_TOLERANCE = 0.05  # of the reference's loss
LEAST_LOSS_TOLERANCE: Mapping[str, float] = {"log_loss": 0.005, "brier": 0.0025, "ece": 0.02}
BIAS_TOLERANCE = 0.1  # of the reference's rmse

# Shares of independent rows: their tails are a binomial's, which for few rows is far from a normal's. `f1`: of its own share, see metric_binary.
_SHARES = frozenset({"accuracy", "precision", "recall", "specificity"})
_POWER_80 = 0.8416212335729143


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """`p`: of so bad a value where the metric is truly the reference's. `p_tolerated`: where it is truly worse by the whole tolerance.

    `threshold`: the reference's value and the tolerance on the bad side. `beyond`: the value lies beyond it; `wholly`: its 95 % interval does;
    `apart`: its interval lies on the bad side of the reference's value. `error`: standard error of the difference, toward the reference.
    """

    p: float
    p_tolerated: float
    threshold: float
    beyond: bool
    wholly: bool
    apart: bool
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A metric of a window and of the reference, both with a value and an interval, and the tolerated difference."""

    name: str
    value: float
    low: float
    high: float
    baseline: float
    baseline_low: float
    baseline_high: float
    rows: float  # effective
    baseline_rows: float
    tolerance: float
    chance: tuple[float, float, float] | None = (
        None  # of `ece`: its raw value, what chance makes of that's square, degrees of freedom
    )

    @property
    def better(self) -> Literal["high", "low", "zero"]:
        return BETTER[self.name]


def comparison(name: str, window: Measured, reference: Measured, tolerance: float) -> Comparison | None:
    """None where either has no value or no interval."""
    ends = (window.value, window.low, window.high, reference.value, reference.low, reference.high)
    value, low, high, baseline, baseline_low, baseline_high = ends
    if value is None or low is None or high is None:
        return None
    if baseline is None or baseline_low is None or baseline_high is None:
        return None
    return Comparison(
        name=name,
        value=value,
        low=low,
        high=high,
        baseline=baseline,
        baseline_low=baseline_low,
        baseline_high=baseline_high,
        rows=window.effective_rows,
        baseline_rows=reference.effective_rows,
        tolerance=tolerance,
        chance=_chance(window),
    )


def _chance(window: Measured) -> tuple[float, float, float] | None:
    raw, noise, freedom = (window.detail.get(key) for key in ("raw", "noise", "freedom"))
    if isinstance(raw, float) and isinstance(noise, float) and isinstance(freedom, float) and noise > 0.0:
        return raw, noise, freedom
    return None


def default_tolerance(name: str, baseline: Mapping[str, Measured]) -> float:
    """How much worse than the reference (`baseline`: all its metrics) a metric may be without being anyone's concern, in its own unit."""
    known = baseline[name].value
    if known is None:
        return 0.0
    own = CUSTOM[name].tolerance if name in CUSTOM else None
    if own is not None:
        return own
    if BETTER[name] == "high":
        return max(SHARE_TOLERANCE[0] * (1.0 - known), SHARE_TOLERANCE[1])
    if BETTER[name] == "low":
        return max(LOSS_TOLERANCE * known, LEAST_LOSS_TOLERANCE.get(name, 0.0))
    spread = baseline["rmse"].value if "rmse" in baseline else None
    return BIAS_TOLERANCE * (spread or 0.0)


def evidence(pair: Comparison, *, counted: bool) -> Evidence:
    """`counted`: both are shares of counted rows where the metric is one (False for estimates, whose intervals hold other doubts too)."""
    if pair.better == "zero":
        return _two_sided(pair)
    sign = 1.0 if pair.better == "low" else -1.0
    worse = sign * (pair.value - pair.baseline)
    own = pair.value - pair.low if sign > 0.0 else pair.high - pair.value
    other = pair.baseline_high - pair.baseline if sign > 0.0 else pair.baseline - pair.baseline_low
    error = _error(pair, own, other)
    p, p_tolerated = _tail(worse, error), _tail(worse - pair.tolerance, error)
    if counted and worse > 0.0 and (pair.name in _SHARES or pair.name == "f1"):
        p = max(p, _binomial(pair, 0.0))
        p_tolerated = max(p_tolerated, _binomial(pair, pair.tolerance))
    if counted and pair.chance is not None:
        p, p_tolerated = (_chi_square(pair, pair.chance, tolerance) for tolerance in (0.0, pair.tolerance))
    threshold = pair.baseline + sign * pair.tolerance
    near = pair.low if sign > 0.0 else pair.high
    return Evidence(
        p=p,
        p_tolerated=p_tolerated,
        threshold=threshold,
        beyond=worse > pair.tolerance,
        wholly=sign * (near - threshold) > 0.0,
        apart=sign * (near - pair.baseline) > 0.0,
        error=error,
    )


def visible(pair: Comparison, found: Evidence, level: float, tolerated_level: float) -> float:
    """The value that 80 % of such windows would be called worse from on, where the metric is tested at these levels."""
    certain = (float(-ndtri(level)) + _POWER_80) * found.error
    beyond = pair.tolerance + (float(-ndtri(tolerated_level)) + _POWER_80) * found.error
    worse = max(certain, beyond)
    if pair.better == "high":
        return pair.baseline - worse
    if pair.better == "low":
        return pair.baseline + worse
    return (abs(pair.baseline) + worse) * (1.0 if pair.value >= 0.0 else -1.0)


def _error(pair: Comparison, own: float, other: float) -> float:
    """Of the difference, from the halves of the window's and the reference's interval that lie toward each other.

    The window's is at least what the reference's would be with so few rows: a metric that broke down may show no spread any more.
    """
    squared = other * other
    usual = squared * pair.baseline_rows / pair.rows if pair.rows > 0.0 else 0.0
    return float((max(own * own, usual) + squared) ** 0.5 / TWO_SIDED_95)


def _tail(worse: float, error: float) -> float:
    if error <= 0.0:
        return 1.0 if worse <= 0.0 else 0.0
    return float(ndtr(-worse / error))


def _binomial(pair: Comparison, tolerance: float) -> float:
    """P(a share at most the window's) for the reference's less the tolerance; the reference's own doubt makes the rows fewer.

    The reference's share is taken half a row from its ends, so that a flawless reference does not make one error impossible.
    """
    share, expected = pair.value, pair.baseline - tolerance
    known = pair.baseline_rows
    if pair.name == "f1":  # F is a rising function of tp / (tp + fp + fn)
        share, expected = share / (2.0 - share), expected / (2.0 - expected)
    if known <= 0.0 or pair.rows <= 0.0:
        return 1.0
    expected = min(max((expected * known + 0.5) / (known + 1.0), 0.5 / (known + 1.0)), 1.0 - 0.5 / (known + 1.0))
    rows = 1.0 / (1.0 / pair.rows + 1.0 / known)
    hits = min(share, 1.0) * rows
    return float(betainc(max(rows - hits, 1e-9), hits + 1.0, 1.0 - expected))


def _chi_square(pair: Comparison, chance: tuple[float, float, float], tolerance: float) -> float:
    """P(a calibration error at least the window's) for the reference's, a standard error up, and the tolerance."""
    raw, noise, freedom = chance
    true = pair.baseline + (pair.baseline_high - pair.baseline) / TWO_SIDED_95 + tolerance
    below = float(chndtr(raw * raw * freedom / noise, freedom, true * true * freedom / noise))
    return min(max(1.0 - below, 0.0), 1.0)


def _two_sided(pair: Comparison) -> Evidence:
    """A bias is worse when it is further from 0 than the reference's, to either side."""
    sign = 1.0 if pair.value >= 0.0 else -1.0
    worse = abs(pair.value) - abs(pair.baseline)
    own = pair.value - pair.low if sign > 0.0 else pair.high - pair.value
    other = (pair.baseline_high - pair.baseline_low) / 2.0
    error = _error(pair, own, other)
    threshold = sign * (abs(pair.baseline) + pair.tolerance)
    near = pair.low if sign > 0.0 else pair.high
    return Evidence(
        p=min(2.0 * _tail(worse, error), 1.0),
        p_tolerated=min(2.0 * _tail(worse - pair.tolerance, error), 1.0),
        threshold=threshold,
        beyond=worse > pair.tolerance,
        wholly=sign * (near - threshold) > 0.0,
        apart=sign * near - abs(pair.baseline) > 0.0,
        error=error,
    )
