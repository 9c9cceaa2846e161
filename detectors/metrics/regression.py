"""Metrics of predicted numbers, from exact sums; all intervals by the delta method, losses in their logarithm."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from detectors.metrics.calibration import mean_loss
from detectors.metrics.intervals import UNKNOWN, normal, positive
from detectors.metrics.measured import Measured, NumberCounts, WeightedMean, effective, measured, unknown, weighted_mean


def mae(counts: NumberCounts) -> Measured:
    """Mean absolute error, in the outcome's unit."""
    return mean_loss(_mean(counts, "abs", "abs_weighted", "abs_squared"), scale=counts.span)


def rmse(counts: NumberCounts) -> Measured:
    """Root of the mean squared error, in the outcome's unit."""
    square = _mean(counts, "squared", "abs_squared", "squared_squared")
    if square.value is None:
        return unknown(counts.rows)
    root = math.sqrt(square.value)
    interval = UNKNOWN if square.error is None or root == 0.0 else positive(root, square.error / (2.0 * root))
    return _scaled(root, interval, square, counts.span)


def bias(counts: NumberCounts) -> Measured:
    """Mean of prediction - truth, in the outcome's unit."""
    mean = _mean(counts, "error", "error_weighted", "abs_squared")
    if mean.value is None:
        return unknown(counts.rows)
    interval = UNKNOWN if mean.error is None else normal(mean.value, mean.error)
    return _scaled(mean.value, interval, mean, counts.span)


def mape(counts: NumberCounts) -> Measured:
    """Mean of |error| / |truth| over rows whose truth is not 0; `detail.zero_truths` counts the others."""
    sums = counts.sums
    mean = weighted_mean(
        counts.mass - counts.zero_mass,
        counts.rows - counts.zero_rows,
        sums["ape"],
        (sums["ape_weight_squared"], sums["ape_weighted"], sums["ape_squared"]),
    )
    return mean_loss(mean, {"zero_truths": counts.zero_rows})


def smape(counts: NumberCounts) -> Measured:
    """Mean of 2 |error| / (|truth| + |prediction|), 0 where both are 0; between 0 and 2."""
    return mean_loss(_mean(counts, "sape", "sape_weighted", "sape_squared"))


def wape(counts: NumberCounts) -> Measured:
    """Sum of |error| over the sum of |truth|."""
    sums = counts.sums
    if not (counts.rows > 0 and sums["abs_truth"] > 0.0):
        return unknown(counts.rows)
    value = sums["abs"] / sums["abs_truth"]
    spread = sums["abs_squared"] - 2.0 * value * sums["abs_abs_truth"] + value * value * sums["abs_truth_squared"]
    interval = positive(value, _error(counts.rows, spread) / sums["abs_truth"]) if counts.rows > 1 else UNKNOWN
    return measured(value, interval, counts.rows, effective(counts.mass, sums["weight_squared"]))


def r2(counts: NumberCounts) -> Measured:
    """1 - mean squared error / variance of the truth; the interval is that of the quotient, in its logarithm. Unknown where truth is constant."""
    sums, w = counts.sums, counts.mass
    if not (counts.rows > 1 and w > 0.0):
        return unknown(counts.rows)
    m = sums["truth"] / w
    variance = sums["truth_squared"] / w - m * m
    if variance <= 1e-13:  # of the span; the sums are exact to about 1e-12
        return unknown(counts.rows)
    rest = sums["squared"] / w / variance
    w2, y, y2 = sums["weight_squared"], sums["truth_weighted"], sums["truth_squared_weighted"]
    y3, y4 = sums["truth_cubed_weighted"], sums["truth_fourth_weighted"]
    fourth = y4 - 4.0 * m * y3 + 6.0 * m * m * y2 - 4.0 * m**3 * y + m**4 * w2
    cross = sums["squared_truth_squared"] - 2.0 * m * sums["squared_truth"] + m * m * sums["abs_squared"]
    spread = sums["squared_squared"] - 2.0 * rest * cross + rest * rest * fourth
    low, high = positive(rest, _error(counts.rows, spread) / (w * variance))
    interval = UNKNOWN if low is None or high is None else (1.0 - high, 1.0 - low)
    return measured(1.0 - rest, interval, counts.rows, effective(w, w2))


def _mean(counts: NumberCounts, total: str, weighted: str, squared: str) -> WeightedMean:
    sums = counts.sums
    return weighted_mean(counts.mass, counts.rows, sums[total], (sums["weight_squared"], sums[weighted], sums[squared]))


def _error(rows: int, spread: float) -> float:
    """Root of the sum of squared influences, times that of n / (n - 1)."""
    return math.sqrt(max(spread, 0.0) * rows / (rows - 1.0))


def _scaled(
    value: float, interval: tuple[float, float] | tuple[None, None], mean: WeightedMean, span: float
) -> Measured:
    low, high = interval
    ends = UNKNOWN if low is None or high is None else (low * span, high * span)
    return measured(value * span, ends, mean.rows, mean.effective_rows)


REGRESSION: Mapping[str, Callable[[NumberCounts], Measured]] = {
    "mae": mae,
    "rmse": rmse,
    "mape": mape,
    "smape": smape,
    "wape": wape,
    "bias": bias,
    "r2": r2,
}
