"""Splitting a rise of the mean loss along one axis: where the rows moved (mix), and where the loss itself rose (rate).

An axis is anything that puts every labelled row into one cell: the coarse values of a feature, groups of the score, the label. With
shares p and mean losses a of the baseline's cells, q and c of the window's, rise = sum (q - p) a + sum q (c - a): the first sum is
the mix part, the second the rate part. A cell that the baseline has no row of is given the baseline's mean loss, as uncertain as cells
differ: new rows then count as mix only so far as others lost theirs, and what their loss differs from the mean is rate.
(Drawing the other cells to the mean as well was tried: it hides mix, 53 % coverage of a 95 % interval at 2,000 rows.)

Losses lie in [0, 1]. Rows are taken to be independent; arrays are (axis, cell), all axes over the same rows. Source: mix and rate are the
between and within parts of Kitagawa (1955); shrinkage is the linear empirical-Bayes estimate with moments (Buehlmann 1967).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from detectors.drift.resemblance import Floats

CELL_ROWS = 30  # labelled rows below which a cell is not judged
_PRIOR_ROWS = 30.0  # rows that the pooled variance is worth when a cell's own is estimated


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Losses:
    """Of labelled rows, by (axis, cell): how many, and the sums of their losses and of the losses' squares."""

    rows: Floats
    sums: Floats
    squares: Floats

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or not self.rows.shape == self.sums.shape == self.squares.shape:
            raise ValueError("rows, sums and squares must be arrays of (axis, cell) of the same shape")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """By axis: `mix` + `rate` = rise, with standard errors; `chi2`, `p_value`: has the loss changed alike in all cells (1 where it may have)?

    `local`: what the cells that stand out add to the rise, compared with the others' change (0 where all changed alike), never negative
    in the direction of the rise. `unevenness`: standard deviation over rows of the `shrunk` change of their cell. By (axis, cell): shares `p`, `q`; `before` mean losses of the baseline; `change` of the mean loss against
    `before` and its variance; `shrunk` the change drawn to the axis' average as far as the cells do not differ beyond chance.
    """

    mix: Floats
    mix_error: Floats
    rate: Floats
    rate_error: Floats
    chi2: Floats
    p_value: Floats
    local: Floats
    unevenness: Floats
    p: Floats
    q: Floats
    before: Floats
    before_variance: Floats
    change: Floats
    variance: Floats
    shrunk: Floats


def split(before: Losses, after: Losses) -> Split:
    """Both need at least one row on every axis, and the same axes and cells (ValueError)."""
    if before.rows.shape != after.rows.shape or not (before.rows.sum(axis=1).all() and after.rows.sum(axis=1).all()):
        raise ValueError("both sides need rows on the same axes")
    m, n = before.rows.sum(axis=1, keepdims=True), after.rows.sum(axis=1, keepdims=True)
    p, q = before.rows / m, after.rows / n
    found, now = _means(before), _means(after)
    pooled, pooled_now = _within(before), _within(after)
    spread = _variances(before, np.broadcast_to(pooled, p.shape))
    ratio = np.divide(pooled_now, pooled, out=np.ones_like(pooled), where=pooled > 0.0)
    spread_now = _variances(after, np.where(pooled > 0.0, spread * ratio, pooled_now))
    noise, noise_now = _of_mean(spread, before.rows), _of_mean(spread_now, after.rows)
    centre, between = _between(found, noise, p)
    a, a_variance = np.where(before.rows > 0.0, found, centre), np.where(before.rows > 0.0, noise, between)
    c = np.where(after.rows > 0.0, now, a)
    change, seen = c - a, after.rows > 0.0
    variance = a_variance + np.where(seen, noise_now, 0.0)
    chi2, p_value = _unlike(now - found, noise + noise_now, (before.rows >= CELL_ROWS) & (after.rows >= CELL_ROWS))
    shrunk = _shrink(change, np.where(seen, variance, np.inf), q)
    mix, rate = ((q - p) * a).sum(axis=1), (q * change).sum(axis=1)
    return Split(
        mix=mix,
        mix_error=np.sqrt(_spread(q, a) / n[:, 0] + _spread(p, a) / m[:, 0] + ((q - p) ** 2 * a_variance).sum(axis=1)),
        rate=rate,
        rate_error=np.sqrt((q * q * variance).sum(axis=1) + _spread(q, shrunk) / n[:, 0]),
        chi2=chi2,
        p_value=p_value,
        local=_standing_out(shrunk, q, np.sign(mix + rate)),
        unevenness=np.sqrt(_spread(q, shrunk)),
        p=p,
        q=q,
        before=a,
        before_variance=a_variance,
        change=change,
        variance=variance,
        shrunk=shrunk,
    )


