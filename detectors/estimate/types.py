"""What an estimator of performance without labels keeps of its reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detectors.performance.layout import Task

Floats = NDArray[np.float64]
Method = Literal["raw", "isotonic", "reweighted", "bins", "modelled"]

SCORE_GROUPS = 16  # coarse score bins whose shares a reweighting matches


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """Variance of an estimate beyond sampling and calibration: `steady` between blocks of the reference in time order, and `by_shift`
    times the squared shift of the features (`estimate_cells.shift`), found on slices of the reference."""

    steady: float
    by_shift: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReferenceSample:
    """Labelled rows of the reference, which a reweighting can make look like a window.

    `codes` uint8 (m, F), `group` uint8 (m) the cell of score and decision whose share is matched too, `places` int32 (m, Q) and `hits`
    uint8 (m, Q) as in estimate_cells, `weight` float64 (m), `group_cells` the number of groups.
    """

    codes: NDArray[np.uint8]
    group: NDArray[np.uint8]
    places: NDArray[np.int32]
    hits: NDArray[np.uint8]
    weight: Floats
    group_cells: int

    def __len__(self) -> int:
        return len(self.group)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LossModel:
    """Expected losses of a regression from codes and the bin of the prediction: ridge on indicators and all products of two encoded columns.

    `encodings` (2F, 16): the code's mean loss in the reference, then the order of the codes of numbers, standardised; zeros where unused. `bin_values` (B+1): mean prediction of the bin,
    standardised. `coefficients` (columns, losses). `residual_variance` (losses,): mean squared difference between a row's loss and the model.
    `bin_loss` (B+1, losses): mean losses by bin, and `bin_variance` the squared difference from those. `names` of the losses: abs, squared, ape.
    """

    names: tuple[str, ...]
    encodings: Floats
    bin_values: Floats
    coefficients: Floats
    residual_variance: Floats
    bin_loss: Floats
    bin_variance: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Estimator:
    """How a model's performance is estimated without labels, fitted on its reference; see detectors.estimate.estimate.

    `curves` and `bins` give the shape (curves, bins + 1) of `rates` (P(hit) of a row in each cell, see estimate_cells) and `doubt` (variance
    of each rate). `shares` (F, 16): reference share of each code. `plain_scatter` is that of
    `isotonic`, for windows in which a reweighting is not trusted. `errors`: method -> metric -> root mean square error on the reference,
    on which `method` was chosen. Classification has a `sample` when it is reweighted; regression has `loss`.
    """

    task: Task
    method: Method
    classes: int
    bins: int
    features: int
    rows: int
    rates: Floats
    doubt: Floats
    mean_scores: Floats
    shares: Floats
    scatter: Mapping[str, Scatter]
    plain_scatter: Mapping[str, Scatter] = field(default_factory=dict)
    errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    sample: ReferenceSample | None = None
    loss: LossModel | None = None
