"""95 % intervals, each on the scale on which its figure is nearly normal. None where an interval cannot be known."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.special import stdtrit

TWO_SIDED_95 = 1.959963984540054
Interval = tuple[float, float] | tuple[None, None]
UNKNOWN: Interval = (None, None)
_FEWEST = 2.0  # a spread needs two rows


def wilson(share: float, rows: float) -> tuple[float, float]:
    """Of a share found in `rows` independent rows (may be broken, > 0): Wilson 1927. 0 and 1 are ends of their own intervals."""
    z2 = TWO_SIDED_95 * TWO_SIDED_95
    middle = (share + z2 / (2.0 * rows)) / (1.0 + z2 / rows)
    width = TWO_SIDED_95 / (1.0 + z2 / rows) * math.sqrt(share * (1.0 - share) / rows + z2 / (4.0 * rows * rows))
    return (max(middle - width, 0.0) if share > 0.0 else 0.0), (min(middle + width, 1.0) if share < 1.0 else 1.0)


def normal(value: float, error: float) -> Interval:
    """Of a figure on the whole line with standard error `error`."""
    return value - TWO_SIDED_95 * error, value + TWO_SIDED_95 * error


def positive(value: float, error: float) -> Interval:
    """Of a figure above 0 (a mean loss): normal in its logarithm, which takes most of the skewness away."""
    if value <= 0.0:
        return (0.0, 0.0) if value == error == 0.0 else UNKNOWN
    factor = math.exp(min(TWO_SIDED_95 * error / value, 700.0))
    return value / factor, value * factor


def logit(value: float, error: float, freedom: float = math.inf) -> Interval:
    """Of a figure between 0 and 1, exclusive (an area, an F): Student's t with `freedom` in its log odds, infinite: normal."""
    if not 0.0 < value < 1.0:
        return UNKNOWN
    reach = float(stdtrit(max(freedom, 1.0), 0.975)) if math.isfinite(freedom) else TWO_SIDED_95
    odds, step = math.log(value / (1.0 - value)), reach * error / (value * (1.0 - value))
    return _from_logit(odds - step), _from_logit(odds + step)


def correlation(value: float, error: float) -> Interval:
    """Of a figure between -1 and 1, exclusive (MCC, kappa): normal in Fisher's z."""
    if not -1.0 < value < 1.0:
        return UNKNOWN
    z, step = math.atanh(value), TWO_SIDED_95 * error / (1.0 - value * value)
    return math.tanh(z - step), math.tanh(z + step)


def mean_of(values: Sequence[float], intervals: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of the mean of independent figures, from the interval of each: MOVER (Zou and Donner 2008), which keeps their skewness."""
    k, value = len(values), sum(values) / len(values)
    below = math.sqrt(sum((v - low) ** 2 for v, (low, _) in zip(values, intervals, strict=True))) / k
    above = math.sqrt(sum((high - v) ** 2 for v, (_, high) in zip(values, intervals, strict=True))) / k
    return value - below, value + above


def mean_error(mean: float, mean_square: float, rows: float) -> float | None:
    """Standard error of a mean of `rows` independent rows, from the mean and the mean square; None below 2 rows."""
    if rows < _FEWEST:
        return None
    return math.sqrt(max(mean_square - mean * mean, 0.0) / (rows - 1.0))


def _from_logit(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x > -700.0 else 0.0
