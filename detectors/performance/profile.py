"""Performance profiles: exact counts and sums of predictions and outcomes, and a sample of predictions.

Any split, order and tree of merges of the same rows gives the same profile, bit for bit; so does taking outcomes back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.performance.classes import (
    BinaryFold,
    MulticlassFold,
)
from detectors.performance.fold import Fold, bins_of_scores, check_rows
from detectors.performance.layout import PerformanceLayout
from detectors.performance.regression import RegressionFold
from detectors.performance.scored import LabelledRows, PredictedRows
from detectors.performance.sums import SLICE_ROWS

SAMPLE_ROWS = 2000

_FOLDS: dict[str, type[Fold]] = {"binary": BinaryFold, "multiclass": MulticlassFold, "regression": RegressionFold}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """The m <= SAMPLE_ROWS predictions with the least keys, by rising key (equal keys by the rest), a uniform sample when keys are hashes.

    `keys` uint64 (m); `score_bin` uint16 (m), multiclass (m, K), layout.bins where no score was given; `decision` uint8 (m), NO_CLASS where
    none; `codes` uint8 (m, F). Rows are a multiset: a prediction that is folded twice is in it twice.
    """

    keys: NDArray[np.uint64]
    score_bin: NDArray[np.uint16]
    decision: NDArray[np.uint8]
    codes: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PerformanceProfile:
    """`vector` (int64, layout.size) as the layout describes it, and a sample of the predictions. Must not be changed; `merge` makes a new one."""

    vector: NDArray[np.int64]
    sample: Sample

    @property
    def rows(self) -> int:
        """Predictions."""
        return int(self.vector[0])

    @property
    def labelled_rows(self) -> int:
        """Outcomes with a known label (regression: with a finite truth)."""
        return int(self.vector[1])


def empty(layout: PerformanceLayout) -> PerformanceProfile:
    """The profile of no rows."""
    return PerformanceProfile(vector=np.zeros(layout.size, np.int64), sample=_no_sample(layout))


def fold_predicted(
    layout: PerformanceLayout, rows: PredictedRows, *, sampled: bool = True, sign: NDArray[np.int8] | None = None
) -> PerformanceProfile:
    """Count predictions. `sign` (int8, n): -1 takes a prediction back; None: all 1. `sampled=False` leaves the sample empty.

    A prediction that is taken back does not leave the sample: which row would take its place is no longer known. The counts are exact.
    ValueError when lengths, numbers of classes or features, or codes do not fit the layout.
    """
    check_rows(layout, rows)
    if sign is not None and len(sign) != len(rows):
        raise ValueError("there must be a sign for each prediction")
    bins = bins_of_scores(layout, rows)
    fold = _FOLDS[layout.task](layout)
    signs = _signs(sign)
    for start in range(0, len(rows), SLICE_ROWS):
        part = slice(start, start + SLICE_ROWS)
        whole = len(rows) <= SLICE_ROWS
        fold.add_predicted(
            rows if whole else rows.part(part), bins[part].astype(np.intp), None if signs is None else signs[part]
        )
    if not sampled:
        return PerformanceProfile(vector=fold.vector, sample=_no_sample(layout))
    sample = Sample(keys=rows.keys, score_bin=bins, decision=rows.decision, codes=rows.codes)
    return PerformanceProfile(
        vector=fold.vector, sample=_least(sample if signs is None or sign is None else _part(sample, sign > 0))
    )


def fold_labelled(layout: PerformanceLayout, rows: LabelledRows) -> PerformanceProfile:
    """Count outcomes, each with its prediction (which `fold_predicted` counts on its own, labelled or not). The sample is empty.

    ValueError when lengths, numbers of classes or features, or codes do not fit the layout.
    """
    check_rows(layout, rows.predicted)
    columns = (rows.label, rows.truth, rows.value, rows.delay_ms, rows.sign)
    if any(len(column) != len(rows.predicted) for column in columns):
        raise ValueError("columns of outcomes and predictions differ in length")
    fold = _FOLDS[layout.task](layout)
    fold.add_values(rows.value, _signs(rows.sign))
    for start in range(0, len(rows), SLICE_ROWS):
        part = rows if len(rows) <= SLICE_ROWS else rows.part(slice(start, start + SLICE_ROWS))
        known = np.isfinite(part.truth) if layout.task == "regression" else part.label < len(layout.classes)
        if not known.all():
            layout.view(fold.vector, "unknown_labels")[:] += int(part.sign[~known].sum(dtype=np.int64))
            part = part.part(known)
        if len(part):
            bins = bins_of_scores(layout, part.predicted).astype(np.intp)
            fold.add_labelled(part, bins, _signs(part.sign))
    return PerformanceProfile(vector=fold.vector, sample=_no_sample(layout))


def fold_values(layout: PerformanceLayout, values: NDArray[np.float64], sign: NDArray[np.int8]) -> PerformanceProfile:
    """Count outcomes that tell money and no label. They enter `value` alone: nothing is labelled by them."""
    fold = _FOLDS[layout.task](layout)
    fold.add_values(values, _signs(sign))
    return PerformanceProfile(vector=fold.vector, sample=_no_sample(layout))


def merge(a: PerformanceProfile, b: PerformanceProfile) -> PerformanceProfile:
    """The profile of the rows of both. ValueError when they are of different layouts, as far as sizes tell."""
    if len(a.vector) != len(b.vector) or _widths(a.sample) != _widths(b.sample):
        raise ValueError("performance profiles of different layouts cannot be merged")
    return PerformanceProfile(vector=a.vector + b.vector, sample=_union(a.sample, b.sample))


def _signs(sign: NDArray[np.int8] | None) -> NDArray[np.float64] | None:
    """Signs as factors, None where all are 1, which is the common case and costs nothing then. ValueError for others than 1 and -1."""
    if sign is None or bool((sign == 1).all()):
        return None
    if not bool((np.abs(sign) == 1).all()):
        raise ValueError("a sign is 1 or -1")
    return sign.astype(np.float64)


def _widths(sample: Sample) -> tuple[tuple[int, ...], int]:
    return sample.score_bin.shape[1:], sample.codes.shape[1]


def _no_sample(layout: PerformanceLayout) -> Sample:
    columns = (0, len(layout.classes)) if layout.task == "multiclass" else (0,)
    return Sample(
        keys=np.zeros(0, np.uint64),
        score_bin=np.zeros(columns, np.uint16),
        decision=np.zeros(0, np.uint8),
        codes=np.zeros((0, len(layout.features)), np.uint8),
    )


def _union(a: Sample, b: Sample) -> Sample:
    if len(a) == 0 or len(b) == 0:
        return b if len(a) == 0 else a
    return _least(
        Sample(
            keys=np.concatenate([a.keys, b.keys]),
            score_bin=np.concatenate([a.score_bin, b.score_bin]),
            decision=np.concatenate([a.decision, b.decision]),
            codes=np.concatenate([a.codes, b.codes]),
        )
    )


def _least(sample: Sample) -> Sample:
    """Sorted and cut to SAMPLE_ROWS."""
    if len(sample) > 2 * SAMPLE_ROWS:
        last = np.partition(sample.keys, SAMPLE_ROWS - 1)[SAMPLE_ROWS - 1]
        sample = _part(sample, np.flatnonzero(sample.keys <= last))  # more than SAMPLE_ROWS where keys are equal
    order = sample.keys.argsort()
    ordered = sample.keys[order]
    if bool((ordered[1:] == ordered[:-1]).any()):
        bins = sample.score_bin.reshape(len(sample), -1)
        order = np.lexsort((*sample.codes.T, sample.decision, *bins.T, sample.keys))
    return _part(sample, order[:SAMPLE_ROWS])


def _part(sample: Sample, where: NDArray[np.intp] | NDArray[np.bool_]) -> Sample:
    return Sample(
        keys=sample.keys[where],
        score_bin=sample.score_bin[where],
        decision=sample.decision[where],
        codes=sample.codes[where],
    )
