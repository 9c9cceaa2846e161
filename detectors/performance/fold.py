"""What folding rows into a performance vector has in common for every task."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from detectors.bins import NumericBins
from detectors.performance.layout import PerformanceLayout
from detectors.performance.scored import LabelledRows, PredictedRows
from detectors.performance.slots import CODES, DELAY_BINS, DELAY_EDGES_MS, LOSS_SCALE, MASS_SCALE, SUMS
from detectors.performance.sums import TERM_LIMIT, count, fixed_weights, limb_sums, tally

Signs = NDArray[np.float64] | None  # 1 or -1 by row, None where all are 1
_VALUE_LIMIT = 2.0**40
_SQUARED_LIMIT = 2.0**60
_SQUARED_HI = 2.0**-12  # VALUE_SQUARED_SCALE / 2**32


def check_rows(layout: PerformanceLayout, rows: PredictedRows) -> None:
    """ValueError when the columns differ in length or do not fit the layout."""
    size = len(rows.score)
    lengths = {len(rows.decision), len(rows.weight), len(rows.keys), len(rows.codes)}
    if lengths != {size}:
        raise ValueError("columns of predictions differ in length")
    if rows.codes.shape != (size, len(layout.features)):
        raise ValueError(f"codes of {rows.codes.shape[1:]} features, the layout has {len(layout.features)}")
    if rows.codes.max(initial=0) >= CODES:
        raise ValueError(f"codes of features must be below {CODES}")
    if rows.scores is not None and rows.scores.shape != (size, len(layout.classes)):
        raise ValueError(f"scores of shape {rows.scores.shape}, the layout has {len(layout.classes)} classes")


def bins_of_scores(layout: PerformanceLayout, rows: PredictedRows) -> NDArray[np.uint16]:
    """The score bin of every row (n), multiclass of every class (n, K); layout.bins where there is no score."""
    if layout.task != "multiclass":
        return _bins(layout.score_bins[0], rows.score, layout.bins)
    found = np.full((len(rows), len(layout.classes)), layout.bins, dtype=np.uint16)
    if rows.scores is not None:
        for place, bins in enumerate(layout.score_bins):
            found[:, place] = _bins(bins, rows.scores[:, place], layout.bins)
    return found


def _bins(bins: NumericBins, values: NDArray[np.float64], without: int) -> NDArray[np.uint16]:
    found = bins.edges.searchsorted(values, side="right").astype(np.uint16)
    found[np.isnan(values)] = without
    return found


class Weights:
    """The weights of a block of rows. `units` in the layout's unit, `whole` the same in 2**-32; `equal` where all rows weigh the same."""

    __slots__ = ("equal", "units", "whole")

    def __init__(self, weights: NDArray[np.float64], unit: float) -> None:
        self.units, self.whole = fixed_weights(weights, unit)
        first = float(self.whole[0])
        self.equal = int(first) if bool((self.whole == first).all()) else None

    def by(self, index: NDArray[np.intp], counts: NDArray[np.int64], sign: Signs) -> NDArray[np.int64]:
        """Weights by `index`, whose signed `counts` are known already. Flat, of the size of `counts`."""
        if self.equal is not None:
            return counts * self.equal
        return tally(index, self.whole if sign is None else self.whole * sign, len(counts))

    def times(self, values: NDArray[np.float64], sign: Signs) -> NDArray[np.float64]:
        """Weight * value of each row in whole numbers of 2**-32."""
        amounts = np.rint(self.units * values * MASS_SCALE)
        return amounts if sign is None else amounts * sign


