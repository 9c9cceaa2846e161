"""How far an estimate may be from what labels will say: sampling, doubt about the calibration, and what the reference showed beyond both."""

from __future__ import annotations

import math
from dataclasses import dataclass

from detectors.estimate.cells import Table
from detectors.estimate.types import Floats, Scatter
from detectors.estimate.values import Figure
from detectors.metrics.intervals import UNKNOWN, Interval, correlation, logit, normal, positive
from detectors.performance.layout import Task

BETWEEN_ENDS = frozenset({"mcc", "kappa"})
LOSSES = frozenset({"log_loss", "brier", "mae", "rmse", "mape"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Variances of an estimate: of the labels given their probabilities, of the probabilities, and of the model of them."""

    sampling: float
    calibration: float
    model: float = 0.0

    @property
    def total(self) -> float:
        return math.sqrt(self.sampling + self.calibration + self.model)


def errors_of(task: Task, table: Table, figure: Figure, rates: Floats, doubt: Floats) -> Errors:
    """Delta method: labels are independent Bernoulli draws with the cells' rates, rates are independent between cells."""
    if figure.slope is None:
        return Errors(sampling=0.0, calibration=0.0)
    pull = figure.slope * table.mass
    rows = table.rows
    with_rows = rows > 0.0
    sampling = float((pull[with_rows] ** 2 / rows[with_rows] * (rates * (1.0 - rates))[with_rows]).sum())
    if task == "binary":  # the decisions share a curve
        along = pull[:, :-1].sum(axis=0)
        calibration = float(along**2 @ doubt[0, :-1]) + float(pull[:, -1] ** 2 @ doubt[:, -1])
    else:
        calibration = float((pull**2 * doubt).sum())
    return Errors(sampling=sampling, calibration=calibration)


def with_scatter(errors: Errors, scatter: Scatter | None, shift: float, gap: float = 0.0) -> Errors:
    """`gap`: how far apart two ways to estimate are between which the data could not decide; half of it is a standard deviation."""
    model = 0.0 if scatter is None else scatter.steady + scatter.by_shift * shift * shift
    return Errors(sampling=errors.sampling, calibration=errors.calibration, model=model + gap * gap / 4.0)


def interval_of(name: str, value: float, error: float) -> Interval:
    """95 %, on the scale of the metric: log odds between 0 and 1, Fisher's z between -1 and 1, logarithm above 0."""
    if name in LOSSES:
        found = positive(value, error)
    elif name in BETWEEN_ENDS:
        found = correlation(value, error)
    else:
        found = logit(value, error)
    if found != UNKNOWN:
        return found
    low, high = normal(value, error)
    if low is None or high is None:
        return UNKNOWN
    floor = -1.0 if name in BETWEEN_ENDS else 0.0
    return max(low, floor), high if name in LOSSES else min(high, 1.0)


def scatter_of(blocks: list[tuple[float, float]], slices: list[tuple[float, float, float]]) -> Scatter:
    """From (error, variance) of blocks in time order and (error, variance, shift) of slices: what the variances leave unexplained.

    Variances found in a few blocks are uncertain by a factor of about sqrt(2 / blocks); that much is always allowed for.
    """
    steady = 0.0
    if blocks:
        explained = sum(v for _, v in blocks) / len(blocks)
        steady = max(sum(e * e for e, _ in blocks) / len(blocks) - explained, 0.0)
        steady += math.sqrt(2.0 / len(blocks)) * explained
    rest = sum(e * e - v - steady for e, v, _ in slices)
    shifts = sum(s * s for _, _, s in slices)
    return Scatter(steady=steady, by_shift=max(rest / shifts, 0.0) if shifts > 0.0 else 0.0)