def mean_with_error(losses: Losses) -> tuple[float, float]:
    """The mean loss of all rows of the first axis, and its standard error."""
    rows, total, squares = (float(x[0].sum()) for x in (losses.rows, losses.sums, losses.squares))
    mean = total / rows
    # A loss that was never seen may still come: one such row more in a sample of this size.
    return mean, float(np.sqrt(max(squares / rows - mean * mean, 0.0) / rows + 1.0 / (rows + 2.0) ** 2))


def _means(losses: Losses) -> Floats:
    return np.divide(losses.sums, losses.rows, out=np.zeros_like(losses.sums), where=losses.rows > 0.0)


def _squares_within(losses: Losses) -> Floats:
    return np.maximum(losses.squares - losses.sums * _means(losses), 0.0)


def _within(losses: Losses) -> Floats:
    """(axis, 1): variance of a loss around its cell's mean."""
    free = losses.rows.sum(axis=1, keepdims=True) - (losses.rows > 0.0).sum(axis=1, keepdims=True)
    return np.asarray(_squares_within(losses).sum(axis=1, keepdims=True) / np.maximum(free, 1.0))


def _variances(losses: Losses, expected: Floats) -> Floats:
    """Of one loss in each cell: its own variance, mixed with the `expected` one as if that had been seen in 30 rows.

    A cell of 40 rows without one error has an own variance of 0 and would otherwise be called certain.
    """
    return (_squares_within(losses) + _PRIOR_ROWS * expected) / (np.maximum(losses.rows - 1.0, 0.0) + _PRIOR_ROWS)


def _of_mean(variance: Floats, rows: Floats) -> Floats:
    """Variance of a cell's mean, infinite without rows; 1 / (rows + 2)**2 for what was never seen but may be."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(rows > 0.0, variance / rows + 1.0 / (rows + 2.0) ** 2, np.inf)


def _between(values: Floats, variance: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """(axis, 1) each: the weighted mean, and how much the true values vary around it, by moments; cells of infinite variance are left out."""
    known = np.isfinite(variance)
    noise = np.where(known, variance, 0.0)
    centre = (weights * np.where(known, values, 0.0)).sum(axis=1, keepdims=True)
    away = np.where(known, values - centre, 0.0)
    surplus = (weights * away * away - weights * (1.0 - weights) * noise).sum(axis=1, keepdims=True)
    free = 1.0 - (weights * weights).sum(axis=1, keepdims=True)
    between = np.maximum(np.divide(surplus, free, out=np.zeros_like(surplus), where=free > 1e-12), 0.0)
    return centre, between


def _shrink(values: Floats, variance: Floats, weights: Floats) -> Floats:
    """Values drawn to their weighted mean as far as they do not differ beyond chance; of infinite variance: the mean itself."""
    centre, between = _between(values, variance, weights)
    known = np.isfinite(variance)
    total = between + np.where(known, variance, 0.0)
    trust = np.divide(between, total, out=np.zeros_like(total), where=known & (total > 0.0))
    return np.where(known, centre + trust * (values - centre), centre)


def _unlike(change: Floats, variance: Floats, used: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    precision = np.divide(1.0, variance, out=np.zeros_like(variance), where=used)
    away = np.where(used, change, 0.0)
    total = np.maximum(precision.sum(axis=1, keepdims=True), 1e-300)
    away = np.where(used, away - (precision * away).sum(axis=1, keepdims=True) / total, 0.0)
    chi2, free = (precision * away * away).sum(axis=1), used.sum(axis=1) - 1.0
    return chi2, np.where(free > 0.0, special.chdtrc(np.maximum(free, 1.0), chi2), 1.0)


def _spread(shares: Floats, values: Floats) -> Floats:
    mean = (shares * values).sum(axis=1)
    return np.asarray(np.maximum((shares * values * values).sum(axis=1) - mean * mean, 0.0))


def _standing_out(change: Floats, q: Floats, direction: Floats) -> Floats:
    """Cells are parted in two at the greatest contrast of their change; the upper part's share times that contrast."""
    order = np.argsort(-change * direction[:, None], axis=1, kind="stable")
    share = np.cumsum(np.take_along_axis(q, order, axis=1), axis=1)
    total = np.cumsum(np.take_along_axis(q * change * direction[:, None], order, axis=1), axis=1)
    rest, rest_total = 1.0 - share, total[:, -1:] - total
    inside = (share > 1e-12) & (rest > 1e-12)
    contrast = np.where(inside, total / np.maximum(share, 1e-12) - rest_total / np.maximum(rest, 1e-12), 0.0)
    best = (share * rest * contrast * contrast).argmax(axis=1)[:, None]
    found = np.take_along_axis(share * contrast, best, axis=1)[:, 0]
    return np.asarray(np.maximum(found, 0.0))