class Fold(ABC):
    """A vector that blocks of at most SLICE_ROWS rows are added to."""

    def __init__(self, layout: PerformanceLayout) -> None:
        self.layout = layout
        self.vector = np.zeros(layout.size, np.int64)
        self._code_places = np.arange(len(layout.features), dtype=np.intp) * CODES
        self._sums = layout.slots[SUMS[layout.task][0]][0].start  # these slots follow each other, to the end

    @abstractmethod
    def add_predicted(self, rows: PredictedRows, bins: NDArray[np.intp], sign: Signs) -> None:
        """Add predictions, at least one."""

    @abstractmethod
    def add_labelled(self, rows: LabelledRows, bins: NDArray[np.intp], sign: Signs) -> None:
        """Add outcomes with known labels, at least one."""

    def _slot(self, name: str) -> NDArray[np.int64]:
        """The slot, flat."""
        return self.vector[self.layout.slots[name][0]]

    def _weights(self, rows: PredictedRows) -> Weights:
        return Weights(rows.weight, self.layout.weight_unit)

    def _count_predicted(self, rows: PredictedRows, sign: Signs) -> None:
        """Slots of predictions that every task has."""
        self._slot("rows")[:] += _signed(len(rows), sign)
        self._slot("feature_rows")[:] += self._by_code(rows.codes, sign)

    def add_values(self, values: NDArray[np.float64], sign: Signs) -> None:
        """Money of outcomes, with a known label or without; NaN where none was given."""
        valued = np.isfinite(values)
        if valued.any():
            signs = None if sign is None else sign[valued]
            value = np.clip(values[valued], -_VALUE_LIMIT, _VALUE_LIMIT)[None, :]
            square = np.minimum(value * value, _SQUARED_LIMIT)
            slot = self._slot("value")
            slot[0] += _signed(value.shape[1], signs)
            slot[1:3] += limb_sums(value, signs)[0]
            slot[3:5] += limb_sums(square, signs, _SQUARED_HI)[0]

    def _count_labelled(self, rows: LabelledRows, sign: Signs) -> None:
        """Slots of outcomes that every task has, but for the loss."""
        self._slot("labelled_rows")[:] += _signed(len(rows), sign)
        delays = DELAY_EDGES_MS.searchsorted(rows.delay_ms, side="right")
        self._slot("delay")[:] += count(delays, DELAY_BINS, sign)

    def _count_losses(
        self, rows_with: LabelledRows, losses: NDArray[np.float64] | NDArray[np.bool_], sign: Signs
    ) -> None:
        """`losses` of the rows that have one: bool, or 0..1."""
        codes, rows = rows_with.predicted.codes, _signed(len(losses), sign)
        self._count_delays(rows_with.delay_ms, losses, sign)
        self._slot("feature_labelled")[:] += self._by_code(codes, sign)
        if losses.dtype == np.bool_:
            wrong = None if sign is None else sign[losses]
            lost = self._by_code(codes[losses], wrong) * LOSS_SCALE
            total = _signed(int(losses.sum()), wrong) * LOSS_SCALE
            self._slot("feature_loss")[:] += lost
            self._slot("feature_loss_squared")[:] += lost
            self._slot("loss")[:] += (rows, total, total)
            return
        amounts = np.stack([np.rint(losses * LOSS_SCALE), np.rint(losses * losses * LOSS_SCALE)])
        if sign is not None:
            amounts *= sign
        self._slot("loss")[:] += (rows, *amounts.sum(axis=1).astype(np.int64))
        features = len(self._code_places)
        if features:
            places = (codes + self._code_places).ravel()
            for name, amount in zip(("feature_loss", "feature_loss_squared"), amounts, strict=True):
                self._slot(name)[:] += tally(places, np.repeat(amount, features), features * CODES)

    def _count_delays(
        self, delay_ms: NDArray[np.int64], losses: NDArray[np.float64] | NDArray[np.bool_], sign: Signs
    ) -> None:
        delays = DELAY_EDGES_MS.searchsorted(delay_ms, side="right")
        amounts = np.rint(losses * float(LOSS_SCALE))
        slot = self._slot("delay_loss").reshape(DELAY_BINS, 2)
        slot[:, 0] += count(delays, DELAY_BINS, sign)
        slot[:, 1] += tally(delays, amounts if sign is None else amounts * sign, DELAY_BINS)

    def _by_code(self, codes: NDArray[np.uint8], sign: Signs) -> NDArray[np.int64]:
        """Rows by (feature, code), flat."""
        features = len(self._code_places)
        signs = None if sign is None else np.repeat(sign, features)
        return count((codes + self._code_places).ravel(), features * CODES, signs)

    def _add_sums(self, terms: NDArray[np.float64], sign: Signs) -> NDArray[np.bool_]:
        """Add `terms` (sums of the task, n) cut to TERM_LIMIT. True for rows with a term that was cut. `terms` is overwritten."""
        cut = np.zeros(terms.shape[1], dtype=bool)
        if bool((terms.max(initial=0) > TERM_LIMIT) | (terms.min(initial=0) < -TERM_LIMIT)):
            cut |= (np.abs(terms) > TERM_LIMIT).any(axis=0)
            np.clip(terms, -TERM_LIMIT, TERM_LIMIT, out=terms)
        self.vector[self._sums :] += limb_sums(terms, sign).ravel()
        return cut


def _signed(rows: int, sign: Signs) -> int:
    return rows if sign is None else int(sign.sum())
