"""Accuracy, Matthews' correlation and Cohen's kappa of any number of classes, with delta-method intervals on the confusion table."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from detectors.metrics.intervals import UNKNOWN, correlation, mean_of
from detectors.metrics.measured import ClassCounts, Floats, Measured, effective, measured, ratio, unknown

_SlopeOf = Callable[[Floats], tuple[float, Floats] | None]
_PSEUDO_ROWS = 2.0


def accuracy(counts: ClassCounts) -> Measured:
    """The share of rows decided as they turned out."""
    right, whole = float(counts.weights.trace()), float(counts.weights.sum())
    return ratio(right, whole, float(counts.squares.sum()), int(counts.row_counts.sum()))


def balanced_accuracy(counts: ClassCounts) -> Measured:
    """Mean over the classes that occurred of the share of their rows decided so; interval from Wilson's of each."""
    return mean_ratio(
        counts.weights.diagonal(), counts.weights.sum(axis=1), counts.squares.sum(axis=1), counts.row_counts.sum(axis=1)
    )


def mean_ratio(parts: Floats, wholes: Floats, squares: Floats, rows: NDArray[np.int64]) -> Measured:
    """Mean of part / whole over those with a whole, independent of each other. Arguments as of `ratio`, one entry for each."""
    shares = [
        share
        for share in map(ratio, parts.tolist(), wholes.tolist(), squares.tolist(), rows.tolist())
        if share.value is not None
    ]
    values = [share.value for share in shares if share.value is not None]
    total = int(rows.sum())
    if not values:
        return unknown(max(total, 0))
    interval = mean_of(values, [(share.low or 0.0, 1.0 if share.high is None else share.high) for share in shares])
    return measured(sum(values) / len(values), interval, total, effective(float(wholes.sum()), float(squares.sum())))


def mcc(counts: ClassCounts) -> Measured:
    """Correlation of truth and decision (Gorodkin 2004 for many classes). Unknown where either has one class only."""
    return _agreement(counts, mcc_slope)


def kappa(counts: ClassCounts) -> Measured:
    """Agreement beyond that of independent decisions (Cohen 1960). Unknown where truth and decision are all of one class."""
    return _agreement(counts, kappa_slope)


def mcc_slope(shares: Floats) -> tuple[float, Floats] | None:
    """MCC of a table of shares (sum 1), and its derivative by each cell; None where it has none."""
    truth, decided, right = shares.sum(axis=1), shares.sum(axis=0), float(shares.trace())
    excess = right - float(truth @ decided)
    by_decision, by_truth = 1.0 - float(decided @ decided), 1.0 - float(truth @ truth)
    if by_decision <= 1e-15 or by_truth <= 1e-15:
        return None
    scale = math.sqrt(by_decision * by_truth)
    value = excess / scale
    slope = right - (decided[None, :] + truth[:, None])
    slope[np.diag_indices_from(slope)] += 1.0
    slope /= scale
    slope -= value * ((1.0 - decided) / by_decision)[None, :]
    slope -= value * ((1.0 - truth) / by_truth)[:, None]
    return value, slope


def kappa_slope(shares: Floats) -> tuple[float, Floats] | None:
    """Kappa of a table of shares (sum 1), and its derivative by each cell; None where it has none."""
    truth, decided, right = shares.sum(axis=1), shares.sum(axis=0), float(shares.trace())
    chance = float(truth @ decided)
    room = 1.0 - chance
    if room <= 1e-15:
        return None
    slope = -(1.0 - right) * (decided[None, :] + truth[:, None] - 2.0 * chance)
    slope -= right * room
    slope[np.diag_indices_from(slope)] += room
    return (right - chance) / room, slope / (room * room)


def slope_error(slope: Floats, squares: Floats, whole: float) -> float:
    """Standard error of a smooth function of shares of `whole`, by the delta method; `squares` are sums of squared weights by cell.

    The function must not depend on the scale of the table, so that its slope has mean 0.
    """
    return math.sqrt(max(float((squares * slope * slope).sum()), 0.0)) / whole


def _agreement(counts: ClassCounts, slope_of: _SlopeOf) -> Measured:
    """The interval is that of the table with two more rows, spread evenly: with few rows of a class it holds the truth more often.

    Measured at 500 rows with 8 positives: 92 % of intervals do, without the two rows 89 %. A flawless table has an interval too.
    """
    rows, whole, squares = int(counts.row_counts.sum()), float(counts.weights.sum()), float(counts.squares.sum())
    found = slope_of(counts.weights / whole) if whole > 0.0 and rows > 0 else None
    if found is None or squares <= 0.0:
        return unknown(max(rows, 0))
    value = min(max(found[0], -1.0), 1.0)
    unit = squares / whole  # weight of one effective row
    more = _PSEUDO_ROWS / counts.weights.size
    mixed_whole = whole + _PSEUDO_ROWS * unit
    mixed = slope_of((counts.weights + more * unit) / mixed_whole)
    if mixed is None:
        return unknown(rows)
    error = slope_error(mixed[1], counts.squares + more * unit * unit, mixed_whole)
    low, high = correlation(mixed[0], error)
    interval = UNKNOWN if low is None or high is None else (min(low, value), max(high, value))
    return measured(value, interval, rows, effective(whole, squares))
