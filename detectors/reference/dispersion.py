"""How much more than by chance a healthy subject moves: learned from blocks of the reference in time order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.drift.grouping import Grouped, psi
from detectors.layout import Layout

SHARES = ("missing", "absent", "invalid", "outside")
MIN_BLOCKS = 30
MAX_BLOCKS = 60
MIN_BLOCK_ROWS = 50
_ROWS_FOR_MORE_BLOCKS = 500


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dispersion:
    """Of PSI in one grouping, by subject: PSI(window of n rows) is about phi * (1/n + 1/m) times a chi-square with nu degrees of freedom.

    `known` is False where the reference's blocks cannot tell (order unknown, or too few rows with a value): phi is 1 and nu is
    groups - 1 there, what independent rows would have, and a finding may be a warning at most.
    """

    phi: NDArray[np.float64]
    nu: NDArray[np.float64]
    known: NDArray[np.bool_]


def block_bounds(rows: int) -> NDArray[np.int64]:
    """Bounds of equal runs of rows: 60 where each has 500 rows, else 30; none (empty) when a run would have fewer than 50 rows."""
    blocks = MAX_BLOCKS if rows >= MAX_BLOCKS * _ROWS_FOR_MORE_BLOCKS else MIN_BLOCKS
    if rows < MIN_BLOCKS * MIN_BLOCK_ROWS:
        return np.zeros(0, dtype=np.int64)
    return np.arange(blocks + 1, dtype=np.int64) * rows // blocks


def dispersion(groups: Grouped, blocks: NDArray[np.int64]) -> Dispersion:
    """Scale of every subject's PSI from `blocks` (K, layout.size), the counts of the reference's runs of rows; K = 0 when not ordered.

    With T_k = PSI(block k, reference), mean mu and variance v (K - 1): s = mean(1/n_k) + 1/m, a = v / (2 mu) where that exceeds s by
    more than its own standard error, else s; nu = mu / a between 1 and groups - 1, phi = a / s. A block with fewer than 50 values of a subject is left out for it, and a subject
    with fewer than 30 blocks left is not known.
    """
    subjects = len(groups.groups)
    free = np.maximum(groups.groups - 1, 1).astype(np.float64)
    phi, nu, known = np.ones(subjects), free.copy(), np.zeros(subjects, dtype=np.bool_)
    if len(blocks) == 0:
        return Dispersion(phi=phi, nu=nu, known=known)
    tables = np.array([groups.of(block) for block in blocks])
    sizes = tables.sum(axis=2)
    values = np.array([psi(groups.reference, table, groups.used) for table in tables])
    for i in range(subjects):
        usable = sizes[:, i] >= MIN_BLOCK_ROWS
        known[i] = usable.sum() >= MIN_BLOCKS
        if known[i] and groups.groups[i] > 1:
            phi[i], nu[i] = _scale(values[usable, i], sizes[usable, i], int(groups.totals[i]), free[i])
    return Dispersion(phi=phi, nu=nu, known=known)


def share_dispersion(layout: Layout, blocks: NDArray[np.int64]) -> NDArray[np.float64]:
    """(subjects, 4): how much more than independent rows the blocks' shares of missing, absent, invalid and outside vary; 1 at least.

    The variance of the share over blocks, divided by its mean over blocks of p (1 - p) / n with p the share in all blocks.
    """
    phi = np.ones((len(layout.subjects), len(SHARES)))
    if len(blocks) == 0:
        return phi
    sizes = np.add.reduceat(blocks, layout.offsets[:-1], axis=1).astype(np.float64)
    for column, cells in enumerate(share_cells(layout)):
        hits = np.add.reduceat(blocks * cells, layout.offsets[:-1], axis=1)
        p = hits.sum(axis=0) / sizes.sum(axis=0)
        expected = p * (1 - p) * (1 / sizes).mean(axis=0)
        variance = (hits / sizes).var(axis=0, ddof=1)
        phi[:, column] = np.maximum(1, np.divide(variance, expected, out=np.ones_like(p), where=expected > 0))
    return phi


def share_cells(layout: Layout) -> tuple[NDArray[np.bool_], ...]:
    """For each of SHARES the cells that make it up; null and NaN are both missing."""
    slot = layout.slot_of
    return (slot == 1) | (slot == 2), slot == 3, slot == 4, layout.outside


def _scale(values: NDArray[np.float64], sizes: NDArray[np.int64], total: int, free: float) -> tuple[float, float]:
    mean, variance = float(values.mean()), float(values.var(ddof=1))
    independent = float((1 / sizes).mean()) + 1 / total
    if mean <= 0:
        return 1.0, free
    scale = variance / (2 * mean)
    if scale <= independent * (1 + _noise(len(values), free)):
        scale = independent  # no more than chance would show: taking it for overdispersion would cost power for nothing
    return scale / independent, min(max(mean / scale, 1.0), free)


def _noise(blocks: int, free: float) -> float:
    """Relative standard error of the variance of `blocks` values that are a multiple of a chi-square with `free` degrees of freedom."""
    return math.sqrt((2 + 12 / free) / blocks)
