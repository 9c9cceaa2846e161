"""Weights that make the reference look like a window: the distribution nearest to the reference whose code shares are the window's.

A window's counts of codes are exact over all its rows, so nothing of the window but these counts is needed. Among all distributions on the
reference's rows with the window's share of every code, the one nearest in Kullback-Leibler divergence is log-linear in the codes; iterative
proportional fitting (Deming and Stephan 1940, Csiszar 1975) finds it. Calibrating under these weights is PAPE (Bialek et al. 2024) with that
density ratio in place of a boosted classifier's.

The window's scores, which the weights have not seen, tell whether the density ratio is the right one: under the weights the reference's
scores must be distributed as the window's are. Where they are not, the features moved together in a way that their single shares do not
show, the weights are of no use, and the plain calibration is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.estimate.types import SCORE_GROUPS, Floats, ReferenceSample

SAMPLE_ROWS = 75_000
SAMPLE_CELLS = 1_300_000  # rows * (features + 1): time and size of an estimate
PSEUDO_ROWS = 5.0  # of the reference's shares, added to a window's: a code with few rows moves no weight by much
TRUSTED, DISTRUSTED = (
    0.2,
    0.4,
)  # share of the scores' movement that the weights leave unexplained: full trust below, none above
_MEAN_DEVIATION = 0.7978845608028654  # mean absolute value of a standard normal
_CYCLES = 20
_TOLERANCE = 2e-3  # of a share; sampling noise of a share in a window is larger


def sample_places(rows: int, features: int) -> NDArray[np.int64]:
    """Which of `rows` reference rows are kept: evenly spaced, so that every time is represented."""
    kept = min(rows, SAMPLE_ROWS, max(SAMPLE_CELLS // (features + 1), 1))
    return np.arange(kept, dtype=np.int64) * rows // max(kept, 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reweighting:
    """`weight` (m), sum 1, and how many `effective_rows` they are worth. `trust`, 0..1: how much of the weights' effect is used: less, the
    more of the movement of decisions and scores between reference and window they leave unexplained."""

    weight: Floats
    effective_rows: float
    trust: float


def reweight(sample: ReferenceSample, feature_rows: Floats, group_rows: Floats, rates: Floats) -> Reweighting:
    """For a window with `feature_rows` (F, 16) and `group_rows` predictions by code and by cell of decision and coarse score; `rates` are
    the plain calibration, from which the reference must differ under the weights by more than chance."""
    weight = rake(list(sample.codes.T), list(feature_rows), sample.weight)
    ess = effective_rows(weight)
    rows = max(float(group_rows.sum()), 1.0)
    window = group_rows / rows
    before = np.bincount(sample.group, weights=sample.weight, minlength=len(window)) / sample.weight.sum()
    after = np.bincount(sample.group, weights=weight, minlength=len(window))
    noise = float(np.sqrt(window * (1.0 - window) * (1.0 / rows + 1.0 / ess)).sum()) * _MEAN_DEVIATION / 2.0
    moved = 0.5 * float(np.abs(window - before).sum())
    unexplained = max(0.5 * float(np.abs(window - after).sum()) - noise, 0.0)
    ratio = unexplained / max(moved, noise, 1e-12)
    trust = min(max((DISTRUSTED - ratio) / (DISTRUSTED - TRUSTED), 0.0), 1.0)
    return Reweighting(
        weight=weight,
        effective_rows=ess,
        trust=trust * _evidence(sample, weight, rates),
    )


def _evidence(sample: ReferenceSample, weight: Floats, rates: Floats) -> float:
    """How much of the change of rates under `weight` is more than chance: James and Stein's shrinkage, positive part, over groups of cells.

    Where the calibration fits every part of the reference alike, weighting it changes nothing but the noise, and 0 is found.
    """
    known = sample.places[:, 0] < rates.size  # multiclass: rows with a decision
    change = np.where(known, weight - sample.weight / sample.weight.sum(), 0.0)
    rate = rates.reshape(-1)[np.minimum(sample.places[:, 0], rates.size - 1)]
    group = sample.group if sample.group_cells != 3 * (SCORE_GROUPS + 1) else sample.group % (SCORE_GROUPS + 1) // 2
    sums = np.bincount(group, weights=change * (sample.hits[:, 0] - rate))
    variances = np.bincount(group, weights=change * change * rate * (1.0 - rate))
    used = variances > 0.0
    statistic = float((sums[used] ** 2 / variances[used]).sum())
    return max(1.0 - float(used.sum()) / statistic, 0.0) if statistic > 0.0 else 0.0


def rake(
    columns: Sequence[NDArray[np.uint8]], targets: Sequence[Floats], weight: Floats, cycles: int = _CYCLES
) -> Floats:
    """`weight` times a factor for each column's value, such that the weight of value v of column j is in proportion to targets[j][v].

    Values without rows are left out of their target, and every target is drawn to the shares under `weight` by PSEUDO_ROWS. Stops at a
    deviation of 0.002 or after `cycles` rounds.
    """
    start = weight / weight.sum()
    found = start.copy()
    wanted = []
    for column, target in zip(columns, targets, strict=True):
        before = np.bincount(column, weights=start, minlength=len(target))
        kept = np.where(before > 0.0, target, 0.0)
        wanted.append((kept + PSEUDO_ROWS * before) / (kept.sum() + PSEUDO_ROWS))
    for _ in range(cycles):
        worst = 0.0
        for column, target in zip(columns, wanted, strict=True):
            now = np.bincount(column, weights=found, minlength=len(target))
            deviation = float(np.abs(target - now).max())
            worst = max(worst, deviation)
            if deviation > _TOLERANCE:
                factor = np.divide(target, now, out=np.ones(len(target)), where=now > 0.0)
                found *= factor.take(column)
        if worst <= _TOLERANCE:
            break
    return np.asarray(found / found.sum(), dtype=np.float64)


def effective_rows(weight: Floats) -> float:
    """Kish: how many equally weighted rows would be as much worth."""
    return float(weight.sum() ** 2 / (weight @ weight))
