"""The resemblance test: has this window moved from its reference by more than is tolerated, and by how much?

PSI of the window against the reference is about `noise` times a non-central chi-square with `nu` degrees of freedom, whose
non-centrality is the true PSI divided by `noise`; `noise` = phi (1/n + 1/m). Evidence is the tail of that law at the *tolerated*
PSI, so that a difference too small to matter never becomes significant, however many rows there are. phi and nu come from blocks
of the reference (detectors.reference.build) and make it hold for rows that depend on each other.

Everything is taken over all subjects of a window at once: matrices of (subject, group), where a subject with fewer groups than
the matrix has columns is padded with cells whose share is 1 on both sides, which add nothing to any sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_TWO_SIDED_95 = 1.959963984540054
_POWER_80 = 0.8416212335729143
_EXACT_BELOW = 1e-8  # where 1 - cdf begins to lose digits


@dataclass(frozen=True, slots=True)
class Sample:
    """`shares` (subject, group) as `smoothed` makes them, of `rows` (subject) rows with a value, at least 1 each."""

    shares: Floats
    rows: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A window against its reference, one entry per subject. `psi`, `effect` and the interval describe the groups, not the raw values.

    `effect` is the equivalent shift in standard deviations: the root of PSI without the part that noise alone would give.
    `low`, `high` are its 95 % interval; `high` is never below what a window showing just the expected noise would be given.
    """

    psi: Floats
    js: Floats  # Jensen-Shannon distance, base 2, in [0, 1]
    noise: Floats
    effect: Floats
    low: Floats
    high: Floats


def smoothed(counts: Floats, cells: Bools) -> Floats:
    """Shares with half a count added to each cell of `cells`; 1 in the padding."""
    total = counts.sum(axis=1) + 0.5 * cells.sum(axis=1)
    return np.where(cells, (counts + 0.5) / total[:, None], 1.0)


def compare(window: Sample, reference: Sample, phi: Floats, nu: Floats) -> Comparison:
    """Both samples must be padded alike. `phi` and `nu` by subject: what the reference's blocks say, or 1 and groups - 1."""
    ratio = np.log(window.shares / reference.shares)
    psi: Floats = np.einsum("ij,ij->i", window.shares - reference.shares, ratio)
    noise = phi * (1.0 / window.rows + 1.0 / reference.rows)
    spread = np.sqrt(np.maximum(phi * _variance(window, reference, ratio) / np.maximum(4.0 * noise * psi, 1e-300), 1.0))
    low, high = _interval(psi, noise, nu, spread)
    effect = np.sqrt(np.maximum(psi - nu * noise, 0.0))
    return Comparison(psi=psi, js=_js(window.shares, reference.shares), noise=noise, effect=effect, low=low, high=high)


def tail(psi: Floats, noise: Floats, nu: Floats, tolerated: Floats) -> Floats:
    """p-values of "the true PSI is at most `tolerated`". Relative error below 1e-6; at most 1, at least 1e-300."""
    x, nc = psi / noise, tolerated / noise
    p = np.asarray(1.0 - special.chndtr(x, nu, nc), dtype=np.float64)
    small = p < _EXACT_BELOW
    if small.any():
        p[small] = stats.ncx2.sf(x[small], nu[small], nc[small])
    # A NaN can only come from overflow far out in the tail, where the p-value is nil.
    return np.clip(np.nan_to_num(p, nan=0.0), 1e-300, 1.0)


def smallest_visible(noise: Floats, nu: Floats, tolerated: Floats, level: Floats) -> Floats:
    """The effect in sd that a window like this shows in 80 % of cases at an uncorrected `level`, and never less than the tolerated one.

    The root of a non-central chi-square less (nu - 1)/2 is nearly normal with variance 1, also far out: measured against the exact law
    the power is .80 to .84 for 200 to 50,000 rows, so the figure errs on the side of promising too little.
    """
    half = (nu - 1.0) / 2.0
    root = np.sqrt(tolerated / noise + half) + special.ndtri(1.0 - level) + _POWER_80
    return np.sqrt(np.maximum(noise * (root * root - half), tolerated))


def benjamini_hochberg(p: Floats) -> Floats:
    """q-values: a finding with q <= level belongs to the discoveries at that false discovery rate. Any length, also 0."""
    k = len(p)
    if k == 0:
        return p.copy()
    order = np.argsort(p, kind="stable")
    scaled = p[order] * (k / np.arange(1, k + 1))
    q = np.empty_like(p)
    q[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return np.minimum(q, 1.0)


def _variance(window: Sample, reference: Sample, ratio: Floats) -> Floats:
    """Of PSI, for independent rows, by the delta method on the multinomial counts.

    For small differences it equals the chi-square's; beyond about 1 sd that law is too narrow (72-83 % coverage at 2 sd), this is not.
    """
    quotient = window.shares / reference.shares
    by_window = ratio + 1.0 - 1.0 / quotient  # padding has share 1 and derivative 0 in both
    by_reference = 1.0 - ratio - quotient
    return _spread(window.shares, by_window) / window.rows + _spread(reference.shares, by_reference) / reference.rows


def _spread(shares: Floats, values: Floats) -> Floats:
    weighted = shares * values
    mean = weighted.sum(axis=1)
    square: Floats = np.einsum("ij,ij->i", weighted, values)
    return np.asarray(square - mean * mean, dtype=np.float64)


def _interval(psi: Floats, noise: Floats, nu: Floats, spread: Floats) -> tuple[Floats, Floats]:
    half = (nu - 1.0) / 2.0
    x = psi / noise
    width = _TWO_SIDED_95 * spread
    low = np.maximum(np.sqrt(np.maximum(x - half, 0.0)) - width, 0.0) ** 2 - half
    high = (np.sqrt(np.maximum(x, nu) - half) + width) ** 2 - half
    return np.sqrt(np.maximum(noise * low, 0.0)), np.sqrt(noise * high)


def _js(window: Floats, reference: Floats) -> Floats:
    middle = (window + reference) / 2.0
    divergence = (window * np.log2(window / middle) + reference * np.log2(reference / middle)).sum(axis=1) / 2.0
    return np.asarray(np.sqrt(np.clip(divergence, 0.0, 1.0)), dtype=np.float64)
