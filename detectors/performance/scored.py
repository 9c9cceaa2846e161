"""Scored rows: predictions, and predictions with their outcomes, as columns. What performance is counted from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_CLASS = 255  # no decision, or a label outside the classes

Where = slice | NDArray[np.int64] | NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PredictedRows:
    """n predictions of one (model, version, reference). Arrays must not be written to.

    `score` (float64, n): binary P(positive), regression the predicted value, multiclass NaN; NaN where none was given.
    `scores` (float64, (n, K)) or None: multiclass, the probability of each class in the order of the layout's classes, NaN where none was given.
    `decision` (uint8, n): code of the predicted class (binary 0 negative, 1 positive), NO_CLASS where there is none; regression all NO_CLASS.
    `weight` (float64, n): finite and not negative, 1.0 by default. `codes` (uint8, (n, F)): coarse bin of each feature, 0..15.
    `keys` (uint64, n): the first eight bytes of the hash of the id, which order the sample.
    """

    score: NDArray[np.float64]
    scores: NDArray[np.float64] | None
    decision: NDArray[np.uint8]
    weight: NDArray[np.float64]
    codes: NDArray[np.uint8]
    keys: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.score)

    def part(self, where: Where) -> PredictedRows:
        """The rows at `where` (a slice, places, or a mask)."""
        return PredictedRows(
            score=self.score[where],
            scores=None if self.scores is None else self.scores[where],
            decision=self.decision[where],
            weight=self.weight[where],
            codes=self.codes[where],
            keys=self.keys[where],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledRows:
    """n predictions with their outcomes. Arrays must not be written to.

    `label` (uint8, n): code of the true class, NO_CLASS for a text that is none of the classes; regression: not read.
    `truth` (float64, n): regression, the outcome; NaN otherwise. `value` (float64, n): money of the outcome, NaN where none was given.
    `delay_ms` (int64, n): time of the outcome less time of the prediction, may be negative. `sign` (int8, n): 1, or -1 to take a row back.
    """

    predicted: PredictedRows
    label: NDArray[np.uint8]
    truth: NDArray[np.float64]
    value: NDArray[np.float64]
    delay_ms: NDArray[np.int64]
    sign: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.label)

    def part(self, where: Where) -> LabelledRows:
        """The rows at `where` (a slice, places, or a mask)."""
        return LabelledRows(
            predicted=self.predicted.part(where),
            label=self.label[where],
            truth=self.truth[where],
            value=self.value[where],
            delay_ms=self.delay_ms[where],
            sign=self.sign[where],
        )
