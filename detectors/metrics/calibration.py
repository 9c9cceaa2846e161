"""Do scores mean what they say? Log loss, Brier score, calibration error and the reliability curve."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import chndtr, ndtr

from detectors.metrics.intervals import UNKNOWN, Interval, positive, wilson
from detectors.metrics.measured import ClassCounts, Detail, Floats, Measured, WeightedMean, measured, unknown

GROUPS = 10  # of about equal weight, by the window's own scores
_NORMAL_FROM = 2000.0
_MISS = 0.05  # of intervals, both sides together
_PRIOR_EVENTS = 1.0  # rare outcomes in a group on which the variance found there counts half
_HALVINGS = 45
_FEWEST_ROWS = 2  # a group's noise is unknown with one row


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityGroup:
    """Rows of neighbouring scores: their mean score, the share of positives with its 95 % interval, and how many they are."""

    mean_score: float
    share: float
    low: float
    high: float
    rows: int


def log_loss(counts: ClassCounts) -> Measured:
    """Mean of -ln(probability given to what happened), scores clipped to [1e-7, 1 - 1e-7]; `detail.clipped` counts those that were."""
    return mean_loss(counts.log_loss, {"clipped": counts.clipped})


def brier(counts: ClassCounts) -> Measured:
    """Mean squared difference of score and outcome; summed over classes where there are more than two."""
    return mean_loss(counts.brier)


def mean_loss(mean: WeightedMean, detail: Detail | None = None, scale: float = 1.0) -> Measured:
    """A mean of losses (never below 0) times `scale`, with its interval."""
    if mean.value is None:
        return unknown(mean.rows)
    interval = UNKNOWN if mean.error is None else positive(mean.value * scale, mean.error * scale)
    return measured(mean.value * scale, interval, mean.rows, mean.effective_rows, detail)


def ece(counts: ClassCounts) -> Measured:
    """Root mean square of (mean score - share of positives) over ten groups of scores, less what chance alone adds (Kumar et al. 2019).

    0 where chance explains all. In `detail`: `plain` is the usual expected calibration error of the same groups, which chance inflates;
    `squared` the debiased square before its root, which may be below 0; `raw` the root mean square with chance in it, `noise` what chance
    makes of its square and `freedom` that's degrees of freedom.
    """
    groups = _groups(counts)
    if groups is None or counts.brier.rows < GROUPS * _FEWEST_ROWS:
        return unknown(counts.brier.rows)
    share, apart = groups.weight / groups.weight.sum(), groups.apart
    rows = np.maximum(groups.effective - 1.0, 1.0)
    raw = float(share @ (apart * apart))
    squared = raw - float(share @ (groups.variance / rows))  # without bias
    # With few rare outcomes the variance found is often far too small: what is judged must not be founded on that.
    noise = np.maximum(groups.variance, groups.expected) / rows
    chance = float(share @ noise)
    freedom = chance * chance / max(float((share * share) @ (noise * noise)), 1e-300)
    value = math.sqrt(max(squared, 0.0))
    low, high = _ece_interval(share, apart, _shrunk(groups, rows) / rows)
    interval = UNKNOWN if low is None or high is None else (min(low, value), max(high, value))
    detail: Detail = {
        "plain": float(share @ np.abs(apart)),
        "squared": squared,
        "raw": math.sqrt(raw),
        "noise": chance,
        "freedom": freedom,
    }
    return measured(value, interval, counts.brier.rows, float(groups.effective.sum()), detail)


def _shrunk(groups: _Groups, rows: Floats) -> Floats:
    """Variance of a row in each group, between the one found and the one that right scores would have: the more rare outcomes, the more the former.

    Rare outcomes are those that came or those that should have come, whichever are more: with neither, 0 was found and means little.
    """
    events = np.maximum(groups.variance, groups.expected) * rows
    own = events / (events + _PRIOR_EVENTS)
    return np.asarray(own * groups.variance + (1.0 - own) * groups.expected, dtype=np.float64)


def _ece_interval(share: Floats, apart: Floats, variance: Floats) -> Interval:
    """Of the root, from all true squares that could have given what was found; `variance` is that of `apart`.

    The sum of squares is `unit` times a noncentral chi-square and a constant: its mean and variance are right where the groups are off in the
    proportions that were found. A true square of 0 can be missed to one side only: there all 5 % are put on that side, further up
    half of them (as in the unified approach of Feldman and Cousins 1998), so that 95 of 100 intervals hold the truth everywhere.
    """
    raw, noise, spread = (
        float(x) for x in (share @ (apart * apart), share @ variance, (share * share) @ (variance * variance))
    )
    unit = float((share * share * variance) @ (apart * apart)) / raw if raw > 0.0 else 0.0
    if not (unit > 0.0 and spread > 0.0):
        return UNKNOWN
    freedom = spread / (unit * unit)
    found = (raw - noise) / unit + freedom
    near = math.sqrt(2.0 * freedom)

    def below(true: float) -> float:
        return _MISS / 2.0 * -math.expm1(-true / near)

    low = _last(lambda true: _chi_square(found, freedom, true) > 1.0 - _MISS + below(true), found)
    high = _last(lambda true: _chi_square(found, freedom, true) >= below(true), found)
    return math.sqrt(low * unit), math.sqrt(high * unit)


def _chi_square(x: float, freedom: float, noncentrality: float) -> float:
    """P(a noncentral chi-square is at most x); a normal one of its power where it is large (Sankaran 1963)."""
    if x <= 0.0:
        return 0.0
    mean, wide = freedom + noncentrality, freedom + 2.0 * noncentrality
    if mean <= _NORMAL_FROM and x <= _NORMAL_FROM:
        return float(chndtr(x, freedom, noncentrality))
    power = 1.0 - 2.0 * mean * (freedom + 3.0 * noncentrality) / (3.0 * wide * wide)
    p = wide / (mean * mean)
    m = (power - 1.0) * (1.0 - 3.0 * power)
    centre = 1.0 + power * p * (power - 1.0 - 0.5 * (2.0 - power) * m * p)
    return float(ndtr(((x / mean) ** power - centre) / (power * math.sqrt(2.0 * p) * (1.0 + 0.5 * m * p))))


def _last(holds: Callable[[float], bool], start: float) -> float:
    """The greatest number from 0 on for which it holds; 0 where it never does. `holds` is true up to there, false beyond."""
    if not holds(0.0):
        return 0.0
    inside, outside = 0.0, max(start, 1.0)
    while holds(outside):
        inside, outside = outside, 2.0 * outside
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2.0
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return inside


def reliability(counts: ClassCounts) -> tuple[ReliabilityGroup, ...]:
    """The curve behind `ece`: a point for each group of scores, in rising order. Empty without scored labels."""
    groups = _groups(counts)
    if groups is None:
        return ()
    made = []
    for score, share, effective, rows in zip(
        groups.score.tolist(), groups.share.tolist(), groups.effective.tolist(), groups.rows.tolist(), strict=True
    ):
        low, high = wilson(min(max(share, 0.0), 1.0), effective)
        made.append(ReliabilityGroup(mean_score=score, share=share, low=low, high=high, rows=int(rows)))
    return tuple(made)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Groups:
    weight: Floats
    score: Floats  # mean score
    share: Floats  # of positives
    apart: Floats  # share - score
    variance: Floats  # of (outcome - score) of one row about `apart`, as found
    expected: Floats  # the same if the scores are right
    effective: Floats
    rows: Floats


def _groups(counts: ClassCounts) -> _Groups | None:
    """Bins of scores joined to ten groups: bin b goes to the group in which the middle of its weight lies."""
    if counts.score_sums is None:
        return None
    ranked = counts.ranked[0]
    weight = ranked.positive + ranked.negative
    used = weight > 0.0
    if not used.any():
        return None
    weight, hits = weight[used], ranked.positive[used]
    score = np.clip(counts.score_sums[used] / weight, 0.0, 1.0)
    middle = (weight.cumsum() - 0.5 * weight) / weight.sum()
    group = np.minimum((middle * GROUPS).astype(np.int64), GROUPS - 1)
    _, group = np.unique(group, return_inverse=True)
    total = np.bincount(group, weight).astype(np.float64)
    share, mean = np.bincount(group, hits) / total, np.bincount(group, weight * score) / total
    square = np.bincount(group, hits * (1.0 - score) ** 2 + (weight - hits) * score**2) / total
    rows = total * (counts.brier.rows / float(weight.sum()))
    return _Groups(
        weight=total,
        score=mean,
        share=share,
        apart=share - mean,
        variance=np.maximum(square - (share - mean) ** 2, 0.0),
        expected=np.bincount(group, weight * score * (1.0 - score)) / total,
        effective=rows * float(counts.brier.effective_rows / counts.brier.rows),
        rows=np.rint(rows),
    )
