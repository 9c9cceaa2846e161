"""Folding of rows of classifiers: binary and multiclass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detectors.performance.fold import Fold, Signs, Weights
from detectors.performance.placements import placements
from detectors.performance.scored import LabelledRows, PredictedRows
from detectors.performance.slots import PLACED
from detectors.performance.sums import count, limbs, natural_log, tally

PROBABILITY_FLOOR = 1e-7  # in the log loss


class _ClassFold(Fold):
    def _count_confusion(
        self, decisions: NDArray[np.intp], labels: NDArray[np.uint8], weights: Weights, sign: Signs
    ) -> None:
        """Squares of weights by (decision, label), and of all."""
        places = decisions * len(self.layout.classes) + labels
        slot = self._slot("confusion_weight_squared").reshape(-1, 2)
        hi, lo = limbs(weights.units * weights.units)  # both, and the sums of a slice, below 2**53
        if sign is not None:
            hi *= sign
            lo *= sign
        squares = np.stack([tally(places, hi, len(slot)), tally(places, lo, len(slot))], axis=1)
        slot += squares
        self._slot("weight_squared")[:] += squares.sum(axis=0)

    def _add_class_sums(
        self,
        weight: NDArray[np.float64],
        true_probability: NDArray[np.float64],
        brier: NDArray[np.float64],
        sign: Signs,
    ) -> None:
        """Log loss and Brier score of labelled rows with scores. `true_probability`: given to the true class, within the floor."""
        loss = -natural_log(true_probability)
        squared = weight * weight
        weighted = squared * loss, squared * brier
        terms = [
            squared,
            weight * loss,
            weighted[0],
            weighted[0] * loss,
            weight * brier,
            weighted[1],
            weighted[1] * brier,
        ]
        self._add_sums(np.array(terms), sign)

    def _count_wrong(self, rows: LabelledRows, sign: Signs) -> None:
        decision = rows.predicted.decision
        decided = decision < len(self.layout.classes)
        if decided.all():
            self._count_losses(rows, decision != rows.label, sign)
        elif decided.any():
            signs = None if sign is None else sign[decided]
            self._count_losses(rows.part(decided), decision[decided] != rows.label[decided], signs)

    def _add_flags(self, name: str, flags: NDArray[np.bool_], sign: Signs) -> None:
        self._slot(name)[:] += int(flags.sum()) if sign is None else int(sign[flags].sum())


class BinaryFold(_ClassFold):
    """Binary slots."""

    def add_predicted(self, rows: PredictedRows, bins: NDArray[np.intp], sign: Signs) -> None:
        weights = self._weights(rows)
        places = bins * 3 + np.minimum(rows.decision, 2)
        slot = self._slot("predicted")
        counts = count(places, len(slot), sign)
        slot += counts
        self._slot("predicted_mass")[:] += weights.by(places, counts, sign)
        score = np.clip(np.nan_to_num(rows.score, nan=0.0), 0.0, 1.0)
        self._slot("predicted_score_mass")[:] += tally(bins, weights.times(score, sign), self.layout.bins + 1)
        self._count_predicted(rows, sign)

    def add_labelled(self, rows: LabelledRows, bins: NDArray[np.intp], sign: Signs) -> None:
        weights = self._weights(rows.predicted)
        decisions = np.minimum(rows.predicted.decision, 2).astype(np.intp)
        places = (bins * 3 + decisions) * 2 + rows.label
        slot = self._slot("labelled")
        counts = count(places, len(slot), sign)
        slot += counts
        self._slot("mass")[:] += weights.by(places, counts, sign)
        self._count_confusion(decisions, rows.label, weights, sign)
        self._count_labelled(rows, sign)
        self._count_wrong(rows, sign)
        self._add_scored(rows, bins, weights, sign)

    def _add_scored(self, rows: LabelledRows, bins: NDArray[np.intp], weights: Weights, sign: Signs) -> None:
        score = rows.predicted.score
        given = bins != self.layout.bins
        score = np.clip(np.where(given, score, 0.0), 0.0, 1.0)
        self._slot("score_mass")[:] += tally(bins, weights.times(score, sign), self.layout.bins + 1)
        raw, weight, label = rows.predicted.score, weights.units, rows.label
        if not given.all():
            raw, score, weight, label = raw[given], score[given], weight[given], label[given]
            sign = None if sign is None else sign[given]
        if len(score) == 0:
            return
        floored = np.clip(score, PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR)
        self._add_flags("clipped", floored != raw, sign)
        self._add_flags("outside", score != raw, sign)
        difference = score - label
        self._add_class_sums(weight, np.where(label == 1, floored, 1.0 - floored), difference * difference, sign)


class MulticlassFold(_ClassFold):
    """Multiclass slots. `bins` are (n, K)."""

    def add_predicted(self, rows: PredictedRows, bins: NDArray[np.intp], sign: Signs) -> None:
        classes, cells = len(self.layout.classes), self.layout.bins + 1
        weights = self._weights(rows)
        decisions = np.minimum(rows.decision, classes).astype(np.intp)
        counts = count(decisions, classes + 1, sign)
        self._slot("predicted")[:] += counts
        self._slot("predicted_mass")[:] += weights.by(decisions, counts, sign)
        places = (bins + np.arange(classes) * cells).ravel()
        self._slot("score_rows")[:] += count(places, classes * cells, _each(sign, classes))
        self._slot("predicted_score_mass")[:] += self._score_mass(rows, places, weights, sign)
        decided = np.flatnonzero(decisions < classes)
        chosen = decisions[decided] * cells + bins[decided, decisions[decided]]
        self._slot("chosen_rows")[:] += count(chosen, classes * cells, None if sign is None else sign[decided])
        self._count_predicted(rows, sign)

    def add_labelled(self, rows: LabelledRows, bins: NDArray[np.intp], sign: Signs) -> None:
        classes, cells = len(self.layout.classes), self.layout.bins + 1
        weights = self._weights(rows.predicted)
        decisions = np.minimum(rows.predicted.decision, classes).astype(np.intp)
        places = decisions * classes + rows.label
        slot = self._slot("labelled")
        counts = count(places, len(slot), sign)
        slot += counts
        self._slot("mass")[:] += weights.by(places, counts, sign)
        self._count_confusion(decisions, rows.label, weights, sign)
        cells_of = bins + np.arange(classes) * cells
        self._slot("class_score_mass")[:] += self._score_mass(rows.predicted, cells_of.ravel(), weights, sign)
        is_class = (rows.label[:, None] == np.arange(classes)).ravel()
        amounts = np.repeat(weights.whole if sign is None else weights.whole * sign, classes)
        by_label = tally(cells_of.ravel() * 2 + is_class, amounts, classes * cells * 2)
        self._slot("score_mass")[:] += by_label
        self._count_labelled(rows, sign)
        self._count_wrong(rows, sign)
        self._add_scored(rows, bins, weights, sign)

    def _score_mass(
        self, rows: PredictedRows, places: NDArray[np.intp], weights: Weights, sign: Signs
    ) -> NDArray[np.int64] | int:
        if rows.scores is None:
            return 0
        score = np.clip(np.nan_to_num(rows.scores, nan=0.0), 0.0, 1.0)
        amounts = weights.times(score.T, sign).T.ravel()
        return tally(places, amounts, len(self.layout.classes) * (self.layout.bins + 1))

    def _add_scored(self, rows: LabelledRows, bins: NDArray[np.intp], weights: Weights, sign: Signs) -> None:
        if rows.predicted.scores is None:
            return
        raw, weight, label = rows.predicted.scores, weights.units, rows.label
        given = ~np.isnan(raw).any(axis=1)
        if not given.all():
            raw, weight, label, bins = raw[given], weight[given], label[given], bins[given]
            sign = None if sign is None else sign[given]
        if len(raw) == 0:
            return
        self._count_placed(bins, label, weight, sign)
        score = np.clip(raw, 0.0, 1.0)
        everyone = np.arange(len(score))
        floored = np.clip(score[everyone, label], PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR)
        self._add_flags("clipped", floored != raw[everyone, label], sign)
        self._add_flags("outside", (score != raw).any(axis=1), sign)
        score[everyone, label] -= 1.0
        self._add_class_sums(weight, floored, _row_sums(score * score), sign)

    def _count_placed(
        self, bins: NDArray[np.intp], label: NDArray[np.uint8], weight: NDArray[np.float64], sign: Signs
    ) -> None:
        """How much the areas of classes move together: see detectors.performance.placements."""
        table = placements(self.layout)
        classes = np.arange(len(self.layout.classes))
        a = table.own[label, bins[np.arange(len(label)), label]]
        c = table.other[classes, bins]
        c[np.arange(len(label)), label] = 0.0
        c_sum = _row_sums(c)
        ones = np.ones(len(a))
        terms = np.stack([ones, a, c_sum, a * a, a * c_sum, c_sum * c_sum]) * (weight * weight)
        hi, lo = limbs(terms)  # terms are at most 2**32: sums of a slice stay below 2**53
        if sign is not None:
            hi *= sign
            lo *= sign
        slot = self._slot("placed").reshape(-1, 2)
        places = (label.astype(np.intp) * len(PLACED) + np.arange(len(PLACED))[:, None]).ravel()
        slot += np.stack([tally(places, part.ravel(), len(slot)) for part in (hi, lo)], axis=1)


def _row_sums(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Column after column, so that the sum of a row has the same rounding whatever stands beside it and on every machine."""
    total = matrix[:, 0].copy()
    for column in matrix.T[1:]:
        total += column
    return total


def _each(sign: Signs, times: int) -> Signs:
    return None if sign is None else np.repeat(sign, times)
