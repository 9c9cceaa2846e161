"""The numbers that performance is made of: which slots a layout of each task has, and their shapes."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["binary", "multiclass", "regression"]
Shape = tuple[int, ...]

CODES = 16  # coarse codes of a feature
OTHER, MISSING, INVALID = 13, 14, 15

MASS_SCALE = 2**32  # slots of mass hold sums of weights (in the layout's weight_unit) times this
SUM_SCALE = 2**40  # slots of two limbs hold (hi * 2**32 + lo) = sum times this
LOSS_SCALE = 2**20  # `loss`, `feature_loss`, `feature_loss_squared`
VALUE_SQUARED_SCALE = 2**20  # the squares in `value`

DELAY_BINS = 64
# 1 ms, then half octaves from 1 s to 49 years, in whole milliseconds so that every machine has the same
DELAY_EDGES_MS: NDArray[np.int64] = np.array([1, *(isqrt(10**6 << half) for half in range(DELAY_BINS - 2))], np.int64)
delay_edges_seconds: NDArray[np.float64] = DELAY_EDGES_MS / 1000.0

# by label, in two limbs: of weight**2 times 1, a, c, a**2, a c, c**2, see PerformanceLayout
PLACED = ("1", "a", "c", "aa", "ac", "cc")
_CLASS_SUMS = (
    "scored_weight_squared",
    "log_loss",
    "log_loss_weighted",
    "log_loss_squared",
    "brier",
    "brier_weighted",
    "brier_squared",
)
_REGRESSION_SUMS = (
    "weight_squared",
    "abs",
    "abs_weighted",
    "abs_squared",
    "squared",
    "squared_squared",
    "squared_truth",
    "squared_truth_squared",
    "error",
    "error_weighted",
    "truth",
    "truth_weighted",
    "truth_squared",
    "truth_squared_weighted",
    "truth_cubed_weighted",
    "truth_fourth_weighted",
    "ape",
    "ape_weighted",
    "ape_squared",
    "ape_weight_squared",
    "sape",
    "sape_weighted",
    "sape_squared",
    "abs_truth",
    "abs_truth_weighted",
    "abs_truth_squared",
    "abs_abs_truth",
)
SUMS: Mapping[Task, tuple[str, ...]] = {
    "binary": _CLASS_SUMS,
    "multiclass": _CLASS_SUMS,
    "regression": _REGRESSION_SUMS,
}
# second names of slots that are the same sum: weight**2 * error**2
ALIASES: Mapping[Task, Mapping[str, str]] = {
    "binary": {},
    "multiclass": {},
    "regression": {"squared_weighted": "abs_squared", "error_squared": "abs_squared"},
}


def slot_shapes(task: Task, classes: int, bins: int, features: int) -> dict[str, Shape]:
    """Name and shape of every slot, in the order of the vector. `bins` is the greatest number of score bins of a class.

    `rows` and `labelled_rows` come first for every task, so that they are known without a layout.
    """
    common: dict[str, Shape] = {
        "rows": (1,),
        "labelled_rows": (1,),
        "delay": (DELAY_BINS,),
        "delay_loss": (DELAY_BINS, 2),
        "unknown_labels": (1,),
        "clipped": (1,),
        "outside": (1,),
        "feature_rows": (features, CODES),
        "feature_labelled": (features, CODES),
        "feature_loss": (features, CODES),
        "feature_loss_squared": (features, CODES),
        "value": (5,),
        "loss": (3,),
    }
    own = {"binary": _binary, "multiclass": _multiclass, "regression": _regression}[task](classes, bins + 1)
    return {**common, **own, **dict.fromkeys(SUMS[task], (2,))}


def _binary(_: int, cells: int) -> dict[str, Shape]:
    return {
        "predicted": (cells, 3),
        "predicted_mass": (cells, 3),
        "predicted_score_mass": (cells,),
        "labelled": (cells, 3, 2),
        "mass": (cells, 3, 2),
        "score_mass": (cells,),
        "weight_squared": (2,),
        "confusion_weight_squared": (3, 2, 2),
    }


def _multiclass(classes: int, cells: int) -> dict[str, Shape]:
    return {
        "predicted": (classes + 1,),
        "predicted_mass": (classes + 1,),
        "labelled": (classes + 1, classes),
        "mass": (classes + 1, classes),
        "score_rows": (classes, cells),
        "chosen_rows": (classes, cells),
        "predicted_score_mass": (classes, cells),
        "score_mass": (classes, cells, 2),
        "class_score_mass": (classes, cells),
        "weight_squared": (2,),
        "confusion_weight_squared": (classes + 1, classes, 2),
        "placed": (classes, len(PLACED), 2),
    }


def _regression(_: int, cells: int) -> dict[str, Shape]:
    return {
        "predicted": (cells,),
        "predicted_mass": (cells,),
        "labelled": (cells,),
        "mass": (1,),
        "zero_truth": (1,),
        "zero_mass": (1,),
    }
