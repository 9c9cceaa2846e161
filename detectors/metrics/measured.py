"""A metric's value with its interval, and the counts of one window that metrics are taken from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detectors.metrics.intervals import Interval, wilson

Floats = NDArray[np.float64]
Detail = dict[str, float | int | str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A metric of one window. `low` and `high` are its 95 % interval. None: it cannot be known (a ratio of nothing is never 0).

    `rows` are the rows behind it: those of a ratio's own denominator, otherwise the labelled rows that it was taken from.
    `effective_rows` is (sum w)**2 / sum w**2 of these rows, `rows` where all weights are equal; intervals and tests use it.
    """

    value: float | None
    low: float | None
    high: float | None
    rows: int
    effective_rows: float = 0.0
    detail: Mapping[str, float | int | str | None] = field(default_factory=dict)


def unknown(rows: int) -> Measured:
    """A metric that these rows cannot give."""
    return Measured(value=None, low=None, high=None, rows=rows)


def measured(
    value: float, interval: Interval, rows: int, effective_rows: float, detail: Detail | None = None
) -> Measured:
    low, high = interval
    return Measured(value=value, low=low, high=high, rows=rows, effective_rows=effective_rows, detail=detail or {})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightedMean:
    """sum(w x) / sum(w) of `rows` rows, and its standard error; None where there are no rows (value) or fewer than 2 (error)."""

    value: float | None
    error: float | None
    rows: int
    effective_rows: float


def weighted_mean(mass: float, rows: int, total: float, moments: tuple[float, float, float]) -> WeightedMean:
    """From sum(w) = `mass`, sum(w x) = `total` and `moments` = (sum w**2, sum w**2 x, sum w**2 x**2): the error of a ratio of sums."""
    w2, w2x, w2x2 = moments
    if not (mass > 0.0 and rows > 0 and w2 > 0.0):
        return WeightedMean(value=None, error=None, rows=max(rows, 0), effective_rows=0.0)
    mean, effective = total / mass, mass * mass / w2
    error = None
    if rows > 1:
        spread = max(w2x2 - 2.0 * mean * w2x + mean * mean * w2, 0.0)
        error = math.sqrt(spread * rows / (rows - 1.0)) / mass
    return WeightedMean(value=mean, error=error, rows=rows, effective_rows=effective)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranked:
    """Labelled rows of one class against the rest, by score bin in rising order: weights of the class and of the rest.

    `tied[b]`: bin b holds a single score, so its rows are ties and not merely unsorted.
    """

    positive: Floats
    negative: Floats
    positive_rows: float
    negative_rows: float
    positive_effective: float
    negative_effective: float
    tied: NDArray[np.bool_]

    @property
    def rows(self) -> int:
        return round(self.positive_rows + self.negative_rows)

    @property
    def effective_rows(self) -> float:
        """Of both sides together, were they weighted alike within each."""
        p, n = float(self.positive.sum()), float(self.negative.sum())
        squares = sum(
            mass * mass / effective
            for mass, effective in ((p, self.positive_effective), (n, self.negative_effective))
            if effective > 0.0
        )
        return (p + n) ** 2 / squares if squares > 0.0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassCounts:
    """Labelled rows that have a decision, by (truth, decision), K by K: sums of weights, of squared weights, and rows.

    `log_loss` and `brier` are of the rows that have scores. `ranked`: binary one, of the positive class; multiclass one for each class.
    `score_sums`: binary, sum of weight * score by score bin. `together`: multiclass, the variance of the sum of the classes' areas over the
    sum of their variances; None where no row has all scores.
    """

    classes: tuple[str, ...]
    weights: Floats
    squares: Floats
    row_counts: NDArray[np.int64]
    log_loss: WeightedMean
    brier: WeightedMean
    clipped: int
    ranked: tuple[Ranked, ...]
    score_sums: Floats | None
    together: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NumberCounts:
    """Labelled rows of a regression that have a prediction. `sums`: the layout's two-limb sums by name, scaled as it says.

    `span` is the unit of errors, `mass` the sum of weights, `rows` and `zero_rows` (truth 0) numbers of rows.
    """

    rows: int
    zero_rows: int
    mass: float
    zero_mass: float
    span: float
    sums: Mapping[str, float]


def effective(weights: float, squares: float) -> float:
    """Kish's effective rows."""
    return weights * weights / squares if squares > 0.0 else 0.0


def ratio(part: float, whole: float, squares: float, rows: int) -> Measured:
    """A part / a whole with Wilson's interval; `squares` and `rows` are the whole's. Unknown where the whole is nothing."""
    count = effective(whole, squares)
    if not (whole > 0.0 and rows > 0 and count > 0.0):
        return unknown(max(rows, 0))
    share = min(max(part / whole, 0.0), 1.0)
    return measured(share, wilson(share, count), rows, count)
