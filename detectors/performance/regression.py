"""Folding of rows of regression models."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detectors.performance.fold import Fold, Signs
from detectors.performance.scored import LabelledRows, PredictedRows
from detectors.performance.sums import TERM_LIMIT, count

Floats = NDArray[np.float64]


class RegressionFold(Fold):
    """Regression slots."""

    def add_predicted(self, rows: PredictedRows, bins: NDArray[np.intp], sign: Signs) -> None:
        slot = self._slot("predicted")
        counts = count(bins, len(slot), sign)
        slot += counts
        self._slot("predicted_mass")[:] += self._weights(rows).by(bins, counts, sign)
        self._count_predicted(rows, sign)

    def add_labelled(self, rows: LabelledRows, bins: NDArray[np.intp], sign: Signs) -> None:
        slot = self._slot("labelled")
        slot += count(bins, len(slot), sign)
        self._count_labelled(rows, sign)
        given = bins != self.layout.bins
        if not given.all():
            rows = rows.part(given)
            sign = None if sign is None else sign[given]
        if len(rows):
            self._add_errors(rows, sign)

    def _add_errors(self, rows: LabelledRows, sign: Signs) -> None:
        weights = self._weights(rows.predicted)
        self._slot("mass")[:] += _total(weights.whole, sign)
        zero = rows.truth == 0
        if zero.any():
            self._slot("zero_truth")[:] += int(_total(zero, sign))
            self._slot("zero_mass")[:] += _total(weights.whole * zero, sign)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what overflows is cut
            terms, size = self._terms(rows, weights.units)
        self._count_losses(rows, np.minimum(size, 1.0), sign)
        cut = self._add_sums(terms, sign)
        if cut.any():
            self._slot("clipped")[:] += _total(cut, sign)

    def _terms(self, rows: LabelledRows, weight: Floats) -> tuple[Floats, Floats]:
        """The terms of the sums in the order of SUMS, and |error| in spans."""
        layout, truth, prediction = self.layout, rows.truth, rows.predicted.score
        error = np.clip((prediction - truth) / layout.span, -TERM_LIMIT, TERM_LIMIT)
        y = np.clip((truth - layout.truth_lo) / layout.span, -TERM_LIMIT, TERM_LIMIT)
        size = np.abs(error)
        level = np.minimum(np.abs(truth) / layout.span, TERM_LIMIT)
        nonzero = truth != 0
        ape, sape = _relative(truth, prediction, nonzero)
        w = weight
        w2 = w * w
        w2_size, w2_y, w2_level, w2_ape, w2_sape = w2 * size, w2 * y, w2 * level, w2 * ape, w2 * sape
        w2_square, w2_y2 = w2_size * size, w2_y * y
        w2_square_y, w2_y3 = w2_square * y, w2_y2 * y
        terms = [
            *(w2, w * size, w2_size, w2_square, w * size * size, w2_square * size * size),
            *(w2_square_y, w2_square_y * y),
            *(w * error, w2 * error),
            *(w * y, w2_y, w * y * y, w2_y2, w2_y3, w2_y3 * y),
            *(w * ape, w2_ape, w2_ape * ape, w2 * nonzero),
            *(w * sape, w2_sape, w2_sape * sape),
            *(w * level, w2_level, w2_level * level, w2_size * level),
        ]
        return np.array(terms), size


def _relative(truth: Floats, prediction: Floats, nonzero: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """|error| / |truth| (0 where truth is 0) and 2 |error| / (|truth| + |prediction|) (0 where both are 0) of each row."""
    size = np.abs(prediction - truth)
    ape = np.where(nonzero, size / np.where(nonzero, np.abs(truth), 1.0), 0.0)
    half = np.abs(truth) * 0.5 + np.abs(prediction) * 0.5
    sape = np.where(half > 0, size / half, 0.0)
    sape[np.isnan(sape)] = 2.0  # an infinite prediction
    return np.minimum(ape, TERM_LIMIT), np.minimum(sape, 2.0)


def _total(amounts: Floats | NDArray[np.bool_], sign: Signs) -> int:
    """Sum of whole numbers below 2**53, exact."""
    return int((amounts if sign is None else amounts * sign).astype(np.int64).sum())
