"""Sums of floats as exact integers: every term is rounded once to a fixed point, then only integers are added, so no order matters.

Terms are made with +, -, *, / and roundings only, which IEEE 754 fixes to the last bit: every machine gets the same integers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detectors.performance.slots import MASS_SCALE

SLICE_ROWS = 2048  # rows summed at once: float sums of so many limbs are exact, and the block stays in the cache
WEIGHT_LIMIT = 65_536.0  # in units of weight
TERM_LIMIT = 2.0**40
_EXACT = 2.0**53  # whole numbers below are exact in float64, and so are their sums
_LIMB = 2.0**32
_TERM_HI = 2.0**8  # a term times this is its high limb; SUM_SCALE / 2**32

_LN2_HI = float.fromhex("0x1.62e42fefa3800p-1")  # few bits, so that a whole number times it is exact
_LN2_LO = float.fromhex("0x1.ef35793c76730p-45")
_SQRT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")
_ATANH_TERMS = 11  # s**2 <= 0.0295: the next term is below 2**-58 of the sum


def natural_log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Natural logarithm of positive, finite, normal numbers, within 2 units of the last place, the same bits on every machine.

    (`np.log` differs in the last bit between processors.) log(m 2**e) = e log 2 + 2 atanh((m - 1) / (m + 1)), the latter as its series.
    """
    mantissa, exponent = np.frexp(values)
    low = mantissa < _SQRT_HALF
    mantissa += mantissa * low
    power = (exponent - low).astype(np.float64)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    z = s * s
    series = np.full_like(z, 1.0 / (2 * _ATANH_TERMS + 1))
    for term in range(_ATANH_TERMS - 1, 0, -1):
        series *= z
        series += 1.0 / (2 * term + 1)
    s += s
    series *= z
    series *= s
    series += power * _LN2_LO
    series += s
    series += power * _LN2_HI
    return series


def count(index: NDArray[np.intp], size: int, sign: NDArray[np.float64] | None) -> NDArray[np.int64]:
    """Rows by `index`, less those with a sign of -1 (twice: they are taken back). `sign` None: all 1."""
    if sign is None:
        return np.bincount(index, minlength=size).astype(np.int64, copy=False)
    return np.bincount(index, weights=sign, minlength=size).astype(np.int64)


def tally(index: NDArray[np.intp], amounts: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """Sums of whole numbers |amount| < 2**53 by `index`, exact. At most 2**21 rows."""
    greatest = float(np.abs(amounts).max(initial=0.0))
    if greatest * len(amounts) < _EXACT:
        return np.bincount(index, weights=amounts, minlength=size).astype(np.int64)
    hi = np.floor(amounts / _LIMB)
    lo = amounts - hi * _LIMB
    high = np.bincount(index, weights=hi, minlength=size).astype(np.int64)
    return (high << 32) + np.bincount(index, weights=lo, minlength=size).astype(np.int64)


def fixed_weights(weights: NDArray[np.float64], unit: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights in units and as whole numbers of 2**-32 units. The first are the second divided: what is summed apart agrees exactly."""
    whole = np.rint(np.minimum(weights / unit, WEIGHT_LIMIT) * MASS_SCALE)
    return whole / MASS_SCALE, whole


def limbs(terms: NDArray[np.float64], hi_scale: float = _TERM_HI) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Every term times hi_scale * 2**32, rounded, as hi * 2**32 + lo with 0 <= lo <= 2**32. `terms` is overwritten."""
    terms *= hi_scale
    hi = np.floor(terms)
    terms -= hi
    terms *= _LIMB
    np.rint(terms, out=terms)
    return hi, terms


def limb_sums(
    terms: NDArray[np.float64], sign: NDArray[np.float64] | None, hi_scale: float = _TERM_HI
) -> NDArray[np.int64]:
    """Sums of the rows of `terms` (T, n), at most SLICE_ROWS columns and cut to TERM_LIMIT, as two limbs (T, 2). `terms` is overwritten.

    The sign goes onto the limbs, not the term: limbs of -x are not the negatives of the limbs of x.
    """
    hi, lo = limbs(terms, hi_scale)
    if sign is not None:
        hi *= sign
        lo *= sign
    # lo < 2**32: sums are exact in float64; hi is too large for that
    sums = np.stack([hi.astype(np.int64).sum(axis=1), lo.sum(axis=1).astype(np.int64)], axis=1)
    return np.asarray(sums)
