"""Do scores mean what they say? Log loss, Brier score, calibration error and the reliability curve."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtr, chndtrinc, ndtri

from detectors.metrics.intervals import UNKNOWN, Interval, positive, wilson
from detectors.metrics.measured import ClassCounts, Detail, Floats, Measured, WeightedMean, measured, unknown

GROUPS = 10  # of about equal weight, by the window's own scores
_NORMAL_FROM = 2000.0
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
    squared = raw - float(
        share @ (groups.variance / rows)
    )  # without bias, but with few rare outcomes the variance is often far too small
    noise = np.maximum(groups.variance, groups.expected) / rows
    chance = float(share @ noise)
    freedom = chance * chance / max(float((share * share) @ (noise * noise)), 1e-300)
    value = math.sqrt(max(squared, 0.0))
    low, high = _ece_interval(raw, chance, freedom)
    interval = UNKNOWN if low is None or high is None else (min(low, value), max(high, value))
    detail: Detail = {
        "plain": float(share @ np.abs(apart)),
        "squared": squared,
        "raw": math.sqrt(raw),
        "noise": chance,
        "freedom": freedom,
    }
    return measured(value, interval, counts.brier.rows, float(groups.effective.sum()), detail)


def _ece_interval(raw: float, noise: float, freedom: float) -> Interval:
    """Of the root, from all true squares that could have given what was found: `raw` is about noise / freedom times a
    noncentral chi-square of `freedom` degrees.
    """
    if not (noise > 0.0 and freedom > 0.0):
        return UNKNOWN
    unit = noise / freedom
    found = raw / unit
    low, high = (_noncentrality(found, freedom, below) for below in (0.975, 0.025))
    return math.sqrt(low * unit), math.sqrt(high * unit)


def _noncentrality(found: float, freedom: float, below: float) -> float:
    """With which a chi-square stays at or under `found` with probability `below`; 0 where it does so less often at 0."""
    if chdtr(freedom, found) <= below:
        return 0.0
    if found > _NORMAL_FROM:  # its square root is nearly normal then
        return max(math.sqrt(found - (freedom - 1.0) / 2.0) - float(ndtri(below)), 0.0) ** 2 - (freedom - 1.0) / 2.0
    return float(chndtrinc(found, freedom, below))


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
