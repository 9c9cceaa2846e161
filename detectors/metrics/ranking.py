"""Areas under the ROC and the precision-recall curve from counts by score bin, with the most that the binning can have changed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.metrics.intervals import TWO_SIDED_95, Interval, logit
from detectors.metrics.measured import ClassCounts, Floats, Measured, Ranked, measured, unknown


def roc_auc(counts: ClassCounts) -> Measured:
    """Probability that a positive scores above a negative, ties half. `detail.bin_bound` is how far that of the rows can be."""
    return roc_auc_of(counts.ranked[0])


def pr_auc(counts: ClassCounts) -> Measured:
    """Average precision (scikit-learn's step sum). `detail.bin_bound` is how far that of the rows can be."""
    return pr_auc_of(counts.ranked[0])


def roc_auc_of(ranked: Ranked) -> Measured:
    """DeLong's interval (1988) on the bins, in log odds; unknown without a positive or without a negative."""
    rows = ranked.rows
    found = delong(ranked)
    if found is None:
        return unknown(rows)
    bound = 0.5 * float(ranked.positive @ ranked.negative) / float(ranked.positive.sum() * ranked.negative.sum())
    interval = logit(found.value, math.sqrt(found.variance), found.freedom)
    if interval[0] is None:
        interval = _score_interval(found.value, ranked)
    return measured(found.value, interval, rows, ranked.effective_rows, {"bin_bound": bound, **_sides(ranked)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """Area under a ROC curve, its variance, and the degrees of freedom of that variance."""

    value: float
    variance: float
    freedom: float


def delong(ranked: Ranked) -> Area | None:
    """The spread of each positive's share of negatives below it, and of each negative's of positives above. None without both.

    The two spreads come from few rows where a class is rare: Satterthwaite's degrees of freedom, as in the test of Brunner and Munzel 2000.
    """
    positive, negative = ranked.positive, ranked.negative
    p, n = float(positive.sum()), float(negative.sum())
    if not (p > 0.0 and n > 0.0):
        return None
    below = (negative.cumsum() - 0.5 * negative) / n
    above = 1.0 - (positive.cumsum() - 0.5 * positive) / p
    area = float(positive @ below) / p
    of_positive, of_negative = below - area, above - area
    free_positive = max(ranked.positive_effective - 1.0, 1.0)
    free_negative = max(ranked.negative_effective - 1.0, 1.0)
    by_positive = float(positive @ (of_positive * of_positive)) / p / free_positive
    by_negative = float(negative @ (of_negative * of_negative)) / n / free_negative
    variance = by_positive + by_negative
    doubt = by_positive * by_positive / free_positive + by_negative * by_negative / free_negative
    return Area(value=area, variance=variance, freedom=variance * variance / doubt if doubt > 0.0 else 1.0)


def _score_interval(area: float, ranked: Ranked) -> Interval:
    """Of a flawless ranking, whose spread says nothing: areas whose own spread (Hanley and McNeil 1982) reaches what was found."""
    p, n = ranked.positive_effective, ranked.negative_effective
    pairs = (p + n) / 2.0 - 1.0

    def reaches(theta: float) -> bool:
        up, down = (1.0 - theta) / (2.0 - theta), theta / (1.0 + theta)
        variance = theta * (1.0 - theta) * (1.0 + pairs * up + pairs * down) / max(p * n, 1.0)
        return abs(area - theta) <= TWO_SIDED_95 * math.sqrt(variance)

    ends = []
    for end in (0.0, 1.0):
        inside, outside = area, end
        for _ in range(40):
            middle = (inside + outside) / 2.0
            inside, outside = (middle, outside) if reaches(middle) else (inside, middle)
        ends.append(inside)
    return ends[0], ends[1]


def pr_auc_of(ranked: Ranked) -> Measured:
    """Within a bin positives are taken to lie evenly among the negatives, those of a single score as ties.

    The i-th of p positives of a bin then has precision (T + i) / (T + i + F + n i / (p + 1)), T and F being above the bin; the sum over
    i is its integral from 1/2 to p + 1/2. Interval: delta method on the bins' shares, in log odds (Boyd et al. 2013).
    """
    rows = ranked.rows
    total = float(ranked.positive.sum() + ranked.negative.sum())
    if not (ranked.positive.sum() > 0.0 and rows > 0):
        return unknown(rows)
    unit = total / rows  # in rows of mean weight, so that "the i-th positive" has a meaning
    p, n = ranked.positive[::-1] / unit, ranked.negative[::-1] / unit  # from the highest score down
    true, false = p.cumsum() - p, n.cumsum() - n
    precision = _bin_precision(p, n, true, false, ranked.tied[::-1])
    positives = float(p.sum())
    value = min(float(p @ precision) / positives, 1.0)
    bound = _bound(p, n, true, false, value)
    error = _pr_error(p, n, precision, value, ranked.effective_rows)
    interval = logit(value, error, max(ranked.positive_effective - 1.0, 1.0))
    if interval[0] is None:
        interval = _score_interval(value, ranked) if ranked.negative_rows > 0 else (None, None)
    return measured(value, interval, rows, ranked.effective_rows, {"bin_bound": bound, **_sides(ranked)})


def _bin_precision(p: Floats, n: Floats, true: Floats, false: Floats, tied: NDArray[np.bool_]) -> Floats:
    """Mean precision at the positives of each bin; 0 where it has none."""
    mean = np.zeros(len(p))
    tie = tied & (p > 0.0)
    mean[tie] = (true[tie] + p[tie]) / (true[tie] + p[tie] + false[tie] + n[tie])
    some = ~tied & (p > 0.0)
    first = np.minimum(0.5, p[some] / 2.0)  # a bin may hold less than one row of mean weight
    last = p[some] + first
    growth = 1.0 + n[some] / (p[some] + 1.0)
    start = true[some] + false[some] + growth * first
    log = np.log1p(growth * p[some] / start)
    area = (last - first) / growth + (true[some] - (true[some] + false[some]) / growth) / growth * log
    mean[some] = np.minimum(area / p[some], 1.0)
    return mean


def _bound(p: Floats, n: Floats, true: Floats, false: Floats, value: float) -> float:
    """The larger distance to what the rows give at best (positives first in each bin) and at worst (negatives first)."""
    some = p > 0.0
    t, f, own, other = true[some], false[some], p[some], n[some]
    best = float(own @ ((t + own) / (t + own + f)))
    below = f + other  # sum of (t + i) / (t + i + below) over i = 1..p is at least its integral from 0 to p
    base = np.maximum(t + below, 1e-300)
    worst = float((own - below * np.log1p(own / base)).sum())
    positives = float(p.sum())
    return max(best / positives - value, value - worst / positives, 0.0)


def _pr_error(p: Floats, n: Floats, precision: Floats, value: float, effective_rows: float) -> float:
    """Delta method: a positive row moves its own precision and that of all positives below it; a negative row only the latter."""
    total = float(p.sum() + n.sum())
    positives = float(p.sum())
    true, false = p.cumsum() - 0.5 * p, n.cumsum() - 0.5 * n
    slope = np.divide(p, (true + false) ** 2, out=np.zeros(len(p)), where=p > 0.0)
    up, down = slope * false, slope * true
    by_positive = precision - value + (up[::-1].cumsum()[::-1] - 0.5 * up)
    by_negative = -(down[::-1].cumsum()[::-1] - 0.5 * down)
    square = float(p @ (by_positive * by_positive) + n @ (by_negative * by_negative)) / total
    mean = float(p @ by_positive + n @ by_negative) / total
    scale = total / positives
    return scale * math.sqrt(max(square - mean * mean, 0.0) / effective_rows)


def _sides(ranked: Ranked) -> dict[str, float | int | str | None]:
    return {"positives": round(ranked.positive_rows), "negatives": round(ranked.negative_rows)}
