"""Calibrated probabilities by cell: what the reference says a score is worth. Isotonic regression (Robertson, Wright and Dykstra 1988)."""

from __future__ import annotations

import numpy as np

from detectors.estimate.cells import tally_cells
from detectors.estimate.types import Floats, ReferenceSample
from detectors.performance.layout import Task

_ODDS_FLOOR = 1e-3
_BEND_RIDGE = 5.0
_NEWTON_STEPS = 12
_CONVERGED = 1e-8
_PRIOR_HITS = 0.5  # Jeffreys' prior in the variance of a rate, which would be 0 in cells without a hit


def isotonic(values: Floats, weights: Floats) -> Floats:
    """The rising sequence nearest to `values` in weighted squares: pool adjacent violators. Weights are positive, or ValueError."""
    if len(values) != len(weights) or not bool((weights > 0).all()):
        raise ValueError("isotonic regression needs a positive weight for each value")
    means: list[float] = []
    masses: list[float] = []
    sizes: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, mass, size = value, weight, 1
        while means and means[-1] >= mean:
            before = masses.pop()
            mean = (means.pop() * before + mean * mass) / (before + mass)
            mass += before
            size += sizes.pop()
        means.append(mean)
        masses.append(mass)
        sizes.append(size)
    return np.repeat(np.array(means, dtype=np.float64), sizes)


def rates(task: Task, hits: Floats, totals: Floats) -> Floats:
    """P(hit) by cell from weighted `hits` of `totals`, rising with the score along each curve (binary: one curve for all decisions).

    Cells between used ones are interpolated, those beyond take the next one's rate. Cells without a score have a rate of their own.
    """
    found = np.empty(hits.shape)
    mean = _ratio(hits.sum(axis=1), totals.sum(axis=1), _overall(hits, totals))
    found[:, -1] = _ratio(hits[:, -1], totals[:, -1], mean)
    if task == "binary":
        found[:, :-1] = _curve(hits[:, :-1].sum(axis=0), totals[:, :-1].sum(axis=0), _overall(hits, totals))
        return found
    for curve in range(len(hits)):
        found[curve, :-1] = _curve(hits[curve, :-1], totals[curve, :-1], float(mean[curve]))
    return found


def doubts(task: Task, hits: Floats, totals: Floats, squares: Floats) -> Floats:
    """Variance of the rate of each cell, `squares` being the summed squared weights; 1/4 in a cell without rows.

    Cells of a curve are taken as independent: a sum over cells of amounts that vary slowly along the curve is what pooling leaves alone.
    """
    if task == "binary":
        scored = slice(0, hits.shape[1] - 1)
        hits, totals, squares = hits.copy(), totals.copy(), squares.copy()
        for table in (hits, totals, squares):
            table[:, scored] = table[:, scored].sum(axis=0)
    effective = np.divide(totals * totals, squares, out=np.zeros(totals.shape), where=squares > 0)
    share = np.divide(hits, totals, out=np.full(totals.shape, 0.5), where=totals > 0)
    smooth = (share * effective + _PRIOR_HITS) / (effective + 2.0 * _PRIOR_HITS)
    return np.asarray(smooth * (1.0 - smooth) / np.maximum(effective, 1.0), dtype=np.float64)


def calibrate(task: Task, sample: ReferenceSample, weight: Floats, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Rates and their variances of the sample's rows under `weight`."""
    questions = sample.places.shape[1]
    spread = np.repeat(weight, questions) if questions > 1 else weight
    hits = tally_cells(sample.places, spread * sample.hits.reshape(-1), shape)
    totals = tally_cells(sample.places, spread, shape)
    return rates(task, hits, totals), doubts(task, hits, totals, tally_cells(sample.places, spread * spread, shape))


def recalibrate(
    task: Task, sample: ReferenceSample, weight: Floats, effective_rows: float, plain: Floats
) -> tuple[Floats, Floats]:
    """Rates and their variances of the sample's rows under `weight`, worth `effective_rows`: `plain` rates, bent.

    The log odds of a rate become a quadratic function of the plain log odds: few effective rows fit three numbers well, a whole
    isotonic curve badly. Cells without a score have a rate of their own.
    """
    shape = plain.shape
    questions = sample.places.shape[1]
    spread = np.repeat(weight, questions) if questions > 1 else weight
    hits = tally_cells(sample.places, spread * sample.hits.reshape(-1), shape)
    totals = tally_cells(sample.places, spread, shape)
    doubt = doubts(task, hits, totals, tally_cells(sample.places, spread * spread, shape))
    found = plain.copy()
    found[:, -1] = _ratio(hits[:, -1], totals[:, -1], plain[:, -1])
    if task == "binary":
        of_bin = hits[:, :-1].sum(axis=0), totals[:, :-1].sum(axis=0)
        found[:, :-1] = _bent(plain[0, :-1], effective_rows * of_bin[0], effective_rows * of_bin[1])
        return found, doubt
    for curve in range(shape[0]):
        own = slice(0, shape[1] - 1)
        found[curve, own] = _bent(plain[curve, own], effective_rows * hits[curve, own], effective_rows * totals[curve, own])  # fmt: skip
    return found, doubt


def _bent(plain: Floats, hits: Floats, totals: Floats) -> Floats:
    """Ridge logistic regression of hits on 1, z, z**2 with offset z, z being the plain log odds; by Newton's method."""
    start = np.clip(plain, _ODDS_FLOOR, 1.0 - _ODDS_FLOOR)
    odds = np.log(start / (1.0 - start))
    design = np.stack([np.ones(len(odds)), odds, odds * odds / 4.0], axis=1)
    bend = np.zeros(3)
    for _ in range(_NEWTON_STEPS):
        rate = _logistic(odds + design @ bend)
        slope = design.T @ (hits - totals * rate) - _BEND_RIDGE * bend
        curvature = (design * (totals * rate * (1.0 - rate))[:, None]).T @ design
        curvature[np.diag_indices(3)] += _BEND_RIDGE
        step = np.linalg.solve(curvature, slope)
        bend += np.clip(step, -1.0, 1.0)
        if float(np.abs(step).max()) < _CONVERGED:
            break
    return _logistic(odds + design @ bend)


def _logistic(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0))), dtype=np.float64)


def blend(plain: tuple[Floats, Floats], weighted: tuple[Floats, Floats], trust: float) -> tuple[Floats, Floats]:
    """Rates and doubts between the `plain` (trust 0) and the `weighted` (trust 1); standard deviations add up, as both use the same rows."""
    if trust == 0.0:
        return plain
    rates = plain[0] + trust * (weighted[0] - plain[0])
    doubt = ((1.0 - trust) * np.sqrt(plain[1]) + trust * np.sqrt(weighted[1])) ** 2
    return rates, doubt


def _curve(hits: Floats, totals: Floats, otherwise: float) -> Floats:
    used = np.flatnonzero(totals > 0.0)
    if len(used) == 0:
        return np.full(len(totals), otherwise)
    fitted = isotonic(hits[used] / totals[used], totals[used])
    return np.asarray(np.interp(np.arange(len(totals)), used, np.clip(fitted, 0.0, 1.0)), dtype=np.float64)


def _ratio(part: Floats, whole: Floats, otherwise: Floats | float) -> Floats:
    default = np.broadcast_to(np.asarray(otherwise, dtype=np.float64), part.shape).copy()
    return np.clip(np.divide(part, whole, out=default, where=whole > 0.0), 0.0, 1.0)


def _overall(hits: Floats, totals: Floats) -> float:
    whole = float(totals.sum())
    return float(hits.sum()) / whole if whole > 0.0 else 0.5
